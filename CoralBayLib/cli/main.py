"""`coralbay`: the Python API as commands.

Exit status: 0 done, 1 an error (described on stderr), 2 wrong usage, 130 interrupted, 141 nobody reads the output any more,
143 terminated.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Sequence

from CoralBayLib import __version__
from CoralBayLib.core.errors import CoralBayError
from CoralBayLib.core.notice import NOTICE
from CoralBayLib.core.paths import error_message, shortened
from CoralBayLib.core.signals import CLOSED_PIPE_STATUS, close_output, handled_signals, make_output_robust

from . import cache, check, demo, embed, encoders, library, scans, segment, similar, weights
from .common import common_options
from .console import Console
from .remedies import remedy_text

_TERMINATED = 143
_VERBS = (check, embed, segment, similar, scans, encoders, weights, library, demo, cache)
"""Modules with a function `add_parser(commands, common)`, in the order of the help."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: those after the program's name; by default the process's own.

    Returns:
        The exit status.
    """
    make_output_robust()
    console = Console()
    with handled_signals() as interruption:
        try:
            status = _run(sys.argv[1:] if arguments is None else arguments)
            sys.stdout.flush()
            return status
        except BrokenPipeError:
            close_output()
            return CLOSED_PIPE_STATUS
        except KeyboardInterrupt:
            return _interrupted(console, interruption.status or 130)
        except Exception:
            # An import that is interrupted may fail with another error.
            if not interruption.status:
                raise
            return _interrupted(console, interruption.status)


def _interrupted(console: Console, status: int) -> int:
    word = "terminated" if status == _TERMINATED else "interrupted"
    console.error(f"\ncoralbay: {word}; no incomplete file was left behind.")
    return status


def _run(arguments: Sequence[str]) -> int:
    args = build_parser().parse_args(_joined(arguments))
    console = Console(quiet=args.quiet, for_program=args.json)
    warnings.showwarning = lambda message, *_, **__: console.error(f"Note: {message}")
    try:
        result = args.run(args, console)
    except CoralBayError as error:
        console.json(error.as_dict())
        console.error("\n".join(filter(None, (f"coralbay: {error}", remedy_text(error, vars(args))))))
        return 1
    except MemoryError:
        return _failed(console, "There is too little memory. Close other programs, or use a smaller scan.", "MemoryLimitError")
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            raise
        where = f": {shortened(os.fsdecode(error.filename))}" if isinstance(error.filename, (str, bytes)) else ""
        return _failed(console, f"{error_message(error)}{where}.", "StoreError")
    status = int(result.pop("exit_status", 0))
    console.json(result)
    return status


def _failed(console: Console, text: str, kind: str) -> int:
    console.json({"error": text, "kind": kind, "remedy": None})
    console.error(f"coralbay: {text}")
    return 1


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
