"""What changes a library. Every change is made with its lock held, and a scan is there as a whole or not at all.

The regions of a scan are written first and its row last: regions without a row do not count, searches pass over them,
and the next writer removes them. That is all it takes to survive being killed at any moment. On object storage a writer
that was held up can lose its lock; it looks before each step, and after the last counts what is there.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta

from CoralBayLib.core.errors import LostLockError
from CoralBayLib.core.progress import CancelToken

from .basis import LibraryBasis
from .index import maintain
from .records import ScanRecord, ScanRows
from .storage.base import Place
from .storage.lance import tidying, writable
from .tables import Tables, among

_MARGIN_BYTES = 1 << 20
_KEPT = timedelta(hours=1)
"""Files of earlier states are kept this long, for those who are still reading them."""


def settle_basis(folder: Place, basis: LibraryBasis, cancel: CancelToken | None = None) -> LibraryBasis:
    """Keep a basis for its encoder, or give the one that another process has kept meanwhile.

    Raises:
        StoreError: it could not be written.
        EncoderError: the one that is there is for other features.
    """
    with folder.locked(cancel):
        folder.create()
        if not folder.has_basis(basis.identity["encoder"]):
            folder.save_basis(basis)
            return basis
    there = folder.load_basis(basis.identity["encoder"])
    there.require(basis.identity, basis.signature, basis.levels)
    return there


def commit(folder: Place, rows: ScanRows, replaced: Collection[str] = (), cancel: CancelToken | None = None) -> bool:
    """Write a scan; tells whether it was new.

    Args:
        folder: the library's.
        rows: of the scan.
        replaced: scans to be removed once it is there.
        cancel: ends waiting for another writer.

    Raises:
        StoreError: the disk is full or the folder cannot be written; the library is as it was.
        LibraryError: the tables cannot be read.
    """
    with folder.locked(cancel):
        tables = Tables(folder, rows.record.encoder)
        with writable():
            folder.require_space(2 * rows.nbytes + _MARGIN_BYTES)
            tables.create(rows.vectors.shape[1], len(rows.scan_vector))
            drop_orphans(tables)
            if tables.records([rows.record.scan]):
                return False
            folder.require_lock()
            try:
                tables.put_regions(rows)
                folder.require_lock()
                tables.put_scan(rows)
                _require_whole(folder, tables, rows)
            except LostLockError:
                # Whatever is left without its scan, the next writer removes.
                raise
            except (OSError, ValueError, RuntimeError):
                # On a full disk this may fail too: then the next writer does it.
                with suppress(OSError, ValueError, RuntimeError):
                    tables.remove([rows.record.scan])
                raise
            tables.remove(replaced)
    return True


def _require_whole(folder: Place, tables: Tables, rows: ScanRows) -> None:
    """See that nobody took the regions for orphans while the scan's row was on its way."""
    try:
        folder.require_lock()
    except LostLockError:
        if tables.regions.count_rows(among([rows.record.scan])) != rows.record.regions:
            tables.scans.delete(among([rows.record.scan]))
            raise


def moved(folder: Place, record: ScanRecord, path: str, stamp: str, cancel: CancelToken | None = None) -> ScanRecord:
    """Note where a scan is now.

    Raises:
        StoreError: it could not be written.
    """
    with folder.locked(cancel), writable():
        Tables(folder, record.encoder).scans.update(where=f"scan = '{record.scan}'", values={"path": path, "stamp": stamp})
    return replace(record, path=path, stamp=stamp)


def remove(folder: Place, encoder: str, scans: Iterable[str], cancel: CancelToken | None = None) -> None:
    """Delete scans and what they leave behind.

    Raises:
        StoreError: it could not be written.
    """
    with folder.locked(cancel), writable():
        tables = Tables(folder, encoder)
        tables.require()
        tables.remove(scans)
        folder.require_lock()
        tidy(tables)


def finish(folder: Place, encoder: str, cancel: CancelToken | None = None) -> None:
    """After many scans: join small files and bring the index up to date.

    Raises:
        StoreError: it could not be written; the library is as it was, but slower than it might be.
    """
    with folder.locked(cancel), writable():
        tables = Tables(folder, encoder)
        if tables.complete:
            drop_orphans(tables)
            folder.require_lock()
            tidy(tables)


def tidy(tables: Tables) -> None:
    """Join small files, drop what no state needs any more, and bring the index up to date; the lock is held."""
    with tidying():
        for table in (tables.scans, tables.regions):
            # Whatever is not part of a state was left by a writer that was killed: nobody else writes now.
            table.optimize(cleanup_older_than=_KEPT, delete_unverified=True)
        maintain(tables.regions)


def drop_orphans(tables: Tables) -> int:
    """Remove regions whose scan is not there; returns how many. The lock is held."""
    if tables.whole():
        return 0
    known = {record.scan for record in tables.records()}
    orphans = {scan: count for scan, count in tables.regions_by_scan().items() if scan not in known}
    for start in range(0, len(orphans), 500):
        tables.remove(list(orphans)[start : start + 500])
    return sum(orphans.values())
