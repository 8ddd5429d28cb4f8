"""The private names of torch that capture stands on, each with a fallback.

A torch that lacks one loses that one's precision, nothing else: without sequence numbers,
backward operators belong to the block instead of to a module.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any, TypeVar

import torch
from torch.autograd import forward_ad

Function = TypeVar("Function", bound=Callable[..., Any])


def _nothing() -> None:
    return None


def _never() -> int:
    return -1


def _no() -> bool:
    return False


def _ignore(function: Callable[[], None]) -> None:
    return None


def _yes() -> bool:
    return True


def _some() -> int:
    return 1


def _maybe(one: torch.Tensor, other: torch.Tensor) -> bool:
    return True


def _zero(*args: Any, **kwargs: Any) -> int:
    return 0


def _same(count: int) -> int:
    return count


# The sequence number that the next autograd node made in this thread will get.
next_sequence_number: Callable[[], int] = getattr(
    getattr(torch._C, "_autograd", None), "_get_sequence_nr", _never
)

# The autograd node being evaluated in this thread, None outside of a backward.
current_node: Callable[[], Any] = getattr(torch._C, "_current_autograd_node", _nothing)

# The number of the backward running in this thread, -1 outside of one.
current_graph_task: Callable[[], int] = getattr(torch._C, "_current_graph_task_id", _never)

# Whether the backward running in this thread keeps its graph, as with retain_graph=True, or
# with create_graph=True if nothing else is said.
keeps_graph: Callable[[], bool] = getattr(
    getattr(torch._C, "_autograd", None), "_get_current_graph_task_keep_graph", _yes
)

_saved_tensors_hooks: Callable[[bool], Any] = getattr(
    getattr(torch._C, "_autograd", None), "_top_saved_tensors_default_hooks", lambda _: None
)

# The node of a function that was checkpointed with use_reentrant=True.
REENTRANT = "CheckpointFunctionBackward"


def checkpoint_runs(node: Any) -> bool:
    """Whether `torch.utils.checkpoint` runs a function again, in the backward of this node.

    It runs it below hooks of its own on what is saved, or else in a node of its own.
    """
    hooks = _saved_tensors_hooks(False)
    if hooks and getattr(hooks[0], "__module__", "") == "torch.utils.checkpoint":
        return True
    return node is not None and bool(node.name() == REENTRANT)


# Calls a function when the backward that is running in this thread is over.
after_backward: Callable[[Callable[[], None]], None] = getattr(
    getattr(torch.autograd.Variable, "_execution_engine", None), "queue_callback", _ignore
)

# How many frames torch.compile(fullgraph=True) has compiled, -1 where nobody asks; sets it and
# returns what it was. Where it isn't -1, a call that compiles nothing is no error: under a
# dispatch mode torch.compile runs its function as it is.
compiled_frames: Callable[[int], int] = getattr(
    getattr(getattr(torch._C, "_dynamo", None), "eval_frame", None),
    "set_fullgraph_compiled_frame_count",
    _same,
)

# Whether torch.jit.trace is watching: it would write what we ask of a tensor into its graph.
is_traced: Callable[[], bool] = getattr(torch._C, "_is_tracing", _no)


def may_fuse(device: str) -> bool:
    """Whether TorchScript may replace operators on a device by a kernel of its own."""
    if not getattr(torch._C, "_jit_texpr_fuser_enabled", _no)():
        return False
    asked = {"cpu": "_jit_can_fuse_on_cpu", "cuda": "_jit_can_fuse_on_gpu"}.get(device, "")
    return bool(getattr(torch._C, asked, _no)())


# How many dispatch modes are active in this thread.
active_modes: Callable[[], int] = getattr(torch._C, "_len_torch_dispatch_stack", _some)


def dispatch_modes() -> Iterator[Any]:
    """The dispatch modes that are active in this thread."""
    at = getattr(torch._C, "_get_dispatch_stack_at", None)
    return iter(()) if at is None else map(at, range(active_modes()))


# Whether operators must be deterministic: some then raise instead of running.
is_deterministic: Callable[[], bool] = getattr(
    torch._C, "_get_deterministic_algorithms", torch.are_deterministic_algorithms_enabled
)

# Whether operators on the CPU are run in lower precision.
cpu_autocast: Callable[[], bool] = partial(torch.is_autocast_enabled, "cpu")

# Whether two tensors have one storage.
share_storage: Callable[[torch.Tensor, torch.Tensor], bool] = getattr(
    torch._C, "_is_alias_of", _maybe
)


# Overloads that torch's own methods and functions of these names call when they get their
# positional arguments, in half the time: an OpOverload looks its arguments up in a schema.
METHODS = """
    view.default t.default transpose.int permute.default expand.default unsqueeze.default
    select.int add_.Tensor mul_.Tensor copy_.default
"""
FUNCTIONS = """
    add.Tensor sub.Tensor mul.Tensor div.Tensor neg.default relu.default relu_.default
    sigmoid.default tanh.default exp.default mm.default bmm.default addmm.default
    convolution.default native_layer_norm.default native_batch_norm.default _softmax.default
    clone.default
"""


def _bindings(names: str, of: Any) -> dict[Any, Callable[..., Any]]:
    found = {}
    for name in names.split():
        operator, overload = name.split(".")
        function = getattr(of, operator, None)
        if function is not None:
            found[getattr(getattr(torch.ops.aten, operator), overload)] = function
    return found


_BINDINGS = {
    **_bindings(METHODS, torch._C.TensorBase),
    **_bindings(FUNCTIONS, getattr(torch._C, "_VariableFunctions", None)),
}


def kernel_of(overload: Any, keywords: bool = False) -> Callable[..., Any]:
    """The quickest way to call an overload with plain arguments, by `keywords` or without."""
    if type(overload) is not torch._ops.OpOverload:
        return overload  # type: ignore[no-any-return]
    if overload in _BINDINGS and not keywords:
        return _BINDINGS[overload]
    return getattr(overload, "_op", overload)


_KEYS, _KEY = torch._C.DispatchKeySet, torch._C.DispatchKey
_FALLBACKS = _KEYS(_KEY.Conjugate) | _KEYS(_KEY.Negative) | _KEYS(_KEY.ZeroTensor)


def resolving(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, for complex operands inside of a dispatch mode.

    There torch leaves out what resolves a lazy conjugate, also one that a kernel makes itself
    (`pinv`, `hfft`), and computes with the numbers as they lie in memory.
    """

    def run(*args: Any, **kwargs: Any) -> Any:
        excluded = torch._C._dispatch_tls_local_exclude_set() - _FALLBACKS
        included = torch._C._dispatch_tls_local_include_set()
        with torch._C._ForceDispatchKeyGuard(included, excluded):
            return function(*args, **kwargs)

    return run


_innermost: Callable[[], Any] = getattr(
    getattr(torch._C, "_functorch", None), "peek_interpreter_stack", _nothing
)


def transformed() -> bool:
    """Whether torch.func transforms what runs in this thread, or differentiates it forwards."""
    return _innermost() is not None or getattr(forward_ad, "_current_level", -1) >= 0


# The number of what would run an attention: 0 for the operators that make it up, 1 for the CPU's
# kernel.
fused_choice: Callable[..., int] = getattr(torch, "_fused_sdp_choice", _zero)


# While it is entered, torch functions are called without asking a TorchFunctionMode of the
# user's, which would see them. No such mode is active where a dispatch mode is called.
unwatched = torch._C.DisableTorchFunction


def has_bits(tensor: torch.Tensor) -> bool:
    """Whether a tensor is lazily conjugated, negated or zero, or has names (older torch)."""
    if tensor.is_conj() or tensor.is_neg() or tensor._is_zerotensor():
        return True
    return bool(getattr(tensor, "has_names", _no)())


def hidden_from_compiler(function: Function) -> Function:
    """The same function, which torch.compile leaves alone, and all that it calls.

    `torch._dynamo.disable` does this too, but takes seconds to import and time at each call.
    """
    frames = getattr(getattr(torch._C, "_dynamo", None), "eval_frame", None)
    strategy = getattr(frames, "_FrameExecStrategy", None)
    if frames is not None and strategy is not None:
        skip = frames._FrameAction.SKIP
        frames.set_code_exec_strategy(function.__code__, strategy(skip, skip))
    return function


_COMPILER = "torch._dynamo.eval_frame"


def may_be_compiled() -> bool:
    """Whether anything can have been given to torch.compile in this process."""
    return _COMPILER in sys.modules


def higher_order_runs() -> bool:
    """Whether a higher-order operator is called in this thread (`torch.cond`, flex_attention).

    It hands its functions to torch.compile first, since its backward takes these as graphs only.
    """
    operators = sys.modules.get("torch._higher_order_ops.utils")
    return bool(getattr(operators, "_in_hop_compile", _no)())


def compiled_runs() -> bool:
    """Whether this thread is inside of what torch.compile made for the user."""
    compiler = sys.modules.get(_COMPILER)
    if compiler is None or higher_order_runs():
        return False
    frame = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        if code.co_name == "compile_wrapper" and code.co_filename == compiler.__file__:
            return True
        frame = frame.f_back  # type: ignore[assignment]
    return False


def sequence_number(node: Any) -> int:
    """The number that a node got when the forward made it; huge for AccumulateGrad."""
    number = getattr(node, "_sequence_nr", _never)()
    return int(number)


_COMPOSITE = torch._C.DispatchKey.CompositeImplicitAutograd
_has_kernel = torch._C._dispatch_has_kernel_for_dispatch_key
_META = torch._C.DispatchKey.Meta
_DEVICES = (torch._C.DispatchKey.CPU, torch._C.DispatchKey.CUDA)
_BACKENDS = [
    getattr(torch._C.DispatchKey, name)
    for name in ("CPU", "CUDA", "MPS", "XPU", "NestedTensorCPU", "NestedTensorCUDA",
                 "SparseCPU", "SparseCUDA", "SparseCsrCPU", "SparseCsrCUDA", "MkldnnCPU",
                 "QuantizedCPU", "QuantizedCUDA")
    if hasattr(torch._C.DispatchKey, name)
]  # fmt: skip


def is_composite(overload: Any) -> bool:
    """Whether a kernel in terms of other operators stands behind this overload.

    A decomposition in Python (of `native_batch_norm`, say) is no such kernel: `run_composite` would
    call what isn't there, for a backend that isn't among _BACKENDS.
    """
    return bool(_has_kernel(overload.name(), "CompositeImplicitAutograd"))


def runs_on_meta(overload: Any) -> bool:
    """Whether an overload has a kernel of its own for meta."""
    return bool(overload.has_kernel_for_dispatch_key(_META))


def has_own_kernel(overload: Any, tensors: list[torch.Tensor]) -> bool:
    """Whether the tensors' backend has its own kernel for a composite operator.

    Meta goes by the devices that it stands for: it has Python kernels for composite operators
    (dropout, `upsample_*.vec`) that no device has one for.
    """
    keys = [torch._C._dispatch_keys(tensor) for tensor in tensors]
    return any(
        overload.has_kernel_for_dispatch_key(backend)
        for backend in _BACKENDS
        if any(key.has(backend) or (key.has(_META) and backend in _DEVICES) for key in keys)
    )


def own_kernel(operator: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What a higher-order operator runs for these arguments where no mode is active, as now."""
    keys = torch._ops._compute_keyset(args, kwargs, operator.non_fallthrough_keys)
    return partial(operator.dispatch, keys.highestPriorityTypeId())


def run_composite(overload: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Run the composite kernel: the path that eager takes where no mode is active."""
    return overload._op_dk(_COMPOSITE, *args, **kwargs)


@cache
def is_wrapper(kind: type) -> bool:
    """Whether tensors of this class are made of others, on which their operators really run.

    Jagged tensors, DTensors, quantized weights: they can be taken apart, as torch.compile does.
    """
    return hasattr(kind, "__tensor_flatten__") and hasattr(kind, "__tensor_unflatten__")


def parts_of(tensor: torch.Tensor) -> list[torch.Tensor]:
    """The tensors that a wrapper is made of; none of any other tensor."""
    if not is_wrapper(type(tensor)):
        return []
    names: Any = tensor.__tensor_flatten__()[0]  # type: ignore[attr-defined]
    parts = [getattr(tensor, name) for name in names]
    return [part for part in parts if isinstance(part, torch.Tensor)]


def is_fake(kind: type) -> bool:
    """Whether tensors of this class have sizes and no data, whatever device they say."""
    module = sys.modules.get("torch._subclasses.fake_tensor")  # not loaded before use
    return module is not None and issubclass(kind, getattr(module, "FakeTensor", ()))


# While it is entered, operators run without asking a dispatch mode or a tensor subclass.
without_dispatch = torch._C._DisableTorchDispatch

SPARSE = frozenset({
    torch.sparse_coo, torch.sparse_csr, torch.sparse_csc, torch.sparse_bsr, torch.sparse_bsc,
})  # fmt: skip


def stored(tensor: torch.Tensor) -> int:
    """How many elements a sparse tensor stores, with those of its blocks and dense dimensions."""
    with without_dispatch():
        try:
            values = tensor._values() if tensor.layout is torch.sparse_coo else tensor.values()
            return values.numel()
        except Exception:  # a wrapper of another library's: at most all of them
            return tensor.numel()


# Nested tensors of more parts are known by their number of elements only.
MAX_PARTS = 4_096


def shapes_inside(tensor: torch.Tensor) -> tuple[tuple[int, ...], ...] | None:
    """The shapes of the tensors in a nested one in strided layout."""
    with without_dispatch():
        sizes = tensor._nested_tensor_size()
        if sizes.dim() == 0:  # no tensors
            return ()
        if len(sizes) > MAX_PARTS:
            return None
        return tuple(map(tuple, sizes.tolist()))


# Where torch notes that a hook of all modules takes keyword arguments.
_WITH_KEYWORDS: dict[int, bool] = getattr(
    torch.nn.modules.module, "_global_forward_hooks_with_kwargs", {}
)


def forget_hook(handle: Any) -> None:
    """Forget a removed hook of all modules: torch leaves a note of it, and warns of it later."""
    _WITH_KEYWORDS.pop(handle.id, None)
