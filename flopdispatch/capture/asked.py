"""What operators whose results depend on values are given where these aren't known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from flopdispatch.capture.brackets import know_indices
from flopdispatch.capture.guesses import assumed_value
from flopdispatch.capture.known import has_data
from flopdispatch.capture.private import without_dispatch
from flopdispatch.capture.questions import Answer, Questions, chosen_text, empty_like
from flopdispatch.capture.roles import LIMIT
from flopdispatch.capture.steps import tensors_in

aten = torch.ops.aten

_MASKS = (torch.bool, torch.uint8)


def answer(q: Questions, overload: Any, args: Any, kwargs: Any) -> Answer | None:
    """The answer to a question; None if the call asks none, and runs as it is.

    Raises: DataDependentError if it isn't known and nothing may be assumed.
    """
    name = overload._schema.name if isinstance(overload, torch._ops.OpOverload) else ""
    moves = _MOVES.get(name)
    if moves is not None:
        return moves(q, overload, args, kwargs)
    assumes = _ASSUMED.get(name)
    if assumes is None or overload._schema.is_mutable:
        return None
    given = list(tensors_in((args, kwargs)))
    if all(map(has_data, given)) or (name == "aten::index" and not _has_mask(args[1])):
        return None
    if name == "aten::index":
        know_indices(q.known, args[1])
    return q.computed(overload, args, kwargs) or assumes(q, overload, args, kwargs)


def otherwise(q: Questions, overload: Any, args: Any, kwargs: Any) -> Answer | None:
    """What a call gives that failed on tensors without data; None if that was no reason.

    The CPU's result if all values are known; else that on meta of tensors that the program
    made on the CPU, as it would where the model is there too.
    """
    given = list(tensors_in((args, kwargs)))
    if not isinstance(overload, torch._ops.OpOverload) or all(map(has_data, given)):
        return None
    computed = None
    if not overload._schema.is_mutable:
        computed = q.computed(overload, args, kwargs)
    if computed is not None or not any(map(has_data, given)):
        return computed
    try:
        return Answer(overload(*q.moved(args), **q.moved(kwargs)))
    except (RuntimeError, TypeError):  # NotImplementedError too
        return None


# Of values that aren't known


def _number(q: Questions, overload: Any, args: Any, kwargs: Any) -> Answer:
    (tensor,) = args
    if tensor.dtype is torch.bool:
        return _condition(q, overload, args, kwargs)
    assumed = q.here().number
    if assumed is None:
        raise q.refuse(overload, tensor, "number")
    kind = complex if tensor.is_complex() else float if tensor.is_floating_point() else int
    number = kind(assumed)
    q.use(overload, f"a number that depends on data is {number}")
    return Answer(number)


def _condition(q: Questions, overload: Any, args: Any, kwargs: Any) -> Answer:
    condition = q.here().condition
    if condition is None:
        raise q.refuse(overload, args[0], "condition")
    q.use(overload, f"a condition on data is {condition}")
    return Answer(condition)


def _nonzero(q: Questions, overload: Any, args: Any, kwargs: Any) -> Answer:
    (tensor,) = args
    number = q.chosen(overload, tensor, listed=False)
    found = q.computed(overload, args, kwargs)  # it may be known which, by assumption
    if found is not None:
        return found
    q.use(overload, chosen_text(number, tensor.numel()))
    return Answer(empty_like((number, tensor.dim()), tensor, torch.int64))


def _has_mask(indices: Any) -> bool:
    return any(index is not None and index.dtype in _MASKS for index in indices)


def _index(q: Questions, overload: Any, args: Any, kwargs: Any) -> Answer:
    source, indices = args
    positions: list[Any] = []
    for index in indices:
        if index is None or index.dtype not in _MASKS:
            positions.append(index)
        else:
            number = q.chosen(overload, index)
            one = empty_like((number,), source, torch.int64)
            positions += [one] * index.dim()
    return Answer(overload(source, positions))


def _masked_select(q: Questions, overload: Any, args: Any, kwargs: Any) -> Answer:
    source, mask = args
    whole = torch.broadcast_shapes(source.shape, mask.shape)
    number = q.chosen(overload, mask) * torch.Size(whole).numel() // max(mask.numel(), 1)
    return Answer(empty_like((number,), source, source.dtype))


def _unique(q: Questions, overload: Any, args: Any, kwargs: Any) -> Answer:
    tensor, *more = args
    name = overload._schema.name
    dim = more[0] if "dim" in name else None
    n = tensor.numel() if dim is None else tensor.shape[dim]
    if tensor.numel() > LIMIT:
        raise q.refuse(overload, tensor, "")
    number = q.share(overload, "nonzero", tensor, n)
    with without_dispatch():
        ranks = torch.arange(n, dtype=tensor.dtype) % max(number, 1)
        if "consecutive" in name:
            ranks = ranks.sort().values
        if dim is None:
            supposed = ranks.reshape(tensor.shape)
        else:
            supposed = ranks.expand(tensor.movedim(dim, -1).shape).movedim(-1, dim)
        out = overload(supposed, *more, **kwargs)
    q.use(overload, f"{number} of {n} values are distinct")
    return Answer(tuple([empty_like(one, tensor) for one in out]))


def _repeats(q: Questions, overload: Any, args: Any, kwargs: Any) -> Answer | None:
    if kwargs.get("output_size") is not None:
        return None
    assumed = q.here().number
    if assumed is None:
        raise q.refuse(overload, args[0], "number")
    q.use(overload, f"each is repeated {int(assumed)} times")
    return Answer(empty_like((args[0].numel() * int(assumed),), args[0], torch.int64))


def _bincount(q: Questions, overload: Any, args: Any, kwargs: Any) -> Answer:
    given = dict(zip(("self", "weights", "minlength"), args)) | kwargs
    least = given.get("minlength", 0)
    if not least:
        raise q.refuse(overload, args[0], "")
    q.use(overload, f"all values are below {least}")
    weights = given.get("weights")
    dtype = torch.int64 if weights is None else weights.dtype
    return Answer(empty_like((least,), args[0], dtype))


def _nms(q: Questions, overload: Any, args: Any, kwargs: Any) -> Answer:
    boxes = args[0]
    n = boxes.shape[0]
    number = q.share(overload, "nms", boxes, n)
    text = f"{number} of {n} boxes are kept"
    out = empty_like((number,), boxes, torch.int64)
    spread = assumed_value(lambda: torch.arange(number) * n // max(number, 1), out, text)
    q.known.bind(out, spread)
    q.use(overload, text)
    return Answer(out)


_ASSUMED: dict[str, Callable[[Questions, Any, Any, Any], Answer | None]] = {
    "aten::_local_scalar_dense": _number,
    "aten::equal": _condition,
    "aten::allclose": _condition,
    "aten::nonzero": _nonzero,
    "aten::index": _index,
    "aten::masked_select": _masked_select,
    "aten::_unique": _unique,
    "aten::_unique2": _unique,
    "aten::unique_dim": _unique,
    "aten::unique_consecutive": _unique,
    "aten::unique_dim_consecutive": _unique,
    "aten::repeat_interleave": _repeats,
    "aten::bincount": _bincount,
    "torchvision::nms": _nms,
}


# Of values that are asked for as they are


def _shown(q: Questions, overload: Any, tensor: torch.Tensor) -> torch.Tensor:
    real = q.known.tensor(tensor)
    if real is None:
        raise q.refuse(overload, tensor, "")
    q.use_all(overload, tensor)
    return real


def _to_cpu(q: Questions, overload: Any, args: Any, kwargs: Any) -> Answer | None:
    place = kwargs.get("device")
    if place is None or torch.device(place).type != "cpu" or has_data(args[0]):
        return None
    real = _shown(q, overload, args[0])
    with without_dispatch():
        return Answer(overload(real, *args[1:], **kwargs).clone())


def _copy(q: Questions, overload: Any, args: Any, kwargs: Any) -> Answer | None:
    target, source, *more = args
    if not has_data(target) or has_data(source):
        return None
    return Answer(overload(target, _shown(q, overload, source), *more, **kwargs))


def _lengths(q: Questions, overload: Any, args: Any, kwargs: Any) -> Answer | None:
    source, lengths, *more = args
    if has_data(lengths):
        return None
    return Answer(overload(source, _shown(q, overload, lengths), *more, **kwargs))


_MOVES: dict[str, Callable[[Questions, Any, Any, Any], Answer | None]] = {
    "aten::_to_copy": _to_cpu,
    "aten::copy_": _copy,
    "aten::_pack_padded_sequence": _lengths,
}
