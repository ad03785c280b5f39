"""`coralbay`: the Python API as commands.

Exit status: 0 done, 1 an error (described on stderr), 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Sequence

from CoralBayLib import __version__
from CoralBayLib.core.errors import CoralBayError
from CoralBayLib.core.notice import NOTICE

from . import cache, demo, embed, encoders, library, scans, segment, similar, weights
from .common import common_options
from .console import Console
from .remedies import remedy_text

_VERBS = (embed, segment, similar, scans, encoders, weights, library, demo, cache)
"""Modules with a function `add_parser(commands, common)`, in the order of the help."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: those after the program's name; by default the process's own.

    Returns:
        The exit status.
    """
    args = build_parser().parse_args(_joined(sys.argv[1:] if arguments is None else arguments))
    console = Console(quiet=args.quiet, for_program=args.json)
    warnings.showwarning = lambda message, *_, **__: console.error(f"Note: {message}")
    try:
        result = args.run(args, console)
    except CoralBayError as error:
        remedy = error.remedy.name.lower() if error.remedy else None
        console.json({"error": str(error), "kind": type(error).__name__, "remedy": remedy})
        console.error("\n".join(filter(None, (f"coralbay: {error}", remedy_text(error, vars(args))))))
        return 1
    except KeyboardInterrupt:
        console.error("\ncoralbay: interrupted; no incomplete file was left behind.")
        return 130
    status = int(result.pop("exit_status", 0))
    console.json(result)
    return status


def build_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line; making it imports no torch."""
    parser = argparse.ArgumentParser(
        prog="coralbay",
        description=f"CT foundation models: embed a CT, segment it from a few prompts, find similar regions. {NOTICE}",
        epilog="`coralbay COMMAND --help` describes a command.",
    )
    parser.add_argument("--version", action="version", version=f"coralbay {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    common = common_options()
    for verb in _VERBS:
        verb.add_parser(commands, common)
    return parser


def _joined(arguments: Sequence[str]) -> list[str]:
    """`--point -10,20,30` as `--point=-10,20,30`: argparse would take the negative number for an option."""
    words = list(arguments)
    for n in range(len(words) - 1, 0, -1):
        if words[n - 1] == "--point":
            words[n - 1 : n + 1] = [f"--point={words[n]}"]
    return words
