"""``slicer.i18n``: translation by way of the application."""

import inspect
from pathlib import Path

import slicer


def translate(context: str, text: str) -> str:
    """``text`` in the application's language."""
    return slicer.app.translate(context, text)


def tr(text: str) -> str:
    """``text`` in the application's language; the context is the caller's file."""
    caller = inspect.currentframe().f_back
    return translate(Path(caller.f_code.co_filename).stem, text)
