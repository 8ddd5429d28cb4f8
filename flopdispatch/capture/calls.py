"""Calls: the distinct calls that this process knows, shared by all of its counters."""

from __future__ import annotations

import threading
from collections.abc import Callable
from itertools import islice
from typing import Any

from flopdispatch.capture.keys import Key, has_complex, value_of, without_numbers
from flopdispatch.capture.private import kernel_of, resolving
from flopdispatch.spec import OpCall

# Calls known at most; half of them, the oldest, are forgotten when there are more.
MAX_CALLS = 1 << 14


class Call:
    """One distinct call: its operator, and arguments and result as keys.

    `run` is what to call to run it; `answer`, where there is one, gives the result on meta
    from (args, kwargs) without running it. `taken` is what was taken from its tensors' values.
    """

    __slots__ = ("__weakref__", "_call", "_pattern", "answer", "key", "overload", "run", "watch")

    def __init__(
        self, overload: Any, args: Key, kwargs: Key, result: Key, taken: Key = None
    ) -> None:
        self.overload = overload
        self.key = (id(overload), args, kwargs, result, taken)
        run = kernel_of(overload, bool(kwargs))
        self.run: Callable[..., Any] = resolving(run) if has_complex((args, kwargs)) else run
        self.answer: Callable[[Any, Any], Any] | None = None
        self._call: OpCall | None = None
        self._pattern: Key = None
        self.watch: Any = None  # when known values are concerned: see roles.py

    @property
    def call(self) -> OpCall:
        """What a formula sees of it."""
        if self._call is None:
            _, args, kwargs, result, taken = self.key
            self._call = OpCall(
                self.overload,
                tuple([value_of(item) for item in args]),
                tuple([(name, value_of(item)) for name, item in kwargs]),
                value_of(result),
                taken,
            )
        return self._call

    @property
    def pattern(self) -> Key:
        """Its key with the numbers left out: the same for calls that differ in nothing else."""
        if self._pattern is None:
            self._pattern = without_numbers(self.key[1:4]), self.key[4], self.key[0]
        return self._pattern


# By the key of their arguments. Looked up at every operator, by any thread: one dict is enough.
CALLS: dict[Key, Call] = {}
_writing = threading.Lock()

# Stands in CALLS for all calls that run as other operators and aren't counted themselves.
DECOMPOSED = Call(None, (), (), None)


def remember(key: Key, call: Call) -> None:
    """Know a call by the key of its arguments from now on."""
    with _writing:
        if len(CALLS) >= MAX_CALLS:
            for oldest in list(islice(CALLS, len(CALLS) - MAX_CALLS // 2)):
                CALLS.pop(oldest, None)  # another thread may have cleared it
        CALLS[key] = call


_takers = 0


def forget_takers(number: int) -> None:
    """Know no call if there are more rules that take values than when they were recorded."""
    global _takers  # noqa: PLW0603 (one set of calls a process)
    if number != _takers:
        with _writing:
            CALLS.clear()
            _takers = number
