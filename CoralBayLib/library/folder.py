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
from pathlib import Path

from filelock import FileLock, Timeout

from ..errors import LibraryError, StoreError
from ..paths import cache_dir, reason, replacing
from ..progress import CancelToken, check

FORMAT_VERSION = 1
FOLDER_VARIABLE = "CORALBAY_LIBRARY"
_MARK = "library.json"
_BASIS = ".basis.safetensors"
_LOOK_EVERY_S = 0.2


def default_folder() -> Path:
    """`CORALBAY_LIBRARY` when it is set; otherwise `library` in the cache folder."""
    chosen = os.environ.get(FOLDER_VARIABLE)
    return Path(chosen).expanduser() if chosen else cache_dir() / "library"


class Folder:
    """Where a library lies.

    Args:
        path: a folder, which need not exist yet; `default_folder()` when None.

    Raises:
        LibraryError: the path is an address; only folders on this machine can be used so far.
    """

    def __init__(self, path: str | os.PathLike | None = None) -> None:
        if path is not None and "://" in str(path):
            raise LibraryError(f"A library must be a folder on this machine so far; {path} is an address.")
        self.root = Path(os.path.abspath(Path(path).expanduser())) if path is not None else default_folder()

    def exists(self) -> bool:
        """Whether there is a library, of whatever format."""
        return (self.root / _MARK).is_file()

    def require(self) -> None:
        """See that there is a library of this format.

        Raises:
            LibraryError: there is none, its mark is damaged, or its format is another.
        """
        mark = self.root / _MARK
        if not mark.is_file():
            raise LibraryError(
                f"There is no library of scans in {self.root}. Make one with `coralbay library add`, or name another "
                f"folder (--library, or {FOLDER_VARIABLE})."
            )
        try:
            version = int(json.loads(mark.read_text(encoding="utf-8"))["format"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise LibraryError(f"{mark} cannot be read ({error}). Put it back: {self._mark_text()}") from error
        if version > FORMAT_VERSION:
            raise LibraryError(
                f"The library in {self.root} has format {version}; this CoralBay knows formats up to {FORMAT_VERSION}. "
                "Update CoralBay to use it, or choose another folder."
            )
        if version < FORMAT_VERSION:
            raise LibraryError(
                f"The library in {self.root} has the old format {version}, which can no longer be read. Add the scans to "
                "a new folder; embeddings that are still in the store are not computed again."
            )

    def create(self) -> None:
        """Make the library unless it is there; call it with the lock held.

        Raises:
            LibraryError: the folder holds something else, or a library of another format.
            StoreError: the folder cannot be written.
        """
        if (self.root / _MARK).is_file():
            return self.require()
        if any(not path.name.startswith(".") for path in self.root.iterdir()):
            raise LibraryError(f"{self.root} is not empty and holds no library of scans. Choose a new or an empty folder.")
        with replacing(self.root / _MARK) as temporary:
            temporary.write_text(self._mark_text() + "\n", encoding="utf-8")

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
                    check(cancel)
        except OSError as error:
            raise StoreError(
                f"The library's folder {self.root} cannot be written: {reason(error)}. Check that you may write there, or "
                "choose another folder."
            ) from error
        try:
            yield
        finally:
            lock.release()

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
        return self.root / f"{file_name(encoder)}{_BASIS}"

    def names(self) -> list[str]:
        """The encoders of which there is a basis or a table, by their names in files."""
        known = {path.name.removesuffix(_BASIS) for path in self.root.glob(f"[!.]*{_BASIS}")}
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

    @staticmethod
    def _mark_text() -> str:
        return json.dumps({"format": FORMAT_VERSION})


def file_name(encoder: str) -> str:
    """An encoder's name as a part of names of files and tables."""
    return re.sub(r"[^A-Za-z0-9.-]", "-", encoder)
