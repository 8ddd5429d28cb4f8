"""Threads: the counting of what runs in threads that are started in a block.

A dispatch mode is of one thread. While somebody watches, `threading.Thread.start` is a
function around what it was, so that a new thread begins by entering a mode and a tracker of
its own: threads never write to one count.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

from flopdispatch.capture.literals import literals
from flopdispatch.capture.mode import RecordingMode
from flopdispatch.capture.recording import Recording
from flopdispatch.capture.scopes import ScopeTracker

_watching: tuple[Workers, ...] = ()  # never changed, only replaced
_patching = threading.Lock()
_patch: Any = None  # what threading.Thread.start is while anybody watches
_original: Any = None


class Workers:
    """A counter's thread, and those that it or one of these starts while this is entered.

    `counted` are their trackers and modes, the counter's own first.
    """

    def __init__(self, tracker: ScopeTracker, mode: RecordingMode) -> None:
        self.counted = [(tracker, mode)]
        self.counting = True
        self.closed = False
        self.threads: set[int] = set()
        self.lock = threading.Lock()

    def __enter__(self) -> Workers:
        self.threads.add(threading.get_ident())
        _watch(self, True)
        return self

    def __exit__(self, *exception: object) -> None:
        _watch(self, False)
        with self.lock:
            self.closed = True
            for tracker, mode in self.counted[1:]:  # some threads may go on: a pool's do
                mode.pause()
                tracker.stop()

    def around(self, run: Callable[[], Any]) -> Callable[[], Any]:
        """What a new thread runs instead of `run`."""

        def counted() -> Any:
            first, first_mode = self.counted[0]
            tracker = ScopeTracker(Recording(), first.tree.shared)
            mode = RecordingMode(tracker, first_mode.meta_cache, first_mode.questions)
            with self.lock:
                if self.closed:
                    return run()
                self.counted.append((tracker, mode))
                self.threads.add(threading.get_ident())
                tracker.__enter__()
                if not self.counting:
                    self.set_one(tracker, mode)
            questions = mode.questions
            try:
                with nullcontext() if questions is None else literals(questions.literal), mode:
                    return run()
            finally:
                self.threads.discard(threading.get_ident())  # the number may be used again
                tracker.__exit__(None, None, None)

        return counted

    def set_counting(self, counting: bool) -> None:
        """Pause or resume all threads, and those that are started from now on."""
        with self.lock:
            self.counting = counting
            for tracker, mode in self.counted:
                self.set_one(tracker, mode)

    def set_one(self, tracker: ScopeTracker, mode: RecordingMode) -> None:
        """Pause or resume one thread."""
        tracker.set_counting(self.counting)
        if self.counting:
            mode.resume()
        else:
            mode.pause()

    def trackers(self) -> list[ScopeTracker]:
        """Those of all threads, the counter's own first."""
        with self.lock:
            return [tracker for tracker, _ in self.counted]


def _watch(workers: Workers, begins: bool) -> None:
    global _watching, _patch, _original  # noqa: PLW0603 (one patch a process)
    with _patching:
        _watching = tuple(other for other in _watching if other is not workers)
        if begins:
            _watching = (*_watching, workers)
        if _watching and _patch is None:
            _original = threading.Thread.start
            _patch = threading.Thread.start = _around(_original)  # type: ignore[assignment, method-assign]
        elif not _watching and _patch is not None:
            if threading.Thread.start is _patch:
                threading.Thread.start = _original  # type: ignore[method-assign]
            _patch = _original = None


def _around(original: Callable[[threading.Thread], None]) -> Callable[[threading.Thread], None]:
    def start(self: threading.Thread) -> None:
        here = threading.get_ident()
        run = own = self.run
        for workers in _watching:
            if here in workers.threads:
                run = workers.around(run)
        if run is own:
            return original(self)

        def counted() -> None:
            self.__dict__.pop("run", None)
            run()

        self.run = counted  # type: ignore[method-assign]
        try:
            return original(self)
        except BaseException:  # it can't be started, and is as it was
            self.__dict__.pop("run", None)
            raise

    return start
