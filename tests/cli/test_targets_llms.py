"""`count hf:` of published language models: their parameters, and MACs derived by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.counted import counted

LLMS = Path(__file__).parents[1] / "reference" / "llms"

PARAMETERS = {
    "gpt2": 124_439_808,
    "bloom-7b1": 7_069_016_064,
    "pythia-6.9b": 6_857_302_016,
    "phi-2": 2_779_683_840,
    "llama-2-7b": 6_738_415_616,
    "llama-3.1-405b": 405_853_388_800,
    "mistral-7b-v0.1": 7_241_732_096,
    "mixtral-8x7b-v0.1": 46_702_792_704,
    "qwen2.5-7b": 7_615_616_512,
    "gemma-2-9b": 9_241_705_984,
    # All but the routers' correction biases, which transformers keeps as buffers.
    "deepseek-v3": 671_026_419_200 - 58 * 256,
}

T = 128  # tokens: each is scored against all of them, and takes its share of all their values

# A token's MACs in each layer: the projections to q, k, v and out, the scores and the values, the
# feed-forward. Then the head. An embedding is a look-up. In a mixture of experts a token passes the
# router and the experts that it is given to.
MACS_PER_TOKEN = {
    "gpt2": 12 * (4 * 768 * 768 + T * (768 + 768) + 2 * 768 * 3072) + 768 * 50257,
    "bloom-7b1": 30 * (4 * 4096 * 4096 + T * (4096 + 4096) + 2 * 4096 * 16384) + 4096 * 250880,
    "pythia-6.9b": 32 * (4 * 4096 * 4096 + T * (4096 + 4096) + 2 * 4096 * 16384) + 4096 * 50432,
    "phi-2": 32 * (4 * 2560 * 2560 + T * (2560 + 2560) + 2 * 2560 * 10240) + 2560 * 51200,
    "llama-2-7b": 32 * (4 * 4096 * 4096 + T * (4096 + 4096) + 3 * 4096 * 11008) + 4096 * 32000,
    # 8 heads of keys and of values, 128 wide.
    "llama-3.1-405b": 126
    * (2 * 16384 * 16384 + 2 * 16384 * 8 * 128 + T * (16384 + 16384) + 3 * 16384 * 53248)
    + 16384 * 128256,
    "mistral-7b-v0.1": 32
    * (2 * 4096 * 4096 + 2 * 4096 * 8 * 128 + T * (4096 + 4096) + 3 * 4096 * 14336)
    + 4096 * 32000,
    "mixtral-8x7b-v0.1": 32
    * (2 * 4096 * 4096 + 2 * 4096 * 8 * 128 + T * (4096 + 4096) + 4096 * 8 + 2 * 3 * 4096 * 14336)
    + 4096 * 32000,
    "qwen2.5-7b": 28 * (2 * 3584 * 3584 + 2 * 3584 * 4 * 128 + T * (3584 + 3584) + 3 * 3584 * 18944)
    + 3584 * 152064,
    # 16 heads 256 wide are wider than the model.
    "gemma-2-9b": 42 * (2 * 3584 * 4096 + 2 * 3584 * 8 * 256 + T * (4096 + 4096) + 3 * 3584 * 14336)
    + 3584 * 256000,
    # q through 1536; k and v through 512, beside 64 that have the position and are shared by all of
    # the 128 heads; q and k are 128 + 64 wide, v 128. Three layers are dense.
    "deepseek-v3": 61
    * (
        7168 * 1536
        + 1536 * 128 * (128 + 64)
        + 7168 * (512 + 64)
        + 512 * 128 * (128 + 128)
        + T * 128 * (128 + 64 + 128)
        + 128 * 128 * 7168
    )
    + 3 * 3 * 7168 * 18432
    + 58 * (7168 * 256 + (8 + 1) * 3 * 7168 * 2048)
    + 7168 * 129280,
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_published_model_has_its_parameters_and_the_macs_of_the_hand_derivation(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    profile = counted(f"hf:{LLMS / name}", "--strict", "--seq", str(T))
    assert profile.params == PARAMETERS[name]
    assert profile.macs == T * MACS_PER_TOKEN[name]
    assert profile.comparable_flops == 2 * profile.macs  # no other family has any
    assert "input_ids=1x128:int64" in capsys.readouterr().err


def test_every_folder_is_tested_and_described() -> None:
    folders = {path.parent.name for path in LLMS.glob("*/config.json")}
    assert folders == PARAMETERS.keys() == MACS_PER_TOKEN.keys()
    page = (LLMS / "README.md").read_text()
    for name in folders:
        published = PARAMETERS[name] + (58 * 256 if name == "deepseek-v3" else 0)
        (row,) = [line for line in page.splitlines() if line.startswith(f"| {name} |")]
        assert f"| {published:,} |" in row


def test_a_models_dtype_is_that_of_its_configuration(tmp_path: Path) -> None:
    half = {**json.loads((LLMS / "gpt2" / "config.json").read_text()), "torch_dtype": "float16"}
    (tmp_path / "config.json").write_text(json.dumps(half))
    in_half = counted(f"hf:{tmp_path}").total
    in_single = counted(f"hf:{LLMS / 'gpt2'}").total
    assert in_half == counted(f"hf:{LLMS / 'gpt2'}", "--dtype", "fp16").total
    assert in_half.macs == in_single.macs
    assert in_half.nbytes < 0.6 * in_single.nbytes
