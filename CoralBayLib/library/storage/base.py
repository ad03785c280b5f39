"""What the rest of the library needs of its storage, whether that is a folder or object storage."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from CoralBayLib.core.progress import CancelToken

from .lance import Database


class Storage(Protocol):
    """The files, tables and writer lock of a library; implemented by `Folder` and `ObjectStore`.

    Attributes:
        root: the path or the address.
    """

    @property
    def root(self) -> str | Path:
        """The path of a folder, or the address in object storage."""

    def connect(self, cached: bool = False) -> Database:
        """Open the database.

        Args:
            cached: keep indexes and metadata in memory between searches.

        Raises:
            LibraryError: LanceDB is not installed, or the database cannot be opened.
        """

    def exists(self) -> bool:
        """Whether there is a library, of any format."""

    def require(self) -> None:
        """Check that there is a library of this format.

        Raises:
            LibraryError: there is none, its version mark is damaged, or its format is another.
        """

    def create(self) -> None:
        """Create the library if it does not exist. The lock must be held.

        Raises:
            LibraryError: something else is there, or a library of another format.
            StoreError: the storage cannot be written.
        """

    def locked(self, cancel: CancelToken | None = None) -> AbstractContextManager[None]:
        """Hold the writer lock; waits until other writers have released it.

        Raises:
            StoreError: the storage cannot be written.
            Cancelled: `cancel` was called while waiting.
        """

    def require_lock(self) -> None:
        """Check that the lock is still held.

        Raises:
            LostLockError: another writer may have taken it.
        """

    def require_space(self, nbytes: int) -> None:
        """Check that there is room for so many bytes.

        Raises:
            StoreError: there is not.
        """

    def read_file(self, name: str) -> bytes | None:
        """The content of a small file; None if there is no such file.

        Raises:
            LibraryError: it cannot be read.
        """

    def write_file(self, name: str, data: bytes) -> None:
        """Write a small file, completely or not at all. The lock must be held.

        Raises:
            StoreError: it could not be written.
        """

    def delete_file(self, name: str) -> None:
        """Delete a small file if it exists. The lock must be held.

        Raises:
            StoreError: it could not be deleted.
        """

    def encoders(self) -> list[str]:
        """The encoders that have a basis or a table, named as in file names (`format.slug`)."""

    def nbytes(self) -> int:
        """Size of the library in bytes."""
