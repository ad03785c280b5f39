"""A library in a folder of this machine.

Its LanceDB tables can be read safely while another process writes. Writers hold a lock on the file `.lock`.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from CoralBayLib.core.errors import LibraryError, Remedy, StoreError
from CoralBayLib.core.locks import lock_file
from CoralBayLib.core.paths import atomic_write, error_message
from CoralBayLib.core.progress import CancelToken

from .format import BASIS_SUFFIX, MARK, mark_text, require_format
from .lance import Database


class Folder:
    """A folder that holds a library; for the methods see `Storage`.

    Args:
        path: the folder, which need not exist yet.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        self.root = Path(os.path.abspath(Path(path).expanduser()))  # noqa: PTH100 - normalizes "..", keeps symbolic links

    def connect(self, cached: bool = False) -> Database:
        """See `Storage.connect`."""
        return Database(str(self.root), cached)

    def exists(self) -> bool:
        """See `Storage.exists`."""
        return (self.root / MARK).is_file()

    def require(self) -> None:
        """See `Storage.require`."""
        mark = self.root / MARK
        if not mark.is_file():
            raise LibraryError(
                f"There is no library of scans in {self.root}.", remedy=Remedy.CREATE_LIBRARY, path=str(self.root)
            )
        try:
            text = mark.read_bytes()
        except OSError as error:
            raise LibraryError(f"{mark} cannot be read ({error_message(error)}).") from error
        require_format(text, str(mark), str(self.root))

    def create(self) -> None:
        """See `Storage.create`."""
        if (self.root / MARK).is_file():
            return self.require()
        self._require_no_other_files()
        self.write_file(MARK, f"{mark_text()}\n".encode())
        return None

    def _require_no_other_files(self) -> None:
        if not self.exists() and any(not path.name.startswith(".") for path in self.root.iterdir()):
            raise LibraryError(f"{self.root} is not empty and holds no library of scans. Choose a new or an empty folder.")

    @contextmanager
    def locked(self, cancel: CancelToken | None = None) -> Iterator[None]:
        """See `Storage.locked`."""
        with ExitStack() as held:
            try:
                self.root.mkdir(parents=True, exist_ok=True)
                self._require_no_other_files()  # before a lock is left there
                held.enter_context(lock_file(self.root / ".lock", cancel))
            except OSError as error:
                raise StoreError(
                    f"The library's folder {self.root} cannot be written: {error_message(error)}. Check that you may write "
                    "there, or choose another folder."
                ) from error
            yield

    def require_lock(self) -> None:
        """Does nothing: the lock of a folder cannot be lost."""

    def require_space(self, nbytes: int) -> None:
        """See `Storage.require_space`."""
        free = shutil.disk_usage(self.root).free
        if free < nbytes:
            raise StoreError(
                f"The disk of the library is full: {nbytes / 1e6:.1f} MB are needed, {free / 1e6:.1f} MB are free. The "
                "library is unchanged. Free some space and start again; scans that were already added are kept."
            )

    def read_file(self, name: str) -> bytes | None:
        """See `Storage.read_file`."""
        try:
            return (self.root / name).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise LibraryError(f"{self.root / name} cannot be read ({error_message(error)}).") from error

    def write_file(self, name: str, data: bytes) -> None:
        """See `Storage.write_file`."""
        with atomic_write(self.root / name) as temporary:
            temporary.write_bytes(data)

    def delete_file(self, name: str) -> None:
        """See `Storage.delete_file`."""
        try:
            (self.root / name).unlink(missing_ok=True)
        except OSError as error:
            raise StoreError(f"{self.root / name} could not be deleted ({error_message(error)}).") from error

    def encoders(self) -> list[str]:
        """See `Storage.encoders`."""
        names = {path.name.removesuffix(BASIS_SUFFIX) for path in self.root.glob(f"[!.]*{BASIS_SUFFIX}")}
        for path in self.root.glob("*_*.lance"):
            names.add(path.name.removesuffix(".lance").split("_", 1)[1])
        return sorted(names)

    def nbytes(self) -> int:
        """Size of all its files in bytes."""
        total = 0
        for folder, _, files in os.walk(self.root):
            for name in files:
                path = Path(folder, name)
                # Another process may have deleted it in the meantime.
                total += path.stat().st_size if path.exists() else 0
        return total
