"""XLA's bytes accessed beside ours: its program, instruction by instruction, and our operator.

XLA's figures before compilation are of a program in which every instruction reads its operands
and writes its result. `PROGRAMS` has these programs, as jax 0.10 lowers the operators: what they
move must sum to XLA's figure, and what ours moves to ours, to the last byte.
"""

from __future__ import annotations

import re
from ast import literal_eval
from dataclasses import dataclass
from math import prod

LETTERS = """\
N elements, R rows (all dimensions but the last), L the length of a row, C channels, O outputs, X
inputs, W weights, B biases, Y products, 1 a number: 4 bytes each; N' and R' bools of 1 byte,
N", R" and O" integers of 8 bytes.
"""


@dataclass(frozen=True, slots=True)
class Program:
    """What our operator moves, and XLA's instructions: each one's operands and its result."""

    ours: str
    xla: str


# The maximum of a row, once more the maximum with minus infinity, and the row less it.
SHIFT = (
    "reduce N 1 R; broadcast 1 R; maximum R R R; reshape R R; broadcast R R; reshape R R; "
    "broadcast R N; subtract N N N"
)
WIDEN = "broadcast R R; reshape R R; broadcast R N"
PER_CHANNEL = "broadcast C C; reshape C C; broadcast C N"
MEAN = "reduce N 1 R; reshape R R; broadcast 1 R; divide R R R"
CHANNEL_MEAN = "reduce N 1 C; reshape C C; broadcast 1 C; divide C C C"
LOGISTIC = "broadcast 1 N; negate N N; exponential N N; add N N N; divide N N N"
SOFTPLUS = (
    "compare N N N'; broadcast 1 N; maximum N N N; abs N N; negate N N; exponential N N; "
    "log-plus-one N N; add N N N; select N' N N N"
)
VARIANCE = (
    f"convert 1 1; subtract 1 1 1; compare 1 1 1'; {MEAN}; {WIDEN}; subtract N N N; "
    "multiply N N N; reduce N 1 R; broadcast 1 R; divide R R R; broadcast 1' R'; broadcast 1 R; "
    "select R' R R R"
)
WEIGHTED = "reshape L L; broadcast L L; reshape L L; broadcast L N; multiply N N N"
SHIFTED = "reshape L L; broadcast L L; reshape L L; broadcast L N; add N N N"
SCALE_CHANNELS = (
    f"reshape C C; {PER_CHANNEL}; multiply N N N; reshape C C; {PER_CHANNEL}; add N N N"
)

PROGRAMS: dict[str, Program] = {
    "relu": Program("N N", "broadcast 1 N; maximum N N N"),
    "clamp": Program(
        "N N",
        "convert 1 1; broadcast 1 N; convert 1 1; broadcast 1 N; maximum N N N; minimum N N N",
    ),
    "where": Program("N N' N' N N N", "broadcast 1 N; compare N N N'; select N' N N N"),
    "rem": Program(
        "N N N",
        "remainder N N N; broadcast 1 N; compare N N N'; compare N N N'; compare N' N' N'; "
        "compare N N N'; and N' N' N'; add N N N; select N' N N N",
    ),
    "x**3": Program("N N", "multiply N N N; multiply N N N"),
    "sigmoid(logistic)": Program("N N", LOGISTIC),
    "silu": Program("N N", f"{LOGISTIC}; multiply N N N"),
    "gelu_tanh": Program(
        "N N",
        "multiply N N N; multiply N N N; broadcast 1 N; multiply N N N; add N N N; broadcast 1 N; "
        "multiply N N N; tanh N N; broadcast 1 N; add N N N; broadcast 1 N; multiply N N N; "
        "multiply N N N",
    ),
    "leaky_relu": Program(
        "N N", "broadcast 1 N; compare N N N'; broadcast 1 N; multiply N N N; select N' N N N"
    ),
    "elu": Program(
        "N N",
        "broadcast 1 N; compare N N N'; compare N N N'; broadcast 1 N; select N' N N N; "
        "exponential-minus-one N N; select N' N N N",
    ),
    "softplus": Program("N N", SOFTPLUS),
    "mish": Program("N N", f"{SOFTPLUS}; tanh N N; multiply N N N"),
    "hard_swish": Program(
        "N N",
        "broadcast 1 N; add N N N; broadcast 1 N; maximum N N N; broadcast 1 N; minimum N N N; "
        "broadcast 1 N; divide N N N; multiply N N N",
    ),
    "softmax": Program(
        "N N",
        f"{SHIFT}; exponential N N; reduce N 1 R; reshape R R; {WIDEN}; divide N N N",
    ),
    "log_softmax": Program(
        "N N",
        f"{SHIFT}; exponential N N; reduce N 1 R; reshape R R; log R R; {WIDEN}; subtract N N N",
    ),
    "logsumexp": Program(
        "N R",
        "reduce N 1 R; broadcast 1 R; maximum R R R; is-finite R R'; broadcast 1 R; "
        f"select R' R R R; reshape R R; {WIDEN}; subtract N N N; exponential N N; reduce N 1 R; "
        "abs R R; log R R; add R R R",
    ),
    "layernorm affine": Program(
        "N L L N R R",
        f"{MEAN}; {WIDEN}; subtract N N N; {WIDEN}; subtract N N N; multiply N N N; "
        "reduce N 1 R; reshape R R; divide R R R; broadcast 1 R; add R R R; rsqrt R R; "
        f"{WIDEN}; multiply N N N; {WEIGHTED}; {SHIFTED}",
    ),
    "rmsnorm": Program(
        "N N N R R R R R N R N N L N",
        f"multiply N N N; {MEAN}; broadcast 1 R; add R R R; rsqrt R R; {WIDEN}; "
        f"multiply N N N; {WEIGHTED}",
    ),
    **{f"{op} dim=-1": Program("N R", "reduce N 1 R") for op in ("sum", "prod", "max", "min")},
    "mean dim=-1": Program("N R", "reduce N 1 R; broadcast 1 R; divide R R R"),
    "var dim=-1": Program("N R", VARIANCE),
    "std dim=-1": Program("N R", f"{VARIANCE}; sqrt R R"),
    **{
        f"{op} dim=-1": Program('N R"', "iota L; broadcast L N; reduce N N 1 1 R R")
        for op in ("argmax", "argmin")
    },
    "any dim=-1": Program("N R'", "broadcast 1 N; compare N N N'; reduce N' 1' R'"),
    "sum all": Program("N 1", "reduce N 1 1"),
    "norm L2 -1": Program("N R", "multiply N N N; reduce N 1 R; sqrt R R"),
    **{f"{op} -1": Program("N N", "reduce-window N 1 N") for op in ("cumsum", "cumprod")},
    "cummax -1": Program('N N N"', "reduce-window N 1 N"),
    "sort -1": Program('N N N"', "sort N N"),
    "argsort -1": Program('N N N"', "iota L; broadcast L N; sort N N N N"),
    "batchnorm eval": Program(
        "N C C C C N",
        f"reshape C C; {PER_CHANNEL}; subtract N N N; reshape C C; broadcast 1 C; add C C C; "
        f"rsqrt C C; {PER_CHANNEL}; multiply N N N; {SCALE_CHANNELS}",
    ),
    "batchnorm train": Program(
        "N C C N C C",
        f"{CHANNEL_MEAN}; {PER_CHANNEL}; subtract N N N; {PER_CHANNEL}; subtract N N N; "
        "multiply N N N; reduce N 1 C; reshape C C; divide C C C; broadcast 1 C; add C C C; "
        f"rsqrt C C; {PER_CHANNEL}; multiply N N N; {SCALE_CHANNELS}",
    ),
    **{
        f"maxpool {name}": Program('N O O"', "reduce-window N 1 O")
        for name in ("k2s2 valid", "k3s2 valid", "k3s1 valid", "k3s2 SAME")
    },
    **{
        f"avgpool {name}": Program("N O", "reduce-window N 1 O; broadcast 1 O; divide O O O")
        for name in ("k2s2 valid", "k3s2 valid", "k3s1 valid")
    },
    "global avgpool": Program("N O", "reduce N 1 O; broadcast 1 O; divide O O O"),
    "linear+bias": Program(
        "X W B Y",
        "dot X W Y; reshape B B; broadcast B B; reshape B B; broadcast B Y; add Y Y Y",
    ),
    "linear+bias 1x512->1000": Program("X W B Y", "dot X W Y; reshape B B; add Y Y Y"),
    "outer": Program(
        "R L N",
        "reshape R R; broadcast R R; reshape R R; broadcast R N; reshape L L; broadcast L L; "
        "reshape L L; broadcast L N; multiply N N N",
    ),
    "add_bcast": Program("N L N", SHIFTED),
    "dot": Program("L L 1", "dot L L 1"),
}


def program(op: str, shape: str) -> Program | None:
    """The program of a row, that of its shape before that of all shapes."""
    return PROGRAMS.get(f"{op} {shape}", PROGRAMS.get(op))


def nbytes(text: str, op: str, shape: str) -> int:
    """What a program's letters sum to, at a row's shape."""
    sizes = lengths(op, shape)
    found = re.findall(r"""(?<![\w-])([A-Z1])(['"]?)(?![\w-])""", text)
    return sum(sizes[letter] * {"": 4, "'": 1, '"': 8}[kind] for letter, kind in found)


def lengths(op: str, shape: str) -> dict[str, int]:
    """How many elements each letter of `LETTERS` stands for, at a row's shape."""
    if linear := re.fullmatch(r"(\d+)x(\d+)->(\d+)", shape):
        m, k, n = map(int, linear.groups())
        return {"X": m * k, "W": k * n, "B": n, "Y": m * n}
    if pair := re.fullmatch(r"(\d+)[x.](\d+)", shape):
        rows, length = map(int, pair.groups())
        return {"1": 1, "N": rows * length, "R": rows, "L": length}
    sizes = literal_eval(shape.partition("+")[0])
    n = prod(sizes)
    if len(sizes) < 4:
        return {"1": 1, "N": n, "R": n // sizes[-1], "L": sizes[-1]}
    b, c, *places = sizes
    outputs = b * c
    if window := re.search(r"k(\d)s(\d) (valid|SAME)", op):
        kernel, stride = int(window[1]), int(window[2])
        reach = kernel if window[3] == "valid" else 1
        outputs *= prod((size - reach) // stride + 1 for size in places)
    return {"1": 1, "N": n, "C": c, "O": outputs}
