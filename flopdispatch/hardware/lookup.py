"""The table of known devices, read from a file, and the search for a device by its name."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from difflib import SequenceMatcher
from functools import cache
from pathlib import Path
from types import MappingProxyType

from flopdispatch.errors import ArgumentError
from flopdispatch.hardware.device import BANDWIDTH, DTYPES, Hardware

DEVICES = Path(__file__).with_name("devices.csv")
SOURCES = Path(__file__).with_name("sources.csv")
COLUMNS = ["device", "entry", "value", "source"]
NAME = "name"  # an entry that is another name of the device
UNITS = {**dict.fromkeys(DTYPES, 12), BANDWIDTH: 9}  # TFLOP/s, TOP/s and GB/s: powers of ten

NEAR = 5  # devices that an error names at most

# Words that tell no device from another.
NOISE = {"nvidia", "tesla", "geforce", "gpu", "amd", "instinct", "google", "cloud", "intel"}
NOISE |= {"habana", "aws", "oam"}


@dataclass(slots=True)
class Entries:
    """What a table says of one device."""

    figures: dict[str, float] = field(default_factory=dict)
    sources: dict[str, tuple[str, ...]] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Table:
    """Known devices by name, and the other names that they go by."""

    devices: Mapping[str, Hardware]
    names: Mapping[str, str]

    def find(self, name: str) -> Hardware:
        """The device of this name, as people or a driver write it.

        Every word of it must be one of the device's name: what has a word more (`Laptop`, `MIG`,
        `Ti`) or one less is another device.

        Raises: ArgumentError if there is none; the message names those that are near.
        """
        wanted = spellings(name)
        found = {device for known, device in self.names.items() if wanted & spellings(known)}
        if len(found) == 1:
            return self.devices[found.pop()]
        near = self.near(name)
        told = f"; near are {', '.join(near)}{self.other(name, near)}" if near else ""
        raise ArgumentError(
            f"no device {name!r} is known{told}. Name one that `flopdispatch hardware` lists, or "
            "give its figures: Hardware(name, peaks={...}, bandwidth=...)"
        )

    def other(self, name: str, near: list[str]) -> str:
        """The words of a name that no name of the near devices has, as a part of a message."""
        known = {word for of, device in self.names.items() if device in near for word in words(of)}
        more = [word for word in words(name) if word not in known]
        return f", but {' '.join(more)!r} makes it another device" if near and more else ""

    def near(self, name: str) -> list[str]:
        """The devices that share most of a name's words, or have words much like them."""
        wanted = set(words(name))
        shared = {
            known: len(wanted & set(words(known)))
            for known in self.names
            if any(map(tells, wanted & set(words(known))))
        }
        best = max(shared.values(), default=0)
        close = [known for known, count in shared.items() if count == best]
        if not close:
            likeness = {known: alike(name, known) for known in self.names}
            top = max((word for word, _ in likeness.values()), default=0.0)
            close = [
                known
                for known, (word, whole) in likeness.items()
                if (word > top - 0.1 if top else whole > 0.7)
            ]
            close.sort(key=lambda known: likeness[known], reverse=True)
        return list(dict.fromkeys(self.names[known] for known in close))[:NEAR]


def hardware(name: str | Hardware) -> Hardware:
    """A known device by its name, or by the string that `torch.cuda.get_device_name()` gives.

    `A100-SXM-80GB`, `a100 sxm 80gb` and `NVIDIA A100-SXM4-80GB` are one. A `Hardware` stands for
    itself, `mine.csv` for the device of such a file (see `load`), `mine.csv:name` for one of them.

    Raises: ArgumentError if there is none; the message names those that are near.

    Example:

        >>> hardware("NVIDIA GeForce RTX 4090").name
        'RTX-4090'
    """
    if isinstance(name, Hardware):
        return name
    if not isinstance(name, str):
        raise ArgumentError(f"expected a device's name or a Hardware, got {name!r}")
    file = re.match(r"(.*\.csv)(.*)", name, re.DOTALL | re.IGNORECASE)
    if file is None:
        return known().find(name)
    path, device = file.groups()
    table = read(Path(path))
    if not device and len(table.devices) == 1:
        return next(iter(table.devices.values()))
    if not device.startswith(":"):
        raise ArgumentError(f"{name} has {', '.join(table.devices)}: name one, FILE.csv:NAME")
    return table.find(device[1:])


def devices() -> Mapping[str, Hardware]:
    """All known devices by name."""
    return known().devices


def load(path: str | Path) -> Mapping[str, Hardware]:
    """The devices in a file of one's own.

    It is CSV with the columns device, entry, value, source; an entry is a dtype (its dense peak
    rate in TFLOP/s, of int8 in TOP/s), `bandwidth` (GB/s) or `name` (another name of the device).

    Raises: ArgumentError if the file can't be read or is no such table.

    Example:

        >>> from tempfile import TemporaryDirectory
        >>> lines = "device,entry,value,source", "mine,float32,2,a", "mine,bandwidth,50,a"
        >>> with TemporaryDirectory() as folder:
        ...     file = Path(folder, "mine.csv")
        ...     _ = file.write_text("\\n".join(lines))
        ...     print(load(file)["mine"].peak("float32"))
        2000000000000.0
    """
    return read(Path(path)).devices


@cache
def known() -> Table:
    """The package's own table."""
    with SOURCES.open(encoding="utf-8", newline="") as file:
        documents = {row["key"]: row["document"] for row in csv.DictReader(file)}
    return read(DEVICES, documents)


def read(path: Path, documents: Mapping[str, str] | None = None) -> Table:
    """The table in a file; `documents` are what its sources' short names stand for.

    Raises: ArgumentError if the file can't be read or is no such table.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")  # as spreadsheets write it, or without a mark
        lines = csv.reader(io.StringIO(text), skipinitialspace=True, strict=True)
        rows = [(lines.line_num, [cell.strip() for cell in cells]) for cells in lines]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ArgumentError(f"can't read devices from {path}: {error}") from error
    head = rows[0][1] if rows else []
    if head != COLUMNS:
        raise ArgumentError(
            f"{path} is no table of devices: expected the columns {','.join(COLUMNS)}, "
            f"got {','.join(head)!r}"
        )
    found: dict[str, Entries] = {}
    for number, cells in rows[1:]:
        if any(cells):
            add(found, cells, documents or {}, f"{path}, line {number}")
    made, names = {}, {}
    owners: dict[tuple[str, ...], str] = {}
    for name, entries in found.items():
        if BANDWIDTH not in entries.figures:
            raise ArgumentError(f"{path}: {name} has no entry {BANDWIDTH!r}")
        bandwidth = entries.figures.pop(BANDWIDTH)
        made[name] = Hardware(name, entries.figures, bandwidth, entries.sources)
        for other in (name, *entries.names):
            names[other] = name
            for spelling in spellings(other):
                if owners.setdefault(spelling, name) != name:
                    raise ArgumentError(
                        f"{path}: {other!r} is a name of two devices, {owners[spelling]} and {name}"
                    )
    return Table(MappingProxyType(made), names)


def add(
    found: dict[str, Entries], cells: list[str], documents: Mapping[str, str], place: str
) -> None:
    """Add a line of a table, which stands at `place`, to what is known of its device.

    Raises: ArgumentError if the line isn't of the form that `load` tells.
    """
    if len(cells) > len(COLUMNS):
        raise ArgumentError(
            f"{place}: expected {len(COLUMNS)} cells, got {len(cells)}; quote one that has a comma"
        )
    device, entry, value, source = (*cells, "", "", "")[: len(COLUMNS)]
    if not device:
        raise ArgumentError(f"{place}: expected a device's name in the first cell, got none")
    entries = found.setdefault(device, Entries())
    if entry == NAME:
        if not value:
            raise ArgumentError(f"{place}: {entry!r} is another name of {device}, got ''")
        entries.names.append(value)
        return
    if entry not in UNITS:
        raise ArgumentError(f"{place}: {entry!r} is none of {', '.join((*UNITS, NAME))}")
    if entry in entries.figures:
        raise ArgumentError(f"{place}: a second {entry!r} of {device}")
    try:
        entries.figures[entry] = float(Decimal(value).scaleb(UNITS[entry]))
    except ArithmeticError as error:
        raise ArgumentError(f"{place}: {entry!r} is a number, got {value!r}") from error
    parts = [part.strip() for part in source.split(";") if part.strip()]
    entries.sources[entry] = tuple(documents.get(part, part) for part in parts)


def as_csv(devices: Iterable[Hardware], names: Mapping[str, str]) -> str:
    """Devices, with those of `names` that they go by, as a file that `load` reads."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for one in devices:
        writer.writerows([one.name, NAME, other, ""] for other in also(one, names))
        for entry, rate in (*one.peaks.items(), (BANDWIDTH, one.bandwidth)):
            value = Decimal(str(rate)).scaleb(-UNITS[entry]).normalize()
            writer.writerow([one.name, entry, f"{value:f}", "; ".join(one.sources.get(entry, ()))])
    return text.getvalue().rstrip("\n")


def also(one: Hardware, names: Mapping[str, str]) -> list[str]:
    """Those of `names` that a device goes by beside its own."""
    return [name for name, device in names.items() if device == one.name != name]


def words(name: str) -> list[str]:
    """The words of a name that tell devices apart, in small letters; all where none would be left.

    Marks, `(R)` and `(TM)`, are no words.
    """
    found = re.findall(r"(?:[^\W_]|\.)+", re.sub(r"\((r|tm|c)\)", " ", name.casefold()))
    return [word for word in found if word not in NOISE] or found


def spellings(name: str) -> set[tuple[str, ...]]:
    """What two ways to write one name share: its words in any order, or all of them glued."""
    return {tuple(sorted(words(name))), (glued(name),)}


def glued(name: str) -> str:
    """A name's words without spaces: `rtx4090`."""
    return "".join(words(name))


def tells(word: str) -> bool:
    """Whether a word may name a device by itself: `h100`, but not `pcie` or `80gb`."""
    return bool(re.search(r"\d", word)) and not re.fullmatch(r"\d+gb?|hbm.*|sxm\d?", word)


def alike(name: str, known: str) -> tuple[float, float]:
    """How much two names are alike, from 0 to 1: the words that tell most, and the whole.

    Words are of one family if they begin with the same letters: `h800` and `h100`, not `v100`.
    """
    pairs = [
        SequenceMatcher(None, one, other).ratio()
        for one in filter(tells, words(name))
        for other in filter(tells, words(known))
        if re.split(r"\d", one)[0] == re.split(r"\d", other)[0]
    ]
    best = max(pairs, default=0.0)
    return best if best > 0.6 else 0.0, SequenceMatcher(None, glued(name), glued(known)).ratio()
