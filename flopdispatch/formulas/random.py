"""Random numbers: declared zeros. What fills its target is not read before."""

from __future__ import annotations

from flopdispatch.formulas.bytes_moved import writes
from flopdispatch.formulas.operators import overloads
from flopdispatch.registry import Registry
from flopdispatch.spec import TensorSpec
from flopdispatch.traffic import size

rules = Registry("random")

# Drawn from numbers alone: only the result is written.
FILLS = """
    rand.names rand.generator_with_names randn.names randn.generator_with_names
    rand.names_out rand.generator_with_names_out randn.names_out randn.generator_with_names_out
    rand.default rand.generator rand_like.default rand_like.generator randn.default
    randn.generator randn_like.default randn_like.generator randint.default randint.generator
    randint.low randint.low_generator randint_like.default randint_like.low_dtype
    randint_like.generator randint_like.low_generator_dtype randperm.default randperm.generator
    rand.out randn.out randint.out randint.low_out randperm.out randperm.generator_out
    rand_like.out randn_like.out randint_like.out randint_like.low_dtype_out
    rand.generator_out randn.generator_out randint.generator_out randint.low_generator_out
    rand_like.generator_out randn_like.generator_out randint_like.generator_out
    randint_like.low_generator_dtype_out
    bernoulli.p uniform.default normal_.default normal_functional.default normal.float_float
    normal.float_float_out normal.out exponential.default geometric.default cauchy.default
    log_normal.default random.default random.from random.to
    _philox_uniform.default _philox_normal.default _philox_randint.default
    _fill_mem_eff_dropout_mask_.default
    _cudnn_init_dropout_state.default _cudnn_init_dropout_state.out
"""
rules.zero(*overloads(*FILLS.split()), nbytes=writes)

# Drawn from probabilities or parameters in tensors: these are read.
DRAWS = """
    bernoulli.default multinomial.default poisson.default binomial.default
    normal.Tensor_float normal.float_Tensor normal.Tensor_Tensor
    _standard_gamma.default _sample_dirichlet.default
    _philox_key_split.default _philox_key_fold_in.default _philox_key_fold_in.Tensor
"""
rules.zero(*overloads(*DRAWS.split()))


def parameter_bytes(p: TensorSpec, result: TensorSpec) -> tuple[int, int]:
    """The probabilities are read, the target only written."""
    return size(p), size(result)


rules.zero(*overloads("bernoulli.Tensor"), nbytes=parameter_bytes)


def bound_bytes(high: TensorSpec, result: TensorSpec) -> tuple[int, int]:
    """The bound is read, the shape of `self` only looked at."""
    return size(high), size(result)


BOUNDED = """
    randint_like.Tensor randint_like.Tensor_generator
    randint_like.Tensor_out randint_like.Tensor_generator_out
"""
rules.zero(*overloads(*BOUNDED.split()), nbytes=bound_bytes)
