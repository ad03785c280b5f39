"""The two tables of an encoder in a library."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

import numpy as np
from numpy.typing import NDArray

from CoralBayLib.core.errors import LibraryError, Remedy
from CoralBayLib.core.progress import CancelToken, raise_if_cancelled

from .records import ScanRecord, ScanRows
from .storage.base import Storage
from .storage.format import slug
from .storage.lance import VECTOR, Table

_BATCH_ROWS = 50_000
_DELETE_AT_ONCE = 500
"""Number of scans in one SQL condition."""


class Tables:
    """The two tables of one encoder.

    Args:
        storage: of the library.
        encoder: the encoder's name, or its `slug`.

    Attributes:
        encoder: the slug of the encoder's name.

    Raises:
        LibraryError: LanceDB is not installed, or a table cannot be read.
    """

    def __init__(self, storage: Storage, encoder: str) -> None:
        self.encoder = slug(encoder)
        self._db = storage.connect(cached=True)
        self._tables: dict[str, Table | None] = {}

    @property
    def regions(self) -> Table:
        """The table with the columns scan, ras, vector; all rows of a scan are written at once.

        Raises:
            LibraryError: it is missing or cannot be read.
        """
        return self._require("regions")

    @property
    def scans(self) -> Table:
        """The table with the columns of `ScanRecord.to_row`, and vector.

        Raises:
            LibraryError: it is missing or cannot be read.
        """
        return self._require("scans")

    @property
    def complete(self) -> bool:
        """Whether both tables exist."""
        return self.find("regions") is not None and self.find("scans") is not None

    @property
    def empty(self) -> bool:
        """Whether neither table exists, because no scan has been committed yet."""
        return self.find("regions") is None and self.find("scans") is None

    def find(self, name: str) -> Table | None:
        """The table "regions" or "scans"; None if it does not exist.

        Raises:
            LibraryError: it cannot be read, or lacks a column.
        """
        if name not in self._tables:
            table = self._db.open(f"{name}_{self.encoder}", name)
            if table is not None:
                columns = ["scan", "ras"] if name == "regions" else ScanRecord.columns()
                table.require_columns([*columns, VECTOR], [VECTOR, *columns[1:2]] if name == "regions" else [VECTOR])
            self._tables[name] = table
        return self._tables[name]

    def damaged_states(self, name: str) -> int:
        """How many states of the table "regions" or "scans" cannot be read; 0 if none can."""
        return len(self._db.damaged_states(f"{name}_{self.encoder}"))

    def remove_damaged_states(self, name: str) -> int:
        """Remove them; returns how many. The lock must be held."""
        self._tables.pop(name, None)
        return self._db.remove_damaged_states(f"{name}_{self.encoder}")

    def require(self) -> None:
        """Check that both tables exist.

        Raises:
            LibraryError: one is missing, or there are no scans yet.
        """
        if self.empty:
            raise LibraryError(
                f"The library holds no scans of {self.encoder} yet.", remedy=Remedy.ADD_SCANS, encoder=self.encoder
            )
        for name in ("regions", "scans"):
            self._require(name)

    def create(self, dimension: int, scan_dimension: int) -> None:
        """Create the tables that do not exist yet, for vectors of these lengths.

        Raises:
            StoreError: they could not be written.
        """
        import pyarrow as pa

        def vectors(kind: pa.DataType, length: int) -> pa.DataType:
            return pa.list_(kind, length)

        text = pa.string()
        regions = {"scan": text, "ras": vectors(pa.float32(), 3), VECTOR: vectors(pa.float16(), dimension)}
        scans = {
            **dict.fromkeys(("scan", "embedding", "path", "stamp"), text),
            "size_ijk": vectors(pa.int32(), 3),
            "spacing_mm": vectors(pa.float64(), 3),
            "ijk_to_ras": vectors(pa.float64(), 16),
            "regions": pa.int64(),
            **dict.fromkeys(("encoder", "weights_sha256", "setting", "added", "series_uid"), text),
            VECTOR: vectors(pa.float32(), scan_dimension),
        }
        for name, fields in (("regions", regions), ("scans", scans)):
            if self.find(name) is None:
                schema = pa.schema(list(fields.items()))
                self._tables[name] = self._db.create(f"{name}_{self.encoder}", schema=schema, label=name)

    def drop(self) -> None:
        """Delete both tables, damaged or not."""
        for name in ("regions", "scans"):
            self._db.drop(f"{name}_{self.encoder}")
        self._tables.clear()

    def put_regions(self, rows: ScanRows) -> None:
        """Append the regions of a scan."""
        import pyarrow as pa

        columns = [pa.array([rows.record.scan] * len(rows.vectors)), _fixed(rows.points_ras), _fixed(rows.vectors)]
        self.regions.append(pa.table(columns, schema=self.regions.schema))

    def put_scan(self, rows: ScanRows) -> None:
        """Append the row of a scan."""
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        row = {**replace(rows.record, added=now).to_row(), VECTOR: rows.scan_vector.tolist()}
        self.scans.append([{name: row[name] for name in self.scans.schema.names}])

    def update_path(self, scan: str, path: str, fingerprint: str) -> None:
        """Change the path and the fingerprint of a scan."""
        self.scans.update(sql_in([scan]), {"path": path, "stamp": fingerprint})

    def records(self, scans: Iterable[str] | None = None) -> list[ScanRecord]:
        """The records of the scans with these IDs, or of all scans."""
        return self._records(None if scans is None else sql_in(scans))

    def records_of(self, embedding: str) -> list[ScanRecord]:
        """The records of the scans that have this embedding."""
        return self._records(f"embedding = '{embedding}'") if embedding.isalnum() else []

    def paths(self, scans: Iterable[str]) -> dict[str, str]:
        """The paths of the scans with these IDs; faster than `records`."""
        rows = self.scans.read(["scan", "path"], sql_in(scans))
        return dict(zip(rows["scan"].to_pylist(), rows["path"].to_pylist(), strict=True))

    def _records(self, where: str | None) -> list[ScanRecord]:
        columns = [name for name in self.scans.schema.names if name != VECTOR]
        return [ScanRecord.from_row(row) for row in self.scans.read(columns, where).to_pylist()]

    def is_consistent(self) -> bool:
        """Whether there are as many regions as the records of the scans say in total."""
        return sum(self.scans.read(["regions"])["regions"].to_pylist()) == self.regions.count()

    def regions_by_scan(self) -> dict[str, int]:
        """The number of regions of each scan, counted in the table of regions."""
        found: dict[str, int] = {}
        for batch in self.regions.batches(_BATCH_ROWS, ["scan"]):
            for each in batch.column("scan").value_counts().to_pylist():
                found[each["values"]] = found.get(each["values"], 0) + each["counts"]
        return found

    def batches(
        self, cancel: CancelToken | None = None
    ) -> Iterator[tuple[list[str], NDArray[np.float32], NDArray[np.float16]]]:
        """All regions, one batch at a time: IDs of scans, (N, 3) RAS mm, and (N, D) vectors.

        Raises:
            LibraryError: the table cannot be read.
            Cancelled: `cancel` was called.
        """

        def array(batch: Any, name: str) -> NDArray:
            return batch[name].flatten().to_numpy(zero_copy_only=False).reshape(len(batch), -1)

        for batch in self.regions.batches(_BATCH_ROWS, ["scan", "ras", VECTOR]):
            raise_if_cancelled(cancel)
            yield batch["scan"].to_pylist(), array(batch, "ras"), array(batch, VECTOR)

    def remove(self, scans: Iterable[str]) -> None:
        """Delete scans and their regions; the row of a scan is deleted first, so that no scan lacks its regions.

        Raises:
            StoreError: they could not be deleted.
        """
        scans = list(scans)
        for start in range(0, len(scans), _DELETE_AT_ONCE):
            where = sql_in(scans[start : start + _DELETE_AT_ONCE])
            self.scans.delete(where)
            self.regions.delete(where)

    def _require(self, name: str) -> Table:
        table = self.find(name)
        if table is None:
            raise LibraryError(f"The table '{name}' of {self.encoder} is missing.", remedy=Remedy.CHECK_LIBRARY)
        return table


def sql_in(scans: Iterable[str]) -> str:
    """The condition in SQL that a row is of one of these scans."""
    ids = [scan for scan in scans if scan.isalnum()]
    return f"scan IN ({', '.join(repr(each) for each in ids)})" if ids else "false"


def _fixed(array: NDArray) -> Any:
    """An (N, D) array as a column of lists of fixed length."""
    import pyarrow as pa

    return pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(array).ravel()), array.shape[1])
