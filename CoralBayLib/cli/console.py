"""What the commands of the command line print, and where: results on stdout, the rest on stderr."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from CoralBayLib.core.progress import Progress


def say(args: argparse.Namespace, text: str, out: bool = False) -> None:
    """Print a line for a person, on stdout when it is a result; nothing when the result is JSON."""
    if not args.json:
        print(text, file=sys.stdout if out else sys.stderr, flush=True)


class bar:  # noqa: N801 - reads as a function: `with bar(args, "Embedding") as progress`
    """A progress bar on stderr, or nothing when the user wants quiet or no terminal is there to draw it on."""

    def __init__(self, args: argparse.Namespace, title: str) -> None:
        self._silent = args.quiet or args.json or not sys.stderr.isatty()
        self._title = title
        self._bar: Any = None

    def __enter__(self) -> Progress:
        return self._show

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def _show(self, fraction: float, message: str) -> None:
        if self._bar is None:
            from tqdm import tqdm

            # Drawn when there is something to tell: what is at hand already needs no bar.
            form = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}"
            self._bar = tqdm(total=1.0, desc=self._title, disable=self._silent, bar_format=form, leave=False)
        self._bar.set_description_str(message, refresh=False)
        self._bar.update(max(0.0, fraction - self._bar.n))
