"""fvcore's tables and its model text, with the counts of an analysis."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from typing import Any

from tabulate import tabulate
from torch import nn

from flopdispatch.compat.fvcore_analysis import Analysis

Numbers = dict[str, dict[str, int]]  # of each module or parameter, by column
Texts = dict[str, dict[str, str]]

NOT_CALLED = (
    "N/A indicates a possibly missing statistic due to how the module was called. "
    "Missing values are still included in the parent's total.\n"
)

# A number above the limit is written in the unit; fvcore's limits, a tenth of the unit's own.
UNITS = ((1e14, 1e15, "P"), (1e11, 1e12, "T"), (1e8, 1e9, "G"), (1e5, 1e6, "M"), (1e2, 1e3, "K"))


def parameter_count(model: nn.Module) -> defaultdict[str, int]:
    """Elements of each parameter and of each module's parameters, by name; `""` is the model.

    A parameter that two modules share counts once, by its first name.
    """
    found: defaultdict[str, int] = defaultdict(int)
    for path, parameter in model.named_parameters():
        parts = path.split(".")
        for length in range(len(parts) + 1):
            found[".".join(parts[:length])] += parameter.numel()
    return found


def parameter_count_table(model: nn.Module, max_depth: int = 3) -> str:
    """A table of the parameters of a model, its modules and the parameters' shapes.

    Modules are shown down to `max_depth` levels.
    """
    counts = parameter_count(model)
    shapes = shapes_of(model)
    below = by_parent(counts)
    rows = [("model", tenths(counts[""]))]

    def add(parent: str, depth: int) -> None:
        for name in below.get(parent, ()) if depth < max_depth else ():
            indent = " " * (depth + 1)
            rows.append((indent + name, indent + shapes.get(name, tenths(counts[name]))))
            if name not in shapes:
                add(name, depth + 1)

    add("", 0)
    return pipes(["name", "#elements or shape"], rows)


def flop_count_table(
    flops: Analysis,
    max_depth: int = 3,
    activations: Analysis | None = None,
    show_param_shapes: bool = True,
) -> str:
    """A table of modules with their parameters and FLOPs, and activations if these are given.

    Modules are shown down to `max_depth` levels; a module with one child of the same counts is
    shown as that child, one without any counts is left out.
    """
    params = "#parameters or shape" if show_param_shapes else "#parameters"
    analyses = {"#flops": flops}
    if activations is not None:
        analyses["#activations"] = activations
    numbers = columns_of(flops._model, params, analyses)
    kept = with_counts(numbers, set(), with_ancestors=True)
    texts = written(numbers, kept, digits=3)
    for column, analysis in analyses.items():
        for name in analysis._analyze(quiet=True).uncalled & kept:
            texts[name][column] = ""
    for name, shape in shapes_of(flops._model).items():
        if name in texts and show_param_shapes:
            texts[name][params] = shape
        else:
            texts.pop(name, None)
    return module_table(texts, [params, *analyses], max_depth)


def flop_count_str(flops: Analysis, activations: Analysis | None = None) -> str:
    """The model as `print` shows it, with parameters and FLOPs, and activations if given.

    Example of a line: `#params: 0.11K, #flops: 100`.
    """
    analyses = {"#flops": flops}
    if activations is not None:
        analyses["#acts"] = activations
    uncalled = {name: of._analyze(quiet=True).uncalled for name, of in analyses.items()}
    missing: set[str] = set().union(*uncalled.values())
    numbers = columns_of(flops._model, "#params", analyses)
    for name, _ in flops._model.named_modules():
        row = numbers.setdefault(name, {})
        numbers[name] = {column: row.get(column, 0) for column in ("#params", *analyses)}
    texts = written(numbers, with_counts(numbers, missing), digits=2)
    for column, names in uncalled.items():
        for name in names:
            texts.setdefault(name, {})[column] = "N/A"
    return (NOT_CALLED if missing else "") + module_text(flops._model, "", texts)


# Counts


def columns_of(model: nn.Module, params: str, analyses: Mapping[str, Analysis]) -> Numbers:
    """All counts by module or parameter."""
    found: Numbers = {name: {params: n} for name, n in parameter_count(model).items()}
    for column, analysis in analyses.items():
        counts = analysis._analyze(quiet=True).counts
        for name, operators in counts.items():
            found.setdefault(name, {})[column] = sum(operators.values())
    return found


def with_counts(
    numbers: Numbers, missing: Collection[str], with_ancestors: bool = False
) -> set[str]:
    """The rows that have a count or are `missing` one, those above them too if asked for."""
    kept = {name for name, row in numbers.items() if any(row.values()) or name in missing}
    if with_ancestors:
        for name in list(kept):
            parts = name.split(".")
            kept.update(".".join(parts[:length]) for length in range(len(parts)))
    return kept | {""}


def by_parent(names: Collection[str]) -> dict[str, list[str]]:
    """The names right below each name, in order."""
    found: dict[str, list[str]] = {}
    for name in names:
        if name:
            found.setdefault(name.rpartition(".")[0], []).append(name)
    return found


def shapes_of(model: nn.Module) -> dict[str, str]:
    """Each parameter's shape as text."""
    return {name: str(tuple(p.shape)) for name, p in model.named_parameters()}


# Text


def tenths(number: int) -> str:
    """A number as `parameter_count_table` writes it: `"25.6M"`."""
    for limit, unit, letter in UNITS[2:]:
        if number > limit:
            return f"{number / unit:.1f}{letter}"
    return str(number)


def shortened(number: float, digits: int) -> str:
    """A number as fvcore's other tables write it: `"25.557M"`, without zeros at the end."""
    for limit, unit, letter in UNITS:
        if abs(number) > limit:
            return f"{number / unit:.{digits}f}".rstrip("0").rstrip(".") + letter
    return str(number)


def written(numbers: Numbers, kept: Collection[str], digits: int) -> Texts:
    """The counts of the rows that are kept, as text."""
    return {
        name: {column: shortened(number, digits) for column, number in row.items()}
        for name, row in numbers.items()
        if name in kept
    }


def pipes(headings: list[str], rows: Any) -> str:
    """A table drawn with pipes, blanks kept."""
    return tabulate(rows, headings, tablefmt="pipe", preserve_whitespace=True)


def module_table(texts: Texts, columns: list[str], max_depth: int) -> str:
    """The rows of `texts` as a table, indented by their depth."""
    below = by_parent(texts)
    rows: list[list[str]] = []

    def add(name: str, shown: str, row: Mapping[str, str], depth: int) -> None:
        indent = " " * depth
        cells = [indent + row[column] if column in row else "" for column in columns]
        rows.append([indent + shown, *cells])
        for child in below.get(name, ()) if depth < max_depth else ():
            last, row = merged(child, texts, below)
            add(last, last.removeprefix(above), row, depth + 1)

    root, row = merged("", texts, below)
    above = f"{root}." if root else ""
    add(root, root or "model", row, 0)
    return pipes(["module", *columns], rows)


def merged(
    name: str, texts: Texts, below: Mapping[str, list[str]]
) -> tuple[str, Mapping[str, str]]:
    """The row of a module, or of an only child that says the same, and so on down."""
    row: Mapping[str, str] = texts[name]
    while len(children := below.get(name, [])) == 1:
        other = texts[children[0]]
        says_else = any(row[c] != other[c] and row[c] and other[c] for c in row.keys() & other)
        if row.keys() != other.keys() or says_else:
            break
        name, row = children[0], {column: row[column] or other[column] for column in row}
    return name, row


def module_text(module: nn.Module, name: str, texts: Texts) -> str:
    """A module as `print` shows it, its texts in a line below what it says of itself."""
    lines = module.extra_repr().split("\n") if module.extra_repr() else []
    if texts.get(name):
        lines.append(", ".join(f"{column}: {text}" for column, text in texts[name].items()))
    own = len(lines)
    for key, child in module._modules.items():
        path = f"{name}.{key}" if name else key
        text = "None" if child is None else module_text(child, path, texts)
        lines.append(f"({key}): " + text.replace("\n", "\n  "))
    if not lines:
        inside = ""
    elif len(lines) == own == 1:
        inside = lines[0]
    else:
        inside = "\n  " + "\n  ".join(lines) + "\n"
    return f"{module._get_name()}({inside})"
