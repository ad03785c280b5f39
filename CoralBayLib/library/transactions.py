"""Changes of a library. Each is made with the lock held, and a scan is in the library completely or not at all.

The regions of a scan are written first and its row last. Regions without a row are ignored by searches and removed by the next
writer, so a writer may be killed at any moment. On object storage a writer that was delayed can lose its lock; it checks the
lock before each step, and counts the rows after the last.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta

from CoralBayLib.core.errors import LostLockError
from CoralBayLib.core.progress import CancelToken

from .basis import LibraryBasis, has_basis, load_basis, save_basis
from .records import ScanRecord, ScanRows
from .storage.base import Storage
from .storage.index import maintain
from .storage.lance_errors import LANCE_ERRORS, explain_compacting, explain_writing
from .tables import Tables, sql_in

_MARGIN_BYTES = 1 << 20
_KEPT = timedelta(hours=1)
"""Files of earlier states are kept this long for processes that are still reading them."""


def ensure_basis(storage: Storage, basis: LibraryBasis, cancel: CancelToken | None = None) -> LibraryBasis:
    """Save a basis for its encoder; if another process has saved one meanwhile, return that instead.

    Raises:
        StoreError: it could not be written.
        EncoderError: the saved one is for other features.
    """
    encoder = basis.identity["encoder"]
    with storage.locked(cancel):
        storage.create()
        if not has_basis(storage, encoder):
            save_basis(storage, basis)
            return basis
    saved = load_basis(storage, encoder)
    saved.require(basis.identity, basis.signature, basis.levels)
    return saved


def commit(storage: Storage, rows: ScanRows, replaced: Collection[str] = (), cancel: CancelToken | None = None) -> bool:
    """Write a scan; returns whether it was new.

    Args:
        storage: of the library.
        rows: of the scan.
        replaced: scans to remove once it is written.
        cancel: ends waiting for another writer.

    Raises:
        StoreError: the disk is full or the storage cannot be written; the library is as it was.
        LibraryError: the tables cannot be read.
    """
    with storage.locked(cancel):
        tables = Tables(storage, rows.record.encoder)
        with explain_writing():
            storage.require_space(2 * rows.nbytes + _MARGIN_BYTES)
            tables.create(rows.vectors.shape[1], len(rows.scan_vector))
            remove_orphans(tables)
            if tables.records([rows.record.scan]):
                return False
            storage.require_lock()
            try:
                tables.put_regions(rows)
                storage.require_lock()
                tables.put_scan(rows)
                _require_complete(storage, tables, rows)
            except LostLockError:
                # The next writer removes regions without a scan.
                raise
            except LANCE_ERRORS:
                # On a full disk this may fail too; then the next writer does it.
                with suppress(*LANCE_ERRORS):
                    tables.remove([rows.record.scan])
                raise
            tables.remove(replaced)
    return True


def _require_complete(storage: Storage, tables: Tables, rows: ScanRows) -> None:
    """Check that no other writer removed the regions as orphans before the scan's row was written."""
    try:
        storage.require_lock()
    except LostLockError:
        where = sql_in([rows.record.scan])
        if tables.regions.count(where) != rows.record.regions:
            tables.scans.delete(where)
            raise


def update_path(
    storage: Storage, record: ScanRecord, path: str, fingerprint: str, cancel: CancelToken | None = None
) -> ScanRecord:
    """Change the path and the fingerprint of a scan.

    Raises:
        StoreError: it could not be written.
    """
    with storage.locked(cancel), explain_writing():
        Tables(storage, record.encoder).update_path(record.scan, path, fingerprint)
    return replace(record, path=path, fingerprint=fingerprint)


def remove(storage: Storage, encoder: str, scans: Iterable[str], cancel: CancelToken | None = None) -> None:
    """Delete scans, and compact the tables.

    Raises:
        StoreError: it could not be written.
    """
    with storage.locked(cancel), explain_writing():
        tables = Tables(storage, encoder)
        tables.require()
        tables.remove(scans)
        storage.require_lock()
        compact(tables)


def finish(storage: Storage, encoder: str, cancel: CancelToken | None = None) -> None:
    """Compact the tables and update the index, after many scans were added.

    Raises:
        StoreError: it could not be written; the library is as it was, but slower than it could be.
    """
    with storage.locked(cancel), explain_writing():
        tables = Tables(storage, encoder)
        if tables.complete:
            remove_orphans(tables)
            storage.require_lock()
            compact(tables)


def compact(tables: Tables) -> None:
    """Merge small files, delete those that are no longer needed, and update the index. The lock must be held.

    Raises:
        StoreError: it could not be written.
    """
    with explain_compacting():
        for table in (tables.scans, tables.regions):
            table.compact(_KEPT)
        maintain(tables.regions)


def remove_orphans(tables: Tables) -> int:
    """Remove regions whose scan does not exist; returns how many. The lock must be held."""
    if tables.is_consistent():
        return 0
    known = {record.scan for record in tables.records()}
    orphans = {scan: count for scan, count in tables.regions_by_scan().items() if scan not in known}
    tables.remove(orphans)
    return sum(orphans.values())
