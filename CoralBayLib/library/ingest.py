"""Adding scans to a library: each is embedded, projected with the library's basis, and committed before the next."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from CoralBayLib.core.errors import CoralBayError, Remedy
from CoralBayLib.core.formatting import format_duration
from CoralBayLib.core.progress import CancelToken, Progress, report, seconds_left
from CoralBayLib.encoders.base import Encoder
from CoralBayLib.features.store import Store
from CoralBayLib.imaging.discovery import ScanSource, Skipped

from .basis import LibraryBasis, fit_basis, has_basis, load_basis
from .drafts import DraftOptions, DraftResult, project_draft
from .records import Draft, ScanRecord
from .storage.base import Storage
from .storage.lance import import_lancedb
from .tables import Tables
from .transactions import commit, ensure_basis, finish, update_path
from .workers import DraftWorkers

FIRST = 8
"""Number of scans that a new basis is fitted on, spread evenly over those to be added."""
_COMPACT_EVERY = 100
"""Number of committed scans after which the tables are compacted."""


@dataclass(frozen=True)
class Outcome:
    """What happened to one scan.

    Attributes:
        path: of the scan.
        state: "added"; "known" if the library has these voxels already; "moved" if it has them with a path that no longer
            exists, which was updated; "left out".
        detail: why it was left out, or the path under which the library knows it.
        regions: number of regions that were added.
        embedding_s: seconds for reading and embedding the scan.
        storing_s: seconds for writing its rows.
        remedy: what can be done if it was left out.
    """

    path: str
    state: str
    detail: str = ""
    regions: int = 0
    embedding_s: float = 0.0
    storing_s: float = 0.0
    remedy: Remedy | None = None

    def as_dict(self) -> dict[str, Any]:
        """The outcome as JSON."""
        return {**asdict(self), "remedy": self.remedy.name.lower() if self.remedy else None}


@dataclass
class Ingest:
    """One run of adding; iterating over it adds the scans and gives the `Outcome` of each.

    Attributes:
        storage: of the library.
        encoder: from `load_encoder`.
        workers: make the drafts.
        scans: to be added.
        skipped: files and folders that are no scans.
        known: scans that the library has with the same path and fingerprint.
        progress: called with the fraction done and a message that has the time left.
        cancel: checked between the network's layers; scans that were already added are kept.
        store: where embeddings are looked for and kept.
        assume_hu: skip the check that the values look like HU.
        with_uids: keep DICOM SeriesInstanceUIDs.
    """

    storage: Storage
    encoder: Encoder
    workers: DraftWorkers
    scans: Sequence[ScanSource]
    skipped: Sequence[Skipped] = ()
    known: Sequence[ScanRecord] = ()
    progress: Progress | None = None
    cancel: CancelToken | None = None
    store: Store | None = None
    assume_hu: bool = False
    with_uids: bool = False
    _basis: LibraryBasis | None = None
    _records: dict[str, ScanRecord] = field(default_factory=dict)
    _started: float = 0.0
    _done: int = 0
    _committed: int = 0

    def __iter__(self) -> Iterator[Outcome]:
        yield from (Outcome(each.path, "left out", each.reason) for each in self.skipped)
        yield from (Outcome(record.path, "known") for record in self.known)
        if not self.scans:
            return
        self._started = time.perf_counter()
        # Before the first scan is embedded, so that errors come at once.
        with self.storage.locked(self.cancel):
            self.storage.create()
        self._records = known_scans(self.storage, self.encoder.name)
        if has_basis(self.storage, self.encoder.name) or self._records:
            self._basis = load_basis(self.storage, self.encoder.name)
            self._basis.require_encoder(self.encoder)
        try:
            yield from self._add_all()
        except BaseException:
            # The error that ended the run must not be hidden by another.
            with suppress(CoralBayError):
                self._finish()
            raise
        self._finish()
        report(self.progress, 1.0, "Done")

    def _finish(self) -> None:
        if self._committed:
            finish(self.storage, self.encoder.name)

    def _add_all(self) -> Iterator[Outcome]:
        waiting: list[tuple[DraftResult, Draft]] = []
        for result in self._results():
            self._done += 1
            if result.draft is None:
                yield self._without_draft(result)
            elif self._basis is not None:
                yield self._commit(self._basis, result, result.draft)
            else:
                waiting.append((result, result.draft))
                if len(waiting) == FIRST:
                    yield from self._commit_first(waiting)
        if self._basis is None and waiting:
            yield from self._commit_first(waiting)

    def _results(self) -> Iterator[DraftResult]:
        options = DraftOptions(self._records, None, self.store, self.assume_hu, self.with_uids)
        waiting = list(self.scans)
        if self._basis is None:
            # Scans spread evenly over all come first, then the others, which replace those that cannot be used.
            first = range(0, len(waiting), max(1, len(waiting) // FIRST))[:FIRST]
            waiting = [waiting[n] for n in first] + [each for n, each in enumerate(waiting) if n not in first]
            # The first scan that can be used decides which levels are compared.
            while waiting:
                (result,) = self.workers.drafts([waiting.pop(0)], options, self._report, self.cancel)
                yield result
                if result.draft is not None:
                    options = replace(options, levels=result.draft.levels)
                    break
        else:
            options = replace(options, levels=self._basis.levels)
        yield from self.workers.drafts(waiting, options, self._report, self.cancel)

    def _commit_first(self, waiting: list[tuple[DraftResult, Draft]]) -> Iterator[Outcome]:
        """Fit the basis on the scans that wait for it, and commit them."""
        drafts = {draft.record.scan: draft for _, draft in waiting}
        self._basis = ensure_basis(self.storage, fit_basis(list(drafts.values())), self.cancel)
        for result, draft in waiting:
            yield self._commit(self._basis, result, draft)

    def _report(self, fraction: float, _message: str) -> None:
        done = min(1.0, (self._done + fraction) / len(self.scans))
        seconds = seconds_left(time.perf_counter() - self._started, done) if self._done else None
        left = f", about {format_duration(seconds)} left" if seconds is not None else ""
        report(self.progress, done, f"Scan {min(self._done + 1, len(self.scans))} of {len(self.scans)}{left}")

    def _without_draft(self, result: DraftResult) -> Outcome:
        """Of a scan that is known or could not be used."""
        source = result.source
        if not result.known:
            return Outcome(source.path, "left out", result.reason, remedy=result.remedy)
        record = self._records[result.known]
        if not source.path or record.path == source.path or record.exists is not False:
            if record.path == source.path and record.fingerprint != source.fingerprint:
                update_path(self.storage, record, source.path, source.fingerprint, self.cancel)
            return Outcome(source.path, "known", "" if record.path == source.path else f"as {record.path}")
        self._records[record.scan] = update_path(self.storage, record, source.path, source.fingerprint, self.cancel)
        return Outcome(source.path, "moved", f"from {record.path}" if record.path else "")

    def _commit(self, basis: LibraryBasis, result: DraftResult, draft: Draft) -> Outcome:
        begin = time.perf_counter()
        rows = project_draft(draft, basis)
        path = rows.record.path
        # If the file was overwritten, the scan that it held before no longer exists.
        replaced = [each.scan for each in self._records.values() if each.path == path and each.fingerprint]
        is_new = commit(self.storage, rows, replaced, self.cancel)
        self._committed += 1
        for scan in replaced:
            del self._records[scan]
        self._records[rows.record.scan] = rows.record
        if self._committed % _COMPACT_EVERY == 0:
            finish(self.storage, self.encoder.name, self.cancel)
        seconds = time.perf_counter() - begin
        if not is_new:
            return Outcome(path, "known", "its voxels were added meanwhile", 0, result.seconds, seconds)
        detail = "in place of what the file held before" if replaced else ""
        return Outcome(path, "added", detail, rows.record.regions, result.seconds, seconds)


def known_scans(storage: Storage, encoder: str) -> dict[str, ScanRecord]:
    """The records of an encoder's scans by ID; none if the library does not exist yet.

    Raises:
        LibraryError: LanceDB is not installed, or the library is of another format or damaged.
    """
    import_lancedb()
    if not storage.exists():
        return {}
    storage.require()
    tables = Tables(storage, encoder)
    return {record.scan: record for record in tables.records()} if tables.complete else {}
