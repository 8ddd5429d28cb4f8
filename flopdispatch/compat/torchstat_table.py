"""torchstat's table: rows by granularity, a total, its columns and its footer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import tabulate

from flopdispatch.compat.torchstat_timing import Shape, Timing
from flopdispatch.conventions import convention as registry_of
from flopdispatch.cost import Cost
from flopdispatch.errors import ArgumentError
from flopdispatch.profile import Profile, ScopeNode
from flopdispatch.registry import Registry
from flopdispatch.rules import name_of

COLUMNS = (
    "module name", "input shape", "output shape", "params", "memory(MB)", "MAdd", "Flops",
    "MemRead(B)", "MemWrite(B)", "duration[%]", "MemR+W(B)",
)  # fmt: skip
MISSING = "[{}]: {} is not supported!"
SCALES = ((4, "T"), (3, "G"), (2, "M"), (1, "K"))
MEBIBYTE = 2**20
UNCALLED = (0, 0, 0)  # the shapes that torchstat has of a layer that wasn't called
ROOT = "root"


@dataclass(frozen=True, slots=True)
class Row:
    """A layer, a group of layers, or all of them.

    Shapes are of one element of a batch: without the first dimension. `memory` (bytes) is what the
    layer returned; `share` its part of the time of all rows.
    """

    name: str
    input_shape: Shape = ()
    output_shape: Shape = ()
    params: int = 0
    memory: int = 0
    madd: int = 0
    flops: int = 0
    mem_read: int = 0
    mem_write: int = 0
    seconds: float = 0.0
    share: float = 0.0

    @property
    def mem_total(self) -> int:
        """Bytes read and written."""
        return self.mem_read + self.mem_write

    def to_dict(self) -> dict[str, Any]:
        """Its values by the names of torchstat's columns; memory in MiB, durations as a share."""
        values = (
            self.name, self.input_shape, self.output_shape, self.params, self.memory / MEBIBYTE,
            self.madd, self.flops, self.mem_read, self.mem_write, self.share, self.mem_total,
        )  # fmt: skip
        return dict(zip(COLUMNS, values))


@dataclass(frozen=True, slots=True)
class Table:
    """What `stat` found: rows, their total, and the operators without a figure by column.

    `str()` is what `stat` prints.
    """

    rows: tuple[Row, ...]
    total: Row
    unsupported: tuple[tuple[str, str], ...] = ()

    def to_dicts(self) -> list[dict[str, Any]]:
        """The rows as dicts, by the names of torchstat's columns; the total isn't among them."""
        return [row.to_dict() for row in self.rows]

    def __str__(self) -> str:
        lines = [[str(i), *cells(row)] for i, row in enumerate(self.rows)]
        total = ["total", "", "", "", *cells(self.total)[3:]]
        text = tabulate.tabulate(
            [*lines, total],
            ["", *COLUMNS],
            tablefmt="plain",
            colalign=("left", *["right"] * len(COLUMNS)),
            disable_numparse=True,
        )
        width, whole = len(text.split("\n", maxsplit=1)[0]), self.total
        footer = (
            "=" * width,
            f"Total params: {whole.params:,}",
            "-" * width,
            f"Total memory: {whole.memory / MEBIBYTE:.2f}MB",
            f"Total MAdd: {scaled(whole.madd, 1000)}MAdd",
            f"Total Flops: {scaled(whole.flops, 1000)}Flops",
            f"Total MemR+W: {scaled(whole.mem_total, 1024)}B",
        )
        missing = [MISSING.format(*each) for each in self.unsupported]
        return "\n".join([*missing, text, *footer, ""])


def cells(row: Row) -> list[str]:
    """A row as text."""
    return [
        row.name,
        " ".join(f"{size:>3d}" for size in row.input_shape),
        " ".join(f"{size:>3d}" for size in row.output_shape),
        str(row.params),
        f"{row.memory / MEBIBYTE:.2f}",
        f"{row.madd:,}",
        f"{row.flops:,}",
        str(row.mem_read),
        str(row.mem_write),
        f"{row.share:.2%}",
        str(row.mem_total),
    ]


def scaled(number: int, base: int) -> str:
    """A number as torchstat rounds it: `scaled(1429567512, 1000)` is `1.43G`."""
    for power, unit in SCALES:
        if number >= base**power:
            return f"{round(number / base**power, 2)}{unit}"
    return str(number)


# From a profile to rows


@dataclass(frozen=True, slots=True)
class Node:
    """A module with its row; `height` is 1 for a leaf, otherwise 1 more than the tallest below."""

    row: Row
    height: int = 1
    children: tuple[Node, ...] = ()


def table_of(
    profile: Profile, timings: Mapping[str, Timing], granularity: int, registry: Registry
) -> Table:
    """The table of a profile that `registry` priced.

    Raises: ArgumentError if no group of layers is as high as `granularity`.
    """
    top = profile.root
    if len(top.children) == 1 and top.own == Cost():
        top = top.children[0]
    tree = Tree(profile, timings, is_torchstats(registry), top.path).node(top)
    if granularity > tree.height:
        raise ArgumentError(
            f"query_granularity= takes 1 (a row for each layer) to {tree.height} (one for all of "
            f"this model), got {granularity}"
        )
    rows = list(grouped(tree, granularity, tree.height + 1))
    total = summed(Row("total", params=profile.params), rows)
    rows = [replace(row, share=row.seconds / (total.seconds or 1.0)) for row in rows]
    return Table(
        tuple(rows),
        replace(total, share=sum(row.share for row in rows)),
        tuple(unsupported(profile, registry)),
    )


def grouped(node: Node, granularity: int, above: int) -> Iterator[Row]:
    """The rows of a granularity: on each way up, the last node that isn't higher."""
    if node.height <= granularity < above:
        yield node.row
        return
    for child in node.children:
        yield from grouped(child, granularity, node.height)


class Tree:
    """The nodes of a profile's modules, named by their paths below `top`."""

    def __init__(
        self, profile: Profile, timings: Mapping[str, Timing], by_torchstat: bool, top: str
    ) -> None:
        self.timings = timings
        self.by_torchstat = by_torchstat
        self.top = top
        self.params = {m.scope: sum(dict(m.params).values()) for m in profile.modules}

    def node(self, scope: ScopeNode) -> Node:
        """A module's node; what it does outside of its children is a leaf below it."""
        below = [self.node(child) for child in scope.children]
        own = self.own_row(scope, leaf=not below)
        if not below:
            return Node(own)
        parts = [child.row for child in below]
        if scope.own != Cost() or own.params:
            below.append(Node(own))
            parts.append(own)
        else:
            parts.append(Row(own.name, seconds=own.seconds))
        timing = self.timings.get(scope.path)
        group = Row(
            own.name,
            own.input_shape if timing else below[0].row.input_shape,
            own.output_shape if timing else below[-1].row.output_shape,
            scope.params,
        )
        height = 1 + max(child.height for child in below)
        return Node(summed(group, parts), height, tuple(below))

    def own_row(self, scope: ScopeNode, leaf: bool) -> Row:
        """The row of what a module does itself; a group's memory is what its operators write."""
        timing = self.timings.get(scope.path)
        cost = scope.own
        return Row(
            scope.path.removeprefix(self.top).removeprefix(".") or ROOT,
            of_one(timing.input_shape) if timing else UNCALLED,
            of_one(timing.output_shape) if timing else UNCALLED,
            self.params.get(scope.path, 0),
            timing.output_nbytes if timing and leaf else cost.bytes_written,
            madd(cost, self.by_torchstat),
            cost.macs,
            cost.bytes_read,
            cost.bytes_written,
            timing.seconds if timing else 0.0,
        )


def of_one(shape: Shape | None) -> Shape:
    """A shape without the dimension of the batch."""
    return tuple(shape[1:]) if shape else ()


def summed(row: Row, parts: Iterable[Row]) -> Row:
    """A row with the sums of others; its name, shapes and parameters stay."""
    parts = list(parts)
    names = ("memory", "madd", "flops", "mem_read", "mem_write", "seconds")
    return replace(row, **{name: sum(getattr(part, name) for part in parts) for name in names})


# What a convention's figures are


def is_torchstats(registry: Registry | None) -> bool:
    """Whether a registry is the torchstat convention, or an overlay on it."""
    while registry is not None and registry.name != "torchstat":
        registry = registry.parent
    return registry is not None


def madd(cost: Cost, by_torchstat: bool) -> int:
    """The figure of the column MAdd: by another convention than torchstat, FLOPs."""
    return cost.muls + cost.adds if by_torchstat else cost.flops


def unsupported(profile: Profile, registry: Registry) -> Iterator[tuple[str, str]]:
    """The columns without a figure of operators that compute something, and their names."""
    ours, known = profile.by_op(), profile.reprice(registry_of(None))
    computing = {
        overload for overload, cost in known.by_op().items()
        if cost.flops or cost.transcendentals or cost.comparisons
    }  # fmt: skip
    for overload in dict.fromkeys(call.overload for call in profile.calls):
        cost = ours[overload]
        if overload not in computing and overload not in profile.uncounted:
            continue
        missing = {
            "MAdd": not madd(cost, is_torchstats(registry)),
            "Flops": not cost.macs,
            "Memory": not cost.nbytes,
        }
        if not is_torchstats(registry):  # it may count in other fields than these
            none = cost.moving(0, 0) == Cost()
            missing = {"MAdd": none, "Flops": none}
        yield from ((column, name_of(overload)) for column, lacks in missing.items() if lacks)
