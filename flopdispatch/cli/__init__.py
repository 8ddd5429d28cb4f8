"""The command line: COMMANDS lists the commands, one a file.

A command's file has a docstring (its help), `add_arguments(parser)` and `run(arguments)`, which
returns the exit code.
"""

from __future__ import annotations

from typing import Any

from flopdispatch.cli import count, explain, ops, price

COMMANDS: dict[str, Any] = {
    "count": count,
    "price": price,
    "ops": ops,
    "explain": explain,
}
