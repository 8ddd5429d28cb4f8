"""What is counted and how, by options that all commands with a target share; the counting."""

from __future__ import annotations

import sys
import warnings
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass, fields
from typing import Any

import torch

from flopdispatch.assumptions import Assume
from flopdispatch.building import on_meta
from flopdispatch.cli import terminal
from flopdispatch.cli.output import add_convention, read_profile
from flopdispatch.cli.targets import FORMS, find
from flopdispatch.cli.targets.inputs import (
    described,
    dtype_named,
    dtype_of,
    given_inputs,
    image_size,
    in_model_dtype,
    json_object,
    needs_inputs,
    signature,
)
from flopdispatch.cli.targets.target import Call, Sizes, Target
from flopdispatch.counter import count
from flopdispatch.errors import ArgumentError
from flopdispatch.inputs import is_here
from flopdispatch.profile import Profile

DEVICES = ("meta", "cpu", "cuda")


def add_target(parser: ArgumentParser, name: str = "target", more: str = "") -> None:
    """The positional argument TARGET."""
    parser.add_argument(name, metavar=name.upper(), help=f"{FORMS}{more}")


def add_target_options(parser: ArgumentParser, several: bool = False) -> None:
    """What says how a target is built and run; `several` sizes of its inputs, or one of each."""
    group = parser.add_argument_group("model")
    group.add_argument(
        "--kwargs",
        metavar="JSON",
        help="arguments for what builds the model, or entries of its config.json: "
        "'{\"num_classes\": 10}'",
    )
    group.add_argument(
        "--dtype", help="of its parameters and float inputs, such as bfloat16 (default: its own)"
    )
    group.add_argument(
        "--device",
        choices=DEVICES,
        default="meta",
        help="where it runs; on meta, the default, without memory, and on a cuda that isn't here "
        "without data",
    )
    group = parser.add_argument_group("inputs")
    group.add_argument(
        "--input",
        action="append",
        metavar="[NAME=]SHAPE[:DTYPE]",
        help="an input, such as 1x3x224x224, 2x128:long or input_ids=2x128:long; one for each; "
        "without any, those that the model is published with",
    )
    kind, number = (str, "N,N,...") if several else (_positive, "N")
    group.add_argument(
        "--batch", type=kind, metavar=number, help="samples: the first size of every input"
    )
    group.add_argument(
        "--seq", type=kind, metavar=number, help="tokens of a default text (default: 128)"
    )
    group.add_argument(
        "--size",
        metavar="HxW,HxW,..." if several else "HxW",
        help="height and width of default images, or one for both",
    )
    group = parser.add_argument_group("what is counted")
    group.add_argument("--train", action="store_true", help="in training mode (default: eval)")
    group.add_argument("--backward", action="store_true", help="the backward too")
    group.add_argument(
        "--optimizer",
        metavar="NAME",
        help="a whole training step: the backward, and a step of this class of torch.optim (adamw)",
    )
    group.add_argument(
        "--saved", action="store_true", help="what autograd keeps for the backward too, in bytes"
    )
    group.add_argument(
        "--assume",
        metavar="JSON",
        help='what to assume of data that the model looks at: \'{"nms": 100, "number": 56}\'',
    )
    group.add_argument(
        "--strict",
        action="store_true",
        help="fail where an operator has no formula or something must be assumed of data",
    )
    add_convention(group)


@dataclass(frozen=True)
class Ready:
    """A target's model, built, with what the command line says of how to run it."""

    target: Target
    model: Any
    arguments: Namespace

    def call(self, batch: int | None, seq: int | None, size: str | None) -> Call:
        """What it is called with at these sizes, the defaults where they are None.

        Raises: ArgumentError if its inputs aren't known, or don't have such a size.
        """
        sizes = Sizes(batch, seq, None if size is None else image_size(size))
        call: Call | None
        if self.arguments.input:
            call = given_inputs(self.arguments.input, sizes)
        else:
            call = self.target.inputs(self.model, sizes)
        if call is None and needs_inputs(self.model):
            raise ArgumentError(
                f"what {self.target.name} is called with isn't known: give each input of "
                f"{signature(self.model)} by --input, such as --input 1x3x224x224 or "
                "--input NAME=2x128:long"
            )
        dtype = dtype_of(self.model)
        call = Call(*[in_model_dtype(part, dtype) for part in call or Call()])
        sizes.check_used(described(call))
        return call

    def count(self, call: Call) -> Profile:
        """Count it.

        Raises: as `flopdispatch.count` does; what the model raises comes through.
        """
        with redirect_stdout(sys.stderr):
            return count(
                self.model,
                *call.args,
                **call.kwargs,
                **self.target.options,
                backward=self.arguments.backward,
                optimizer=_optimizer(self.arguments.optimizer),
                saved=self.arguments.saved,
                device=self.arguments.device,
                strict=self.arguments.strict,
                convention=self.arguments.convention,
                assume=_assume(self.target.assume, self.arguments),
            )


def ready(target: str, arguments: Namespace) -> Ready:
    """A target's model, built as the command line asks for it.

    Raises: ArgumentError if there is no such model; what its builder raises comes through.
    """
    dtype = None if arguments.dtype is None else dtype_named(arguments.dtype)
    _optimizer(arguments.optimizer)
    _assume({}, arguments)
    overrides = json_object("--kwargs", arguments.kwargs, '{"num_classes": 10}')
    with redirect_stdout(sys.stderr), warnings.catch_warnings():  # standard output is the report's
        warnings.filterwarnings("ignore", "parameters made elsewhere than on meta")
        found = find(target, overrides)
        if found.exists or is_here(torch.device(arguments.device)):
            model = found.build(dtype)
        else:
            model = on_meta(found.build, dtype)
    return Ready(found, model.train(arguments.train), arguments)


def measure(target: str, arguments: Namespace) -> Profile:
    """Count a target as the command line asks for it.

    Raises: ArgumentError for wrong arguments; what the model raises comes through.
    """
    made = ready(target, arguments)
    call = made.call(arguments.batch, arguments.seq, arguments.size)
    if not arguments.input:
        terminal.tell("note", f"inputs of {target}: {described(call)}")
    return made.count(call)


def measure_or_read(target: str, arguments: Namespace) -> Profile:
    """Count a target, or read a saved profile if it is a .json, by the convention asked for.

    Raises: ArgumentError as `measure` and `read_profile` do.
    """
    if not target.endswith(".json") or target.startswith("hf:"):
        return measure(target, arguments)
    profile = read_profile(target)
    return profile if arguments.convention is None else profile.reprice(arguments.convention)


def _positive(text: str) -> int:
    """A number of an option. Raises: ArgumentTypeError, which argparse tells."""
    if not text.isdecimal() or int(text) == 0:
        raise ArgumentTypeError(f"takes a whole number from 1 on, got {text!r}")
    return int(text)


def _assume(usual: dict[str, Any], arguments: Namespace) -> Assume | None:
    """What to assume of data: what is given, else what is usual for the target.

    Raises: ArgumentError if Assume doesn't take it.
    """
    given = json_object("--assume", arguments.assume, '{"nms": 100}')
    names = [field.name for field in fields(Assume)]
    if not given.keys() <= set(names):
        raise ArgumentError(f"--assume takes {', '.join(names)}, got {', '.join(given)}")
    if is_here(torch.device(arguments.device)):
        return Assume(**given) if given else None  # the data are there
    return Assume(**{**usual, **given})


def _optimizer(name: str | None) -> Callable[..., torch.optim.Optimizer] | None:
    """The class of torch.optim of that name, in any case of letters.

    Raises: ArgumentError if there is none.
    """
    known = {
        key.lower(): value
        for key, value in vars(torch.optim).items()
        if isinstance(value, type) and issubclass(value, torch.optim.Optimizer)
    }
    known.pop("optimizer", None)
    if name is not None and name.lower() not in known:
        raise ArgumentError(
            f"unknown optimizer {name!r}: --optimizer takes one of {', '.join(sorted(known))}"
        )
    return None if name is None else known[name.lower()]
