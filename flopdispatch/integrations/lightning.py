"""MFU in Lightning: a callback whose rates go to the trainer's loggers."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from flopdispatch.errors import ArgumentError
from flopdispatch.hardware import Hardware
from flopdispatch.mfu import MfuMeter, Rates

try:
    from lightning.pytorch.callbacks import Callback
except ImportError as error:
    raise ArgumentError(
        'flopdispatch.integrations.lightning needs Lightning: pip install "flopdispatch[lightning]"'
    ) from error

Amount = Callable[[Any], int]


class MfuCallback(Callback):  # type: ignore[misc]
    """Measures MFU and HFU of a Lightning module's training, and of its validation apart.

    `tokens` and `samples` are functions that say how many are in a batch. All other arguments are
    MfuMeter's; the rates go to the trainer's loggers unless `log` is given. `meter` is the
    MfuMeter, once training begins; it stays while the trainer's module is the same. A batch whose
    tensors can't be seen needs `key`, a function of it, as MfuMeter.step says.

    Each batch is a step of the meter, so that gradients may be accumulated over several.

    Raises: ArgumentError as MfuMeter does, when training begins.
    """

    def __init__(
        self,
        hardware: str | Hardware | None = None,
        *,
        tokens: Amount | None = None,
        samples: Amount | None = None,
        key: Callable[[Any], Any] | None = None,
        **options: Any,
    ) -> None:
        self.meter: MfuMeter | None = None
        self._hardware = hardware
        self._tokens = tokens
        self._samples = samples
        self._key = key
        self._options = options
        self._module: Any = None
        self._step: AbstractContextManager[None] | None = None

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Make the meter of this module, which goes on over fits, validations and tests."""
        if self.meter is not None and self._module is pl_module:
            self.meter.pause()
            return

        def log(rates: Rates) -> None:
            values = rates.to_dict()
            kind = values.pop("kind")
            del values["step"]  # the loggers go by the trainer's
            named = {f"{kind}/{name}": value for name, value in values.items()}
            for logger in pl_module.trainer.loggers:
                logger.log_metrics(named, step=pl_module.trainer.global_step)

        self.meter = MfuMeter(pl_module, self._hardware, **{"log": log, **self._options})
        self._module = pl_module

    def on_train_batch_start(
        self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int
    ) -> None:
        """A training step begins."""
        self._begin(batch, evaluation=False)

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """A training step ends."""
        self._end(None)

    def on_validation_batch_start(
        self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """An evaluation step begins."""
        self._begin(batch, evaluation=True)

    def on_validation_batch_end(
        self,
        trainer: Any,
        pl_module: Any,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """An evaluation step ends."""
        self._end(None)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Leave the step that another hook has skipped, by returning -1."""
        self._end(StopIteration())

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Leave the step that the exception ended: nothing of it stays active."""
        self._end(exception)

    def _begin(self, batch: Any, evaluation: bool) -> None:
        assert self.meter is not None
        step = self.meter.step(
            batch,
            tokens=self._tokens and self._tokens(batch),
            samples=self._samples and self._samples(batch),
            evaluation=evaluation,
            key=self._key and self._key(batch),
        )
        step.__enter__()
        self._step = step

    def _end(self, error: BaseException | None) -> None:
        step, self._step = self._step, None
        if step is not None and error is not None:
            step.__exit__(type(error), error, error.__traceback__)
        elif step is not None:
            step.__exit__(None, None, None)
