"""The tables of a library, in LanceDB: an embedded database whose readers need no lock."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, replace
from datetime import datetime, timezone
from typing import Any

import numpy as np
from numpy.typing import NDArray

from CoralBayLib.core.errors import LibraryError
from CoralBayLib.core.progress import CancelToken, raise_if_cancelled

from .records import ScanRecord, ScanRows
from .storage.base import Place
from .storage.folder import file_name
from .storage.lance import lancedb, readable

_INDEX_CACHE_BYTES = 1 << 30
_METADATA_CACHE_BYTES = 1 << 28
_PART_ROWS = 50_000


class Tables:
    """The two tables of one encoder.

    Args:
        folder: the library's.
        encoder: the encoder's name, or as it is in the names of files.
        only: the one table to open; both when None.

    Attributes:
        encoder: as it is in the names of files.
        regions: scan, ras, vector; the rows of a scan are written together.
        scans: the fields of `ScanRecord`, and vector.
    """

    def __init__(self, folder: Place, encoder: str, only: str | None = None) -> None:
        package = lancedb()
        self.encoder = file_name(encoder)
        self._db = folder.connect(package.Session(_INDEX_CACHE_BYTES, _METADATA_CACHE_BYTES))
        self.regions: Any = self._open("regions") if only in (None, "regions") else None
        self.scans: Any = self._open("scans") if only in (None, "scans") else None

    @property
    def complete(self) -> bool:
        """Whether both tables are there."""
        return self.regions is not None and self.scans is not None

    def require(self) -> None:
        """Refuse a library in which a table is missing.

        Raises:
            LibraryError: one is, or there are no scans yet.
        """
        if self.regions is None and self.scans is None:
            raise LibraryError(f"The library holds no scans of {self.encoder} yet. Add some with `coralbay library add`.")
        if not self.complete:
            missing = "regions" if self.regions is None else "scans"
            raise LibraryError(f"The table '{missing}' of {self.encoder} is missing. `coralbay library verify` tells more.")

    def create(self, dimension: int, scan_dimension: int) -> None:
        """Make the tables that are not there yet, for vectors of these lengths."""
        import pyarrow as pa

        def vectors(kind: pa.DataType, length: int) -> pa.DataType:
            return pa.list_(kind, length)

        text = pa.string()
        regions = {"scan": text, "ras": vectors(pa.float32(), 3), "vector": vectors(pa.float16(), dimension)}
        scans = {
            **dict.fromkeys(("scan", "embedding", "path", "stamp"), text),
            "size_ijk": vectors(pa.int32(), 3),
            "spacing_mm": vectors(pa.float64(), 3),
            "ijk_to_ras": vectors(pa.float64(), 16),
            "regions": pa.int64(),
            **dict.fromkeys(("encoder", "weights_sha256", "setting", "added", "series_uid"), text),
            "vector": vectors(pa.float32(), scan_dimension),
        }
        for name, fields in (("regions", regions), ("scans", scans)):
            if getattr(self, name) is None:
                setattr(self, name, self._db.create_table(f"{name}_{self.encoder}", schema=pa.schema(list(fields.items()))))

    def drop(self) -> None:
        """Delete both tables."""
        for name in ("regions", "scans"):
            self._db.drop_table(f"{name}_{self.encoder}", ignore_missing=True)
            setattr(self, name, None)

    def put_regions(self, rows: ScanRows) -> None:
        """Append the regions of a scan."""
        import pyarrow as pa

        count = len(rows.vectors)
        self.regions.add(
            pa.table(
                [pa.array([rows.record.scan] * count), _fixed(rows.points_ras), _fixed(rows.vectors)],
                schema=self.regions.schema,
            )
        )

    def put_scan(self, rows: ScanRows) -> None:
        """Append the row of a scan."""
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        row = {**asdict(replace(rows.record, added=now)), "vector": rows.scan_vector.tolist()}
        self.scans.add([{name: row[name] for name in self.scans.schema.names}])

    def records(self, scans: Iterable[str] | None = None) -> list[ScanRecord]:
        """What is told of the scans of these names, or of all."""
        return self._records(None if scans is None else among(scans))

    def records_of(self, embedding: str) -> list[ScanRecord]:
        """What is told of the scans that have this embedding."""
        return self._records(f"embedding = '{embedding}'") if embedding.isalnum() else []

    def paths(self, scans: Iterable[str]) -> dict[str, str]:
        """Where the scans of these names are; quicker than all that is told of them."""
        query = self.scans.search().select(["scan", "path"]).where(among(scans))
        rows = query.limit(self.scans.count_rows()).to_arrow()
        return dict(zip(rows["scan"].to_pylist(), rows["path"].to_pylist(), strict=True))

    def _records(self, where: str | None) -> list[ScanRecord]:
        query = self.scans.search().select([name for name in self.scans.schema.names if name != "vector"])
        if where is not None:
            query = query.where(where)
        found = query.limit(self.scans.count_rows()).to_arrow().to_pylist()
        return [_record(row) for row in found]

    def counted(self) -> int:
        """How many regions the scans say they have."""
        rows = self.scans.search().select(["regions"]).limit(self.scans.count_rows()).to_arrow()
        return sum(rows["regions"].to_pylist())

    def whole(self) -> bool:
        """Whether every region belongs to a scan and every scan has its regions, as far as their number tells."""
        return self.counted() == self.regions.count_rows()

    def regions_by_scan(self) -> dict[str, int]:
        """How many regions there are of each scan, read from the table itself."""
        found: dict[str, int] = {}
        for batch in self.regions.search().select(["scan"]).limit(self.regions.count_rows()).to_batches():
            for each in batch.column("scan").value_counts().to_pylist():
                found[each["values"]] = found.get(each["values"], 0) + each["counts"]
        return found

    def parts(self, cancel: CancelToken | None = None) -> Iterator[tuple[list[str], NDArray[np.float32], NDArray[np.float16]]]:
        """All regions, some at a time: names of scans, (N, 3) RAS mm, and (N, D) vectors.

        Raises:
            LibraryError: the table cannot be read.
            Cancelled: `cancel` was called.
        """

        def array(batch: Any, name: str) -> NDArray:
            return batch[name].flatten().to_numpy(zero_copy_only=False).reshape(len(batch), -1)

        with readable("regions"):
            rows = self.regions.search().select(["scan", "ras", "vector"]).limit(self.regions.count_rows())
            for batch in rows.to_batches(_PART_ROWS):
                raise_if_cancelled(cancel)
                yield batch["scan"].to_pylist(), array(batch, "ras"), array(batch, "vector")

    def remove(self, scans: Iterable[str]) -> None:
        """Delete scans and their regions; the row of the scan goes first, so that none is left without its regions."""
        scans = list(scans)
        for start in range(0, len(scans), 500):
            where = among(scans[start : start + 500])
            self.scans.delete(where)
            self.regions.delete(where)

    def _open(self, name: str) -> Any:
        with readable(name):
            try:
                return self._db.open_table(f"{name}_{self.encoder}")
            except ValueError as error:
                if "was not found" in str(error):
                    return None
                raise


def _record(row: dict[str, Any]) -> ScanRecord:
    values: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in row.items()}
    return ScanRecord(**values)


def among(scans: Iterable[str]) -> str:
    """The condition that a row is of one of these scans."""
    names = [scan for scan in scans if scan.isalnum()]
    return f"scan IN ({', '.join(repr(name) for name in names)})" if names else "false"


def _fixed(array: NDArray) -> Any:
    """An (N, D) array as a column of lists of fixed length."""
    import pyarrow as pa

    return pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(array).ravel()), array.shape[1])
