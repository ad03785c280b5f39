"""What a command prints, and where: results on stdout, notes and progress on stderr, or one JSON object on stdout."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from CoralBayLib.core.progress import Progress


class Console:
    """Prints for a person, or for a program.

    Args:
        quiet: show no progress.
        for_program: print nothing but the result, as JSON.

    Example::

        with console.bar("Embedding") as progress:
            pyramid = embed(volume, encoder, progress)
        console.say("One note.")
        console.result("liver: 1402.3 ml")
    """

    def __init__(self, quiet: bool = False, for_program: bool = False) -> None:
        self.quiet = quiet or for_program
        self._for_program = for_program

    def say(self, text: str) -> None:
        """Print a note on stderr."""
        if not self._for_program:
            self.error(text)

    def result(self, text: str = "") -> None:
        """Print a line of the result on stdout."""
        if not self._for_program:
            print(text, flush=True)

    def bar(self, title: str) -> ProgressBar:
        """A progress bar, as a context manager that yields a progress callback."""
        return ProgressBar(title, visible=not self.quiet and sys.stderr.isatty())

    def error(self, text: str) -> None:
        """Print an error on stderr; programs get it too."""
        if "tqdm" in sys.modules:
            from tqdm import tqdm

            tqdm.write(text, file=sys.stderr)  # above a bar that is shown
            sys.stderr.flush()
        else:
            print(text, file=sys.stderr, flush=True)

    def json(self, result: Mapping[str, Any]) -> None:
        """Print the result as one JSON object on stdout, when a program asked for it."""
        if self._for_program:
            text = json.dumps(result, ensure_ascii=False)
            try:
                text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
            except (UnicodeEncodeError, LookupError):  # a code page that lacks a character, or a name that is not UTF-8
                text = json.dumps(result)
            print(text, flush=True)


class ProgressBar:
    """A progress bar on stderr that appears with the first report.

    Args:
        title: what is shown before the first message.
        visible: whether it is drawn at all.
    """

    def __init__(self, title: str, visible: bool) -> None:
        self._title = title
        self._visible = visible
        self._bar: Any = None

    def __enter__(self) -> Progress:
        return self._show

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.close()

    def _show(self, fraction: float, message: str) -> None:
        if not self._visible:
            return
        if self._bar is None:
            from tqdm import tqdm

            # The message comes last, so that a narrow terminal cuts it instead of the bar.
            form = "{percentage:3.0f}%|{bar:20}| {elapsed}<{remaining}  {desc}"
            self._bar = tqdm(total=1.0, bar_format=form, leave=False, dynamic_ncols=True)
        self._bar.update(max(0.0, fraction - self._bar.n))
        # A new message is shown at once: it may be the last one for a long time.
        message = message or self._title
        self._bar.set_description_str(message, refresh=message != self._bar.desc)
