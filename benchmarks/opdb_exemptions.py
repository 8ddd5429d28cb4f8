"""What of PyTorch's databases needn't be equal, each with its reason."""

from __future__ import annotations

UNINITIALIZED = "it gives memory as it is: nobody set the values, which are not compared"

UNDEFINED = dict.fromkeys(
    (
        "operator empty",
        "operator empty_like",
        "operator empty_permuted",
        "operator empty_strided",
        "operator new_empty",
        "operator new_empty_strided",
    ),
    UNINITIALIZED,
)

# Differences that a dispatch mode which does nothing makes too, by what differs. In each run
# the counter is compared with such a mode, and nothing else may differ.
IN_ANY_MODE = {
    "version": "torch writes some results in place, or not, where a mode is active: gradients "
    "that are added up, running statistics; a version counter differs, the values don't",
    "base": "a view that is made below a mode in inference_mode isn't tracked as one",
    "view": "the same",
    "requires_grad": "the same: such a view of a leaf that requires gradients doesn't",
    "unobservable": "the same: torch refuses to look at a tracked view of what was changed since",
    "graph": "torch records view where it would record its own reshape_alias, and the general "
    "ctc_loss, where a mode is active",
    "rounding": "torch chooses among kernels where a mode is active (out of place, singular "
    "vectors with the values): the last bits differ",
}

VECTORS = "torch computes vectors beside the values where a mode is active, by another routine"
FOLDED = (
    "views made in inference_mode don't require gradients, by which torch chooses between mm of "
    "a copy and bmm"
)

# The same choice, which a mode that does nothing doesn't see in inference_mode since it leaves
# composite operators whole. Only rounding may differ.
ROUNDED_BY_KERNEL = {
    "operator linalg.cond": VECTORS,
    "operator linalg.eigvalsh": VECTORS,
    "operator linalg.matrix_norm": VECTORS,
    "operator linalg.norm": VECTORS,
    "operator linalg.svdvals": VECTORS,
    "operator norm.nuc": VECTORS,
    "module nn.LinearCrossEntropyLoss": FOLDED,
}

OUT_IGNORED = dict.fromkeys(
    ("operator linalg.matrix_rank", "operator linalg.matrix_rank.hermitian"),
    "torch's own out= writes nothing where a mode is active",
)

SAVED_COPIES = (
    "autograd saves a copy of what an operator changes in place: with gradients enabled these "
    "clones move bytes, and all else is equal"
)

GIVES_GRADIENTS = "its forward also computes the gradients where they are needed"

# Forwards that compute something else in another grad mode.
OPERATIONS_BY_MODE = {
    "operator nn.functional.linear_cross_entropy.chunked": GIVES_GRADIENTS,
    "operator nn.functional.linear_cross_entropy.chunked_none": GIVES_GRADIENTS,
    "module nn.LinearCrossEntropyLoss": GIVES_GRADIENTS,
    "module nn.Transformer": "eval without gradients takes torch's fused encoder layer, on nested "
    "tensors that leave padded positions out",
    "module nn.TransformerDecoderLayer": "without gradients torch's fused attention takes one "
    "mask, the sum of both",
}

SAVES_ALWAYS = "a differentiable step saves copies in no_grad too"

# Forwards that move other bytes in another grad mode; what they compute is equal.
BYTES_BY_MODE = {
    "operator nn.functional.linear_cross_entropy.chunked": GIVES_GRADIENTS,
    "operator nn.functional.linear_cross_entropy.chunked_none": GIVES_GRADIENTS,
    "operator sparse.mm.reduce": "it gives the indices of the largest where gradients are needed",
    "operator nn.functional.rms_norm": "on meta, fused in inference_mode as on a GPU",
    "operator pca_lowrank": "in inference_mode torch copies complex conjugates more often",
    "operator svd_lowrank": "the same",
    "module nn.LinearCrossEntropyLoss": GIVES_GRADIENTS,
    "module nn.RMSNorm": "on meta, fused in inference_mode as on a GPU",
    "module nn.Transformer": FOLDED,
    "module nn.TransformerDecoderLayer": FOLDED,
    "module nn.TransformerEncoder": FOLDED,
    "module nn.TransformerEncoderLayer": FOLDED,
    "optimizer Adadelta": SAVES_ALWAYS,
    "optimizer Rprop": SAVES_ALWAYS,
}

ONLY_VALUES = "with out= torch computes the values without the vectors"
CONJUGATES = "with out= torch copies the conjugate in an operator of its own"

# Operators whose in-place or out= variant computes something else.
VARIANTS = {
    "operator linalg.eigvals": ONLY_VALUES,
    "operator linalg.eigvalsh": ONLY_VALUES,
    "operator linalg.svdvals": ONLY_VALUES,
    "operator fft.ifft": CONJUGATES,
    "operator fft.ihfft": CONJUGATES,
    "operator fft.ihfft2": CONJUGATES,
    "operator fft.ihfftn": CONJUGATES,
    "operator svd": CONJUGATES,
    "operator ldexp": "in place on integers runs on meta alone, in integers",
    "operator logit": "the same",
}

FLASH = "the CPU has a fused attention kernel, meta runs the same products with a scaling of each"

# Forwards that compute something else on meta than on the CPU.
OPERATIONS_ACROSS = {
    "operator matrix_exp": "the degree depends on the values: meta has an estimate",
    "optimizer SparseAdam": "how many entries a sparse gradient has lies in its values",
    "operator nn.functional.one_hot": "the CPU looks for the largest class and fills zeros, meta "
    "compares",
    "operator nn.functional.scaled_dot_product_attention": FLASH,
    "module nn.Transformer": FLASH,
    "module nn.TransformerDecoderLayer": FLASH,
    "module nn.TransformerEncoder": FLASH,
    "module nn.TransformerEncoderLayer": FLASH,
}

BYTES_ACROSS = (
    "kernels of meta give results of other sizes (statistics that eval mode doesn't save, "
    "work space) or strides (what is a view on one is a copy on the other)"
)
