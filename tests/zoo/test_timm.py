"""timm's models, the smallest of each architecture: equal to torch's counter and its table.

All of them: `python -m benchmarks.agreement`.
"""

from __future__ import annotations

import pytest

from benchmarks.comparison import BACKWARD, EVAL, TRAIN, compare
from benchmarks.zoo import entry

ARCHITECTURES = (
    "efficientvit_b0", "regnetx_002", "efficientformerv2_s0", "ese_vovnet19b_slim_dw",
    "rexnet_100", "inception_next_atto", "dla46x_c", "swiftformer_xs", "cs3darknet_focus_s",
    "mixer_s32_224", "efficientformer_l1", "csatv2", "coat_lite_tiny", "hrnet_w18_small",
    "eva02_tiny_patch14_224", "legacy_seresnet18", "twins_svt_small", "focalnet_tiny_srf",
    "davit_tiny", "vit_small_patch16_rope_mixed_ape_224", "mvitv2_tiny", "hiera_tiny_224",
    "rdnet_tiny", "tnt_s_legacy_patch16_224", "efficientvit_l1", "nest_tiny",
    "swinv2_tiny_window8_256", "hieradet_small", "samvit_base_patch16_224",
)  # fmt: skip

UNGROUPED = ("mixer_s32_224", "legacy_seresnet18", "hiera_tiny_224", "samvit_base_patch16_224")
GROUPED = ("efficientvit_b0", "coat_lite_tiny", "rexnet_100", "mvitv2_tiny", "davit_tiny")


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("run", [EVAL, TRAIN])
def test_a_forward_is_torchs_count_and_the_tables(name: str, run: str) -> None:
    found = compare(entry("timm", name), run)
    assert found.disagreements == []
    assert found.ours == found.torch > 0


@pytest.mark.parametrize("name", UNGROUPED)
def test_a_backward_is_torchs_count_where_no_convolution_is_grouped(name: str) -> None:
    found = compare(entry("timm", name), BACKWARD)
    assert found.disagreements == []
    assert found.ours == found.torch > 0


@pytest.mark.parametrize("name", GROUPED)
def test_a_backward_is_torchs_count_less_its_surplus_for_groups(name: str) -> None:
    found = compare(entry("timm", name), BACKWARD)
    assert found.disagreements == []
    assert found.surplus > 0
