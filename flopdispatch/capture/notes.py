"""Notes: which scope made the autograd nodes that a thread numbered."""

from __future__ import annotations

from array import array
from bisect import bisect_right

from flopdispatch.capture.tree import Scope

# Notes kept for the backward. Graphs older than this many module calls and returns are
# forgotten, so that a long run needs no more memory than a short one.
MAX_NOTES = 1 << 18


class Notes:
    """From which sequence number on nodes belong to which scope, in one thread."""

    def __init__(self) -> None:
        self.starts = array("q")  # in 8 bytes each: a long run makes many
        self.owners: list[Scope] = []
        self.forgotten = False

    def note(self, number: int, scope: Scope) -> None:
        """From this number on, nodes belong to this scope."""
        if self.starts[-1] == number:  # no node was made since the last note
            self.owners[-1] = scope
            return
        self.starts.append(number)
        self.owners.append(scope)
        if len(self.starts) > MAX_NOTES:
            del self.starts[: MAX_NOTES // 2], self.owners[: MAX_NOTES // 2]
            self.forgotten = True

    def begin(self, number: int, scope: Scope) -> None:
        """The first note."""
        self.starts.append(number)
        self.owners.append(scope)

    def owner(self, number: int) -> Scope | None:
        """The scope that made the node with this number; None if it was made before."""
        place = bisect_right(self.starts, number) - 1
        return None if place < 0 else self.owners[place]

    def before(self) -> str:
        """When a node was made that these notes don't know."""
        if self.forgotten:
            return f"before the last {MAX_NOTES // 2:,} module calls"
        return "before the block or in another thread"
