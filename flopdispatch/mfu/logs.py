"""Where rates go: any callable that takes Rates is a log; these two are ready made."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TextIO

from flopdispatch.errors import ArgumentError
from flopdispatch.mfu.rates import Rates

Log = Callable[[Rates], None]


def json_lines(file: str | Path | TextIO | None = None) -> Log:
    """A log that writes a JSON object a line: to a path, an open file, or what `print` writes to.

    Raises: ArgumentError for a path in a folder that doesn't exist.

    Example:

        >>> log = json_lines()
        >>> log(Rates("evaluation", 1, 1, 0, 2.0, 8, 8, None, None, None, None))
        {"kind": "evaluation", "step": 1, "steps": 1, ... "model_flop_per_s": 4.0}
    """
    if isinstance(file, (str, Path)) and not Path(file).parent.is_dir():
        raise ArgumentError(
            f"json_lines() takes a path in a folder that exists, got {str(file)!r}: make "
            f"{str(Path(file).parent)!r} before"
        )

    def log(rates: Rates) -> None:
        line = json.dumps(rates.to_dict())
        if isinstance(file, (str, Path)):
            with Path(file).open("a", encoding="utf-8") as stream:
                stream.write(f"{line}\n")
        else:
            print(line, file=file, flush=True)

    return log


def tensorboard(directory: str | Path) -> Log:
    """A log that writes scalars for TensorBoard, `training/mfu` and the like.

    Raises: ArgumentError if TensorBoard isn't installed.
    """
    try:
        writer = import_module("torch.utils.tensorboard").SummaryWriter(str(directory))
    except ImportError as error:
        raise ArgumentError(
            'tensorboard() needs TensorBoard: pip install "flopdispatch[tensorboard]", or take '
            "json_lines(), which is the default"
        ) from error

    def log(rates: Rates) -> None:
        values = rates.to_dict()
        kind, step = values.pop("kind"), values.pop("step")
        for name, value in values.items():
            writer.add_scalar(f"{kind}/{name}", value, step)
        writer.flush()

    return log
