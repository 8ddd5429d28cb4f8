"""Known values on meta against the CPU: every operator of PyTorch's database.

    python -m benchmarks.known [--only TEXT]

The inputs of each sample are known on meta. What the operator gives there must have the metadata
that it has on the CPU, and its values, asked for by `.cpu()`, must be the CPU's, or unknown. Exit
code 1 if any is wrong.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from torch.testing._internal.common_methods_invocations import op_db
from torch.utils._pytree import tree_leaves, tree_map

from flopdispatch import DataDependentError, FlopCounter
from flopdispatch.assumptions import NOTHING
from flopdispatch.inputs import tensor_on

CPU, META = torch.device("cpu"), torch.device("meta")
DTYPES = (torch.float32, torch.complex64, torch.int64, torch.bool)
SHOWN = 200  # characters of what is wrong
SAMPLES = 12  # of each operator and dtype
UNWRITTEN = ("empty", "new_empty")  # what these hold is nobody's

KNOWN, UNKNOWN, FAILED, WRONG = "known", "unknown", "no result on meta", "wrong"


def names() -> list[str]:
    """The operators of the database."""
    return sorted({op.name for op in op_db if not op.name.startswith(UNWRITTEN)})


def verdicts(name: str) -> Iterator[tuple[str, str]]:
    """What came of each sample of an operator: a verdict, and what is wrong."""
    for op in op_db:
        for dtype in DTYPES:
            if op.name != name or not op.supports_dtype(dtype, "cpu"):
                continue
            for sample in islice(op.sample_inputs("cpu", dtype, requires_grad=False), SAMPLES):
                call = (sample.input, *sample.args), sample.kwargs
                try:
                    expected = op(*_copied(call[0]), **_copied(call[1]))
                except Exception:  # the database has some that fail
                    continue
                yield verdict(op, call, expected)


def verdict(op: Any, call: Any, expected: Any) -> tuple[str, str]:
    """What an operator gives on meta, beside what it gave on the CPU."""
    given = [leaf for leaf in tree_leaves(call) if isinstance(leaf, Tensor)]
    if any(tensor.layout is not torch.strided for tensor in given):
        return FAILED, ""
    counter = FlopCounter(display=False, assume=NOTHING)
    known = counter._questions.known  # type: ignore[union-attr]
    pairs = {id(tensor): (tensor_on(tensor, META), tensor) for tensor in given}

    def there(leaf: Any) -> Any:
        if isinstance(leaf, Tensor):
            return pairs[id(leaf)][0]
        return META if isinstance(leaf, torch.device) else leaf

    args, kwargs = tree_map(there, call)
    if "device" in kwargs:
        kwargs["device"] = META
    for stand_in, tensor in pairs.values():
        known.stand_in(stand_in, tensor)
    try:
        with counter:
            found = tree_leaves(op(*args, **kwargs))
            shown = [leaf.cpu() if isinstance(leaf, Tensor) else leaf for leaf in found]
    except DataDependentError:
        return UNKNOWN, ""
    except (NotImplementedError, RuntimeError) as error:
        return FAILED, str(error)
    for want, got, value in zip(tree_leaves(expected), found, shown, strict=True):
        if not _same(want, got, value):
            return WRONG, f"{want} on the CPU, {value} known of {got}"
    return KNOWN, ""


def _same(want: Any, got: Any, value: Any) -> bool:
    if not isinstance(want, Tensor):
        return bool(want == value or want != want)  # noqa: PLR0124 (nan)
    if want.shape != got.shape or want.dtype != got.dtype or want.layout is not got.layout:
        return False
    # In another layout of memory a sum is in another order.
    exact = not (want.is_floating_point() or want.is_complex())
    tolerance = {"rtol": 0.0, "atol": 0.0} if exact else {"rtol": 1e-4, "atol": 1e-4}
    return torch.allclose(want, value, equal_nan=True, **tolerance)


def _copied(value: Any) -> Any:
    return tree_map(lambda leaf: leaf.clone() if isinstance(leaf, Tensor) else leaf, value)


def main() -> int:
    """Print what is wrong, and the totals; 1 if anything is."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", default="", help="operators with this text in their names")
    only = parser.parse_args().only
    warnings.simplefilter("ignore")
    totals: Counter[str] = Counter()
    operators: dict[str, set[str]] = {}
    for name in names():
        if only not in name:
            continue
        for told, what in verdicts(name):
            totals[told] += 1
            operators.setdefault(told, set()).add(name)
            if told == WRONG:
                print(f"{name}: {' '.join(what.split())[:SHOWN]}")
    for told, number in totals.most_common():
        print(f"{told}: {number} samples of {len(operators[told])} operators")
    return 1 if totals[WRONG] else 0


if __name__ == "__main__":
    sys.exit(main())
