"""The folder of a library: its format, its lock, and what lies where.

`library.json` tells the format. Each encoder has a basis (`NAME.basis.safetensors`) and two LanceDB tables
(`regions_NAME.lance`, `scans_NAME.lance`), which are safe to read while another process writes. Writers hold `.lock`.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from CoralBayLib.core.errors import LibraryError, StoreError
from CoralBayLib.core.paths import atomic_write, error_message
from CoralBayLib.core.progress import CancelToken, raise_if_cancelled
from CoralBayLib.library.basis import LibraryBasis

from .base import PLACE_VARIABLE
from .lance import lancedb

FORMAT_VERSION = 1
MARK = "library.json"
BASIS_SUFFIX = ".basis.safetensors"
_LOOK_EVERY_S = 0.2


class Folder:
    """Where a library lies; the methods are told of in `Place`.

    Args:
        path: a folder, which need not exist yet.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        self.root = Path(os.path.abspath(Path(path).expanduser()))

    def connect(self, session: Any = None) -> Any:
        """LanceDB's connection to the tables."""
        return lancedb().connect(str(self.root), read_consistency_interval=timedelta(0), session=session)

    def exists(self) -> bool:
        """Whether there is a library, of whatever format."""
        return (self.root / MARK).is_file()

    def require(self) -> None:
        """See that there is a library of this format.

        Raises:
            LibraryError: there is none, its mark is damaged, or its format is another.
        """
        mark = self.root / MARK
        if not mark.is_file():
            raise LibraryError(
                f"There is no library of scans in {self.root}. Make one with `coralbay library add`, or name another "
                f"folder (--library, or {PLACE_VARIABLE})."
            )
        try:
            text = mark.read_bytes()
        except OSError as error:
            raise LibraryError(f"{mark} cannot be read ({error_message(error)}).") from error
        require_format(text, str(mark), str(self.root))

    def create(self) -> None:
        """Make the library unless it is there; call it with the lock held.

        Raises:
            LibraryError: the folder holds something else, or a library of another format.
            StoreError: the folder cannot be written.
        """
        if (self.root / MARK).is_file():
            return self.require()
        if any(not path.name.startswith(".") for path in self.root.iterdir()):
            raise LibraryError(f"{self.root} is not empty and holds no library of scans. Choose a new or an empty folder.")
        with atomic_write(self.root / MARK) as temporary:
            temporary.write_text(mark_text() + "\n", encoding="utf-8")
        return None

    @contextmanager
    def locked(self, cancel: CancelToken | None = None) -> Iterator[None]:
        """Keep other writers out; waits until they are done.

        Raises:
            StoreError: the folder cannot be written.
            Cancelled: `cancel` was called while waiting.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.root / ".lock")
            while True:
                try:
                    lock.acquire(timeout=_LOOK_EVERY_S)
                    break
                except Timeout:
                    raise_if_cancelled(cancel)
        except OSError as error:
            raise StoreError(
                f"The library's folder {self.root} cannot be written: {error_message(error)}. Check that you may write "
                "there, or choose another folder."
            ) from error
        try:
            yield
        finally:
            lock.release()

    def require_lock(self) -> None:
        """The lock of a folder cannot be lost."""

    def require_space(self, nbytes: int) -> None:
        """Refuse to write more than the disk has room for.

        Raises:
            StoreError: it has not that much.
        """
        free = shutil.disk_usage(self.root).free
        if free < nbytes:
            raise StoreError(
                f"The disk of the library is full: {nbytes / 1e6:.1f} MB are needed, {free / 1e6:.1f} MB are free. The "
                "library is as it was. Free some space and start again; what is done stays done."
            )

    def basis_path(self, encoder: str) -> Path:
        """Where the basis of an encoder lies."""
        return self.root / f"{file_name(encoder)}{BASIS_SUFFIX}"

    def has_basis(self, encoder: str) -> bool:
        """Whether there is a basis of an encoder, damaged or not."""
        return self.basis_path(encoder).exists()

    def load_basis(self, encoder: str) -> LibraryBasis:
        """The basis of an encoder.

        Raises:
            LibraryError: it is missing or damaged.
        """
        return LibraryBasis.load(self.basis_path(encoder))

    def save_basis(self, basis: LibraryBasis) -> None:
        """Keep a basis for its encoder; call it with the lock held.

        Raises:
            StoreError: it could not be written.
        """
        basis.save(self.basis_path(basis.identity["encoder"]))

    def drop_basis(self, encoder: str) -> None:
        """Remove the basis of an encoder, if there is one; call it with the lock held."""
        self.basis_path(encoder).unlink(missing_ok=True)

    def names(self) -> list[str]:
        """The encoders of which there is a basis or a table, by their names in files."""
        known = {path.name.removesuffix(BASIS_SUFFIX) for path in self.root.glob(f"[!.]*{BASIS_SUFFIX}")}
        for path in self.root.glob("*_*.lance"):
            known.add(path.name.removesuffix(".lance").split("_", 1)[1])
        return sorted(known)

    def nbytes(self) -> int:
        """Bytes of all its files."""
        total = 0
        for folder, _, files in os.walk(self.root):
            for name in files:
                path = Path(folder, name)
                # Another process may have tidied it away since.
                total += path.stat().st_size if path.exists() else 0
        return total


def mark_text() -> str:
    """What tells the format."""
    return json.dumps({"format": FORMAT_VERSION})


def require_format(mark: bytes, named: str, root: str) -> None:
    """Refuse another format.

    Args:
        mark: what tells it.
        named: how it is called in messages.
        root: where the library lies.

    Raises:
        LibraryError: the mark is damaged, or the format is another.
    """
    try:
        version = int(json.loads(mark)["format"])
    except (ValueError, KeyError, TypeError) as error:
        raise LibraryError(f"{named} cannot be read ({error}). Put it back: {mark_text()}") from error
    if version > FORMAT_VERSION:
        raise LibraryError(
            f"The library in {root} has format {version}; this CoralBay knows formats up to {FORMAT_VERSION}. "
            "Update CoralBay to use it, or choose another folder."
        )
    if version < FORMAT_VERSION:
        raise LibraryError(
            f"The library in {root} has the old format {version}, which can no longer be read. Add the scans to "
            "a new folder; embeddings that are still in the store are not computed again."
        )


def file_name(encoder: str) -> str:
    """An encoder's name as a part of names of files and tables."""
    return re.sub(r"[^A-Za-z0-9.-]", "-", encoder)
