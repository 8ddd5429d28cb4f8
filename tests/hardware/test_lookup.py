"""A name leads to its device, or to an error that names the near ones; never to another device."""

from __future__ import annotations

from typing import Any

import pytest

from flopdispatch import ArgumentError
from flopdispatch.hardware import Hardware, devices, hardware

# What torch.cuda.get_device_name() gives on real machines.
DRIVERS = {
    "NVIDIA H100 80GB HBM3": "H100-SXM",
    "NVIDIA H100 PCIe": "H100-PCIe",
    "NVIDIA H100 NVL": "H100-NVL",
    "NVIDIA H200": "H200-SXM",
    "NVIDIA H20": "H20",
    "NVIDIA H800": "H800-SXM",
    "NVIDIA A800-SXM4-80GB": "A800-SXM-80GB",
    "NVIDIA L20": "L20",
    "NVIDIA H200 NVL": "H200-NVL",
    "NVIDIA GH200 480GB": "GH200-96GB",  # by the memory of its CPU
    "NVIDIA GH200 120GB": "GH200-96GB",  # another size of that, the same GPU
    "NVIDIA GH200 144G HBM3e": "GH200-144GB",
    "NVIDIA B200": "B200",
    "NVIDIA GB200": "GB200",
    "NVIDIA B300 SXM6 AC": "B300",
    "NVIDIA GB300": "GB300",
    "NVIDIA A100-SXM4-80GB": "A100-SXM-80GB",
    "A100-SXM4-80GB": "A100-SXM-80GB",
    "NVIDIA A100-SXM4-40GB": "A100-40GB",
    "A100-PCIE-40GB": "A100-40GB",
    "NVIDIA A100 80GB PCIe": "A100-PCIe-80GB",
    "NVIDIA A10": "A10",
    "NVIDIA A10G": "A10G",
    "NVIDIA A30": "A30",
    "NVIDIA A40": "A40",
    "NVIDIA L4": "L4",
    "NVIDIA L40": "L40",
    "NVIDIA L40S": "L40S",
    "NVIDIA RTX A6000": "RTX-A6000",
    "NVIDIA RTX A5000": "RTX-A5000",
    "NVIDIA RTX A4000": "RTX-A4000",
    "NVIDIA RTX 6000 Ada Generation": "RTX-6000-Ada",
    "NVIDIA RTX 5000 Ada Generation": "RTX-5000-Ada",
    "NVIDIA RTX 4500 Ada Generation": "RTX-4500-Ada",
    "NVIDIA RTX 4000 Ada Generation": "RTX-4000-Ada",
    "NVIDIA RTX 4000 SFF Ada Generation": "RTX-4000-SFF-Ada",
    "NVIDIA RTX PRO 6000 Blackwell Workstation Edition": "RTX-PRO-6000-Workstation",
    "NVIDIA GeForce RTX 3070": "RTX-3070",
    "NVIDIA GeForce RTX 3090": "RTX-3090",
    "GeForce RTX 3090": "RTX-3090",
    "NVIDIA GeForce RTX 3090 Ti": "RTX-3090-Ti",
    "NVIDIA GeForce RTX 4070": "RTX-4070",
    "NVIDIA GeForce RTX 4070 Ti": "RTX-4070-Ti",
    "NVIDIA GeForce RTX 4080": "RTX-4080",
    "NVIDIA GeForce RTX 4080 SUPER": "RTX-4080-SUPER",
    "NVIDIA GeForce RTX 4090": "RTX-4090",
    "NVIDIA GeForce RTX 5070": "RTX-5070",
    "NVIDIA GeForce RTX 5070 Ti": "RTX-5070-Ti",
    "NVIDIA GeForce RTX 5080": "RTX-5080",
    "NVIDIA GeForce RTX 5090": "RTX-5090",
    "Tesla P100-PCIE-16GB": "P100-PCIe",
    "Tesla P100-SXM2-16GB": "P100-SXM",
    "Tesla V100-SXM2-16GB": "V100-SXM",
    "Tesla V100-SXM2-32GB": "V100-SXM",
    "Tesla V100-PCIE-16GB": "V100-PCIe",
    "Tesla V100S-PCIE-32GB": "V100S-PCIe",
    "Tesla T4": "T4",
    "Quadro RTX 5000": "Quadro-RTX-5000",
    "Quadro RTX 8000": "Quadro-RTX-8000",
    "AMD Instinct MI210": "MI210",
    "AMD Instinct MI250X": "MI250X-GCD",
    "AMD Instinct MI300A": "MI300A",
    "AMD Instinct MI300X": "MI300X",
    "AMD Instinct MI300X OAM": "MI300X",  # the module that all of them are
    "AMD Instinct MI325X": "MI325X",
    "AMD Instinct MI350X": "MI350X",
    "AMD Instinct MI355X": "MI355X",
    "AMD Radeon RX 7900 XT": "RX-7900-XT",
    "Radeon RX 7900 XTX": "RX-7900-XTX",
    "Intel(R) Data Center GPU Max 1100": "Max-1100",
    "TPU v4": "TPU-v4",
    "TPU v5 lite": "TPU-v5e",
    "TPU v5": "TPU-v5p",  # as JAX has it
    "TPU v5p": "TPU-v5p",
    "TPU v6 lite": "TPU-v6e",
    "TPU7x": "TPU-v7x",
}

# Devices whose names are near those of others; what their rates are isn't known here.
TRAPS = {
    "NVIDIA GeForce RTX 4090 Laptop GPU": "RTX-4090",
    "NVIDIA GeForce RTX 4090 D": "RTX-4090",
    "NVIDIA GeForce RTX 5090 Laptop GPU": "RTX-5090",
    "NVIDIA GeForce RTX 3070 Ti": "RTX-3070",
    "NVIDIA GeForce RTX 3070 with Max-Q Design": "RTX-3070",
    "NVIDIA GeForce RTX 3080": "RTX-3090",  # of 10 or 12 GB, which have other rates
    "NVIDIA GeForce RTX 3080 Ti": "RTX-3090-Ti",
    "NVIDIA A100-SXM4-40GB MIG 1g.5gb": "A100-40GB",
    "NVIDIA H100 80GB HBM3 MIG 3g.40gb": "H100-SXM",
    "NVIDIA B200 MIG 1g.23gb": "B200",
    "NVIDIA H100 80GB HBM2e": "H100-SXM",
    "NVIDIA H100": "H100-PCIe",
    "NVIDIA H100 64GB HBM2": "H100-NVL",
    "NVIDIA H20-3e": "H20",
    "NVIDIA H800 PCIe": "H800-SXM",
    "NVIDIA A800 80GB PCIe": "A800-SXM-80GB",
    "NVIDIA A100X": "A100-40GB",
    "NVIDIA A100-SXM-64GB": "A100-SXM-80GB",
    "GRID A100-10C": "A100-PCIe-80GB",
    "NVIDIA A40-48Q": "A40",
    "NVIDIA GB10": "GB200",
    "NVIDIA L40G": "L40",
    "NVIDIA T4G": "T4",
    "Tesla V100-SXM3-32GB": "V100-SXM",
    "NVIDIA RTX 6000D": "RTX-6000-Ada",
    "NVIDIA RTX 6000 Ada Generation Laptop GPU": "RTX-6000-Ada",
    "NVIDIA RTX 5000 Ada Generation Laptop GPU": "RTX-5000-Ada",
    "NVIDIA RTX PRO 6000 Blackwell Server Edition": "RTX-PRO-6000-Workstation",
    "NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition": "RTX-PRO-6000-Workstation",
    "NVIDIA GeForce RTX 4070 SUPER": "RTX-4070",
    "NVIDIA GeForce RTX 4070 Ti SUPER": "RTX-4070-Ti",
    "NVIDIA GeForce RTX 5080 Laptop GPU": "RTX-5080",
    "Quadro RTX 6000": "RTX-6000-Ada",
    "Tesla P100-PCIE-12GB": "P100-PCIe",
    "AMD Instinct MI250X / MI250": "MI250X-GCD",
    "AMD Instinct MI300X VF": "MI300X",
    "AMD Instinct MI308X": "MI300X",
    "AMD Radeon RX 7900 GRE": "RX-7900-XT",
    "Intel(R) Data Center GPU Max 1550": "Max-1100",
}

# The keys of other tools' tables; None where what they price isn't known here.
LIGHTNING = {
    "h200 sxm1": None,
    "h200 nvl1": None,
    "h100 nvl": "H100-NVL",
    "h100 sxm": "H100-SXM",
    "h100 pcie": "H100-PCIe",
    "rtx 4090": "RTX-4090",
    "rtx 4080": "RTX-4080",
    "rtx 4080 super": "RTX-4080-SUPER",
    "l4": "L4",
    "l40": "L40",
    "a100": None,  # of 40 or 80 GB, which have other bandwidths
    "a6000": "RTX-A6000",
    "a40": "A40",
    "a10g": "A10G",
    "rtx 3090 ti": "RTX-3090-Ti",
    "rtx 3090": "RTX-3090",
    "rtx 3080 ti": None,
    "rtx 3080": None,
    "rtx 3070": "RTX-3070",
    "t4": "T4",
    "quadro rtx 5000": "Quadro-RTX-5000",
    "rtx 2080 super": None,
    "rtx 2080 ti": None,
    "rtx 2080": None,
    "rtx 2070 super": None,
    "titan rtx": None,
    "v100 sxm": "V100-SXM",
    "v100 pcie": "V100-PCIe",
    "v100s pcie": "V100S-PCIe",
    "v2": None,
    "v3": "TPU-v3",
    "v4": "TPU-v4",
    "v5litepod": "TPU-v5e",
}
COMPOSER = {
    "h200-sxm": "H200-SXM",
    "h100-sxm": "H100-SXM",
    "h100-pcie": "H100-PCIe",
    "a100": None,
    "a10": "A10",
    "v100-sxm": "V100-SXM",
    "v100-pcie": "V100-PCIe",
    "v100s-pcie": "V100S-PCIe",
    "t4": "T4",
    "trn1": None,  # half a chip
}
TORCHTITAN = {
    "A100": None,
    "A6000": "RTX-A6000",
    "H100": None,
    "H100 NVL": "H100-NVL",
    "H100 PCIe": "H100-PCIe",
    "H200": "H200-SXM",
    "H20": "H20",
    "GB200": "GB200",
    "GB300": "GB300",
    "B300": "B300",
    "B200": "B200",
    "MI355X": "MI355X",
    "MI325X": "MI325X",
    "MI300X": "MI300X",
    "MI250X": "MI250X-GCD",
    "Data Center GPU Max 1550": None,
    "l40s": "L40S",
    "neuron": None,
    "TPU v4": "TPU-v4",
    "TPU v5e": "TPU-v5e",
    "TPU v5p": "TPU-v5p",
    "TPU v6e": "TPU-v6e",
    "TPU v7": None,
}
PYTORCH = {
    "NVIDIA GB300": "GB300",
    "NVIDIA B200": "B200",
    "NVIDIA H100": None,
    "NVIDIA A100": None,
    "NVIDIA L4": "L4",
    "AMD MI355X": "MI355X",
    "AMD MI350X": "MI350X",
    "AMD MI300A": "MI300A",
    "AMD MI300X": "MI300X",
    "AMD MI210X": None,  # there is no such device
    "AMD INSTINCT MI210": "MI210",
    "AMD MI250X": "MI250X-GCD",
    "AMD INSTINCT MI250X / MI250": None,  # which of them
    "AMD RADEON PRO W7800 48GB": None,
    "AMD RADEON RX 7900 XT": "RX-7900-XT",
    "RADEON RX 7900 XT": "RX-7900-XT",
    "INTEL B580": None,
    "INTEL B70": None,
    "Intel(R) Arc(TM) B580 Graphics": None,
    "Intel(R) Arc(TM) Pro B70 Graphics": None,
    "Intel(R) Data Center GPU Max 1100": "Max-1100",
}
TABLES = {**LIGHTNING, **COMPOSER, **TORCHTITAN, **PYTORCH}


@pytest.mark.parametrize(("name", "device"), DRIVERS.items())
def test_what_a_driver_reports_is_that_device(name: str, device: str) -> None:
    assert hardware(name).name == device


@pytest.mark.parametrize(("name", "device"), TABLES.items())
def test_a_name_in_other_tools_tables_is_that_device_or_an_error(
    name: str, device: str | None
) -> None:
    if device is None:
        with pytest.raises(ArgumentError, match="is known"):
            hardware(name)
    else:
        assert hardware(name).name == device


@pytest.mark.parametrize(("name", "near"), TRAPS.items())
def test_another_device_is_an_error_that_names_the_near_one(name: str, near: str) -> None:
    with pytest.raises(ArgumentError) as raised:
        hardware(name)
    message = str(raised.value)
    assert message.startswith(f"no device {name!r} is known; near are ")
    assert near in message.partition("near are ")[2].partition(". Name")[0]


def test_the_error_says_what_makes_it_another_device() -> None:
    with pytest.raises(ArgumentError) as raised:
        hardware("NVIDIA GeForce RTX 4090 Laptop GPU")
    assert str(raised.value) == (
        "no device 'NVIDIA GeForce RTX 4090 Laptop GPU' is known; near are RTX-4090, but 'laptop' "
        "makes it another device. Name one that `flopdispatch hardware` lists, or give its "
        "figures: Hardware(name, peaks={...}, bandwidth=...)"
    )


@pytest.mark.parametrize(
    ("name", "near", "why"),
    [
        ("NVIDIA B250 SXM6 AC", ["B200"], "a digit differs, and the first letters are the same"),
        ("A100X", ["A100-SXM-80GB", "A100-40GB", "A100-PCIe-80GB"], "a letter more"),
        ("Tesla P4", [], "one letter in common isn't near"),
        ("AMD Instinct MI300", ["MI300A", "MI300X"], "a letter less"),
        ("Device 20b0", [], "not MI210 nor B200"),
        ("Intel(R) Arc(TM) B580 Graphics", [], "no other is of that kind"),
        ("NVIDIA Graphics Device", [], "what a driver says that is older than the card"),
        ("Trainum", ["Trainium1", "Trainium2"], "a letter was forgotten"),
    ],
)
def test_near_are_few_that_look_like_it(name: str, near: list[str], why: str) -> None:
    with pytest.raises(ArgumentError) as raised:
        hardware(name)
    told = str(raised.value).partition("near are ")[2].partition(". Name")[0].partition(", but")[0]
    assert told == ", ".join(near), why


@pytest.mark.parametrize(
    "name",
    ["NVIDIA(R) GeForce(TM) RTX(TM) 4090", "GeForce® RTX™ 4090", "rtx_4090", "  RTX   4090\n"],
)
def test_marks_and_spaces_are_no_part_of_a_name(name: str) -> None:
    assert hardware(name).name == "RTX-4090"


@pytest.mark.parametrize("name", ["", "nonsense", "NVIDIA", "cpu", "gpu"])
def test_a_name_that_is_near_none_is_an_error_too(name: str) -> None:
    with pytest.raises(ArgumentError, match=f"no device '{name}' is known"):
        hardware(name)


@pytest.mark.parametrize("name", list(devices()))
def test_every_device_is_found_by_its_name_however_it_is_written(name: str) -> None:
    for written in (name, name.upper(), name.replace("-", " "), name.replace("-", "").lower()):
        assert hardware(written).name == name


def test_the_known_devices_are_not_to_be_changed() -> None:
    known_devices: Any = devices()
    with pytest.raises(TypeError, match="does not support item assignment"):
        known_devices["mine"] = Hardware("mine", peaks={}, bandwidth=1.0)


def test_a_device_stands_for_itself() -> None:
    mine = Hardware("H100-SXM", peaks={}, bandwidth=1.0)
    assert hardware(mine) is mine


def test_what_is_no_name_is_an_error() -> None:
    given: Any = 100
    with pytest.raises(ArgumentError, match="expected a device's name or a Hardware, got 100"):
        hardware(given)
