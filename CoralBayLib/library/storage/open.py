"""Which storage a path or an address refers to."""

from __future__ import annotations

import os

from CoralBayLib.core.paths import cache_dir

from .base import Storage
from .folder import Folder
from .object_store import ObjectStore

LIBRARY_VARIABLE = "CORALBAY_LIBRARY"


def default_location() -> str:
    """`CORALBAY_LIBRARY` if it is set; otherwise `library` in the cache folder."""
    return os.environ.get(LIBRARY_VARIABLE) or str(cache_dir() / "library")


def open_storage(location: str | os.PathLike | None = None) -> Storage:
    """The folder or object storage at a path or an address; `default_location()` if None.

    Raises:
        LibraryError: the address cannot be used.
    """
    text = str(location) if location is not None else default_location()
    if text.startswith("file://"):
        return Folder(text.removeprefix("file://"))
    return ObjectStore(text) if "://" in text else Folder(text)
