"""The HTML report: one file that needs nothing else, to look at and to ask."""

from __future__ import annotations

import base64
import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from importlib.resources import files
from string import Template
from typing import Any

from flopdispatch.profile import COMPARABLE, Profile, Row
from flopdispatch.report.html_data import Given, Group, groups, only, tree
from flopdispatch.report.html_tables import head, number, section, words
from flopdispatch.report.markup import Markup, element, joined, visible
from flopdispatch.report.records import BLOCK
from flopdispatch.report.table import beside
from flopdispatch.rules import UNCOUNTED, name_of
from flopdispatch.saved import ACTIVATIONS
from flopdispatch.units import exact, percent, si, some

SCRIPTS = ("tree.js", "icicle.js", "grid.js", "page.js")

NONE = Markup("")

# A script element ends at the first "</script", and these two ended lines in older JavaScript.
IN_SCRIPT = {ord(c): f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"}


def render(profile: Profile, title: str | None = None) -> str:
    """The report as one HTML document: totals, modules, operators, phases and what is uncounted.

    It loads nothing, and what the browser may run or load is only what is in it. `title` is its
    heading: the root module's type unless told otherwise. The same profile gives the same text.
    """
    return page(profile, title)


def page(
    profile: Profile,
    title: str | None = None,
    link: Markup = NONE,
    more: Markup = NONE,
    columns: Sequence[Given] = (),
) -> str:
    """The document, with a section `more` before that of operators, which `link` leads to.

    `columns` are more of the tree of modules.
    """
    shown = tree(profile, columns)
    style, script = _asset("style.css"), "\n".join(map(_asset, SCRIPTS))
    return Template(_asset("template.html")).substitute(
        title=joined(visible(title or _title(profile))),
        policy=joined(_policy(style, script)),
        style=style,
        script=script,
        data=json.dumps(shown, ensure_ascii=False, separators=(",", ":")).translate(IN_SCRIPT),
        totals=_totals(profile),
        notices=_notices(profile),
        convention=joined(f"{profile.convention}: {profile.description}".rstrip(": ")),
        link=link,
        kind="more" if columns else "few",
        columns=Markup("".join(f'<col class="{column.key}">' for column in columns)),
        sections=Markup(more + _sections(profile)),
    )


def _asset(name: str) -> str:
    return (files("flopdispatch.report") / "assets" / name).read_text(encoding="utf-8")


def _policy(style: str, script: str) -> str:
    """The Content-Security-Policy: nothing is loaded, and this style and script alone are run."""
    style_hash, script_hash = (
        base64.b64encode(hashlib.sha256(f"\n{text}\n".encode()).digest()).decode()
        for text in (style, script)
    )
    return (
        f"default-src 'none'; style-src 'sha256-{style_hash}'; script-src 'sha256-{script_hash}'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )


def _title(profile: Profile) -> str:
    """The types of the root modules."""
    types = list(dict.fromkeys(child.module_type for child in profile.root.children))
    return some(types) or "A block without modules"


def _totals(profile: Profile) -> Markup:
    total = profile.total
    families = profile.by_family()
    products = ", ".join([name for name in COMPARABLE if name in families] or COMPARABLE)
    figures = [
        ("Parameters", profile.params, "", "distinct ones"),
        ("MACs", total.macs, "", "multiply-accumulates"),
        ("FLOPs", total.flops, "", "2 × MACs + adds + muls + divs"),
        ("Comparable FLOPs", profile.comparable_flops, "", f"2 × MACs of {products}"),
        ("Bytes", total.nbytes, "B", "read and written"),
        ("Activations", profile.activations, "", "elements that products write"),
    ]
    if profile.saved is not None:
        kept = sum(told.nbytes for told in profile.saved if told.kind == ACTIVATIONS)
        figures.append(("Saved", kept, "B", "of activations, for the backward"))
    return joined(
        *(
            element(
                "div",
                element("dt", label),
                element("dd", si(number, unit), class_="short"),
                element("dd", exact(number), class_="exact"),
                element("dd", about, class_="about"),
            )
            for label, number, unit, about in figures
        )
    )


def _notices(profile: Profile) -> Markup:
    """What a reader must not miss: that something isn't counted, or is assumed or estimated."""
    kinds = (
        ("Uncounted", profile.uncounted.values(), "Calls of operators without a cost"),
        ("Assumptions", [told.times for told in profile.assumptions], "Assumed"),
        ("Estimated", profile.estimates.values(), "Calls whose cost is an estimate"),
    )
    lines = [
        element(
            "li",
            f"{text}: ",
            element("a", exact(sum(times)), href=f"#{name.lower()}"),
            class_=name.lower(),
        )
        for name, times, text in kinds
        if times
    ]
    return element("ul", *lines, class_="notices") if lines else Markup("")


def _sections(profile: Profile) -> Markup:
    """The same calls by operator, by family, by phase and by dtype, and what to know of them."""
    calls, prices, whole = profile.calls, profile.prices, profile.total.flops

    def operator(row: Row) -> str:
        return name_of(calls[row.call].overload)

    by_op = groups(profile, operator)
    by_family = groups(profile, lambda row: prices[row.call].family)
    types = {record.scope: record.module_type for record in profile.modules}
    by_type = groups(profile, lambda row: types.get(row.scope, "") or BLOCK)
    by_phase = groups(profile, lambda row: row.phase)
    by_dtype = groups(profile, lambda row: _dtype(prices[row.call].dtype))
    uncounted = groups(only(profile, lambda price: price.state == UNCOUNTED), operator)
    estimated = groups(only(profile, lambda price: price.estimate), operator)
    told = ("Modules", "Calls")
    return joined(
        _costs("Operators", "Operator", by_op, whole, ("Family", "State")),
        _costs("Families", "Family", by_family, whole),
        _costs("Types", "Module type, alone", by_type, whole),
        _costs("Phases", "Phase", by_phase, whole),
        _costs("Dtypes", "Computed in", by_dtype, whole),
        section(
            "Uncounted",
            ("Operator", "Why", *told),
            [_told(group, group.error or "it has no formula") for group in uncounted],
        ),
        section(
            "Estimated",
            ("Operator", "What", *told),
            [_told(group, group.state.removeprefix("estimate: ")) for group in estimated],
        ),
        section(
            "Assumptions",
            ("Assumed", "Operator", "Source", "Modules", "Times"),
            _assumed(profile),
        ),
    )


def _dtype(dtype: Any) -> str:
    return str(dtype).removeprefix("torch.") if dtype is not None else "no tensors"


def _costs(
    title: str, name: str, found: Sequence[Group], whole: int, about: Sequence[str] = ()
) -> Markup:
    """A section of groups with what they cost; `about` names what else is told of each."""
    rows = [
        [
            head(group.name),
            *(words(getattr(group, column.lower())) for column in about),
            number(group.calls, exact(group.calls)),
            number(group.cost.macs, si(group.cost.macs)),
            number(group.cost.flops, si(group.cost.flops)),
            number(group.cost.flops, percent(group.cost.flops, whole)),
            number(group.cost.nbytes, si(group.cost.nbytes, "B")),
            words(beside(group.cost)),
        ]
        for group in found
    ]
    heads = (name, *about, "Calls", "MACs", "FLOPs", "Share", "Bytes", "Beside FLOPs")
    return section(title, heads, rows)


def _told(group: Group, what: str) -> list[Markup]:
    modules = some([scope or BLOCK for scope in group.scopes])
    calls = number(group.calls, exact(group.calls))
    return [head(group.name), words(what), words(modules), calls]


def _assumed(profile: Profile) -> list[list[Markup]]:
    """Each kind of assumption once: history first, then data, the most often asked first."""
    times: Counter[tuple[str, str, str]] = Counter()
    scopes: dict[tuple[str, str, str], dict[str, None]] = {}
    for told in profile.assumptions:
        kind = (told.text, told.operator, told.source)
        times[kind] += told.times
        scopes.setdefault(kind, {})[told.scope or BLOCK] = None
    kinds = sorted(times, key=lambda kind: (kind[1] != "", -times[kind]))
    return [
        [
            head(kind[0]),
            *map(words, kind[1:]),
            words(some(list(scopes[kind]))),
            number(times[kind], exact(times[kind])),
        ]
        for kind in kinds
    ]
