"""HTML that is escaped by construction: text becomes markup in `element` only."""

from __future__ import annotations

from html import escape


class Markup(str):
    """HTML as it is written; every other string is text."""

    __slots__ = ()


def element(tag: str, *children: str, **attributes: object) -> Markup:
    """An element: children and attributes are escaped, a child that is Markup already isn't.

    `class_` stands for class and `data_value` for data-value; an attribute that is None is left
    out.

    Example: `element("td", "<b>", class_="number")` is `<td class="number">&lt;b&gt;</td>`.
    """
    given = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{escape(str(value))}"'
        for name, value in attributes.items()
        if value is not None
    )
    return Markup(f"<{tag}{given}>{joined(*children)}</{tag}>")


def joined(*children: str) -> Markup:
    """The children one after the other."""
    return Markup("".join(c if isinstance(c, Markup) else escape(c) for c in children))


def visible(text: str) -> str:
    """A name with what can't be seen in it (line ends, marks of direction) written out."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
