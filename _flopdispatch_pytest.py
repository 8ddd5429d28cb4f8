"""What pytest loads of flopdispatch: an option, two fixtures, and the files that were written.

It stands beside the package and imports it only for a test that counts: a run of pytest without
one doesn't load torch.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

if TYPE_CHECKING:
    from flopdispatch import FlopCounter
    from flopdispatch.pytest_plugin import AssertFlops

WRITTEN = "flops_baseline"  # of a test's report, which reaches the process that sums up


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--flops-update`."""
    group = parser.getgroup("flopdispatch")
    group.addoption(
        "--flops-update",
        action="store_true",
        help="write the baselines of assert_flops anew instead of comparing with them",
    )


@pytest.fixture
def flop_counter() -> FlopCounter:
    """A FlopCounter that prints nothing.

    Example: `with flop_counter: model(x)`, then `assert flop_counter.macs == 4_089_184_256`.
    """
    from flopdispatch import FlopCounter  # noqa: PLC0415 (it loads torch)

    return FlopCounter(display=False)


@pytest.fixture
def assert_flops(request: pytest.FixtureRequest) -> AssertFlops:
    """Holds a model's figures against numbers, limits, or a baseline in `__flops__/`.

    Example: `assert_flops(model, (1, 3, 224, 224), macs=4_089_184_256, max_params="30M")`, or
    without numbers, `assert_flops(model, (1, 3, 224, 224))`, as `pytest --flops-update` recorded.
    """
    from flopdispatch.pytest_plugin import AssertFlops  # noqa: PLC0415 (it loads torch)

    chain = request.node.listchain()
    names = [n.name for n in chain if isinstance(n, pytest.Item | pytest.Class)]
    return AssertFlops(
        request.path.parent / "__flops__" / request.path.stem,
        quote(".".join(names), safe="[],="),
        request.config.getoption("--flops-update"),
        lambda path: str(seen_from(request.config.invocation_params.dir, path)),
        lambda path: request.node.user_properties.append((WRITTEN, str(path))),
    )


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Name the baselines that were written."""
    reports = [report for found in terminalreporter.stats.values() for report in found]
    properties = [item for report in reports for item in getattr(report, "user_properties", ())]
    written = sorted({Path(value) for name, value in properties if name == WRITTEN})
    start = config.invocation_params.dir
    if written:
        terminalreporter.section("flops baselines written")
        for path in written:
            terminalreporter.write_line(str(seen_from(start, path)))


def seen_from(start: Path, path: Path) -> Path:
    """A path as it is written where pytest was called."""
    return path.relative_to(start) if path.is_relative_to(start) else path
