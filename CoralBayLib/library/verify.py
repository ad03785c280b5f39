"""What may be wrong with a library, and putting right what can be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from CoralBayLib.core.errors import LibraryError, StoreError
from CoralBayLib.core.progress import CancelToken, Progress, raise_if_cancelled, report

from .basis import LibraryBasis
from .storage.base import Place
from .storage.lance import readable, writable
from .tables import Tables
from .transactions import tidy

_PART_ROWS = 100_000
_LENGTH_ERROR = 0.01
"""Rounding to half precision changes the length of a vector by less than a tenth of this."""


@dataclass(frozen=True)
class Finding:
    """Something that is not as it should be.

    Attributes:
        kind: "orphans" (regions without a scan), "incomplete" (a scan without all its regions), "double" (a scan twice),
            "values" (a scan's regions hold what was never written), "basis" (missing, damaged, or for other vectors),
            "table" (missing or unreadable), "gone" (a scan's file is no longer where it was).
        encoder: whose part of the library it is.
        text: what is wrong, and what to do.
        path: the scan's, where it is about one.
        repaired: whether it has been put right.
    """

    kind: str
    encoder: str
    text: str
    path: str = ""
    repaired: bool = False

    @property
    def harmful(self) -> bool:
        """Whether searches suffer; a file that has moved does no harm to them."""
        return not self.repaired and self.kind != "gone"


def verify(
    folder: Place, repair: bool = False, progress: Progress | None = None, cancel: CancelToken | None = None
) -> list[Finding]:
    """Read the whole library and say what is wrong with it.

    Args:
        folder: the library's.
        repair: put right what can be: regions without a scan are removed, and so are scans that have not all their regions
            or wrong ones, or whose table or basis is lost; these are to be added again then, which takes no computing while
            their embeddings are in the store. Files that no state of the library needs any more are deleted.
        progress: told how far it is.
        cancel: checked between the parts.

    Raises:
        LibraryError: there is no library, or it is of another format.
        StoreError: a repair could not be written.
        Cancelled: `cancel` was called.
    """
    folder.require()
    found: list[Finding] = []
    names = folder.names()
    for number, encoder in enumerate(names):
        raise_if_cancelled(cancel)
        report(progress, number / len(names), f"Checking {encoder}")
        # A writer in its middle looks like damage, so that writers are waited for.
        with folder.locked(cancel):
            found += _verify_one(folder, encoder, repair, cancel)
    report(progress, 1.0, "Checked")
    return found


def _verify_one(folder: Place, encoder: str, repair: bool, cancel: CancelToken | None) -> list[Finding]:
    lost = list(_lost(folder, encoder, cancel))
    if lost:
        return _start_anew(folder, encoder, lost) if repair else lost
    tables = Tables(folder, encoder)
    if not tables.complete:
        return []  # only the basis is settled
    records = tables.records()
    times = Counter(record.scan for record in records)
    regions, spoilt = _counted(tables, cancel)
    orphans = {scan: count for scan, count in regions.items() if scan not in times}
    found, wrong = [], set(orphans)
    if orphans:
        count = sum(orphans.values())
        text = f"{count} regions belong to no scan: writing was cut off. `verify --repair` or the next `add` removes them."
        found.append(Finding("orphans", encoder, text, "", repair))
    for record in {record.scan: record for record in records}.values():
        there = regions[record.scan]
        if times[record.scan] > 1:
            text = f"The scan is in the table {times[record.scan]} times. Remove it (`verify --repair` does) and add it again."
            found.append(Finding("double", encoder, text, record.path, repair))
            wrong.add(record.scan)
        elif there != record.regions:
            text = f"{there} of its {record.regions} regions are there. Remove it (`verify --repair` does) and add it again."
            found.append(Finding("incomplete", encoder, text, record.path, repair))
            wrong.add(record.scan)
        elif spoilt[record.scan]:
            text = (
                f"{spoilt[record.scan]} of its {record.regions} regions hold values that were never written, as from a bad "
                "disk. Remove it (`verify --repair` does) and add it again."
            )
            found.append(Finding("values", encoder, text, record.path, repair))
            wrong.add(record.scan)
        elif record.path and not record.there:
            text = "It is not there any more. Searches still find it; adding it from its new place notes that."
            found.append(Finding("gone", encoder, text, record.path))
    if repair:
        with writable():
            folder.require_lock()
            tables.remove(sorted(wrong))
            tidy(tables)
    return found


def _counted(tables: Tables, cancel: CancelToken | None) -> tuple[Counter[str], Counter[str]]:
    """How many regions there are of each scan, and how many of them cannot be right: a vector has unit length."""
    there, spoilt = Counter[str](), Counter[str]()
    for scans, ras, vectors in tables.parts(cancel):
        length = np.linalg.norm(vectors.astype(np.float32), axis=1)
        right = (np.abs(length - 1) < _LENGTH_ERROR) & np.isfinite(ras).all(axis=1)
        there.update(scans)
        spoilt.update(scans[row] for row in np.flatnonzero(~right))
    return there, spoilt


def _lost(folder: Place, encoder: str, cancel: CancelToken | None) -> Iterator[Finding]:
    """What makes the whole part of an encoder useless."""
    try:
        basis: LibraryBasis | None = folder.load_basis(encoder)
    except LibraryError as error:
        basis = None
        yield Finding("basis", encoder, f"{error.args[0].split(' `coralbay')[0]} Its regions cannot be searched without it.")
    for name in ("regions", "scans"):
        try:
            tables = Tables(folder, encoder, only=name)
            table = getattr(tables, name)
            if table is None:
                if not _fresh(folder, encoder):
                    yield Finding("table", encoder, f"The table '{name}' is missing.")
                continue
            with readable(name):
                # Every value is read, since damage shows only where it is.
                for _ in table.search().limit(table.count_rows()).to_batches(_PART_ROWS):
                    raise_if_cancelled(cancel)
            if name == "regions" and basis is not None and table.schema.field("vector").type.list_size != len(basis.projection):
                yield Finding("basis", encoder, "The basis is for vectors of another length than the table of regions holds.")
        except LibraryError as error:
            yield Finding("table", encoder, str(error).split(" `coralbay")[0])


def _fresh(folder: Place, encoder: str) -> bool:
    """Whether neither table is there: a library whose first scan has not been committed yet."""
    tables = Tables(folder, encoder)
    return tables.regions is None and tables.scans is None


def _start_anew(folder: Place, encoder: str, lost: list[Finding]) -> list[Finding]:
    """Remove the part of an encoder; says which scans were in it, where that can still be read."""
    try:
        tables = Tables(folder, encoder, only="scans")
        with readable("scans"):
            records = tables.records() if tables.scans is not None else []
    except LibraryError:
        records = []
    try:
        Tables(folder, encoder, only="").drop()
        folder.drop_basis(encoder)
    except (OSError, ValueError, RuntimeError) as error:
        raise StoreError(f"The damaged part of the library could not be removed ({error}). Delete {folder.root}.") from error
    found = [Finding(each.kind, encoder, each.text, each.path, True) for each in lost]
    text = "It was removed with the damaged part. Add it again."
    return found + [Finding("incomplete", encoder, text, record.path, True) for record in records]
