"""Complex numbers: the results are those without us, where torch conjugates lazily too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from flopdispatch import FlopCounter

A = torch.randn(4, 4, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))

PROGRAMS: dict[str, Callable[[], Tensor]] = {
    "a product with a conjugate": lambda: A.conj() @ A,
    "an imaginary part negated": lambda: A.conj().imag + 1,
    "pinv": lambda: torch.linalg.pinv(A),
    "hfft": lambda: torch.fft.hfft(A),
    "hfft2": lambda: torch.fft.hfft2(A),
    "vecdot": lambda: torch.linalg.vecdot(A, A),
    "a vdot": lambda: torch.vdot(A[0], A[1]),
    "a real tensor by a complex number": lambda: torch.ones(3) * (1 + 2j),
}


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("name", PROGRAMS)
def test_results_are_those_without_us(name: str, mode: Any) -> None:
    with mode():
        expected = PROGRAMS[name]().resolve_conj().resolve_neg()
        for _ in range(2):  # the second time the calls are known
            with FlopCounter(display=False) as counter:
                found = PROGRAMS[name]().resolve_conj().resolve_neg()
            assert torch.equal(found, expected)
            assert found.dtype is expected.dtype
    assert counter.profile.uncounted == {}


@pytest.mark.parametrize("name", ["hfft", "hfft of real numbers", "pinv"])
def test_copies_of_conjugates_are_seen_in_all_modes(name: str) -> None:
    programs: dict[str, Callable[[], Tensor]] = {
        **PROGRAMS,
        "hfft of real numbers": lambda: torch.fft.hfft(A.real.clone()),
    }
    found = []
    modes: list[Any] = [torch.enable_grad, torch.no_grad, torch.inference_mode]
    for mode in modes:
        with mode(), FlopCounter(display=False) as counter:
            programs[name]()
        found.append(counter.profile.total)
    assert found[0] == found[1] == found[2]


def test_a_sparse_scalar_on_meta_is_no_plain_tensor() -> None:
    scalar = torch.ones(()).to_sparse().to("meta")
    with FlopCounter(display=False):
        assert scalar.coalesce().is_sparse
