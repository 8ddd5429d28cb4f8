"""The command line: COMMANDS lists the commands, one a file.

A command's file has a docstring (its help), `add_arguments(parser)` and `run(arguments)`, which
returns the exit code.
"""

from __future__ import annotations

from typing import Any

from flopdispatch.cli import check, count, diff, explain, hardware, mfu, ops, price, sweep

COMMANDS: dict[str, Any] = {
    "count": count,
    "diff": diff,
    "sweep": sweep,
    "check": check,
    "price": price,
    "ops": ops,
    "explain": explain,
    "hardware": hardware,
    "mfu": mfu,
}
