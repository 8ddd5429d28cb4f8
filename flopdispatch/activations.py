"""Activations: elements that matrix products, convolutions and attention write in the forward.

fvcore's and timm's figure, and a better guess of a model's time on many devices than FLOPs are
(Radosavovic et al., "Designing Network Design Spaces", 2020).
"""

from __future__ import annotations

from flopdispatch.formulas import default_registry
from flopdispatch.formulas.attention_layers import lengths
from flopdispatch.profile import Profile, Row, walk
from flopdispatch.rules import name_of
from flopdispatch.spec import OpCall, tensors
from flopdispatch.variants import outcome

FAMILIES = ("matmul", "convolution", "attention")
LAYERS = (
    "aten::_native_multi_head_attention.default",
    "aten::_triton_multi_head_attention.default",
    "aten::_transformer_encoder_layer_fwd.default",
)
LATER = ("recompute", "backward", "optimizer")


def by_scope(profile: Profile, own: bool = False) -> dict[str, int]:
    """Elements by module path, children included unless `own`; the block itself is `""`.

    Counts: the elements of the first result of each such call, recomputation and the backward
    left out; of an attention also its scores, the result of its first product, which a fused
    kernel keeps to itself: so it is the same figure by whatever kernel it runs. Of a transformer
    layer that is one operator, all the products in it.

    Ignores: fused recurrent layers and other operators, as fvcore does; what an operator that
    returns nothing writes into its arguments, but for a keyword `out=`. fvcore itself also leaves
    out scaled_dot_product_attention, bilinear layers and convolutions with `padding="same"`.

    Example:

        >>> from torch import nn
        >>> from flopdispatch import count
        >>> model = nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 2))
        >>> by_scope(count(model, (3, 8)))  # 3 rows of 4, and 3 of 2
        {'': 18, 'Sequential': 18, 'Sequential.0': 12, 'Sequential.1': 0, 'Sequential.2': 6}
    """
    found = {node.path: 0 for node in walk(profile.root)}
    for row in profile.rows:
        written = elements(profile, row)
        path = row.scope
        found[path] += written
        while written and path and not own:
            path = path.rpartition(".")[0]
            found[path] += written
    return found


def total(profile: Profile) -> int:
    """Elements written in the whole block."""
    return sum(elements(profile, row) for row in profile.rows)


def elements(profile: Profile, row: Row) -> int:
    """Elements that the calls of a row write, 0 if they are none of these."""
    price, call = profile.prices[row.call], profile.calls[row.call]
    multiplies = price.cost.macs or price.cost.int_macs
    if price.family not in FAMILIES or row.phase in LATER or not multiplies:
        return 0
    if name_of(call.overload) in LAYERS:
        return inside_layer(call) * row.times
    written = tensors(outcome(call))
    return (written[0].numel + scores(call, price.family)) * row.times if written else 0


def scores(call: OpCall, family: str) -> int:
    """The scores of an attention: each takes a product with a key and one with a value."""
    if family != "attention":
        return 0
    price = default_registry().price_or_error(call)  # the figure is the same by any convention
    if price.family != family:  # an attention of the user's own: its arguments may be any
        return 0
    query, _, value = tensors(call.args)[:3]
    return price.cost.macs // (query.shape[-1] + value.shape[-1])


def inside_layer(call: OpCall) -> int:
    """What the products of a transformer layer's self-attention write, and those of all of it.

    Counts: of x elements the projections to queries, keys and values, 3x; the scores; attention
    and the last projection, x each; of the feed-forward layer the hidden elements, and x.
    """
    given = call.arguments()
    batch = given.get("src") or given["query"]
    m, heads = given["embed_dim"], given.get("num_heads") or given["num_head"]
    x = batch.numel
    written = 5 * x + heads * sum(s * s for s in lengths(batch, m))
    if "ffn_weight_1" in given:
        written += x // m * given["ffn_weight_1"].shape[0] + x
    return int(written)
