"""Programs of linear algebra and Fourier transforms: what torch makes of them is all counted."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, fft, linalg

from flopdispatch import FlopCounter, Profile
from flopdispatch.cost import Cost

aten = torch.ops.aten

Function = Callable[[Tensor], Any]

SQUARE = torch.rand(2, 4, 4) + 4 * torch.eye(4)
DEFINITE = SQUARE @ SQUARE.mT
TALL, ONE = torch.rand(2, 5, 3), torch.rand(5, 3)
SIGNAL, IMAGE = torch.rand(3, 16), torch.rand(2, 8, 6)
SPECTRUM = torch.rand(3, 9, dtype=torch.complex64)
HALF = torch.rand(2, 8, 5, dtype=torch.complex64)


def ones(x: Tensor, *shape: int) -> Tensor:
    return torch.ones(shape, device=x.device)


# Functions with derivatives.
DIFFERENTIABLE: dict[str, tuple[Function, Tensor]] = {
    "det": (linalg.det, SQUARE),
    "slogdet": (lambda x: linalg.slogdet(x)[1], SQUARE),
    "logdet": (torch.logdet, SQUARE),
    "inv": (linalg.inv, SQUARE),
    "inv_ex": (linalg.inv_ex, SQUARE),
    "solve": (lambda x: linalg.solve(x, ones(x, 2, 4, 2)), SQUARE),
    "solve_ex": (lambda x: linalg.solve_ex(x, ones(x, 2, 4, 2)), SQUARE),
    "solve from the right": (lambda x: linalg.solve(x, ones(x, 2, 2, 4), left=False), SQUARE),
    "solve a vector": (lambda x: linalg.solve(x, ones(x, 2, 4)), SQUARE),
    "tensorsolve": (
        lambda x: linalg.tensorsolve(x[0].reshape(2, 2, 4), ones(x, 2, 2)),
        SQUARE,
    ),
    "tensorinv": (lambda x: linalg.tensorinv(x[0].reshape(4, 2, 2), ind=1), SQUARE),
    "cholesky": (linalg.cholesky, DEFINITE),
    "cholesky, upper": (lambda x: linalg.cholesky(x, upper=True), DEFINITE),
    "cholesky_solve": (lambda x: torch.cholesky_solve(ones(x, 2, 4, 2), x), DEFINITE),
    "cholesky_inverse": (torch.cholesky_inverse, DEFINITE),
    "qr": (linalg.qr, TALL),
    "qr, wide": (linalg.qr, TALL.mT),
    "qr, complete": (lambda x: linalg.qr(x, mode="complete"), SQUARE),
    "svd": (lambda x: linalg.svd(x)[1], TALL),
    "svd, vectors": (lambda x: linalg.svd(x, full_matrices=False)[0].abs(), TALL),
    "svdvals": (linalg.svdvals, TALL),
    "eigh": (lambda x: linalg.eigh(x)[1].abs(), DEFINITE),
    "eigvalsh": (linalg.eigvalsh, DEFINITE),
    "eig": (lambda x: linalg.eig(x)[1].abs(), SQUARE),
    "eigvals": (linalg.eigvals, SQUARE),
    "pinv": (linalg.pinv, TALL),
    "pinv, hermitian": (lambda x: linalg.pinv(x, hermitian=True), DEFINITE),
    "matrix_exp": (linalg.matrix_exp, SQUARE / 8),
    "matrix_power": (lambda x: linalg.matrix_power(x, -3), SQUARE),
    "cond": (linalg.cond, SQUARE),
    "matrix_norm, nuclear": (lambda x: linalg.matrix_norm(x, "nuc"), TALL),
    "matrix_norm, 2": (lambda x: linalg.matrix_norm(x, 2), TALL),
    "multi_dot": (lambda x: linalg.multi_dot([x[0], x[1], x[0]]), SQUARE),
    "lu": (linalg.lu, SQUARE),
    "lu, wide": (linalg.lu, TALL.mT),
    "lu, tall": (linalg.lu, TALL),
    "lu_factor": (linalg.lu_factor, SQUARE),
    "lu_solve": (lambda x: linalg.lu_solve(*linalg.lu_factor(x), ones(x, 2, 4, 2)), SQUARE),
    "solve_triangular": (
        lambda x: linalg.solve_triangular(x, ones(x, 2, 4, 2), upper=True),
        SQUARE,
    ),
    "triangular_solve": (lambda x: torch.triangular_solve(ones(x, 2, 4, 2), x)[0], SQUARE),
    "householder_product": (lambda x: linalg.householder_product(x, ones(x, 2, 3)), TALL),
    "ormqr": (lambda x: torch.ormqr(x, ones(x, 2, 3), ones(x, 2, 5, 4)), TALL),
    "cross": (lambda x: linalg.cross(x, x.flip(-1)), TALL),
    "vander": (linalg.vander, SIGNAL),
    "pca_lowrank": (lambda x: torch.pca_lowrank(x, q=2)[1], ONE),
    "fft": (fft.fft, SIGNAL),
    "fft, complex": (fft.fft, SPECTRUM),
    "ifft": (fft.ifft, SIGNAL),
    "rfft": (fft.rfft, SIGNAL),
    "irfft": (fft.irfft, SPECTRUM),
    "irfft, odd": (lambda x: fft.irfft(x, n=15), SPECTRUM),
    "hfft": (fft.hfft, SPECTRUM),
    "ihfft": (fft.ihfft, SIGNAL),
    "fft2": (fft.fft2, IMAGE),
    "ifft2": (fft.ifft2, IMAGE),
    "rfft2": (lambda x: fft.rfft2(x, norm="ortho"), IMAGE),
    "irfft2": (fft.irfft2, HALF),
    "hfft2": (fft.hfft2, HALF),
    "ihfft2": (fft.ihfft2, IMAGE),
    "fftn": (fft.fftn, IMAGE),
    "ifftn": (fft.ifftn, IMAGE),
    "rfftn": (fft.rfftn, IMAGE),
    "irfftn": (fft.irfftn, HALF),
    "hfftn": (fft.hfftn, HALF),
    "ihfftn": (fft.ihfftn, IMAGE),
    "stft": (lambda x: torch.stft(x, 8, window=ones(x, 8), return_complex=True), SIGNAL),
    "istft": (
        lambda x: torch.istft(x, 8, window=ones(x, 8)),
        torch.rand(3, 5, 9, dtype=torch.complex64),
    ),
}

OTHERS: dict[str, tuple[Function, Tensor]] = {
    "matrix_rank": (linalg.matrix_rank, TALL),
    "qr, R alone": (lambda x: linalg.qr(x, mode="r"), TALL),
    "lstsq": (lambda x: linalg.lstsq(x, ones(x, 2, 5, 2)), TALL),
    "lstsq, gels": (lambda x: linalg.lstsq(x, ones(x, 2, 5, 2), driver="gels"), TALL),
    "lstsq, gelsd": (lambda x: linalg.lstsq(x, ones(x, 2, 5, 2), driver="gelsd"), TALL),
    "ldl_factor": (linalg.ldl_factor, DEFINITE),
    "ldl_solve": (lambda x: linalg.ldl_solve(*linalg.ldl_factor(x), ones(x, 2, 4, 2)), DEFINITE),
    "geqrf": (torch.geqrf, TALL),
    "fftfreq": (lambda x: fft.fftfreq(16, device=x.device) * x, SIGNAL),
}

PROGRAMS = DIFFERENTIABLE | OTHERS

# torch has no such kernels for meta; an exponential's cost is in the values
NOT_ON_META = {"lstsq", "lstsq, gels", "lstsq, gelsd", "geqrf", "istft", "matrix_exp"}


def counted(function: Function, x: Tensor, backward: bool = False) -> Profile:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.triangular_solve")
        with FlopCounter(display=False) as counter:
            out = function(x)
            if backward:
                parts = out if isinstance(out, tuple) else (out,)
                sum(part.abs().sum() for part in parts if part.requires_grad).backward()
    return counter.profile


def operations(profile: Profile) -> Cost:
    return profile.total.moving(0, 0)


@pytest.mark.parametrize("name", PROGRAMS)
def test_all_is_counted_and_alike_with_and_without_gradients(name: str) -> None:
    function, x = PROGRAMS[name]
    expected = counted(function, x.clone().requires_grad_())
    assert expected.uncounted == {}
    assert operations(expected) != Cost()
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            found = counted(function, x.clone())
        assert found.uncounted == {}
        assert operations(found) == operations(expected)
    if name not in NOT_ON_META:
        assert operations(counted(function, x.to("meta"))) == operations(expected)


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_gradients_are_made_of_what_is_counted(name: str) -> None:
    function, x = DIFFERENTIABLE[name]
    profile = counted(function, x.clone().requires_grad_(), backward=True)
    assert profile.uncounted == {}
    assert profile.by_phase()["backward"] != Cost()


def test_an_inverse_is_differentiated_by_two_products() -> None:
    """−A⁻ᵀ·G·A⁻ᵀ: 4·4·4 MACs each, of 2 matrices."""
    profile = counted(linalg.inv, SQUARE.clone().requires_grad_(), backward=True)
    assert profile.by_phase()["backward"].macs == 2 * 2 * 64


def test_a_system_is_differentiated_by_one_system_and_one_product() -> None:
    """Aᵀ·Y = G by the factors that there are, 2·4² − 4 FLOPs a column; Y·Xᵀ, 4·4·2 MACs."""
    function, x = DIFFERENTIABLE["solve"]
    profile = counted(function, x.clone().requires_grad_(), backward=True)
    assert profile.by_phase()["backward"].macs == 2 * 32
    assert profile.by_op()[aten.linalg_lu_solve.default].flops == 2 * 2 * 28


def test_a_transform_of_real_points_is_differentiated_by_a_complex_one() -> None:
    """3 transforms of 16 points: 5·16·4 FLOPs, half of it forward."""
    profile = counted(fft.rfft, SIGNAL.clone().requires_grad_(), backward=True)
    assert profile.by_op()[aten._fft_r2c.default].flops == 3 * 160
    assert profile.by_op()[aten._fft_c2c.default].flops == 3 * 320
