"""The callbacks, with the real Lightning and the real Trainer."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack
from torch.utils.data import DataLoader, TensorDataset

from flopdispatch.errors import ArgumentError
from flopdispatch.mfu import Rates
from tests.mfu.loops import MACHINE, Ticks, comparable, flops

pytestmark = pytest.mark.filterwarnings("ignore")
ROWS = 3


def lightning_module(broken_at: int | None = None) -> Any:
    """A tiny module; its training breaks at a batch if told so."""
    lightning = pytest.importorskip("lightning.pytorch")

    class Tiny(lightning.LightningModule):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Linear(8, 4)

        def training_step(self, batch: Any, number: int) -> torch.Tensor:
            if number == broken_at:
                raise KeyError("mine")
            x, y = batch
            return nn.functional.cross_entropy(self.net(x), y)

        def validation_step(self, batch: Any, number: int) -> None:
            self.net(batch[0])

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    return Tiny()


def fit(module: Any, callback: Any, folder: Path, collate: Any = None, **options: Any) -> Any:
    lightning = pytest.importorskip("lightning.pytorch")
    data = TensorDataset(torch.ones(4 * ROWS, 8), torch.zeros(4 * ROWS, dtype=torch.long))
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_epochs=2,
        callbacks=[callback],
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        num_sanity_val_steps=0,
        default_root_dir=folder,
        **{"logger": False, **options},
    )
    loader = DataLoader(data, ROWS, collate_fn=collate)
    trainer.fit(module, loader, loader)
    return trainer


def test_lightning_counts_one_batch_of_each_kind(tmp_path: Path) -> None:
    pytest.importorskip("lightning.pytorch")
    from flopdispatch.integrations.lightning import MfuCallback  # noqa: PLC0415

    module, logged = lightning_module(), list[Rates]()
    callback = MfuCallback(
        MACHINE,
        samples=lambda batch: len(batch[0]),
        log=logged.append,
        window=2,
        clock=Ticks(),
    )
    fit(module, callback, tmp_path, accumulate_grad_batches=2)
    meter = callback.meter
    assert meter is not None
    training, evaluation = meter.rates(), meter.rates(evaluation=True)
    assert training is not None
    assert evaluation is not None
    assert (training.step, training.counted) == (8, 1)
    assert (evaluation.step, evaluation.counted) == (8, 1)
    x, y = torch.ones(ROWS, 8), torch.zeros(ROWS, dtype=torch.long)
    step = comparable(lambda: module.training_step((x, y), 0).backward())
    assert step == 2 * 2 * ROWS * 8 * 4
    assert training.model_flops == 2 * step
    assert evaluation.model_flops == 2 * step // 2
    assert training.samples == 2 * ROWS
    assert {rates.kind for rates in logged} == {"training", "evaluation"}


def test_lightnings_loggers_have_the_rates(tmp_path: Path) -> None:
    pytest.importorskip("lightning.pytorch")
    from flopdispatch.integrations.lightning import MfuCallback  # noqa: PLC0415

    loggers = pytest.importorskip("lightning.pytorch.loggers")
    logger = loggers.CSVLogger(tmp_path)
    fit(lightning_module(), MfuCallback(MACHINE, window=3), tmp_path, logger=logger)
    columns = (Path(logger.log_dir) / "metrics.csv").read_text().splitlines()[0].split(",")
    assert {"training/mfu", "training/hfu", "evaluation/mfu", "step"} <= set(columns)


@pytest.mark.parametrize("batch", [0, 1])
def test_an_exception_in_lightning_leaves_nothing_behind(batch: int, tmp_path: Path) -> None:
    pytest.importorskip("lightning.pytorch")
    from flopdispatch.integrations.lightning import MfuCallback  # noqa: PLC0415

    callback = MfuCallback(MACHINE, log=None)
    with pytest.raises(KeyError, match="mine"):
        fit(lightning_module(broken_at=batch), callback, tmp_path)
    assert _get_current_dispatch_mode_stack() == []
    assert callback.meter is not None
    with callback.meter.step(torch.ones(1)):  # it is in no step
        pass


@pytest.mark.parametrize("skipped", [0, 2])
def test_a_batch_that_lightning_skips_is_no_step(skipped: int, tmp_path: Path) -> None:
    pytest.importorskip("lightning.pytorch")
    from flopdispatch.integrations.lightning import MfuCallback  # noqa: PLC0415

    module, callback = lightning_module(), MfuCallback(MACHINE, log=None)
    module.on_train_batch_start = lambda batch, number: -1 if number == skipped else None
    fit(module, callback, tmp_path)
    assert _get_current_dispatch_mode_stack() == []
    assert callback.meter is not None
    rates = callback.meter.rates()
    assert (rates.step if rates else 0) == 2 * skipped  # -1 ends each of two epochs


def test_lightnings_other_stages_leave_the_rates_of_a_fit(tmp_path: Path) -> None:
    pytest.importorskip("lightning.pytorch")
    from flopdispatch.integrations.lightning import MfuCallback  # noqa: PLC0415

    ticks = Ticks()
    module, callback = lightning_module(), MfuCallback(MACHINE, log=None, clock=ticks)
    module.on_train_batch_start = lambda batch, number: setattr(ticks, "now", ticks.now + 1.0)
    trainer = fit(module, callback, tmp_path, limit_val_batches=2)
    ticks.now += 1000.0  # between two fits
    trainer.validate(module, DataLoader(TensorDataset(torch.ones(2 * ROWS, 8)), ROWS))
    fit(module, callback, tmp_path, limit_val_batches=2)
    assert callback.meter is not None
    training, evaluation = callback.meter.rates(), callback.meter.rates(evaluation=True)
    assert training is not None
    assert evaluation is not None
    assert (training.step, training.counted, training.seconds) == (16, 1, 15.0)
    assert (evaluation.step, evaluation.counted, evaluation.seconds) == (10, 2, 0.0)


def test_lightnings_batches_without_visible_tensors_have_a_key(tmp_path: Path) -> None:
    pytest.importorskip("lightning.pytorch")
    from flopdispatch.integrations.lightning import MfuCallback  # noqa: PLC0415

    class Rows:
        """A batch as a library of its own has it."""

        def __init__(self, rows: Any) -> None:
            self.x, self.y = map(torch.stack, zip(*rows))

    module = lightning_module()
    step = module.training_step
    module.training_step = lambda batch, batch_idx: step((batch.x, batch.y), batch_idx)
    callback = MfuCallback(MACHINE, log=None, key=lambda batch: len(batch.x))
    fit(module, callback, tmp_path, collate=Rows, limit_val_batches=0)
    assert callback.meter is not None
    rates = callback.meter.rates()
    assert rates is not None
    assert (rates.step, rates.counted) == (8, 1)


class Tiny(nn.Module):
    """A model as Trainer takes it."""

    def __init__(self, broken: bool = False) -> None:
        super().__init__()
        self.embedding = nn.Embedding(10, 8)
        self.net = nn.Linear(8, 10)
        self.broken = broken

    def forward(self, input_ids: torch.Tensor, labels: torch.Tensor) -> Any:
        """The loss and the logits."""
        if self.broken:
            raise KeyError("mine")
        logits = self.net(self.embedding(input_ids))
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten())
        return {"loss": loss, "logits": logits}


def trained_on(model: nn.Module, ids: torch.Tensor) -> None:
    model(ids, ids)["loss"].backward()


def trainer_of(model: nn.Module, folder: Path, **options: Any) -> Any:
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    row = {"input_ids": torch.ones(5, dtype=torch.long), "labels": torch.ones(5, dtype=torch.long)}
    arguments = transformers.TrainingArguments(
        output_dir=str(folder),
        use_cpu=True,
        num_train_epochs=2,
        per_device_train_batch_size=ROWS,
        per_device_eval_batch_size=ROWS,
        gradient_accumulation_steps=2,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        **{"eval_strategy": "epoch", **options},
    )
    rows = [row] * (4 * ROWS)
    return transformers.Trainer(model, arguments, train_dataset=rows, eval_dataset=rows)


def test_trainer_counts_one_batch_of_each_kind(tmp_path: Path) -> None:
    from flopdispatch.integrations.transformers import MfuCallback  # noqa: PLC0415

    model = Tiny()
    trainer = trainer_of(model, tmp_path)
    callback = MfuCallback(trainer, MACHINE, window=2, clock=Ticks())
    trainer.add_callback(callback)
    trainer.train()
    training, evaluation = callback.meter.rates(), callback.meter.rates(evaluation=True)
    assert training is not None
    assert evaluation is not None
    # The first step after an evaluation finds the model in eval mode, and Trainer then changes it.
    assert (training.step, training.counted) == (8, 2)
    assert (evaluation.step, evaluation.counted) == (8, 1)
    ids = torch.ones(ROWS, 5, dtype=torch.long)
    step = comparable(lambda: trained_on(model, ids))
    assert step == 3 * 2 * ROWS * 5 * 8 * 10  # the embedding's result needs a gradient
    assert training.model_flops == 2 * step
    assert evaluation.model_flops == 2 * step // 3
    assert (training.tokens, training.samples) == (2 * ROWS * 5, 2 * ROWS)
    logged = [entry for entry in trainer.state.log_history if "training_counted" in entry]
    assert len(logged) == 3
    assert not {"training_step", "prediction_step"} & set(vars(trainer))


def test_an_exception_in_trainer_leaves_nothing_behind(tmp_path: Path) -> None:
    from flopdispatch.integrations.transformers import MfuCallback  # noqa: PLC0415

    model = Tiny(broken=True)
    trainer = trainer_of(model, tmp_path)
    callback = MfuCallback(trainer, MACHINE, log=None, clock=Ticks())
    trainer.add_callback(callback)
    with pytest.raises(KeyError, match="mine"):
        trainer.train()
    assert _get_current_dispatch_mode_stack() == []
    model.broken = False
    trainer.train()
    rates = callback.meter.rates()
    assert rates is not None
    assert (rates.step, rates.counted) == (8, 2)  # the second is after an evaluation


def test_a_model_that_the_trainer_makes_anew_is_the_meters(tmp_path: Path) -> None:
    from flopdispatch.integrations.transformers import MfuCallback  # noqa: PLC0415

    trainer = trainer_of(Tiny(), tmp_path, eval_strategy="no")
    trainer.model_init = Tiny

    class Freezing(importlib.import_module("transformers").TrainerCallback):  # type: ignore[misc]
        """Freezes the embedding after the second optimizer step."""

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == 2:
                kwargs["model"].embedding.requires_grad_(False)

    callback = MfuCallback(trainer, MACHINE, log=None, clock=Ticks())
    trainer.add_callback(callback)
    trainer.add_callback(Freezing())
    trainer.train()
    rates = callback.meter.rates()
    assert rates is not None
    assert (rates.step, rates.counted) == (8, 2)


def test_the_time_between_two_trainings_is_in_no_step(tmp_path: Path) -> None:
    from flopdispatch.integrations.transformers import MfuCallback  # noqa: PLC0415

    trainer, ticks = trainer_of(Tiny(), tmp_path, eval_strategy="no"), Ticks()
    callback = MfuCallback(trainer, MACHINE, log=None, clock=ticks)
    trainer.add_callback(callback)
    for _ in range(2):
        trainer.train()
        ticks.now += 1000.0
    rates = callback.meter.rates()
    assert rates is not None
    assert (rates.step, rates.counted, rates.seconds) == (16, 1, 0.0)


def test_trainers_inputs_may_have_scalars_first_or_a_key(tmp_path: Path) -> None:
    from flopdispatch.integrations.transformers import MfuCallback, samples_in  # noqa: PLC0415

    ids = torch.ones(ROWS, 5, dtype=torch.long)
    assert samples_in({"scale": torch.tensor(2.0), "text": "", "input_ids": ids}) == ROWS
    trainer = trainer_of(Tiny(), tmp_path, eval_strategy="no")
    keys = iter("aabbaabb")
    callback = MfuCallback(trainer, MACHINE, log=None, key=lambda inputs: next(keys))
    trainer.add_callback(callback)
    trainer.train()
    rates = callback.meter.rates()
    assert rates is not None
    assert (rates.step, rates.counted) == (8, 2)


def test_two_meters_of_a_trainer_leave_when_it_has_trained(tmp_path: Path) -> None:
    from flopdispatch.integrations.transformers import MfuCallback  # noqa: PLC0415

    trainer = trainer_of(Tiny(), tmp_path)
    callbacks = [
        MfuCallback(trainer, MACHINE, log=None, clock=Ticks(), figure=figure)
        for figure in ("comparable", "flops")
    ]
    for callback in callbacks:
        trainer.add_callback(callback)
    trainer.train()
    trainer.evaluate()
    products, everything = [flops(callback.meter) for callback in callbacks]
    assert products < everything
    for callback in callbacks:
        rates = callback.meter.rates(evaluation=True)
        assert rates is not None
        assert rates.step == 8  # none of the evaluation after training


@pytest.mark.parametrize(
    ("name", "package", "told"),
    [("lightning", "lightning.pytorch.callbacks", "flopdispatch[lightning]"),
     ("transformers", "transformers", "transformers[torch]")],
)  # fmt: skip
def test_without_its_package_it_says_what_to_install(
    name: str, package: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = f"flopdispatch.integrations.{name}"
    monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ArgumentError, match=re.escape(f'pip install "{told}"')):
        importlib.import_module(module)
