"""The files of a store, without their content: where entries are, how large, and which go first. Imports no torch."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from CoralBayLib.core.errors import StoreError
from CoralBayLib.core.paths import atomic_write, cache_dir, error_message

FORMAT_VERSION = 2
"""Of an entry."""
_STALE_SECONDS = 24 * 3600


@dataclass(frozen=True)
class Entry:
    """One stored pyramid.

    Attributes:
        key: its content address.
        path: its file.
        nbytes: size on disk.
        used: time of the last read or write, seconds since the epoch.
    """

    key: str
    path: Path
    nbytes: int
    used: float


MAKE_ROOM = "Free some disk space, clear the store, or choose another folder with the environment variable CORALBAY_CACHE."
"""What can be done about a store that cannot be written."""


class StoreFolder:
    """The files of a store; `store.Store` reads and writes pyramids in them.

    Args:
        root: the folder; by default `embeddings` in `CORALBAY_CACHE` or in the platform's cache folder.
        limit_bytes: size above which the least recently used entries are deleted.
    """

    def __init__(self, root: str | os.PathLike | None = None, limit_bytes: int = 20 * 2**30) -> None:
        self.root = Path(root) if root is not None else cache_dir() / "embeddings"
        self.limit_bytes = limit_bytes

    def require_writable(self) -> None:
        """Refuse a folder in which no entry can be written.

        Raises:
            StoreError: the folder cannot be made, or may not be written.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            if not os.access(self.root, os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        except OSError as error:
            raise StoreError(f"Could not write to the embedding store ({error_message(error)}). {MAKE_ROOM}") from error

    @contextmanager
    def receive(self, key: str) -> Iterator[Path]:
        """A temporary file that becomes the entry of a key when the block ends; `put` is for pyramids made here.

        Raises:
            StoreError: the folder cannot be written.
        """
        self.require_writable()
        path = self._path(key)
        try:
            with atomic_write(path) as temporary:
                yield temporary
        except StoreError as error:
            if error.__cause__ is None:  # of the block, not of this file
                raise
            reason = error_message(error.__cause__)
            raise StoreError(f"Could not write to the embedding store ({reason}). {MAKE_ROOM}") from error
        self._evict(keep=path)

    def path(self, key: str) -> Path | None:
        """The file of an entry, whose time of last use is set to now; None if there is none."""
        path = self._path(key)
        try:
            os.utime(path)
        except FileNotFoundError:
            return None
        except OSError:
            return path if path.exists() else None
        return path

    def entries(self) -> list[Entry]:
        """All entries, the least recently used first."""
        entries = []
        for path in self.root.glob("[!.]*.safetensors"):
            # Another process may delete the file after it was listed.
            with IgnoreBusy():
                status = path.stat()
                entries.append(Entry(path.stem, path, status.st_size, status.st_mtime))
        return sorted(entries, key=lambda entry: entry.used)

    def nbytes(self) -> int:
        """Size of all entries in bytes."""
        return sum(entry.nbytes for entry in self.entries())

    def remove(self, key: str) -> bool:
        """Delete an entry; returns whether it existed.

        Raises:
            StoreError: there is no permission to delete it.
        """
        path = self._path(key)
        try:
            path.unlink()
        except FileNotFoundError:
            return False
        except OSError as error:
            raise StoreError(f"Could not delete the stored embedding {path}: {error_message(error)}.") from error
        return True

    def clear(self) -> int:
        """Delete all entries that may be deleted; returns their number."""
        deleted = 0
        for entry in self.entries():
            with IgnoreBusy():
                entry.path.unlink()
                deleted += 1
        return deleted

    def __contains__(self, key: str) -> bool:
        return self._path(key).exists()

    def _path(self, key: str) -> Path:
        if not key or not key.isalnum():
            raise StoreError(f"'{key}' is not a key of stored features; keys are hexadecimal digits.")
        return self.root / f"{key}.safetensors"

    def _evict(self, keep: Path) -> None:
        for leftover in self.root.glob(".*.safetensors"):
            with IgnoreBusy():
                if time.time() - leftover.stat().st_mtime > _STALE_SECONDS:
                    leftover.unlink()
        entries = self.entries()
        total = sum(entry.nbytes for entry in entries)
        for entry in entries:
            if total <= self.limit_bytes:
                return
            if entry.path != keep:
                with IgnoreBusy():
                    entry.path.unlink()
                    total -= entry.nbytes


class IgnoreBusy:
    """Ignores errors of a file that another process has removed or holds open, or that may not be changed here."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type | None, error: object, trace: object) -> bool:
        return kind is not None and issubclass(kind, OSError)
