"""The table of known devices: every figure has sources, and architectures fix the ratios."""

from __future__ import annotations

import csv
import re
from collections import Counter

import pytest

from flopdispatch.hardware import BANDWIDTH, devices
from flopdispatch.hardware.lookup import COLUMNS, DEVICES, NAME, SOURCES, known, spellings

with DEVICES.open(encoding="utf-8", newline="") as file:
    LINES = list(csv.DictReader(file))
with SOURCES.open(encoding="utf-8", newline="") as file:
    KINDS = {row["key"]: row["kind"] for row in csv.DictReader(file)}
FIGURES = [line for line in LINES if line["entry"] != NAME]

GEFORCE = {name for name in devices() if re.fullmatch(r"RTX-\d{4}(-Ti|-SUPER)?", name)}
CDNA2 = {"MI210", "MI250-GCD", "MI250X-GCD"}
RDNA3 = {"RX-7900-XT", "RX-7900-XTX"}

# Whose figures are another's: adapted from it, of the same file, or of its units and clocks.
SAME = {
    "lightning": "composer",
    "lightning-halved": "composer",
    "lightning-h200-nvl": "composer",
    "torch-mi210": "torch",
    "torch-mi300x": "torch",
    "torch-scaled": "torch",
    "gpumap-scaled": "gpumap",
    "gpumap-a800": "gpumap",
    "gpu-datasheet-halved": "gpu-datasheet",
    "ml-engineering-halved": "ml-engineering",
    "yobitel-2": "yobitel",
    "techpowerup-halved": "techpowerup",
    "rates": "techpowerup",
    "bus": "techpowerup",
}


@pytest.mark.parametrize("line", FIGURES, ids=lambda line: f"{line['device']} {line['entry']}")
def test_a_figure_is_its_maker_s_or_two_others_agree(line: dict[str, str]) -> None:
    kinds = [KINDS[source] for source in line["source"].split(";")]
    assert len(set(line["source"].split(";"))) == len(kinds)
    origins = {SAME.get(source, source) for source in line["source"].split(";")}
    assert "vendor" in kinds or len(origins) >= 2
    assert kinds != ["derived"] * len(kinds)


def test_every_source_is_used_and_of_a_known_kind() -> None:
    assert {source for line in FIGURES for source in line["source"].split(";")} == set(KINDS)
    assert set(KINDS.values()) == {"vendor", "table", "derived"}


def test_sources_reach_the_user() -> None:
    for device in devices().values():
        assert set(device.sources) == {*device.peaks, BANDWIDTH}
        assert all(device.sources.values())
    sources = devices()["L40S"].sources["bfloat16"]
    assert sources[0].startswith("NVIDIA L40 and L40S data sheets")


def test_no_two_devices_share_a_name() -> None:
    keys = Counter(key for name in known().names for key in spellings(name))
    assert {key for key, count in keys.items() if count > 1} <= {
        key
        for key in keys
        if len({known().names[name] for name in known().names if key in spellings(name)}) == 1
    }
    assert len(LINES) - len(FIGURES) + len(devices()) == len(known().names)
    assert list(LINES[0]) == COLUMNS


EIGHT_AS_SIXTEEN = {"Gaudi3", "Trainium2", "TPU-v5p", "TPU-v6e"}

RATIOS = [
    ("float16", "bfloat16", 1, set(), "one unit runs both"),
    ("bfloat16", "tf32", 2, {"Trainium1", "Trainium2"}, "twice the bits take twice the time"),
    ("float8", "bfloat16", 2, EIGHT_AS_SIXTEEN, "half the bits take half the time"),
    ("int8", "bfloat16", 2, GEFORCE | CDNA2 | RDNA3 | {"TPU-v4", "GB300"}, "as of float8"),
]


@pytest.mark.parametrize(("fast", "slow", "ratio", "others", "why"), RATIOS)
def test_dtypes_stand_in_the_ratio_that_architectures_fix(
    fast: str, slow: str, ratio: int, others: set[str], why: str
) -> None:
    have = [one for one in devices().values() if {fast, slow} <= set(one.peaks)]
    assert len(have) > 15
    assert others <= set(devices())
    for one in have:
        if one.name not in others:
            # Data sheets round, and the L40S's has 362 beside 733.
            assert one.peaks[fast] / one.peaks[slow] == pytest.approx(ratio, rel=0.025), one.name


@pytest.mark.parametrize(
    ("names", "fast", "slow", "ratio"),
    [
        (GEFORCE, "int8", "bfloat16", 4),  # sums of 16-bit products at half rate
        (GEFORCE, "bfloat16", "float32", 2),
        (GEFORCE, "tf32", "float32", 1),
        (CDNA2, "int8", "bfloat16", 1),
        ({"RX-7900-XT"}, "int8", "bfloat16", 1),
        (RDNA3, "bfloat16", "float32", 2),
        ({"MI300A", "MI300X"}, "bfloat16", "float32", 8),
        ({"MI350X", "MI355X"}, "bfloat16", "float32", 16),
        ({"V100-SXM", "V100-PCIe", "V100S-PCIe", "T4", "Quadro-RTX-5000"}, "float16", "float32", 8),
    ],
)
def test_families_have_ratios_of_their_own(
    names: set[str], fast: str, slow: str, ratio: int
) -> None:
    for name in names:
        peaks = devices()[name].peaks
        assert peaks[fast] / peaks[slow] == pytest.approx(ratio, rel=0.02), name


@pytest.mark.parametrize(
    ("name", "units", "megahertz", "operations", "dtype"),
    [
        ("V100-SXM", 80, 1530, 1024, "float16"),
        ("T4", 40, 1590, 1024, "float16"),
        ("Quadro-RTX-5000", 48, 1815, 1024, "float16"),
        ("A100-40GB", 108, 1410, 2048, "bfloat16"),
        ("A100-40GB", 108, 1410, 128, "float64"),
        ("A800-SXM-80GB", 108, 1410, 2048, "bfloat16"),
        ("L20", 92, 2520, 512, "bfloat16"),
        ("L20", 92, 2520, 1024, "int8"),
        ("A30", 56, 1440, 2048, "bfloat16"),
        ("A40", 84, 1740, 1024, "bfloat16"),
        ("RTX-A6000", 84, 1800, 1024, "bfloat16"),
        ("RTX-6000-Ada", 142, 2505, 1024, "bfloat16"),
        ("L40", 142, 2490, 512, "bfloat16"),
        ("P100-SXM", 56, 1480, 256, "float16"),
        ("Quadro-RTX-8000", 72, 1770, 1024, "float16"),
        ("RTX-A5000", 64, 1695, 1024, "bfloat16"),
        ("RTX-A4000", 48, 1560, 1024, "bfloat16"),
        ("RTX-5000-Ada", 100, 2550, 1024, "bfloat16"),
        ("RTX-4500-Ada", 60, 2580, 1024, "bfloat16"),
        ("RTX-4000-Ada", 48, 2175, 1024, "bfloat16"),
        ("RTX-4000-SFF-Ada", 48, 1560, 1024, "bfloat16"),
        ("RTX-PRO-6000-Workstation", 188, 2617, 1024, "bfloat16"),
        ("RTX-PRO-6000-Workstation", 188, 2617, 2048, "float8"),
        ("RTX-4070", 46, 2475, 512, "bfloat16"),
        ("RTX-4070-Ti", 60, 2610, 512, "bfloat16"),
        ("RTX-5070", 48, 2512, 512, "bfloat16"),
        ("RTX-5070-Ti", 70, 2452, 512, "bfloat16"),
        ("RTX-5080", 84, 2617, 512, "bfloat16"),
        ("RX-7900-XT", 84, 2394, 512, "bfloat16"),
        ("RX-7900-XTX", 96, 2498, 512, "bfloat16"),
        ("Max-1100", 56, 1550, 4096, "bfloat16"),
        ("MI250-GCD", 104, 1700, 1024, "bfloat16"),
        ("MI250-GCD", 104, 1700, 256, "float64"),
        ("RTX-3070", 46, 1725, 512, "bfloat16"),
        ("RTX-3090", 82, 1695, 512, "bfloat16"),
        ("RTX-3090-Ti", 84, 1860, 512, "bfloat16"),
        ("RTX-4080", 76, 2505, 512, "bfloat16"),
        ("RTX-4080-SUPER", 80, 2550, 512, "bfloat16"),
        ("RTX-4090", 128, 2520, 512, "bfloat16"),
        ("RTX-5090", 170, 2407, 512, "bfloat16"),
        ("H100-SXM", 132, 1980, 256, "float32"),
        ("H100-SXM", 132, 1830, 4096, "bfloat16"),
        ("H100-PCIe", 114, 1755, 256, "float32"),
        ("H100-NVL", 132, 1785, 256, "float32"),
        ("H200-NVL", 132, 1785, 256, "float32"),
        ("MI210", 104, 1700, 1024, "bfloat16"),
        ("MI250X-GCD", 110, 1700, 1024, "bfloat16"),
        ("MI250X-GCD", 110, 1700, 256, "float64"),
        ("MI300A", 228, 2100, 2048, "bfloat16"),
        ("MI300X", 304, 2100, 2048, "bfloat16"),
        ("MI300X", 304, 2100, 256, "float32"),
        ("MI325X", 304, 2100, 2048, "bfloat16"),
        ("MI350X", 256, 2200, 4096, "bfloat16"),
        ("MI355X", 256, 2400, 4096, "bfloat16"),
        ("MI355X", 256, 2400, 8192, "float8"),
    ],
)
def test_a_rate_is_units_by_clock_by_operations(
    name: str, units: int, megahertz: int, operations: int, dtype: str
) -> None:
    """Units and boost clocks are TechPowerUp's, operations the architectures' white papers'."""
    derived = units * megahertz * 1e6 * operations
    assert devices()[name].peaks[dtype] == pytest.approx(derived, rel=0.01)


def test_the_same_processor_has_the_same_rates() -> None:
    every = devices()
    for name in ("H200-SXM", "GH200-96GB", "GH200-144GB"):
        assert every[name].peaks == every["H100-SXM"].peaks
    assert every["MI250-GCD"].peaks == every["MI210"].peaks
    assert every["MI325X"].peaks == every["MI300X"].peaks
    for china, name in (("H800-SXM", "H100-SXM"), ("A800-SXM-80GB", "A100-SXM-80GB")):
        assert every[china].peaks.items() <= every[name].peaks.items()
    nvl = every["H100-NVL"].peaks
    assert every["H200-NVL"].peaks == {name: nvl[name] for name in nvl if name != "float64"}
    assert every["A100-40GB"].peaks == every["A100-PCIe-80GB"].peaks == every["A100-SXM-80GB"].peaks


def test_faults_of_other_tables_are_not_ours() -> None:
    every = devices()
    assert every["L40S"].peak("bfloat16") == 362.05e12  # one gives it the L4's 121
    assert every["H100-NVL"].peak("bfloat16") == 835.5e12  # one has 1978.8, with sparsity
    assert every["RTX-4090"].peak("bfloat16") == 165.2e12  # one has 82.6, without matrix units
    assert every["L4"].bandwidth == 300e9  # one has 3350
    assert every["A10G"].peak("bfloat16") == 70e12  # one gives it the A10's 125
