"""Calls whose results their plain arguments don't decide: packed weights, values, odd backends."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn
from torch.utils import mkldnn as mkldnn_utils

from flopdispatch import FlopCounter

quantized = torch.ops.quantized


def test_packed_weights_of_other_sizes_are_other_calls() -> None:
    """5 rows of 8 by 16 columns, and by 4: nothing but an object tells these apart."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wide, narrow = (
            quantized.linear_prepack(
                torch.quantize_per_tensor(torch.rand(n, 8), 0.1, 0, torch.qint8)
            )
            for n in (16, 4)
        )
    x = torch.rand(5, 8)
    with FlopCounter(display=False) as counter:
        quantized.linear_dynamic(x, wide)
        quantized.linear_dynamic(x, narrow)
        quantized.linear_dynamic(x, wide)
    assert counter.profile.total.int_macs == 5 * 8 * (16 + 4 + 16)


def test_results_that_values_decide_are_told_apart() -> None:
    """Three boxes apart are kept, of three equal ones one: 24 and 8 bytes."""
    torchvision = pytest.importorskip("torchvision")
    apart = torch.tensor([[0.0, 0, 1, 1], [2, 2, 3, 3], [4, 4, 5, 5]])
    with FlopCounter(display=False) as counter:
        torchvision.ops.nms(apart, torch.rand(3), 0.5)
        torchvision.ops.nms(apart[:1].repeat(3, 1), torch.rand(3), 0.5)
    kept = [call.result.shape for call in counter.profile.calls
            if call.overload is torch.ops.torchvision.nms.default]  # fmt: skip
    assert sorted(kept) == [(1,), (3,)]


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this torch has no oneDNN")
def test_a_backend_that_python_has_no_name_for_runs_its_own_kernels() -> None:
    """Batch normalization of mkldnn tensors: its decomposition in Python is no kernel to run."""
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU()).eval()
    x = torch.rand(2, 3, 8, 8)
    with torch.no_grad(), FlopCounter(display=False) as plain:
        model(x)
    packed = mkldnn_utils.to_mkldnn(model)
    with torch.no_grad(), FlopCounter(display=False) as counter:
        packed(x.to_mkldnn())
    assert counter.profile.uncounted == {}
    assert counter.profile.total.moving(0, 0) == plain.profile.total.moving(0, 0)
