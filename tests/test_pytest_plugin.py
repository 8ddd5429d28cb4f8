"""The pytest plugin: whole sessions of pytest that count, record and compare."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import flopdispatch.pytest_plugin  # noqa: F401 (a session inside forgets what it is first to load)

pytest_plugins = ["pytester"]

# (3, 4) by (4, 8) and a bias: 96 MACs, 2·96 + 24 FLOPs, 32 + 8 parameters, floats of 4 bytes.
HEAD = """
import pytest
import torch
from torch import nn
from flopdispatch import count

MODEL = nn.Linear(4, 8)
"""
MACS, FLOPS, PARAMS, BYTES = 96, 216, 40, 4 * (12 + 40 + 24)

RECORDED = """
def test_it(assert_flops):
    assert_flops(MODEL, (3, 4))
"""


def session(pytester: pytest.Pytester, body: str, *arguments: str) -> pytest.RunResult:
    """One run of pytest over `test_net.py`."""
    pytester.makepyfile(test_net=HEAD + body)
    return pytester.runpytest_inprocess("-p", "no:cacheprovider", *arguments)


def errors(result: pytest.RunResult) -> str:
    """The lines of failures, without pytest's margin."""
    return "\n".join(line[1:].strip() for line in result.outlines if line.startswith("E "))


def baselines(pytester: pytest.Pytester) -> dict[str, dict[str, int]]:
    """The totals of all baseline files, by their paths below `__flops__`."""
    folder = pytester.path / "__flops__"
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): json.loads(path.read_text())["total"] for path in found
    }


def test_a_counter_counts_and_prints_nothing(pytester: pytest.Pytester) -> None:
    body = f"""
def test_it(flop_counter, capsys):
    with flop_counter:
        MODEL(torch.ones(3, 4))
    assert (flop_counter.macs, flop_counter.flops, flop_counter.params) == {MACS, FLOPS, PARAMS}
    assert capsys.readouterr().out == ""

def test_each_test_has_its_own(flop_counter):
    assert flop_counter.macs == 0
"""
    session(pytester, body).assert_outcomes(passed=2)


@pytest.mark.parametrize(
    "call",
    [
        f"MODEL, (3, 4), macs={MACS}, flops={FLOPS}, params={PARAMS}, bytes={BYTES}",
        "MODEL, (3, 4), macs='96 MACs', params='0.04k'",
        "MODEL, (3, 4), macs=100, tolerance=0.05",
        "MODEL, (3, 4), macs=100, tolerance='5%'",
        "MODEL, (3, 4), max_macs='1k', max_flops=216, max_params=40, max_bytes='1 kB'",
        "MODEL, [(3, 4)], macs=96",
        "MODEL, ((3, 4),), macs=96",
        "MODEL, torch.ones(3, 4), macs=96",
        "MODEL, {'input': (3, 4)}, macs=96",
        "MODEL, [], input=(3, 4), macs=96",
        "MODEL, torch.ones(3, 4, requires_grad=True), backward=True, macs=3 * 96",
        "MODEL, (3, 4), convention='torch', flops=2 * 96",
        "count(MODEL, (3, 4)), macs=96",
    ],
)
def test_what_holds_passes(call: str, pytester: pytest.Pytester) -> None:
    body = f"def test_it(assert_flops):\n    assert assert_flops({call}).macs % 96 == 0"
    session(pytester, body).assert_outcomes(passed=1)
    assert not (pytester.path / "__flops__").exists(), "numbers need no baseline"


def test_a_number_that_differs_fails_with_reason_and_table(pytester: pytest.Pytester) -> None:
    body = """
def test_it(assert_flops):
    assert_flops(MODEL, (3, 4), macs=90, max_params="30", flops=216)
"""
    result = session(pytester, body)
    result.assert_outcomes(failed=1)
    said = errors(result)
    assert said.startswith(
        "AssertionError: params 40, limit 30: 10 more (33.3%)\n"
        "MACs 96, expected 90: 6 more (6.7%)\n"
    )
    assert "FLOPs" not in said.partition("\n\n")[0], "they hold"
    assert ["Linear", "Linear", "40", "96", "216"] in [
        line.split()[:5] for line in said.split("\n")
    ]
    assert "pytest_plugin.py" not in result.stdout.str(), "the traceback ends in the test"


def test_a_counter_in_a_block_of_one_s_own_is_held_too(pytester: pytest.Pytester) -> None:
    body = """
def test_it(flop_counter, assert_flops):
    with flop_counter:
        for _ in range(2):
            MODEL(torch.ones(3, 4))
    assert_flops(flop_counter, macs=2 * 96)
    assert_flops(flop_counter)
"""
    session(pytester, body, "--flops-update").assert_outcomes(passed=1)
    assert baselines(pytester)["test_net/test_it.json"]["macs"] == 2 * MACS
    session(pytester, body).assert_outcomes(passed=1)


def test_a_baseline_is_recorded_then_compared(pytester: pytest.Pytester) -> None:
    missing = session(pytester, RECORDED)
    missing.assert_outcomes(failed=1)
    path = pytester.path / "__flops__" / "test_net" / "test_it.json"
    shown = str(path.relative_to(pytester.path))
    assert errors(missing) == (
        f"AssertionError: there is no baseline yet: pytest --flops-update writes {shown}"
    )
    assert not path.exists(), "nothing is written unasked"

    recorded = session(pytester, RECORDED, "--flops-update")
    recorded.assert_outcomes(passed=1)
    recorded.stdout.fnmatch_lines(["*flops baselines written*", shown])
    assert baselines(pytester) == {
        "test_net/test_it.json": {
            "macs": MACS, "flops": FLOPS, "params": PARAMS, "bytes": BYTES,
        }
    }  # fmt: skip

    session(pytester, RECORDED).assert_outcomes(passed=1)
    again = session(pytester, RECORDED, "--flops-update")
    again.assert_outcomes(passed=1)
    assert "baselines written" not in again.stdout.str(), "nothing changed"


@pytest.mark.parametrize(("width", "sign"), [(7, "-"), (9, "+")])
def test_a_change_fails_with_the_modules_that_changed(
    width: int, sign: str, pytester: pytest.Pytester
) -> None:
    session(pytester, RECORDED, "--flops-update")
    body = f"MODEL = nn.Linear(4, {width})\n" + RECORDED
    result = session(pytester, body)
    result.assert_outcomes(failed=1)
    said = errors(result)
    word = "more" if sign == "+" else "less"
    assert said.startswith(f"AssertionError: MACs {12 * width}, recorded 96: 12 {word} (12.5%)\n")
    assert f"\nparams {5 * width}, recorded 40: 5 {word} (12.5%)\n" in said
    (row,) = [line.split() for line in said.splitlines() if line.startswith("Linear ")]
    assert [row[1], row[3]] == [f"{sign}12", f"{sign}5"]
    path = Path("__flops__", "test_net", "test_it.json")
    assert said.endswith(f"\n\nIf that is meant: pytest --flops-update writes {path}")
    session(pytester, body.replace("4))", "4), tolerance='13%')")).assert_outcomes(passed=1)

    session(pytester, body, "--flops-update").assert_outcomes(passed=1)
    assert baselines(pytester)["test_net/test_it.json"]["macs"] == 12 * width
    session(pytester, body).assert_outcomes(passed=1)


def test_every_test_and_every_call_has_its_own_file(pytester: pytest.Pytester) -> None:
    body = """
class TestOne:
    def test_it(self, assert_flops):
        assert_flops(MODEL, (1, 4))

class TestTwo:
    class TestBelow:
        def test_it(self, assert_flops):
            assert_flops(MODEL, (2, 4))

@pytest.mark.parametrize("name", ["a/b", "a_b", "../c", "d e"])
def test_names(name, assert_flops):
    assert_flops(MODEL, (3, 4))

def test_several(assert_flops):
    assert_flops(MODEL, (4, 4))
    assert_flops(MODEL, (5, 4))
    assert_flops(MODEL, (6, 4), name="six/6")
    assert_flops(MODEL, (7, 4), macs=7 * 32)
    assert_flops(MODEL, (8, 4))
"""
    session(pytester, body, "--flops-update").assert_outcomes(passed=7)
    assert {name: total["macs"] for name, total in baselines(pytester).items()} == {
        "test_net/TestOne.test_it.json": 32,
        "test_net/TestTwo.TestBelow.test_it.json": 2 * 32,
        "test_net/test_names[..%2Fc].json": 3 * 32,
        "test_net/test_names[a%2Fb].json": 3 * 32,
        "test_net/test_names[a_b].json": 3 * 32,
        "test_net/test_names[d%20e].json": 3 * 32,
        "test_net/test_several.json": 4 * 32,
        "test_net/test_several-2.json": 5 * 32,
        "test_net/test_several-six%2F6.json": 6 * 32,
        "test_net/test_several-4.json": 8 * 32,
    }
    session(pytester, body).assert_outcomes(passed=7)


def test_files_of_one_folder_keep_apart(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        test_a=HEAD + RECORDED, **{"below/test_a": HEAD + RECORDED.replace("3", "5")}
    )
    options = "--flops-update", "--import-mode=importlib"
    pytester.runpytest_inprocess(*options).assert_outcomes(passed=2)
    assert json.loads((pytester.path / "__flops__/test_a/test_it.json").read_text())
    below = json.loads((pytester.path / "below/__flops__/test_a/test_it.json").read_text())
    assert below["total"]["macs"] == 5 * 32


def test_operators_without_a_formula_fail_unless_allowed(pytester: pytest.Pytester) -> None:
    body = """
from torch import Tensor

@torch.library.custom_op("plugin_test::mystery", mutates_args=())
def mystery(x: Tensor) -> Tensor:
    return x.clone()

mystery.register_fake(lambda x: x.clone())

pytestmark = pytest.mark.filterwarnings("ignore::flopdispatch.UncountedOperatorWarning")

def test_it(assert_flops):
    assert_flops(mystery, (3,), max_macs=0)

def test_allowed(assert_flops):
    assert_flops(mystery, (3,), max_macs=0, allow_uncounted=True)
"""
    result = session(pytester, body)
    result.assert_outcomes(passed=1, failed=1)
    missing = "operators without a formula, missing from the figures: plugin_test::mystery.default"
    assert f"{missing} x1" in errors(result)


@pytest.mark.parametrize(
    ("calls", "message"),
    [
        (["macs='4 GFLOPs'"], "macs= takes a whole number >= 0 such as 4089184256,"),
        (["max_bytes=1.5"], "max_bytes= takes a whole number >= 0"),
        (["tolerance=5"], "tolerance= takes a share from 0 to 1, or"),
        (["name='x'", "name='x'"], "this test has a baseline of the name 'x' already"),
    ],
)
def test_wrong_arguments_are_told(
    calls: list[str], message: str, pytester: pytest.Pytester
) -> None:
    lines = [f"    assert_flops(MODEL, (3, 4), {call})" for call in calls]
    body = "\n".join(["def test_it(assert_flops):", *lines])
    result = session(pytester, body, "--flops-update")
    result.assert_outcomes(failed=1)
    assert f"flopdispatch.errors.ArgumentError: {message}" in errors(result)


def test_what_has_counted_already_takes_no_inputs(pytester: pytest.Pytester) -> None:
    body = """
def test_it(assert_flops):
    assert_flops(count(MODEL, (3, 4)), (3, 4), macs=96)
"""
    said = errors(session(pytester, body))
    assert said.endswith("a Profile takes no inputs or options: it has counted already")


def test_a_baseline_of_another_convention_is_told(pytester: pytest.Pytester) -> None:
    session(pytester, RECORDED, "--flops-update")
    body = RECORDED.replace("4))", "4), convention='torch')")
    assert "counted by the convention 'flopdispatch', this by 'torch'" in errors(
        session(pytester, body)
    )
    session(pytester, body, "--flops-update").assert_outcomes(passed=1)


def test_processes_of_xdist_write_and_compare(pytester: pytest.Pytester) -> None:
    pytest.importorskip("xdist")
    body = """
@pytest.mark.parametrize("rows", [1, 2, 3])
def test_rows(rows, assert_flops):
    assert_flops(MODEL, (rows, 4))
"""
    pytester.makepyfile(test_net=HEAD + body)
    result = pytester.runpytest_subprocess("-n", "2", "--dist", "loadgroup", "--flops-update")
    result.assert_outcomes(passed=3)
    _, _, told = result.stdout.str().partition("flops baselines written ===")
    paths = [str(Path("__flops__", "test_net", f"test_rows[{rows}].json")) for rows in (1, 2, 3)]
    assert told.splitlines()[1:4] == paths
    pytester.runpytest_inprocess().assert_outcomes(passed=3)


def test_a_session_that_counts_nothing_loads_no_torch(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(
        "import sys\ndef test_it():\n    assert not {'torch', 'flopdispatch'} & set(sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", str(tmp_path)],
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert "flopdispatch" in done.stdout, "the plugin is there"
