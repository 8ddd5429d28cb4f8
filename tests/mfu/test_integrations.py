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
from tests.mfu.loops import MACHINE, Ticks, comparable

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


def fit(module: Any, callback: Any, folder: Path, **options: Any) -> None:
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
    trainer.fit(module, DataLoader(data, ROWS), DataLoader(data, ROWS))


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


def trainer_of(model: nn.Module, folder: Path) -> Any:
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
        eval_strategy="epoch",
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
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
