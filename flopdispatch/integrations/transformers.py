"""MFU in transformers' Trainer: a callback whose rates go to the trainer's log."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from flopdispatch.errors import ArgumentError
from flopdispatch.hardware import Hardware
from flopdispatch.mfu import MfuMeter, Rates

try:
    from transformers import TrainerCallback
except ImportError as error:
    raise ArgumentError(
        "flopdispatch.integrations.transformers needs transformers with what its Trainer needs: "
        'pip install "transformers[torch]"'
    ) from error

Amount = Callable[[Any], int | None]


def tokens_in(inputs: Any) -> int | None:
    """The number of `input_ids`, padding included; None if there are none."""
    return inputs["input_ids"].numel() if "input_ids" in inputs else None


def samples_in(inputs: Any) -> int | None:
    """The first dimension of the first tensor."""
    return next((len(value) for value in inputs.values() if hasattr(value, "shape")), None)


class MfuCallback(TrainerCallback):  # type: ignore[misc]
    """Measures MFU and HFU of a Trainer's training, and of its evaluation meanwhile apart.

    `trainer.add_callback(MfuCallback(trainer, "H100-SXM"))`. `tokens` and `samples` are functions
    that say how many are in a batch. All other arguments are MfuMeter's; the rates go to
    `trainer.log` unless `log` is given. `meter` is the MfuMeter.

    While it trains, the trainer's `training_step` and `prediction_step` are steps of the meter:
    callbacks aren't told the batch. The optimizer's step lies between two of them, in their time.

    Raises: ArgumentError as MfuMeter does.
    """

    def __init__(
        self,
        trainer: Any,
        hardware: str | Hardware | None = None,
        *,
        tokens: Amount = tokens_in,
        samples: Amount = samples_in,
        **options: Any,
    ) -> None:
        self._trainer = trainer
        self._tokens = tokens
        self._samples = samples
        self._before: dict[str, Any] = {}  # what the trainer had of its own by these names

        def log(rates: Rates) -> None:
            values = rates.to_dict()
            kind = values.pop("kind")
            del values["step"]  # the trainer's log has its own
            trainer.log({f"{kind}_{name}": value for name, value in values.items()})

        self.meter = MfuMeter(trainer.model, hardware, **{"log": log, **options})

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Measure the trainer's steps from now on."""
        self._measure("training_step", evaluation=False)
        self._measure("prediction_step", evaluation=True)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Leave the trainer's methods as they were."""
        for name, before in self._before.items():
            if before is None:
                delattr(self._trainer, name)
            else:
                setattr(self._trainer, name, before)
        self._before.clear()

    def _measure(self, name: str, evaluation: bool) -> None:
        if name in self._before:
            return  # an exception ended the training before
        self._before[name] = vars(self._trainer).get(name)
        method = getattr(self._trainer, name)

        @wraps(method)
        def measured(model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            tokens, samples = self._tokens(inputs), self._samples(inputs)
            with self.meter.step(inputs, tokens=tokens, samples=samples, evaluation=evaluation):
                return method(model, inputs, *args, **kwargs)

        setattr(self._trainer, name, measured)
