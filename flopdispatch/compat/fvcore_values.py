"""What a handle of the user's is given: an operator's inputs and outputs, as a trace has them.

fvcore's handles take traced `torch._C.Value`s. Nothing is traced here: a Value has those of its
methods that tell of shapes and constants, `isCompleteTensor()`, `type().sizes()`, `toIValue()` and
`node().inputs()`, and says so when it is asked for another.
"""

from __future__ import annotations

from typing import Any

import torch

from flopdispatch.capture.keys import key_of, value_of
from flopdispatch.spec import TensorSpec

_KINDS = {
    TensorSpec: "TensorType", tuple: "ListType", int: "IntType", float: "FloatType",
    bool: "BoolType", str: "StringType", complex: "ComplexType", type(None): "NoneType",
}  # fmt: skip

_CONSTANT = "prim::Constant"


class Value:
    """An operator's input or output, without its data: a TensorSpec, a number, a tuple of such.

    Example: of the first input of `aten::linear`, `type().sizes()` is `[2, 8]`.
    """

    def __init__(self, spec: Any) -> None:
        self._spec = spec

    @classmethod
    def of(cls, value: Any) -> Value:
        """The value of a real argument, of which nothing is kept alive."""
        return cls(value_of(key_of(value)))

    def isCompleteTensor(self) -> bool:  # noqa: N802 (torch's name)
        """Whether it is a tensor."""
        return isinstance(self._spec, TensorSpec)

    def type(self) -> Type:
        """What it is; a tensor's has `sizes()`."""
        return Type(self._spec)

    def toIValue(self) -> Any:  # noqa: N802 (torch's name)
        """A number, a string, None or a list of such; None too where there is a tensor in it."""
        return _constant(self._spec)

    def node(self) -> Node:
        """What made it: a list's `inputs()` are its elements."""
        return Node(self._spec)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(
            f"a handle asked one of its values for {name!r}. Nothing is traced here: of what a "
            "torch._C.Value has, there are isCompleteTensor(), type(), toIValue() and node()"
        )


class Type:
    """What `Value.type()` gives; what is no tensor has None for its sizes and the rest."""

    def __init__(self, spec: Any) -> None:
        self._spec = spec

    def kind(self) -> str:
        """`"TensorType"`, `"ListType"`, `"IntType"`, ..."""
        return _KINDS.get(type(self._spec), "AnyType")

    def sizes(self) -> list[int] | None:
        """The size of each dimension."""
        return list(self._spec.shape) if isinstance(self._spec, TensorSpec) else None

    def strides(self) -> list[int] | None:
        """The stride of each dimension, in elements; None also where the layout has none."""
        stride = getattr(self._spec, "stride", None)
        return None if stride is None else list(stride)

    def dim(self) -> int | None:
        """The number of dimensions."""
        return getattr(self._spec, "ndim", None)

    def dtype(self) -> torch.dtype | None:
        """The elements' dtype."""
        return getattr(self._spec, "dtype", None)

    def device(self) -> torch.device | None:
        """Where the operator ran, on meta as a rule."""
        return getattr(self._spec, "device", None)


class Node:
    """What `Value.node()` gives."""

    def __init__(self, spec: Any) -> None:
        self._spec = spec

    def kind(self) -> str:
        """`"prim::ListConstruct"` of a list, `"prim::Param"` of a tensor, `"prim::Constant"`."""
        kinds = {tuple: "prim::ListConstruct", TensorSpec: "prim::Param"}
        return kinds.get(type(self._spec), _CONSTANT)

    def inputs(self) -> list[Value]:
        """A list's elements; nothing of what is no list."""
        return [Value(item) for item in self._spec] if isinstance(self._spec, tuple) else []


def _constant(spec: Any) -> Any:
    if isinstance(spec, tuple):
        found = [_constant(item) for item in spec]
        return None if any(isinstance(item, TensorSpec) for item in spec) else found
    return None if isinstance(spec, TensorSpec) else spec
