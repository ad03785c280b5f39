"""A library on object storage: LanceDB tables under an address, and nothing else.

The files of a library are rows of the table `files` here, and the lock is the table `lock`. LanceDB looks for credentials
where every program does (environment, profile, the machine's role); none are kept.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

from CoralBayLib.core.errors import LibraryError, Remedy
from CoralBayLib.core.progress import CancelToken

from . import lock
from .format import BASIS_SUFFIX, MARK, mark_text, require_format
from .lance import Database, Table
from .lock import Lease

SCHEMES = ("s3", "gs", "az")
_FILES = "files"
_OWN_TABLES = (_FILES, lock.TABLE)
_TIMEOUTS = {"connect_timeout": "10s", "client_max_retries": "4", "client_retry_timeout": "60s"}


class ObjectStore:
    """A library on object storage; for the methods see `Storage`.

    Args:
        address: for example `s3://bucket/folder`.

    Raises:
        LibraryError: the address is of another kind, or contains credentials.
    """

    def __init__(self, address: str) -> None:
        self.root = address.rstrip("/")
        scheme, _, rest = self.root.partition("://")
        if "@" in rest or "?" in rest:
            # Not repeated, because what is printed may be kept.
            raise LibraryError("A library's address must not contain credentials or options; set them in the environment.")
        if scheme not in SCHEMES or not rest:
            known = ", ".join(f"{each}://bucket/folder" for each in SCHEMES)
            raise LibraryError(f"Expected a folder or an address like {known}, got {address}.")
        self._lease: Lease | None = None

    def connect(self, cached: bool = False) -> Database:
        """See `Storage.connect`."""
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
        return Database(self.root, cached, {**_TIMEOUTS, **({"allow_http": "true"} if endpoint.startswith("http://") else {})})

    def exists(self) -> bool:
        """See `Storage.exists`."""
        return self.read_file(MARK) is not None

    def require(self) -> None:
        """See `Storage.require`."""
        mark = self.read_file(MARK)
        if mark is None:
            raise LibraryError(f"There is no library of scans at {self.root}.", remedy=Remedy.CREATE_LIBRARY, path=self.root)
        require_format(mark, f"The version mark in the table '{_FILES}' at {self.root}", self.root)

    def create(self) -> None:
        """See `Storage.create`."""
        if self.exists():
            return self.require()
        if set(self.connect().names()) - set(_OWN_TABLES):
            raise LibraryError(f"{self.root} has other tables and holds no library of scans. Choose a new or an empty address.")
        self.write_file(MARK, mark_text().encode())
        return None

    @contextmanager
    def locked(self, cancel: CancelToken | None = None) -> Iterator[None]:
        """See `Storage.locked`."""
        lease = Lease(self.connect())
        lease.acquire(cancel)
        self._lease = lease
        try:
            yield
        finally:
            self._lease = None
            lease.release()

    def require_lock(self) -> None:
        """See `Storage.require_lock`."""
        if self._lease is not None:
            self._lease.require()

    def require_space(self, nbytes: int) -> None:
        """Does nothing: object storage has no fixed size."""

    def read_file(self, name: str) -> bytes | None:
        """See `Storage.read_file`."""
        table = self._files()
        rows = table.read(where=f"name = '{name}'").to_pylist() if table is not None else []
        return rows[0]["data"] if rows else None

    def write_file(self, name: str, data: bytes) -> None:
        """See `Storage.write_file`."""
        import pyarrow as pa

        rows = pa.table({"name": [name], "data": pa.array([data], pa.binary())})
        table = self._files()
        if table is None:
            self.connect().create(_FILES, rows)
        else:
            table.replace("name", rows)

    def delete_file(self, name: str) -> None:
        """See `Storage.delete_file`."""
        table = self._files()
        if table is not None:
            table.delete(f"name = '{name}'")

    def encoders(self) -> list[str]:
        """See `Storage.encoders`."""
        table = self._files()
        files = table.read(["name"])["name"].to_pylist() if table is not None else []
        names = {name.removesuffix(BASIS_SUFFIX) for name in files if name.endswith(BASIS_SUFFIX)}
        tables = (name for name in self.connect().names() if re.match("(regions|scans)_", name))
        return sorted(names | {name.split("_", 1)[1] for name in tables})

    def nbytes(self) -> int:
        """Size of all its tables in bytes; earlier states that are still stored are not counted."""
        db = self.connect()
        tables = [db.open(name) for name in db.names()]
        return sum(table.nbytes for table in tables if table is not None)

    def _files(self) -> Table | None:
        return self.connect().open(_FILES)
