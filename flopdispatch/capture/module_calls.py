"""Module calls: tells the trackers of a thread when a module begins and ends.

While a tracker follows, `nn.Module._call_impl` is a function around what it was. torch's
global module hooks would do too, but with any of them every module call takes a slower path:
2 µs more, as long as two operators. Unlike hooks, this sees a call end by any exception.

A module that was compiled in place (`module.compile()`) is called by what that made of its
`_call_impl`, the one of that time. So while torch.compile may be in use, the attribute that
this is kept in is a descriptor.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol

import torch
from torch import nn

from flopdispatch.capture.private import current_graph_task, may_be_compiled
from flopdispatch.errors import ArgumentError


class Follower(Protocol):
    """What is told of module calls."""

    def begin(self, module: nn.Module) -> None:
        """A module is called."""

    def begin_region(self, region: object, name: str) -> None:
        """A region that the user named begins."""

    def end(self, begun: object) -> None:
        """The call or the region is over, by return or by exception."""

    def elsewhere(self) -> Follower | None:
        """Who is told in this thread, if it runs a part of a backward of the follower's."""


# The followers of each thread, in the order in which they came; a tuple is never changed.
_followers: dict[int, tuple[Follower, ...]] = {}
_patching = threading.Lock()
_patch: Any = None  # what nn.Module._call_impl is while there are any
_original: Any = None

_thread = threading.get_ident

# False but for the compiler that traces it.
_is_compiling = torch.compiler.is_dynamo_compiling

COMPILED_CALL = "_compiled_call_impl"


def follow(follower: Follower) -> None:
    """Tell it of the module calls of this thread from now on."""
    with _patching:
        _followers[_thread()] = (*_followers.get(_thread(), ()), follower)
        if _patch is None:
            _install()


def _following() -> tuple[Follower, ...]:
    """Those to tell of what this thread calls."""
    found = _followers.get(_thread())
    if found is not None:
        return found
    if not _followers or current_graph_task() < 0:
        return ()
    # A thread of autograd's own: it runs a part of the backward of a thread that is followed.
    followers = dict.fromkeys(follower for known in _followers.values() for follower in known)
    return tuple([there for f in followers if (there := f.elsewhere()) is not None])


def unfollow(follower: Follower) -> None:
    """Tell it of no more; when nobody is told, torch is as it was."""
    with _patching:
        for thread, followers in list(_followers.items()):
            left = tuple(other for other in followers if other is not follower)
            if left:
                _followers[thread] = left
            else:
                del _followers[thread]
        if not _followers:
            _remove()


@contextmanager
def scope(name: str) -> Iterator[None]:
    """A region of code with a row of its own, below the module or the region that it runs in.

    For code that is no module: a loss, a block of a forward, another method of a model. It
    names the region in all counters of this thread, and costs next to nothing without one.
    Also a decorator. The backward of what runs in it is counted in its row.

    Raises: ArgumentError if `name` is not a string with something in it.

    Example:

        >>> from flopdispatch import FlopCounter
        >>> with FlopCounter(display=False) as counter, scope("loss"):
        ...     difference = torch.ones(5) - torch.zeros(5)
        >>> counter.profile.by_scope()["loss"].adds
        5
    """
    if not isinstance(name, str) or not name:
        raise ArgumentError(f"scope() takes a name as a string that isn't empty, got {name!r}")
    if torch.compiler.is_compiling():
        yield
        return
    region = object()
    followers = _following()
    for follower in followers:
        follower.begin_region(region, name)
    try:
        yield
    finally:
        for follower in followers:
            follower.end(region)


def _install() -> None:
    global _patch, _original  # noqa: PLW0603 (one patch a process)
    _original = nn.Module._call_impl
    _patch = nn.Module._call_impl = _around(_original)  # type: ignore[method-assign]
    if may_be_compiled():
        nn.Module._compiled_call_impl = _compiled_call  # type: ignore[assignment]


def _remove() -> None:
    global _patch, _original  # noqa: PLW0603
    # One that was put around ours has ours inside, which does nothing from now on.
    if nn.Module._call_impl is _patch:
        nn.Module._call_impl = _original  # type: ignore[method-assign]
    _patch = _original = None
    if nn.Module.__dict__[COMPILED_CALL] is _compiled_call:
        nn.Module._compiled_call_impl = None


class _CompiledCall:
    """In place of `nn.Module._compiled_call_impl`; no property, which torch.jit would compile."""

    def __get__(self, module: nn.Module | None, kind: type) -> Any:
        if module is None:
            return None
        compiled = module.__dict__.get(COMPILED_CALL)
        if compiled is None or _is_compiling():
            return compiled
        followers = _following()
        if not followers or _made_of(compiled) is _patch:
            return compiled
        return partial(_run_compiled, followers, module, compiled)

    def __set__(self, module: nn.Module, compiled: Any) -> None:
        module.__dict__[COMPILED_CALL] = compiled


_compiled_call = _CompiledCall()


def _made_of(compiled: Any) -> Any:
    """The function whose method was compiled."""
    return getattr(getattr(compiled, "_torchdynamo_orig_callable", None), "__func__", None)


def _run_compiled(
    followers: tuple[Follower, ...], module: nn.Module, compiled: Any, *args: Any, **kwargs: Any
) -> Any:
    for follower in followers:
        follower.begin(module)
    try:
        return compiled(*args, **kwargs)
    finally:
        for follower in followers:
            follower.end(module)


def _around(original: Callable[..., Any]) -> Callable[..., Any]:
    def _call_impl(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        # First of all, since torch.compile sees through it: a module may be compiled while this
        # is its way to be called, by another thread too, and run when it is no more.
        if _patch is not _call_impl or _is_compiling():
            return original(self, *args, **kwargs)
        followers = _followers.get(_thread()) or _following()
        if not followers:
            return original(self, *args, **kwargs)
        for follower in followers:
            follower.begin(self)
        try:
            return original(self, *args, **kwargs)
        finally:
            for follower in followers:
                follower.end(self)

    return _call_impl
