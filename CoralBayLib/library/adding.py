"""Adding scans to a library: the plan, one scan after the other into plain rows, and each committed when it is done."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from ..encoders.base import Encoder
from ..errors import Cancelled, CoralBayError, EncoderError, LibraryError, StoreError, WeightsError
from ..paths import reason
from ..progress import CancelToken, Progress, check, report
from ..store import Store
from . import basis as bases
from .basis import LibraryBasis
from .folder import Folder
from .plan import LeftOut, ScanSource
from .rows import Draft, ScanRecord, draft_scan, read_source, rows_of
from .tables import Tables, lancedb, readable
from .writing import commit, finish, moved, settle_basis

FIRST = 8
"""Scans that a new basis is fitted on, drawn evenly from those to be added."""
_TIDY_EVERY = 100


@dataclass(frozen=True)
class Outcome:
    """What has become of one scan.

    Attributes:
        path: the scan's.
        state: "added"; "known" when the library has its voxels already; "moved" when it has them from a place where they
            no longer are; "left out".
        detail: why it was left out, or where the library knows it from.
        regions: how many were added.
        embedding_s: seconds it took to read and embed the scan.
        storing_s: seconds it took to write its rows.
    """

    path: str
    state: str
    detail: str = ""
    regions: int = 0
    embedding_s: float = 0.0
    storing_s: float = 0.0


@dataclass
class Adding:
    """One run of adding; iterate over it for the outcome of each scan.

    Attributes:
        folder: the library's.
        encoder: from `load_encoder`.
        scans: those to be looked at.
        left_out: files that are no scans.
        known: scans the library has from the same path with the same stamp.
        progress: told the fraction done and the time left.
        cancel: checked between the network's layers; what is done stays done.
        store: where embeddings are looked for and kept.
        assume_hu: skip the check that the values look like HU.
        with_uids: keep DICOM SeriesInstanceUIDs.
    """

    folder: Folder
    encoder: Encoder
    scans: Sequence[ScanSource]
    left_out: Sequence[LeftOut] = ()
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
        yield from (Outcome(each.path, "left out", each.reason) for each in self.left_out)
        yield from (Outcome(record.path, "known") for record in self.known)
        if not self.scans:
            return
        self._started = time.perf_counter()
        # Whatever stands in the way is better said before an hour of embedding than after it.
        with self.folder.locked(self.cancel):
            self.folder.create()
        self._records = known_scans(self.folder, self.encoder.name)
        path = self.folder.basis_path(self.encoder.name)
        if path.exists() or self._records:
            self._basis = LibraryBasis.load(path)
            self._basis.require_encoder(self.encoder)
        try:
            yield from self._all()
        except BaseException:
            # Whatever ended it is what the user is to hear of.
            with suppress(CoralBayError):
                self._finish()
            raise
        self._finish()
        report(self.progress, 1.0, "Done")

    def _finish(self) -> None:
        if self._committed:
            finish(self.folder, self.encoder.name)

    def _all(self) -> Iterator[Outcome]:
        waiting = list(self.scans)
        if self._basis is None:
            step = max(1, len(waiting) // FIRST)
            # Those drawn evenly come first, then the rest, so that bad files among them are made up for.
            order = [n for n in range(0, len(waiting), step)][:FIRST]
            waiting = [waiting[n] for n in order] + [s for n, s in enumerate(waiting) if n not in set(order)]
            drafts: list[tuple[Draft, float]] = []
            while waiting and len(drafts) < FIRST:
                made = self._draft(waiting.pop(0), drafts[0][0].levels if drafts else None)
                if isinstance(made, Outcome):
                    yield made
                elif made[0].record.scan in {draft.record.scan for draft, _ in drafts}:
                    yield Outcome(made[0].record.path, "known", "the same voxels twice in this run")
                else:
                    drafts.append(made)
            if not drafts:
                return
            self._basis = settle_basis(self.folder, bases.fit([draft for draft, _ in drafts]), self.cancel)
            for draft, seconds in drafts:
                yield self._commit(draft, seconds)
        for source in waiting:
            made = self._draft(source, self._basis.levels)
            yield made if isinstance(made, Outcome) else self._commit(*made)

    def _draft(self, source: ScanSource, levels: Sequence[str] | None) -> tuple[Draft, float] | Outcome:
        """The scan's regions and the seconds they took, or why there are none."""
        check(self.cancel)
        begin, before = time.perf_counter(), self._done

        def progress(fraction: float, message: str) -> None:
            done = (before + fraction) / len(self.scans)
            left = _left((time.perf_counter() - self._started) / done * (1 - done)) if before else ""
            report(self.progress, done, f"Scan {before + 1} of {len(self.scans)}{left}")

        progress(0.0, "")
        self._done += 1
        try:
            volume, scan = read_source(source)
            if scan in self._records:
                return self._met_again(source, self._records[scan])
            draft = draft_scan(
                source,
                volume,
                scan,
                self.encoder,
                progress,
                self.cancel,
                store=self.store,
                assume_hu=self.assume_hu,
                with_uids=self.with_uids,
                levels=levels,
            )
        except (Cancelled, EncoderError, WeightsError, StoreError, LibraryError):
            # None is the fault of this scan, and the next would meet with the same.
            raise
        except Exception as error:  # whatever is wrong with one scan, the others have a right to be tried
            return Outcome(source.path, "left out", str(error) if isinstance(error, CoralBayError) else _in_words(error))
        return draft, time.perf_counter() - begin

    def _met_again(self, source: ScanSource, record: ScanRecord) -> Outcome:
        if not source.path or record.path == source.path or record.there:
            if record.path == source.path and record.stamp != source.stamp:
                moved(self.folder, record, source.path, source.stamp, self.cancel)
            return Outcome(source.path, "known", "" if record.path == source.path else f"as {record.path}")
        self._records[record.scan] = moved(self.folder, record, source.path, source.stamp, self.cancel)
        return Outcome(source.path, "moved", f"from {record.path}" if record.path else "")

    def _commit(self, draft: Draft, seconds: float) -> Outcome:
        assert self._basis is not None
        begin = time.perf_counter()
        rows = rows_of(draft, self._basis)
        new = commit(self.folder, rows, self.cancel)
        self._committed += 1
        self._records[rows.record.scan] = rows.record
        if self._committed % _TIDY_EVERY == 0:
            finish(self.folder, self.encoder.name, self.cancel)
        took = time.perf_counter() - begin
        if not new:
            return Outcome(rows.record.path, "known", "added by another process meanwhile", 0, seconds, took)
        return Outcome(rows.record.path, "added", "", rows.record.regions, seconds, took)


def known_scans(folder: Folder, encoder: str) -> dict[str, ScanRecord]:
    """The scans a library has of an encoder, by their names in it; none when it does not exist yet.

    Raises:
        LibraryError: LanceDB is not installed, or the library is of another format or damaged.
    """
    lancedb()
    if not folder.exists():
        return {}
    folder.require()
    tables = Tables(folder, encoder)
    with readable("scans"):
        return {record.scan: record for record in tables.records()} if tables.complete else {}


def _left(seconds: float) -> str:
    if seconds < 90:
        return f", about {max(1, round(seconds))} s left"
    if seconds < 5400:
        return f", about {round(seconds / 60)} min left"
    return f", about {seconds / 3600:.1f} h left"


def _in_words(error: Exception) -> str:
    return f"It could not be used ({type(error).__name__}: {reason(error)})."
