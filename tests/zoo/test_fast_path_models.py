"""Real models on meta: the fast path changes nothing observable, forward, backward and in steps.

`python -m benchmarks.equality models` runs over a hundred.
"""

from __future__ import annotations

import pytest

from benchmarks.equality import run_model
from tests.versions import needs_torch

NEWER = needs_torch(2, 15, "it lacks or limits their kernels on meta")

MODELS = (
    "torchvision resnet18", "torchvision mobilenet_v3_small", "torchvision swin_t",
    "torchvision lraspp_mobilenet_v3_large", "transformers bert", "transformers llama",
    "transformers t5",
    pytest.param("transformers wav2vec2", marks=NEWER),
    pytest.param("transformers mixtral", marks=NEWER),
)  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", MODELS)
def test_models_give_and_count_the_same(name: str) -> None:
    found = run_model(name)
    assert found.different == ()
    assert (found.runs, found.raised) == (32, 0)  # 4 programs twice, 4 times


def test_a_model_that_looks_at_data_fails_alike() -> None:
    found = run_model("torchvision fcos_resnet50_fpn")
    assert found.different == ()
    assert found.raised == found.runs
    assert found.errors == ("RuntimeError: Tensor.item() cannot be called on meta tensors",)
