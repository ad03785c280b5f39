"""Damage to a library: finding it and repairing it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from CoralBayLib.core.errors import LibraryError, Remedy, StoreError
from CoralBayLib.core.progress import CancelToken, Progress, raise_if_cancelled, report

from .basis import LibraryBasis, examine_basis, save_basis
from .records import ScanRecord
from .storage.base import Storage
from .storage.format import basis_name
from .storage.lance_errors import explain, explain_writing
from .tables import Tables
from .transactions import compact

_BATCH_ROWS = 100_000
_LENGTH_ERROR = 0.01
"""Allowed deviation of a vector's length from 1; rounding to half precision causes less than a tenth of this."""


@dataclass(frozen=True)
class Issue:
    """A fault of a library.

    Attributes:
        kind: "orphans" (regions without a scan), "incomplete" (a scan without all its regions), "double" (a scan twice),
            "values" (a scan's regions hold values that were never written), "basis" (missing, damaged, or for other
            vectors), "table" (missing or unreadable), "states" (states of a table are damaged), "gone" (a scan's file no
            longer exists).
        encoder: whose part of the library it is in.
        text: the fault, in words that hold for every front end.
        path: of the scan, if it concerns one.
        repaired: whether it was repaired.
        remedy: what can be done about it.
    """

    kind: str
    encoder: str
    text: str
    path: str = ""
    repaired: bool = False
    remedy: Remedy | None = None

    @property
    def harmful(self) -> bool:
        """Whether searches are affected; a missing file or a damaged earlier state does not affect them."""
        return not self.repaired and self.kind not in ("gone", "states")

    def as_dict(self) -> dict[str, Any]:
        """The issue as JSON."""
        return {**asdict(self), "remedy": self.remedy.name.lower() if self.remedy else None}


def verify(
    storage: Storage, repair: bool = False, progress: Progress | None = None, cancel: CancelToken | None = None
) -> list[Issue]:
    """Read the whole library and report its faults.

    Args:
        storage: of the library.
        repair: repair what can be repaired. Regions without a scan are removed, and so are scans with missing or wrong
            regions, or whose table or basis is lost. These can be added again, without computing if their embeddings are
            in the store. A table whose newest state is damaged goes back to the one before. Files that are no longer needed
            are deleted.
        progress: called with the fraction done and a message.
        cancel: checked between batches.

    Raises:
        LibraryError: there is no library, or it has another format.
        StoreError: a repair could not be written.
        Cancelled: `cancel` was called.
    """
    storage.require()
    found: list[Issue] = []
    encoders = storage.encoders()
    for number, encoder in enumerate(encoders):
        raise_if_cancelled(cancel)
        report(progress, number / len(encoders), f"Checking {encoder}")
        # A library in the middle of a change looks damaged, so writers must be finished.
        with storage.locked(cancel):
            found += _verify_encoder(storage, encoder, repair, cancel)
    report(progress, 1.0, "Checked")
    return found


def _verify_encoder(storage: Storage, encoder: str, repair: bool, cancel: CancelToken | None) -> list[Issue]:
    found = _check_states(storage, encoder, repair)
    lost = list(_find_lost(storage, encoder, cancel))
    if lost:
        return found + _remove_lost(storage, encoder, lost) if repair else lost
    found += _check_basis(storage, encoder, repair)
    tables = Tables(storage, encoder)
    if not tables.complete:
        return found  # there is only the basis
    records = tables.records()
    times = Counter(record.scan for record in records)
    regions, invalid = _count_regions(tables, cancel)
    orphans = {scan: count for scan, count in regions.items() if scan not in times}
    damaged = set(orphans)
    if orphans:
        text = f"{sum(orphans.values())} regions belong to no scan, because writing was interrupted."
        found.append(Issue("orphans", encoder, text, remedy=Remedy.REPAIR_LIBRARY))
    for scan, record in {record.scan: record for record in records}.items():
        issue = _check_scan(encoder, record, times[scan], regions[scan], invalid[scan])
        if issue is not None:
            found.append(issue)
            damaged |= {scan} if issue.harmful else set()
    if not repair:
        return found
    with explain_writing():
        storage.require_lock()
        tables.remove(sorted(damaged))
        compact(tables)
    return [_repaired(issue) if issue.harmful else issue for issue in found]


def _check_states(storage: Storage, encoder: str, repair: bool) -> list[Issue]:
    """States of the tables that cannot be read; a repair goes back to the newest that can."""
    found = []
    for name in ("regions", "scans"):
        tables = Tables(storage, encoder)
        what, then = "Damaged earlier states", "Searches do not use them."
        try:
            tables.find(name)
        except LibraryError:
            what, then = "Damaged states", "The newest is among them: the last change of the table is undone."
        count = tables.remove_damaged_states(name) if repair else tables.damaged_states(name)
        if count:
            text = f"{what} of the table '{name}': {count}. {then}"
            found.append(Issue("states", encoder, text, "", repair, None if repair else Remedy.REPAIR_LIBRARY))
    return found


def _check_basis(storage: Storage, encoder: str, repair: bool) -> list[Issue]:
    """The fault of a basis of which one of the two copies in its file is damaged; a repair restores both."""
    basis, damage = examine_basis(storage, encoder, copy_too=True)
    if not damage:
        return []
    if repair:
        with explain_writing():
            storage.require_lock()
            save_basis(storage, basis)
    text = f"{damage} The other copy in the same file is intact."
    return [Issue("basis", encoder, text, repaired=repair, remedy=None if repair else Remedy.REPAIR_LIBRARY)]


def _check_scan(encoder: str, record: ScanRecord, times: int, regions: int, invalid: int) -> Issue | None:
    """The fault of a scan, if any.

    Args:
        encoder: whose part of the library it is in.
        record: of the scan.
        times: how often it is in the table of scans.
        regions: number of its regions.
        invalid: number of its regions with impossible values.
    """
    if times > 1:
        kind, text = "double", f"The scan is in the library {times} times."
    elif regions != record.regions:
        kind, text = "incomplete", f"Only {regions} of its {record.regions} regions are in the library."
    elif invalid:
        kind = "values"
        text = f"{invalid} of its {record.regions} regions hold values that were never written, as from a faulty disk."
    elif record.path and record.exists is False:
        text = "The file no longer exists. Searches still find the scan; adding it from its new folder updates the path."
        return Issue("gone", encoder, text, record.path)
    else:
        return None
    return Issue(kind, encoder, text, record.path, remedy=Remedy.REPAIR_LIBRARY)


def _repaired(issue: Issue) -> Issue:
    if not issue.path:
        return replace(issue, repaired=True, remedy=None)
    return replace(issue, text=f"{issue.text} It was removed.", repaired=True, remedy=Remedy.ADD_SCANS_AGAIN)


def _count_regions(tables: Tables, cancel: CancelToken | None) -> tuple[Counter[str], Counter[str]]:
    """The number of regions of each scan, and of those whose vectors are not of unit length or whose RAS is not finite."""
    regions, invalid = Counter[str](), Counter[str]()
    for scans, ras, vectors in tables.batches(cancel):
        length = np.linalg.norm(vectors.astype(np.float32), axis=1)
        valid = (np.abs(length - 1) < _LENGTH_ERROR) & np.isfinite(ras).all(axis=1)
        regions.update(scans)
        invalid.update(scans[row] for row in np.flatnonzero(~valid))
    return regions, invalid


def _find_lost(storage: Storage, encoder: str, cancel: CancelToken | None) -> Iterator[Issue]:
    """Faults that make the whole part of an encoder unusable."""

    def issue(kind: str, text: str) -> Issue:
        return Issue(kind, encoder, text, remedy=Remedy.REPAIR_LIBRARY)

    try:
        basis: LibraryBasis | None = examine_basis(storage, encoder)[0]
    except LibraryError as error:
        basis = None
        yield issue("basis", f"{error} The regions cannot be searched without it.")
    tables = Tables(storage, encoder)
    for name in ("regions", "scans"):
        try:
            table = tables.find(name)
            if table is None:
                if not tables.empty:
                    yield issue("table", f"The table '{name}' is missing.")
                continue
            # Every value is read, because damage shows only where it is.
            for _ in table.batches(_BATCH_ROWS):
                raise_if_cancelled(cancel)
            if name == "regions" and basis is not None and table.vector_length != len(basis.projection):
                yield issue("basis", "The basis is for vectors of another length than those in the table of regions.")
        except LibraryError as error:
            yield issue("table", str(error))


def _remove_lost(storage: Storage, encoder: str, lost: list[Issue]) -> list[Issue]:
    """Remove the part of an encoder; reports the scans that were in it, if they can still be read."""
    tables = Tables(storage, encoder)
    try:
        records = tables.records() if tables.find("scans") is not None else []
    except LibraryError:
        records = []
    with explain(StoreError, "The damaged part of the library could not be removed", f"Delete {storage.root}."):
        tables.drop()
        storage.delete_file(basis_name(encoder))
    text = "It was removed with the damaged part of the library."
    removed = [Issue("incomplete", encoder, text, record.path, True, Remedy.ADD_SCANS_AGAIN) for record in records]
    return [_repaired(issue) for issue in lost] + removed
