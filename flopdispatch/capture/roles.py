"""Roles: what becomes of known values in the calls of each overload."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

import torch

from flopdispatch.capture.calls import Call
from flopdispatch.capture.keys import is_tensor_key
from flopdispatch.capture.steps import tensors_in
from flopdispatch.traffic import is_view

LIMIT = 1 << 23  # elements; of larger tensors nothing is known

# New tensors of which the arguments' values say nothing: also those that are yet to be written.
EMPTY = frozenset({
    "empty", "empty_like", "empty_strided", "empty_permuted", "new_empty", "new_empty_strided",
})  # fmt: skip
FRESH = EMPTY | {"zeros_like", "ones_like", "full_like", "new_zeros", "new_ones", "new_full"}
RESIZED = frozenset({"resize_", "resize_as_", "_resize_output_"})
LIFTED = "lift_fresh"  # gets what torch has made of a list: see brackets.py
# Of these the target's own values say nothing, if they write all of its storage.
OVERWRITE = frozenset({"zero_", "fill_", "copy_"})
# These write to running statistics, and their schemas don't say so.
BATCH_NORMS = frozenset({
    "native_batch_norm", "cudnn_batch_norm", "miopen_batch_norm", "batch_norm_update_stats",
    "batch_norm_gather_stats", "batch_norm_gather_stats_with_counts",
})  # fmt: skip
_STATISTICS = ("running_mean", "running_var")
TRAINING = 5  # the place of the argument that says whether they do

# Which of its results are positions that an operator chose; the dimension is its argument `dim`.
CHOICES = {
    "topk": 1, "sort": 1, "argsort": 0, "argmax": 0, "argmin": 0, "max": 1, "min": 1,
    "kthvalue": 1, "median": 1, "nanmedian": 1, "mode": 1, "multinomial": 0, "randperm": 0,
}  # fmt: skip
# And those that tell a truth about all, which holds as long as nothing else is known.
TRUTHS = {"all": True, "any": False, "_is_all_true": True, "_is_any_true": False}
GUESSED = frozenset({*CHOICES, *TRUTHS})


class Role(NamedTuple):
    """What becomes of known values in calls of an overload.

    `writes` are its written arguments, `replayed` is whether the same call gives the same,
    `guessed` whether its result may be assumed where it isn't known.
    """

    name: str
    writes: tuple[tuple[int, str], ...]
    replayed: bool
    guessed: bool


@cache
def role_of(overload: Any) -> Role | None:
    """The role of an overload; None if known values neither come of it nor end by it."""
    schema = getattr(overload, "_schema", None)
    if schema is None or (is_view(schema) and schema.name != f"aten::{LIFTED}"):
        return None
    if schema.name == "aten::set_":  # gives its argument another storage, and writes to none
        return None
    name = schema.name.split("::")[1]
    if name == LIFTED:
        return Role(name, (), False, False)
    writes = tuple(
        (place, argument.name)
        for place, argument in enumerate(schema.arguments)
        if (argument.alias_info is not None and argument.alias_info.is_write)
        or (name in BATCH_NORMS and argument.name in _STATISTICS)
    )
    lost = (
        name in RESIZED
        or name in BATCH_NORMS
        or torch.Tag.nondeterministic_seeded in overload.tags
        or "c10d" in overload.namespace  # what other processes have isn't known
    )
    guessed = name in GUESSED and overload.namespace == "aten"
    if lost and not writes and not guessed:
        return None
    return Role(name, writes, not lost, guessed)


def watch_of(call: Call) -> Any:
    """When to `follow` a call: where the argument's storage at this place is known; and its role.

    -1 stands for always, False for never. This is asked once for each distinct call; of most
    calls of a model no more is seen than that one argument's values aren't known.
    """
    role = role_of(call.overload)
    if role is None:
        return False
    place = _watched(call, role)
    return place if place is False else (place, role)


def _watched(call: Call, role: Role) -> Any:
    if role.name == LIFTED:
        return -1
    _, args, kwargs, result, _ = call.key
    given, made = list(_tensor_keys((args, kwargs))), list(_tensor_keys(result))
    if any(key[3].type != "meta" for key in (*given, *made)):
        return -1  # fake tensors, or the CPU's too
    if role.name in BATCH_NORMS and len(args) > TRAINING and args[TRAINING] == (bool, False):
        return False
    if role.writes:
        (place, _), *more = role.writes
        plain = place < len(args) and is_tensor_key(args[place])
        return place if plain and not more and role.name not in OVERWRITE else -1
    looked_at = made if role.guessed or role.name in FRESH else (*given, *made)
    if not made or any(key[0].numel() > LIMIT for key in looked_at):
        return False
    first = args[0] if args else None
    return 0 if is_tensor_key(first) and not role.guessed and role.name not in FRESH else -1


def _tensor_keys(key: Any) -> Iterator[Any]:
    if is_tensor_key(key):
        yield key
    elif type(key) is tuple:
        for item in key:
            yield from _tensor_keys(item)


def written_by(role: Role, args: Any, kwargs: Any) -> list[torch.Tensor]:
    """The tensors that a call wrote to."""
    found = [args[place] if place < len(args) else kwargs.get(name) for place, name in role.writes]
    if len(found) == 1 and isinstance(found[0], torch.Tensor):
        return found
    return list(tensors_in(found))
