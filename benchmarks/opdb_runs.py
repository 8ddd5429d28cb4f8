"""An entry of the databases with the counter and without: what isn't as it should be?"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import torch

from benchmarks.opdb_exemptions import (
    BYTES_BY_MODE,
    IN_ANY_MODE,
    OPERATIONS_ACROSS,
    OPERATIONS_BY_MODE,
    OUT_IGNORED,
    ROUNDED_BY_KERNEL,
    UNDEFINED,
    VARIANTS,
)
from benchmarks.opdb_samples import (
    CPU,
    FORWARDS,
    GRAD,
    IN_PLACE,
    INFERENCE,
    META,
    NO_GRAD,
    OUT,
    Case,
    Make,
    cases,
)
from benchmarks.opdb_seen import (
    ROUNDED,
    Difference,
    Seen,
    bare,
    counted,
    differences,
    in_any_mode,
)
from flopdispatch import Cost, Profile
from flopdispatch.cost import FIELDS
from flopdispatch.rules import name_of

DEVICES = (CPU, META)
NAMED = 4  # differences of one run that are told
LONGEST = 1_000  # characters of one finding

# What is found wrong, by its kind.
RESULT = "another result with the counter"
FORMULA = "a formula that fails"
BY_MODE = "other operations in another grad mode"
BYTES = "other bytes in another grad mode"
BY_VARIANT = "other operations in place or with out="
BY_DEVICE = "other operations on another device"


@dataclass(slots=True)
class Tally:
    """What was run of one entry, and what was not as it should be."""

    entry: str
    cases: int = 0
    runs: Counter[str] = field(default_factory=Counter)  # by device and way
    raised: Counter[str] = field(default_factory=Counter)  # of these
    equal: int = 0
    calls: int = 0
    forwards: int = 0  # that were compared between the grad modes
    across: int = 0  # that were compared between the devices
    uncounted: Counter[str] = field(default_factory=Counter)
    exempted: Counter[str] = field(default_factory=Counter)  # runs by exemption
    wrong: dict[str, list[str]] = field(default_factory=dict)

    def find(self, kind: str, text: str) -> None:
        """Note what is wrong."""
        self.wrong.setdefault(kind, []).append(text if len(text) <= LONGEST else text[:LONGEST])


def run_entry(entry: str, most: int | None = None) -> Tally:
    """All cases of an entry, or `most` of each dtype, in all ways on all devices."""
    tally = Tally(entry)
    for case in cases(entry, most):
        tally.cases += 1
        forwards = {device: run_ways(case, device, tally) for device in DEVICES}
        compare_devices(case, forwards, tally)
    return tally


def run_ways(case: Case, device: torch.device, tally: Tally) -> dict[str, Profile]:
    """A case in each way on one device; the profiles of the ways that raised nothing."""
    profiles: dict[str, Profile] = {}
    for way, (make, _) in case.ways.items():
        if way == OUT and not makes(make, device):
            continue
        ours = compare(case, device, way, tally)
        if ours.profile is None:
            continue
        check_profile(case, ours.profile, tally)
        if not ours.outcome.error:
            profiles[way] = ours.profile
    compare_modes(case, device, profiles, tally)
    compare_variants(case, device, profiles, tally)
    return profiles


def makes(make: Make, device: torch.device) -> bool:
    """Whether there are such inputs: there may be no result that `out=` could be like."""
    try:
        make(device)
    except Exception:
        return False
    return True


def compare(case: Case, device: torch.device, way: str, tally: Tally) -> Seen:
    """Run without the counter and with it; note what differs."""
    kind = f"{device.type} {way}"
    values = case.entry not in UNDEFINED
    without, ours = bare(case, device, way), counted(case, device, way)
    if differences(without, ours, values):  # some warnings come once in a process
        without, ours = bare(case, device, way), counted(case, device, way)
    wrong = differences(without, ours, values)
    tally.runs[kind] += 1
    tally.raised[kind] += bool(without.outcome.error)
    if not wrong:
        tally.equal += 1
        tally.exempted.update([] if values else ["UNDEFINED"])
        return ours
    reasons = exemption(case, device, way, without, ours, wrong)
    if reasons:
        tally.exempted.update(reasons)
    else:
        told = "; ".join(text for _, text in wrong[:NAMED])
        tally.find(RESULT, f"{case.name}, {kind}: {told}")
    return ours


def exemption(
    case: Case,
    device: torch.device,
    way: str,
    without: Seen,
    ours: Seen,
    wrong: list[Difference],
) -> set[str]:
    """The exemptions under which a run may differ so; none if it may not."""
    kinds = {kind for kind, _ in wrong}
    listed = set(IN_ANY_MODE)
    values = case.entry not in UNDEFINED
    other = in_any_mode(case, device, way)
    beside = {kind for kind, _ in differences(other, ours, values)}
    if not beside and kinds <= listed:
        return kinds
    if kinds <= listed - {ROUNDED} and set(wrong) <= set(differences(without, other, values)):
        return kinds  # such a mode differs in more
    if not beside and case.entry in OUT_IGNORED and way == OUT:
        return {"OUT_IGNORED"}
    if case.entry in ROUNDED_BY_KERNEL and beside <= {ROUNDED} and kinds <= listed:
        return {"ROUNDED_BY_KERNEL"}
    return set()


def check_profile(case: Case, profile: Profile, tally: Tally) -> None:
    """Note calls that were uncounted, formulas that failed, and counts that are none."""
    tally.calls += sum(row.times for row in profile.rows)
    for overload, times in profile.uncounted.items():
        tally.uncounted[name_of(overload)] += times
    for error in profile.errors.values():
        tally.find(FORMULA, f"{case.name}: {error}")
    for call, price in zip(profile.calls, profile.prices):
        for name in FIELDS:
            value = getattr(price.cost, name)
            if type(value) is not int or value < 0:
                tally.find(FORMULA, f"{case.name}: {name} of {name_of(call.overload)} is {value!r}")


def compare_modes(
    case: Case, device: torch.device, profiles: dict[str, Profile], tally: Tally
) -> None:
    """Note a forward that costs more in one grad mode than in another."""
    found = {way: profiles[way] for way in FORWARDS if way in profiles}
    tally.forwards += len(found) > 1
    if len({profile.total for profile in found.values()}) <= 1:
        return
    told = f"{case.name}, {device.type}: {told_apart(found)}"
    if len({operations(profile) for profile in found.values()}) > 1:
        if case.entry in OPERATIONS_BY_MODE:
            tally.exempted["OPERATIONS_BY_MODE"] += 1
        else:
            tally.find(BY_MODE, told)
    elif saved_copies(found):
        tally.exempted["SAVED_COPIES"] += 1
    elif case.entry in BYTES_BY_MODE:
        tally.exempted["BYTES_BY_MODE"] += 1
    else:
        tally.find(BYTES, told)


def saved_copies(found: dict[str, Profile]) -> bool:
    """Whether grad mode moves more bytes by copies alone, those that autograd saves."""
    if found.keys() != set(FORWARDS) or found[NO_GRAD].total != found[INFERENCE].total:
        return False
    return len({total_without_clones(found[way]) for way in (GRAD, NO_GRAD)}) == 1


def total_without_clones(profile: Profile) -> Cost:
    """What all else costs."""
    rows = [
        r for r in profile.rows if profile.calls[r.call].overload != torch.ops.aten.clone.default
    ]
    return Cost.total((profile.prices[row.call].cost, row.times) for row in rows)


def compare_variants(
    case: Case, device: torch.device, profiles: dict[str, Profile], tally: Tally
) -> None:
    """Note an in-place or `out=` variant that computes something else than the operator."""
    if NO_GRAD not in profiles:
        return
    for way in (IN_PLACE, OUT):
        both = {name: profiles[name] for name in (NO_GRAD, way) if name in profiles}
        if len({operations(profile) for profile in both.values()}) <= 1:
            continue
        if case.entry in VARIANTS:
            tally.exempted["VARIANTS"] += 1
        else:
            tally.find(BY_VARIANT, f"{case.name}, {device.type}: {told_apart(both)}")


def compare_devices(
    case: Case, forwards: dict[torch.device, dict[str, Profile]], tally: Tally
) -> None:
    """Note a forward that computes more on one device than on the other."""
    both = {d.type: profiles[NO_GRAD] for d, profiles in forwards.items() if NO_GRAD in profiles}
    tally.across += len(both) > 1
    if len({operations(profile) for profile in both.values()}) > 1:
        if case.entry in OPERATIONS_ACROSS:
            tally.exempted["OPERATIONS_ACROSS"] += 1
        else:
            tally.find(BY_DEVICE, f"{case.name}: {told_apart(both)}")
    elif len({profile.total for profile in both.values()}) > 1:
        tally.exempted["BYTES_ACROSS"] += 1


def operations(profile: Profile) -> Cost:
    """What is computed, without the bytes that are moved for it."""
    return profile.total.moving(0, 0)


def told_apart(profiles: dict[str, Profile]) -> str:
    """What each costs, and by which operators that not all of them ran alike."""
    calls = {name: priced_operators(profile) for name, profile in profiles.items()}
    common = set.intersection(*(set(found.items()) for found in calls.values()))
    parts = []
    for name, profile in profiles.items():
        own = [f"{op} x{n} {c}" for (op, c), n in calls[name].items() if ((op, c), n) not in common]
        parts.append(f"{name} {in_words(profile.total)} by {', '.join(own) or 'nothing else'}")
    return "; ".join(parts)


def priced_operators(profile: Profile) -> Counter[tuple[str, str]]:
    """Each operator with what a call of it costs, and how often it ran so."""
    found: Counter[tuple[str, str]] = Counter()
    for row in profile.rows:
        cost = profile.prices[row.call].cost
        if cost != Cost():
            found[name_of(profile.calls[row.call].overload), in_words(cost)] += row.times
    return found


def in_words(cost: Cost) -> str:
    """A cost's fields that aren't zero."""
    return " ".join(f"{name}={n}" for name, n in cost.to_dict().items()) or "nothing"
