"""The ways to run a program: uncounted, under each counter, on the floor, and by the peers."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import peers
from benchmarks.floor import replay
from benchmarks.programs import Program, Row, Work
from flopdispatch import FlopCounter
from flopdispatch.capture.meta import clear_cache

UNCOUNTED, NOOP, TORCH = "uncounted", "no-op mode", "FlopCounterMode"
COLD, WARM, FLOOR = "ours, cold", "ours, warm", "floor"
PEERS = {"fvcore": peers.fvcore, "thop": peers.thop, "ptflops": peers.ptflops}
WAYS = (UNCOUNTED, NOOP, TORCH, COLD, WARM, FLOOR, *PEERS)
PEER_ROUNDS = 3  # enough for what is slower by whole factors


@dataclass(frozen=True, slots=True)
class Way:
    """One way to run a program.

    `run` is what is timed and returns the figure, if it finds one; `prepare` comes before it
    each time. `rounds` limits in how many rounds it takes part, if it need not be in all;
    `device` is named if it is not the row's.
    """

    run: Callable[[], Any]
    prepare: Callable[[], Any] = lambda: None
    rounds: int | None = None
    device: str | None = None


class NoOp(TorchDispatchMode):
    """The least that a dispatch mode as users write it can do."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        return func(*args, **(kwargs or {}))


def uncounted(program: Program) -> None:
    """Run, and free the result like the others."""
    program()


def under_noop(program: Program) -> None:
    """Run under the no-op mode."""
    with NoOp():  # type: ignore[no-untyped-call]
        program()


def under_torch(program: Program) -> int:
    """Count with FlopCounterMode and ask for its total."""
    with FlopCounterMode(display=False) as counter:
        program()
    return int(counter.get_total_flops())


def under_ours(program: Program) -> int:
    """Count with FlopCounter and ask for its total."""
    with FlopCounter(display=False) as counter:
        program()
    return counter.flops


def ways(row: Row) -> tuple[dict[str, Way], dict[str, str]]:
    """Each way to run a row's program, and for those that there aren't the reason."""
    work = row.make(row.device)
    program = work.program
    found = {
        UNCOUNTED: Way(lambda: uncounted(program)),
        NOOP: Way(lambda: under_noop(program)),
        TORCH: Way(lambda: under_torch(program)),
        COLD: Way(lambda: under_ours(program), clear_cache),
        WARM: Way(lambda: under_ours(program)),
    }
    absent = {}
    if row.device == "meta":
        replayed = replay(program)
        found[FLOOR] = Way(lambda: uncounted(replayed))
    else:
        absent[FLOOR] = "answers for kernels on meta only"
    for name in PEERS:
        way = peer(name, row, work)
        if isinstance(way, Way):
            found[name] = way
        else:
            absent[name] = way
    return found, absent


def peer(name: str, row: Row, work: Work) -> Way | str:
    """A peer that counts a row's model, on the row's device or on the other one, or why not."""
    if work.model is None:
        return "counts the forward of a module only"
    way = tried(name, row.make(row.device), None)
    if isinstance(way, str) and row.also is not None:
        way = tried(name, row.make(row.also), row.also)
    return way


def tried(name: str, work: Work, device: str | None) -> Way | str:
    """A peer that counts a model of its own, after a first time, or why it can't."""
    model, x = work.model, work.x
    way = Way(lambda: silently(PEERS[name], model, x), rounds=PEER_ROUNDS, device=device)
    try:
        way.run()
    except ImportError:
        return "is not installed"
    except Exception as error:
        return "; ".join([type(error).__name__, *str(error).splitlines()[:1]])
    return way


def silently(tool: Callable[..., int], model: Any, x: Any) -> int:
    """A peer's figure, without what it prints.

    Raises: ValueError if it gives none.
    """
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        figure = tool(model, x)
    if figure < 0:
        raise ValueError("it gives no figure")
    return figure
