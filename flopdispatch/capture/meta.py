"""The meta fast path: the results of known calls, without running their kernels.

PyTorch computes a result's metadata on meta in Python, 50 to 500 µs an operator. But the key
that a call is counted by determines this metadata, so a call like one that has run is
answered: new tensors are allocated like the first call's, an in-place operator returns the
argument that it writes. Views run, since they must share their argument's storage, and so does
all else of which it isn't certain that an answer can't be told from a run.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch

from flopdispatch.capture.calls import CALLS
from flopdispatch.capture.examples import example, tiny_sizes
from flopdispatch.capture.keys import Key, plain_key
from flopdispatch.capture.patterns import (
    number_of_tensors,
    pattern_of,
    recipe_of,
    size_argument,
    template_of,
)
from flopdispatch.capture.private import has_bits, share_storage
from flopdispatch.capture.sizes import worked_out
from flopdispatch.capture.steps import tensors_in

Answer = Callable[[Any, Any], Any]

# What calls of a pattern have in common: a template of their results, or the answer itself.
_TEMPLATES: dict[Key, Any] = {}
MAX_TEMPLATES = 1 << 12

_META = torch.device("meta")
_empty_strided = torch.empty_strided

# What torch itself defines: a kernel of somebody else's may do more than its schema says.
_NAMESPACES = ("aten", "prims")

# Of these a key doesn't tell all: the first gives its argument another storage, the results of
# the next two are as large as their argument's storage, and with `out=` the last one runs
# operators on views of it that warn and raise.
_UNTOLD = (
    "aten::shallow_copy_data_", "aten::as_strided_scatter", "aten::as_strided_copy", "aten::linear",
)  # fmt: skip

# The kernels of these take no longer than an answer, or can't be answered for.
_QUICK = ("aten::clone", "aten::copy_", "aten::fill_", "aten::zero_", "aten::_unsafe_view")

_UNFIT = {torch.Tag.dynamic_output_shape, torch.Tag.data_dependent_output, torch.Tag.inplace_view}


def answer_for(overload: Any, args: Any, kwargs: Any, key: Key, out: Any) -> Answer | None:
    """How to answer calls with this key (a plain one) from now on, None to run them."""
    written = _writes(overload)
    if written is None:
        return None
    if not _are_told(args, kwargs):
        return None
    arguments = list(tensors_in((args, kwargs)))
    if written:
        answer = template = _returning(overload, args, kwargs, key, out)
        found = pattern_of(overload, key)
    else:
        recipe = _recipe(out, {_storage(tensor) for tensor in arguments})
        if recipe is None:
            return None
        answer = _allocating(recipe)
        found = pattern_of(overload, key)
        number = number_of_tensors(overload, args)
        template = None if found is None else template_of(recipe, found[1], number)
    if found is not None and template is not None:
        _learn(found[0], template)
    return answer


def answer_unseen(overload: Any, args: Any, kwargs: Any, key: Key) -> Answer | None:
    """How to answer a first call with this key, from calls of other sizes or an example."""
    if _writes(overload) is None:
        return None
    found = pattern_of(overload, key)
    if found is None:
        recipe = worked_out(overload, args, kwargs) if _are_told(args, kwargs) else None
        return None if recipe is None else _allocating_one(*recipe)
    pattern, places = found
    template = _TEMPLATES.get(pattern)
    if template is None:
        if not _are_told(args, kwargs):
            return None
        template = _from_example(overload, args, kwargs, places)
        if template is None:
            return None
        _learn(pattern, template)
    if callable(template):
        return template  # type: ignore[no-any-return]
    return _allocating(recipe_of(template, places))


def _from_example(overload: Any, args: Any, kwargs: Any, places: dict[int, int]) -> Any:
    """The template that the CPU's result for tiny arguments shows."""
    if not any(True for _ in tensors_in((args, kwargs))):
        return None  # of numbers alone, which are on the CPU
    shown = example(overload, args, kwargs, places, size_argument(overload))
    if shown is None:
        return None
    small, named, key, out = shown
    if _writes(overload):
        return _returning(overload, small, named, key, out)
    recipe = _recipe(out, {_storage(tensor) for tensor in tensors_in((small, named))}, "cpu")
    if recipe is None:
        return None
    number = number_of_tensors(overload, args)
    tiny = tiny_sizes(places, number or 0)
    return template_of(recipe, {tiny[size]: place for size, place in places.items()}, number)


def _learn(pattern: Key, template: Any) -> None:
    if len(_TEMPLATES) >= MAX_TEMPLATES:
        _TEMPLATES.clear()
    _TEMPLATES[pattern] = template


def clear_cache() -> None:
    """Forget all known calls: the next call of each runs its kernel."""
    CALLS.clear()
    _TEMPLATES.clear()


def _are_told(args: Any, kwargs: Any) -> bool:
    """Whether the tensors' keys tell all that counts of them: they don't tell of conjugation."""
    return all(t.is_meta and not t.is_complex() for t in tensors_in((args, kwargs)))


@cache
def _writes(overload: Any) -> str | None:
    """The argument that an overload writes and returns, "" if it writes none; None if unfit."""
    if overload.namespace not in _NAMESPACES or _UNFIT & set(overload.tags):
        return None
    schema = overload._schema
    if schema.name in _UNTOLD or schema.name in _QUICK:
        return None
    aliases = [a for a in schema.arguments if a.alias_info is not None]
    returned = [r.alias_info for r in schema.returns]
    if not aliases:
        return "" if returned and not any(returned) else None
    if len(aliases) != 1 or len(returned) != 1 or returned[0] is None:
        return None
    (alias,) = aliases
    same = alias.alias_info.before_set == returned[0].before_set
    written = alias.alias_info.is_write and returned[0].is_write
    return alias.name if same and written and str(alias.type) == "Tensor" else None


# Operators that return what they write


def _returning(overload: Any, args: Any, kwargs: Any, key: Key, out: Any) -> Answer | None:
    """Return the argument that `out` is, if the call left it as it was."""
    names = [argument.name for argument in overload._schema.arguments]
    name = _writes(overload)
    place: Any = name if name in kwargs else names.index(str(name))
    if (kwargs[place] if name in kwargs else args[place]) is not out:
        return None
    before = dict(key[-len(kwargs) :])[name] if name in kwargs else key[2 + place]
    if plain_key(out) != before:
        return None
    given = [*enumerate(args), *kwargs.items()]
    others = [at for at, value in given if isinstance(value, torch.Tensor) and at != place]
    if len(others) + 1 != len(list(tensors_in((args, kwargs)))):
        return None  # some are in lists
    if not others and place == 0:
        return _first

    def answer(args: Any, kwargs: Any) -> Any:
        target = kwargs[place] if type(place) is str else args[place]
        for at in others:
            # one that overlaps the target may be an error, which the kernel finds
            if share_storage(target, kwargs[at] if type(at) is str else args[at]):
                return overload(*args, **kwargs)
        return target

    return answer


def _first(args: Any, kwargs: Any) -> Any:
    return args[0]


# Operators that return new tensors


def _allocating(recipe: Any) -> Answer:
    """Allocate what the recipe says."""
    if type(recipe) is tuple:
        return _allocating_one(*recipe)
    kind, recipes = recipe[0], recipe[1:]
    makers = [None if item is None else _allocating_one(*item) for item in recipes]

    def answer(args: Any, kwargs: Any) -> Any:
        return kind([None if make is None else make(args, kwargs) for make in makers])

    return answer


def _allocating_one(shape: Any, stride: Any, dtype: Any) -> Answer:
    def answer(args: Any, kwargs: Any) -> Any:
        return _empty_strided(shape, stride, dtype=dtype, device=_META)

    return answer


def _recipe(out: Any, taken: set[int], device: str = "meta") -> Any:
    """What a result is made of, None if allocating this would not give the same.

    A tensor is (shape, stride, dtype), several are a list that begins with their container.
    `taken` are the storages that it must not share.
    """
    if type(out) is torch.Tensor:
        return _one(out, taken, device)
    if type(out) not in (tuple, list) or not out:
        return None
    recipe: list[Any] = [type(out)]
    for item in out:
        found = None if type(item) is not torch.Tensor else _one(item, taken, device)
        if found is None and item is not None:
            return None
        recipe.append(found)
    return recipe


def _one(tensor: torch.Tensor, taken: set[int], device: str) -> Any:
    plain = (
        tensor.device.type == device and tensor.layout is torch.strided and not tensor.is_quantized
    )
    if not plain or has_bits(tensor) or tensor.requires_grad or tensor.storage_offset():
        return None
    storage, nbytes = _storage(tensor), tensor.untyped_storage().nbytes()
    if storage in taken or nbytes != _nbytes(tensor):
        return None
    taken.add(storage)
    return tensor.shape, tensor.stride(), tensor.dtype


def _nbytes(tensor: torch.Tensor) -> int:
    """Bytes from a tensor's first to its last element."""
    if tensor.numel() == 0:
        return 0
    last = sum((size - 1) * step for size, step in zip(tensor.shape, tensor.stride()))
    return (last + 1) * tensor.itemsize


def _storage(tensor: torch.Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)
