"""The examples of README and the documentation's pages, run as a reader would.

A page is a session of one namespace and one folder. Its fenced blocks, from top to bottom:

- `python` is run; a `text` block right after it is what it prints.
- One with a title (`python title="net.py"`) is a file that later blocks use.
- `console` has lines `$ flopdispatch ...`, `$ pytest ...` or `$ echo $?`, each with what it prints.
- `<!-- python` ... `-->`, unseen by readers, is run too: what a page takes for granted.

Of an output, `...` stands for any text; without one, it isn't compared.
"""

from __future__ import annotations

import contextlib
import doctest
import io
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flopdispatch.cli.main import main

BLOCK = re.compile(
    r"^(?:```(?P<kind>python|console|json|yaml)(?: title=\"(?P<title>[^\"]+)\")?\n"
    r"(?P<body>.*?)^```$"
    r"(?:\n+```text\n(?P<shown>.*?)^```$)?"
    r"|<!-- python\n(?P<hidden>.*?)^-->$)",
    re.DOTALL | re.MULTILINE,
)


@dataclass
class Session:
    """What a page's examples share."""

    name: str
    names: dict[str, Any] = field(default_factory=dict)
    code: int = 0

    def python(self, code: str) -> str:
        """What a piece of code prints."""
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, self.name, "exec"), self.names)
        return printed.getvalue()

    def command(self, line: str) -> str:
        """What a command line prints, errors too."""
        if line == "echo $?":
            return f"{self.code}\n"
        program, *arguments = shlex.split(line)
        if program == "pytest":
            command = [sys.executable, "-m", "pytest", *arguments]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            self.code = done.returncode
            return done.stdout
        assert program == "flopdispatch", f"{self.name} shows the command {line}"
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            try:
                self.code = main(arguments)
            except SystemExit as leaving:
                self.code = int(leaving.code or 0)
        return printed.getvalue()

    def console(self, body: str) -> str:
        """A transcript with each command's output as it is now, where one is shown."""
        lines = []
        for part in re.split(r"^(?=\$ )", body, flags=re.MULTILINE)[1:]:
            line, _, shown = part.removeprefix("$ ").partition("\n")
            printed = self.command(line)
            same = not shown.strip() or matches(shown.rstrip("\n"), printed.rstrip("\n"))
            output = shown if same else f"{printed.rstrip()}\n"
            lines.append(f"$ {line}\n{output}")
        return "".join(lines)


def matches(shown: str, printed: str) -> bool:
    """Whether what was printed is what the page shows."""
    return doctest.OutputChecker().check_output(f"{shown}\n", f"{printed}\n", doctest.ELLIPSIS)


def run(page: Path) -> Iterator[tuple[str, str]]:
    """Each example of a page as it stands there, and as it would have to."""
    session = Session(page.name)
    for block in BLOCK.finditer(page.read_text(encoding="utf-8")):
        whole, body, shown = block[0], block["body"], block["shown"]
        if block["hidden"] is not None:
            session.python(block["hidden"])
        elif block["title"]:
            Path(block["title"]).write_text(body, encoding="utf-8")
        elif block["kind"] == "console":
            yield whole, whole.replace(body, session.console(body))
        elif block["kind"] == "python":
            printed = session.python(body)
            if shown is None or matches(shown.rstrip("\n"), printed.rstrip("\n")):
                yield whole, whole
            else:
                yield whole, whole.replace(f"```text\n{shown}", f"```text\n{printed}")
