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
    """The first dimension of the first tensor that has one."""
    return next((len(value) for value in inputs.values() if getattr(value, "shape", ())), None)


class MfuCallback(TrainerCallback):  # type: ignore[misc]
    """Measures MFU and HFU of a Trainer's training, and of its evaluation meanwhile apart.

    `trainer.add_callback(MfuCallback(trainer, "H100-SXM"))`. `tokens` and `samples` are functions
    that say how many are in a batch. All other arguments are MfuMeter's; the rates go to
    `trainer.log` unless `log` is given. `meter` is the MfuMeter, another one once the trainer has
    made another model. Inputs whose tensors can't be seen need `key`, a function of them, as
    MfuMeter.step says.

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
        key: Callable[[Any], Any] | None = None,
        **options: Any,
    ) -> None:
        self._trainer = trainer
        self._hardware = hardware
        self._tokens = tokens
        self._samples = samples
        self._key = key
        # The methods that measure now, and what the trainer had of its own by their names.
        self._measured: dict[str, tuple[Any, Any]] = {}

        def log(rates: Rates) -> None:
            values = rates.to_dict()
            kind = values.pop("kind")
            del values["step"]  # the trainer's log has its own
            trainer.log({f"{kind}_{name}": value for name, value in values.items()})

        self._options = {"log": log, **options}
        self._meet(trainer.model)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Measure the trainer's steps from now on."""
        if self._trainer.model is not self._model:
            self._meet(self._trainer.model)
        self.meter.pause()
        if not self._measured:  # it does if an exception ended the training before
            self._measure("training_step", evaluation=False)
            self._measure("prediction_step", evaluation=True)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Leave the trainer's methods as they were."""
        own = vars(self._trainer)
        for name, (measured, before) in self._measured.items():
            if own.get(name) is measured:  # else it is within another callback's
                del own[name]
                if before is not None:
                    own[name] = before
        self._measured.clear()

    def _meet(self, model: Any) -> None:
        self._model = model
        self.meter = MfuMeter(model, self._hardware, **self._options)

    def _measure(self, name: str, evaluation: bool) -> None:
        before = vars(self._trainer).get(name)
        method = getattr(self._trainer, name)

        @wraps(method)
        def measured(model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            if name not in self._measured:
                return method(model, inputs, *args, **kwargs)
            step = self.meter.step(
                inputs,
                tokens=self._tokens(inputs),
                samples=self._samples(inputs),
                evaluation=evaluation,
                key=self._key and self._key(inputs),
            )
            with step:
                return method(model, inputs, *args, **kwargs)

        self._measured[name] = measured, before
        setattr(self._trainer, name, measured)
