"""Rules of thop's kind: hooks that add what a call of a module counts to its `total_ops`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from flopdispatch.conventions.thop import recurrent
from flopdispatch.errors import ArgumentError

Hook = Callable[[Any, Any, Any], object]

# What a hook finds on its module, as thop's buffers of these names.
LENT = "total_ops", "total_params"

# thop adds the rule of one of these to what is counted inside.
CONTAINERS = nn.Sequential, nn.ModuleList


def count_recurrent(module: Any, inputs: object, output: Any) -> None:
    """The rule of all recurrent layers and cells."""
    module.total_ops += recurrent(module, output)


# thop's rules of modules that no operator stands for, by the names that it prints.
BUILT_IN = {
    nn.RNN: "count_rnn",
    nn.RNNCell: "count_rnn_cell",
    nn.GRU: "count_gru",
    nn.GRUCell: "count_gru_cell",
    nn.LSTM: "count_lstm",
    nn.LSTMCell: "count_lstm_cell",
}


class ModuleRules:
    """The hooks of a model's modules, by their exact class as in thop, and what they added up to.

    Inside of `watching`, every run of the model starts the figures afresh.
    """

    def __init__(self, model: nn.Module, hooks: Mapping[type, Hook]) -> None:
        self.model = model
        self.hooks = {m: hooks[type(m)] for m in model.modules() if type(m) in hooks}
        self.figures: dict[nn.Module, Any] = {}
        self.running = 0  # calls of the model in one another

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Follow the modules' calls; afterwards no hook of ours is left."""
        if not self.hooks:
            yield
            return
        with ExitStack() as stack:
            for module in self.hooks:
                stack.enter_context(module.register_forward_hook(self._after))
            stack.enter_context(self.model.register_forward_pre_hook(self._begin, prepend=True))
            stack.enter_context(self.model.register_forward_hook(self._end, always_call=True))
            yield

    def replaces(self, module: nn.Module | None) -> bool:
        """Whether a module's rule stands for all that is inside of it."""
        return module in self.figures and not isinstance(module, CONTAINERS)

    def take(self, module: nn.Module | None) -> float:
        """What the module's rule added up to, once: it may stand at several places."""
        if module is None or module not in self.figures:
            return 0.0
        figure, self.figures[module] = self.figures[module], 0
        return float(figure)

    def _begin(self, model: nn.Module, inputs: object) -> None:
        if self.running == 0:
            self.figures.clear()
        self.running += 1

    def _end(self, model: nn.Module, inputs: object, output: object) -> None:
        self.running -= 1

    def _after(self, module: nn.Module, inputs: object, output: object) -> None:
        hook = self.hooks[module]
        figure = torch.tensor([self.figures.get(module, 0.0)], dtype=torch.float64)
        with lent(module, figure, torch.zeros(1, dtype=torch.float64)):
            with NoLostValues():  # type: ignore[no-untyped-call]
                hook(module, inputs, output)
            found = module.total_ops
        self.figures[module] = number(found, hook, module)


class NoLostValues(TorchDispatchMode):
    """Raises where a hook writes what has no value, on meta, into a tensor that has.

    torch lets it, and writes nothing. The model then runs on real tensors.
    """

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # as for RecordingMode: True imports torch._dynamo, which takes seconds

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        given = [v for v in tree_leaves((args, kwargs)) if isinstance(v, torch.Tensor)]
        schema = getattr(func, "_schema", None)
        if (
            schema is not None
            and schema.is_mutable
            and {tensor.is_meta for tensor in given} == {True, False}
        ):
            raise RuntimeError(f"{func} has no values to write: the tensors are on meta")
        return func(*args, **(kwargs or {}))


@contextmanager
def lent(module: nn.Module, *values: torch.Tensor) -> Iterator[None]:
    """Give a module the attributes LENT for a while, in place of its own of these names."""
    own, buffers = module.__dict__, module._buffers
    kept = {name: own[name] for name in LENT if name in own}
    own["_buffers"] = {name: value for name, value in buffers.items() if name not in LENT}
    own.update(zip(LENT, values))
    try:
        yield
    finally:
        own["_buffers"] = buffers
        for name in LENT:
            if name in kept:
                own[name] = kept[name]
            else:
                own.pop(name, None)


def number(found: Any, hook: Hook, module: nn.Module) -> float:
    """What a hook left in `total_ops`, as a number.

    Raises: ArgumentError if it is none.
    """
    try:
        return float(found)
    except (TypeError, ValueError, RuntimeError) as error:
        if isinstance(found, torch.Tensor) and found.is_meta:
            raise  # the model is to run on real tensors
        raise ArgumentError(
            f"custom_ops: {name_of(hook)}() left {found!r} in total_ops of "
            f"{type(module).__name__}; it adds one number, "
            "as in module.total_ops += torch.DoubleTensor([n])"
        ) from error


def name_of(hook: Any) -> str:
    """A hook's name as thop prints it."""
    return str(getattr(hook, "__qualname__", hook))
