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
from contextlib import suppress
from typing import Any

from CoralBayLib import __version__
from CoralBayLib.core.errors import CoralBayError
from CoralBayLib.core.notice import NOTICE
from CoralBayLib.core.paths import error_message, shortened
from CoralBayLib.core.signals import CLOSED_PIPE_STATUS, Interruption, close_output, handled_signals, make_output_robust

from . import cache, check, cohort, demo, embed, encoders, library, scans, segment, similar, weights
from .console import Console
from .matching import landmarks, match
from .options import Parser, common_options
from .patients import evaluate, probe
from .remedies import remedy_text
from .server import serve
from .training import eva, pretrain

_INTERRUPTED = 130
_NO_MEMORY = "There is too little memory. Close other programs, or use a smaller scan."
_VERBS = (
    check,
    embed,
    segment,
    probe,
    evaluate,
    similar,
    match,
    landmarks,
    scans,
    cohort,
    encoders,
    weights,
    pretrain,
    eva,
    library,
    serve,
    demo,
    cache,
)
"""Modules with a function `add_parser(commands, common)`, in the order of the help."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: those after the program's name; by default the process's own.

    Returns:
        The exit status.
    """
    with handled_signals() as interruption:
        status = _status(sys.argv[1:] if arguments is None else arguments, interruption)
        if arguments is None:
            # The process ends now: its libraries take a while to shut down, and print a traceback when interrupted.
            interruption.finish(status)
        return status


def _status(arguments: Sequence[str], interruption: Interruption) -> int:
    try:
        make_output_robust()
        status = _run(arguments, interruption)
        sys.stdout.flush()
        # Code that tries an import may have taken the interruption for a package that is not installed.
        interruption.raise_if_set()
        return status
    except BrokenPipeError:
        close_output()
        return CLOSED_PIPE_STATUS
    except KeyboardInterrupt:
        interruption.status = interruption.status or _INTERRUPTED
    except Exception:
        if not interruption.status:
            raise
    with suppress(OSError):
        Console().error(f"\n{interruption.message}")
    return interruption.status


def _run(arguments: Sequence[str], interruption: Interruption) -> int:
    args = build_parser().parse_args(_joined(arguments))
    console = Console(quiet=args.quiet, for_program=args.json)
    warnings.showwarning = lambda message, *_, **__: console.error(f"Note: {message}")
    try:
        os.getcwd()  # noqa: PTH109 - a library aborts without it
    except OSError:
        return _failed(console, "The current folder was deleted. Go to another (cd), and run the command again.", "StoreError")
    try:
        result = args.run(args, console)
        status = int(result.pop("exit_status", 0))
        console.json(result)
        return status
    except CoralBayError as error:
        interruption.raise_if_set()
        _print_json(console, error.as_dict())
        console.error("\n".join(filter(None, (f"coralbay: {error}", remedy_text(error, vars(args))))))
        return 1
    except MemoryError:
        return _failed(console, _NO_MEMORY, "MemoryLimitError")
    except RuntimeError as error:
        if "allocate memory" not in str(error) and "out of memory" not in str(error):  # as torch says it
            raise
        return _failed(console, _NO_MEMORY, "MemoryLimitError")
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            raise
        interruption.raise_if_set()
        where = f": {shortened(os.fsdecode(error.filename))}" if isinstance(error.filename, (str, bytes)) else ""
        return _failed(console, f"{error_message(error)}{where}.", "StoreError")


def _failed(console: Console, text: str, kind: str) -> int:
    _print_json(console, {"error": text, "kind": kind, "remedy": None})
    console.error(f"coralbay: {text}")
    return 1


def _print_json(console: Console, error: dict[str, Any]) -> None:
    """Print an error for a program; where stdout cannot be written, such as on a full disk, it is on stderr alone."""
    try:
        console.json(error)
    except BrokenPipeError:
        raise
    except OSError:
        close_output()


def build_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line; making it imports no torch."""
    parser = Parser(
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
