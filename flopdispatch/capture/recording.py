"""Recording: how often each distinct call ran, by scope and phase."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from flopdispatch.assumptions import Assumption
from flopdispatch.capture.calls import Call
from flopdispatch.capture.keys import Key

# `other` is what runs outside of all modules and is neither of the rest: a loss, clipping.
FORWARD, RECOMPUTE, BACKWARD, OPTIMIZER, OTHER = PHASES = (
    "forward", "recompute", "backward", "optimizer", "other",
)  # fmt: skip

Bucket = dict[Call, int]  # how often each distinct call ran in one scope and phase

# Calls that differ in numbers only, of which one stands for all further ones: a step size or
# the start of a slice is new at every iteration, and the recording must not grow with it.
MAX_NUMBERS = 64


@dataclass(frozen=True, slots=True)
class ModuleRecord:
    """One module: its scope, class, own parameters as (identity, elements), number of calls.

    `aliases` are other paths that lead to it.
    """

    scope: str
    module_type: str
    params: tuple[tuple[int, int], ...]
    calls: int
    aliases: tuple[str, ...] = ()


def merged_modules(parts: Iterable[Iterable[ModuleRecord]]) -> tuple[ModuleRecord, ...]:
    """The modules of several threads: one that ran in more of them is there once."""
    found: dict[str, ModuleRecord] = {}
    for record in (record for part in parts for record in part):
        known = found.get(record.scope)
        if known is not None:
            params = tuple(dict([*known.params, *record.params]).items())
            found[record.scope] = replace(known, params=params, calls=known.calls + record.calls)
        else:
            found[record.scope] = record
    return tuple(found.values())


def own_params(modules: Iterable[ModuleRecord]) -> dict[str, int]:
    """How many parameters' elements each module holds itself; tied ones are the first one's."""
    seen: set[int] = set()
    found = {}
    for module in modules:
        own = {key: number for key, number in module.params if key not in seen}
        seen.update(own)
        found[module.scope] = sum(own.values())
    return found


@dataclass(slots=True)
class Recording:
    """What ran: for each scope and phase, its distinct calls and their numbers.

    Memory grows with the distinct (scope, phase, call), not with iterations. `calls` holds
    one of all equal calls, `alike` those that differ in nothing but numbers: at most
    MAX_NUMBERS of them are told apart. `first` are the first calls of each operator.
    """

    buckets: dict[tuple[str, str], Bucket] = field(default_factory=dict)
    calls: dict[Key, Call] = field(default_factory=dict)
    members: set[Call] = field(default_factory=set)
    assumptions: dict[Assumption, int] = field(default_factory=dict)
    first: dict[int, list[Call]] = field(default_factory=dict)
    alike: dict[Key, list[Call]] = field(default_factory=dict)

    def bucket(self, scope: str, phase: str) -> Bucket:
        """The counts of one scope and phase, to add to."""
        found = self.buckets.get((scope, phase))
        if found is None:
            found = self.buckets[scope, phase] = {}
        return found

    @staticmethod
    def merged(recordings: Iterable[Recording]) -> Recording:
        """All of them in one; they may go on being written to."""
        whole = Recording()
        for part in recordings:
            for (scope, phase), bucket in list(part.buckets.items()):
                target = whole.bucket(scope, phase)
                for call, times in list(bucket.items()):
                    known = whole.calls.setdefault(call.key, call)
                    target[known] = target.get(known, 0) + times
            for assumption, times in list(part.assumptions.items()):
                whole.assume(assumption, times)
        return whole

    def assume(self, assumption: str | Assumption, times: int = 1) -> None:
        """List an assumption: as text once, an operator's with the number of times."""
        if isinstance(assumption, str):
            assumption = Assumption(assumption)
        before = self.assumptions.get(assumption, 0) if assumption.operator else 0
        self.assumptions[assumption] = before + times

    def assumed(self) -> tuple[Assumption, ...]:
        """All assumptions, in the order in which they were made."""
        found = self.assumptions.items()
        return tuple([replace(assumption, times=times) for assumption, times in found])

    def clear(self) -> None:
        """Forget all."""
        for part in (self.buckets, self.calls, self.members, self.first, self.alike):
            part.clear()
        self.assumptions.clear()

    def add(self, bucket: Bucket, call: Call) -> None:
        """Count a call that the bucket may not have seen before."""
        if call not in self.members:
            call = self.stand_in(call)
        bucket[call] = bucket.get(call, 0) + 1

    def stand_in(self, call: Call) -> Call:
        """What a call is counted as: one equal to it, itself, or one of too many like it."""
        equal = self.calls.get(call.key)
        if equal is not None:
            return equal
        first = self.first.setdefault(id(call.overload), [])
        if len(first) < MAX_NUMBERS:
            first.append(call)
            if len(first) == MAX_NUMBERS:  # before that there can't be too many alike
                for other in first:
                    self.alike.setdefault(other.pattern, []).append(other)
        else:
            known = self.alike.setdefault(call.pattern, [])
            if len(known) >= MAX_NUMBERS:
                return known[-1]
            known.append(call)
        self.calls[call.key] = call
        self.members.add(call)
        return call
