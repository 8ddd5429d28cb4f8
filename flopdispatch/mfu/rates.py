"""Rates: what some steps achieved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from flopdispatch.errors import ArgumentError

TRAINING, EVALUATION = "training", "evaluation"


@dataclass(frozen=True, slots=True)
class Rates:
    """What the last steps of one kind achieved.

    `step` is how many steps of the kind there were so far, `steps` how many of them these figures
    are of, `counted` how many were counted and therefore not timed. `seconds` is their time.
    FLOPs, `tokens` and `samples` are sums, over `ranks`, which ran beside each other. `mfu` and
    `hfu` are the shares of the ranks' peak, 1.0 being all of it. What wasn't told is None.

    Example:

        >>> Rates("training", 5, 4, 1, 2.0, 6_000, 8_000, 100, None, 0.3, 0.4).tokens_per_s
        50.0
    """

    kind: str
    step: int
    steps: int
    counted: int
    seconds: float
    model_flops: int
    hardware_flops: int
    tokens: int | None
    samples: int | None
    mfu: float | None
    hfu: float | None
    ranks: int = 1

    @property
    def seconds_per_step(self) -> float:
        """Time of one step."""
        return self.seconds / self.steps

    @property
    def model_flop_per_s(self) -> float | None:
        """Model FLOPs a second."""
        return self._a_second(self.model_flops)

    @property
    def tokens_per_s(self) -> float | None:
        """Tokens a second."""
        return self._a_second(self.tokens)

    @property
    def samples_per_s(self) -> float | None:
        """Samples a second."""
        return self._a_second(self.samples)

    def to_dict(self) -> dict[str, Any]:
        """What is known, in plain values, as logs take it."""
        values = {
            "kind": self.kind,
            "step": self.step,
            "steps": self.steps,
            "counted": self.counted,
            "ranks": self.ranks,
            "seconds_per_step": self.seconds_per_step,
            "model_flops_per_step": self.model_flops / self.steps,
            "hardware_flops_per_step": self.hardware_flops / self.steps,
            "model_flop_per_s": self.model_flop_per_s,
            "mfu": self.mfu,
            "hfu": self.hfu,
            "tokens_per_s": self.tokens_per_s,
            "samples_per_s": self.samples_per_s,
        }
        return {name: value for name, value in values.items() if value is not None}

    def _a_second(self, amount: int | None) -> float | None:
        return amount / self.seconds if amount is not None and self.seconds else None


def together(ranks: Sequence[Rates]) -> Rates:
    """The rates of ranks that ran beside each other, in the time of the slowest."""
    first, seconds = ranks[0], max(rates.seconds for rates in ranks)
    return Rates(
        kind=first.kind,
        step=max(rates.step for rates in ranks),
        steps=max(rates.steps for rates in ranks),
        counted=max(rates.counted for rates in ranks),
        seconds=seconds,
        model_flops=sum(rates.model_flops for rates in ranks),
        hardware_flops=sum(rates.hardware_flops for rates in ranks),
        tokens=total([rates.tokens for rates in ranks]),
        samples=total([rates.samples for rates in ranks]),
        mfu=_share([(rates.mfu, rates.seconds) for rates in ranks], seconds),
        hfu=_share([(rates.hfu, rates.seconds) for rates in ranks], seconds),
        ranks=sum(rates.ranks for rates in ranks),
    )


def total(amounts: Sequence[Any]) -> int | None:
    """The sum of numbers or tensors of one, None if one isn't known.

    Raises: ArgumentError for what is no number.
    """
    if any(amount is None for amount in amounts):
        return None
    try:
        return sum(map(int, amounts))
    except (TypeError, ValueError, RuntimeError) as error:
        raise ArgumentError(
            f"tokens= and samples= take a number, or a tensor of one: {error}"
        ) from error


def _share(shares: Sequence[tuple[float | None, float]], seconds: float) -> float | None:
    """The share of all ranks' peak in a time, of each one's share in a time of its own."""
    at_peak = [share * own for share, own in shares if share is not None]
    if len(at_peak) < len(shares) or not seconds:
        return None
    return sum(at_peak) / (len(shares) * seconds)
