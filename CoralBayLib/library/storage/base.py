"""Where a library may lie: a folder of this machine, or an address of object storage."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from CoralBayLib.core.paths import cache_dir
from CoralBayLib.core.progress import CancelToken
from CoralBayLib.library.basis import LibraryBasis

PLACE_VARIABLE = "CORALBAY_LIBRARY"


class Place(Protocol):
    """What lies where in a library, and its lock; `Folder` and `Bucket` are such.

    Attributes:
        root: the path or the address.
    """

    @property
    def root(self) -> str | Path: ...

    def connect(self, session: Any = None) -> Any:
        """LanceDB's connection to the tables."""

    def exists(self) -> bool:
        """Whether there is a library, of whatever format."""

    def require(self) -> None:
        """See that there is a library of this format.

        Raises:
            LibraryError: there is none, its mark is damaged, or its format is another.
        """

    def create(self) -> None:
        """Make the library unless it is there; call it with the lock held.

        Raises:
            LibraryError: something else is there, or a library of another format.
            StoreError: it cannot be written.
        """

    def locked(self, cancel: CancelToken | None = None) -> AbstractContextManager[None]:
        """Keep other writers out; waits until they are done.

        Raises:
            StoreError: it cannot be written.
            Cancelled: `cancel` was called while waiting.
        """

    def require_lock(self) -> None:
        """See that the lock is still held.

        Raises:
            LostLockError: another writer may have taken it.
        """

    def require_space(self, nbytes: int) -> None:
        """Refuse to write more than there is room for.

        Raises:
            StoreError: there is not that much.
        """

    def has_basis(self, encoder: str) -> bool:
        """Whether there is a basis of an encoder, damaged or not."""

    def load_basis(self, encoder: str) -> LibraryBasis:
        """The basis of an encoder.

        Raises:
            LibraryError: it is missing or damaged.
        """

    def save_basis(self, basis: LibraryBasis) -> None:
        """Keep a basis for its encoder; call it with the lock held.

        Raises:
            StoreError: it could not be written.
        """

    def drop_basis(self, encoder: str) -> None:
        """Remove the basis of an encoder, if there is one; call it with the lock held."""

    def names(self) -> list[str]:
        """The encoders of which there is a basis or a table, by their names in files."""

    def nbytes(self) -> int:
        """Bytes of all there is."""


def default_place() -> str:
    """`CORALBAY_LIBRARY` when it is set; otherwise `library` in the cache folder."""
    return os.environ.get(PLACE_VARIABLE) or str(cache_dir() / "library")


def place_of(path: str | os.PathLike | None = None) -> Place:
    """The folder or the address; `default_place()` when None.

    Raises:
        LibraryError: an address that cannot be used.
    """
    from .folder import Folder
    from .object_store import Bucket

    text = str(path) if path is not None else default_place()
    if text.startswith("file://"):
        return Folder(text.removeprefix("file://"))
    return Bucket(text) if "://" in text else Folder(text)
