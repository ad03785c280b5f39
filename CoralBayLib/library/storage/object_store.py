"""A library on object storage: LanceDB's tables under an address, and nothing beside them.

What a library in a folder keeps as files lies here in the table `files`; the lock is in the table `lock`. LanceDB finds
the credentials where every program looks for them (environment, profile, the machine's own role); none is kept.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from CoralBayLib.core.errors import LibraryError
from CoralBayLib.core.progress import CancelToken
from CoralBayLib.library.basis import LibraryBasis

from . import lock
from .base import PLACE_VARIABLE
from .folder import BASIS_SUFFIX, MARK, file_name, mark_text, require_format
from .lance import lancedb, readable, writable
from .lock import Lease

SCHEMES = ("s3", "gs", "az")
_FILES = "files"
_OWN = (_FILES, lock.TABLE)
_PATIENCE = {"connect_timeout": "10s", "client_max_retries": "4", "client_retry_timeout": "60s"}


class Bucket:
    """Where a library lies on object storage.

    Args:
        address: such as `s3://bucket/folder`.

    Raises:
        LibraryError: an address of another kind, or one with credentials in it.
    """

    def __init__(self, address: str) -> None:
        self.root = address.rstrip("/")
        scheme, _, rest = self.root.partition("://")
        if "@" in rest or "?" in rest:
            # Not repeated, since what is printed may be kept.
            raise LibraryError("A library's address holds no credentials or options; set them in the environment.")
        if scheme not in SCHEMES or not rest:
            known = ", ".join(f"{each}://bucket/folder" for each in SCHEMES)
            raise LibraryError(f"A library lies in a folder or at an address like {known}; {address} is neither.")
        self._held: Lease | None = None

    def connect(self, session: Any = None) -> Any:
        """As in `Place`."""
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
        options = {**_PATIENCE, **({"allow_http": "true"} if endpoint.startswith("http://") else {})}
        package = lancedb()
        with readable(_FILES):
            return package.connect(self.root, read_consistency_interval=timedelta(0), storage_options=options, session=session)

    def exists(self) -> bool:
        """As in `Place`."""
        return self._read(MARK) is not None

    def require(self) -> None:
        """As in `Place`."""
        mark = self._read(MARK)
        if mark is None:
            raise LibraryError(
                f"There is no library of scans at {self.root}. Make one with `coralbay library add`, or name another "
                f"place (--library, or {PLACE_VARIABLE})."
            )
        require_format(mark, f"the mark in the table '{_FILES}' at {self.root}", self.root)

    def create(self) -> None:
        """As in `Place`."""
        if self.exists():
            return self.require()
        if set(self._tables()) - set(_OWN):
            raise LibraryError(f"{self.root} has other tables and is no library of scans. Choose a new or an empty place.")
        self._write(MARK, mark_text().encode())
        return None

    @contextmanager
    def locked(self, cancel: CancelToken | None = None) -> Iterator[None]:
        """As in `Place`."""
        held = Lease(self.connect())
        held.acquire(cancel)
        self._held = held
        try:
            yield
        finally:
            self._held = None
            held.release()

    def require_lock(self) -> None:
        """As in `Place`."""
        if self._held is not None:
            self._held.require()

    def require_space(self, nbytes: int) -> None:
        """Object storage has no end."""

    def has_basis(self, encoder: str) -> bool:
        """As in `Place`."""
        return self._read(_basis_name(encoder)) is not None

    def load_basis(self, encoder: str) -> LibraryBasis:
        """As in `Place`."""
        data = self._read(_basis_name(encoder))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, _basis_name(encoder))
            if data is not None:
                path.write_bytes(data)
            return LibraryBasis.load(path)

    def save_basis(self, basis: LibraryBasis) -> None:
        """As in `Place`."""
        name = _basis_name(basis.identity["encoder"])
        with tempfile.TemporaryDirectory() as folder:
            basis.save(Path(folder, name))
            self._write(name, Path(folder, name).read_bytes())

    def drop_basis(self, encoder: str) -> None:
        """As in `Place`."""
        with writable():
            self.connect().open_table(_FILES).delete(f"name = '{_basis_name(encoder)}'")

    def names(self) -> list[str]:
        """As in `Place`."""
        known = {name.removesuffix(BASIS_SUFFIX) for name in self._file_names() if name.endswith(BASIS_SUFFIX)}
        return sorted(known | {name.split("_", 1)[1] for name in self._tables() if re.match("(regions|scans)_", name)})

    def nbytes(self) -> int:
        """Bytes of all its tables, as they are now: what earlier states still take is not counted."""
        db = self.connect()
        with readable(_FILES):
            return sum(int(db.open_table(name).stats()["total_bytes"]) for name in self._tables())

    def _tables(self) -> list[str]:
        db, found, token = self.connect(), list[str](), None
        with readable(_FILES):
            while True:
                page = db.list_tables(page_token=token, limit=100)
                found += page.tables
                token = page.page_token
                if not token:
                    return found

    def _files(self) -> Any:
        with readable(_FILES):
            try:
                return self.connect().open_table(_FILES)
            except ValueError as error:
                if "was not found" in str(error):
                    return None
                raise

    def _file_names(self) -> list[str]:
        table = self._files()
        with readable(_FILES):
            return [] if table is None else table.search().select(["name"]).limit(1000).to_arrow()["name"].to_pylist()

    def _read(self, name: str) -> bytes | None:
        table = self._files()
        with readable(_FILES):
            rows = [] if table is None else table.search().where(f"name = '{name}'").limit(1).to_arrow().to_pylist()
        return rows[0]["data"] if rows else None

    def _write(self, name: str, data: bytes) -> None:
        import pyarrow as pa

        table = self._files()
        rows = pa.table({"name": [name], "data": pa.array([data], pa.binary())})
        with writable():
            if table is None:
                self.connect().create_table(_FILES, rows)
            else:
                table.merge_insert("name").when_matched_update_all().when_not_matched_insert_all().execute(rows)


def _basis_name(encoder: str) -> str:
    return f"{file_name(encoder)}{BASIS_SUFFIX}"
