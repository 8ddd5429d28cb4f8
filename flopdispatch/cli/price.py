"""Price a saved recording again, under another convention.

A profile that was saved as JSON (`flopdispatch count ... --out profile.json`, or
`profile.to_json()`) holds every distinct operator call. This prices them anew, on any machine,
without the model.

example: flopdispatch price profile.json --convention fvcore
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from flopdispatch.cli.output import add_convention, add_output, profile_writer, read_profile


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("recording", metavar="RECORDING", help="a profile saved as JSON")
    add_convention(parser)
    add_output(parser)


def run(arguments: Namespace) -> int:
    write = profile_writer(arguments)
    write(read_profile(arguments.recording).reprice(arguments.convention or "flopdispatch"))
    return 0
