from __future__ import annotations

import pytest
import torch

from flopdispatch import FlopCounter, UncountedOperatorWarning

aten = torch.ops.aten


def test_a_sparse_product_is_never_counted_as_a_dense_one() -> None:
    sparse, dense = torch.eye(8).to_sparse(), torch.ones(8, 8)
    with pytest.warns(UncountedOperatorWarning, match=r"aten::mm\.default ran 1 times"):
        with FlopCounter(display=False) as counter:
            sparse @ dense
    assert counter.macs == 0
    assert counter.profile.uncounted == {aten.mm.default: 1}


def test_copying_a_sparse_tensor_is_declared_zero() -> None:
    with FlopCounter(display=False, strict=True) as counter:
        torch.eye(8).to_sparse().to_dense()
    assert counter.flops == 0


def test_a_nested_tensor_counts_the_elements_it_has() -> None:
    nested = torch.nested.nested_tensor([torch.ones(2, 4), torch.ones(3, 4)])
    with FlopCounter(display=False) as counter:
        torch.relu(nested)
    assert counter.profile.total.comparisons == 20


def test_a_jagged_linear_is_the_linear_of_its_rows() -> None:
    nested = torch.nested.nested_tensor([torch.ones(2, 4), torch.ones(3, 4)], layout=torch.jagged)
    with FlopCounter(display=False) as counter:
        torch.nn.functional.linear(nested, torch.ones(6, 4))
    assert counter.macs == 5 * 4 * 6
