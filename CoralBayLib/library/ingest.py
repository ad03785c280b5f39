"""Adding scans to a library: the plan, one scan after the other into plain rows, and each committed when it is done."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from CoralBayLib.core.errors import CoralBayError
from CoralBayLib.core.formatting import format_duration
from CoralBayLib.core.progress import CancelToken, Progress, report, seconds_left
from CoralBayLib.encoders.base import Encoder
from CoralBayLib.features.store import Store

from . import basis as bases
from .basis import LibraryBasis
from .discovery import LeftOut, ScanSource
from .records import Draft, ScanRecord, rows_of
from .storage.base import Place
from .storage.lance import lancedb, readable
from .tables import Tables
from .transactions import commit, finish, moved, settle_basis
from .workers import Made, Wanted, Workers

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
        workers: those who embed.
        scans: those to be looked at.
        left_out: files that are no scans.
        known: scans the library has from the same path with the same stamp.
        progress: told the fraction done and the time left.
        cancel: checked between the network's layers; what is done stays done.
        store: where embeddings are looked for and kept.
        assume_hu: skip the check that the values look like HU.
        with_uids: keep DICOM SeriesInstanceUIDs.
    """

    folder: Place
    encoder: Encoder
    workers: Workers
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
        if self.folder.has_basis(self.encoder.name) or self._records:
            self._basis = self.folder.load_basis(self.encoder.name)
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
        held: list[Made] = []
        for made in self._made():
            self._done += 1
            if made.draft is None:
                yield self._met_again(made) if made.known else Outcome(made.source.path, "left out", made.reason)
            elif self._basis is not None:
                yield self._commit(made, made.draft)
            else:
                held.append(made)
                if len(held) == FIRST:
                    yield from self._settle(held)
        if self._basis is None and held:
            yield from self._settle(held)

    def _made(self) -> Iterator[Made]:
        """What comes of each scan."""
        wanted = Wanted(self._records, None, self.store, self.assume_hu, self.with_uids)
        waiting = list(self.scans)
        if self._basis is None:
            # Those drawn evenly come first, then the rest, so that bad files among them are made up for.
            first = range(0, len(waiting), max(1, len(waiting) // FIRST))[:FIRST]
            waiting = [waiting[n] for n in first] + [each for n, each in enumerate(waiting) if n not in first]
            # The first that can be used decides which levels are compared.
            while waiting:
                (made,) = self.workers.drafts([waiting.pop(0)], wanted, self._tell, self.cancel)
                yield made
                if made.draft is not None:
                    wanted = replace(wanted, levels=made.draft.levels)
                    break
        else:
            wanted = replace(wanted, levels=self._basis.levels)
        yield from self.workers.drafts(waiting, wanted, self._tell, self.cancel)

    def _settle(self, held: list[Made]) -> Iterator[Outcome]:
        """Fit the basis on the scans that wait for it, and write them."""
        drafts = {made.draft.record.scan: made.draft for made in held if made.draft is not None}
        self._basis = settle_basis(self.folder, bases.fit(list(drafts.values())), self.cancel)
        for made in held:
            assert made.draft is not None
            yield self._commit(made, made.draft)

    def _tell(self, fraction: float, message: str) -> None:
        done = min(1.0, (self._done + fraction) / len(self.scans))
        seconds = seconds_left(time.perf_counter() - self._started, done) if self._done else None
        left = f", about {format_duration(seconds)} left" if seconds is not None else ""
        report(self.progress, done, f"Scan {min(self._done + 1, len(self.scans))} of {len(self.scans)}{left}")

    def _met_again(self, made: Made) -> Outcome:
        source, record = made.source, self._records[made.known]
        if not source.path or record.path == source.path or record.there:
            if record.path == source.path and record.stamp != source.stamp:
                moved(self.folder, record, source.path, source.stamp, self.cancel)
            return Outcome(source.path, "known", "" if record.path == source.path else f"as {record.path}")
        self._records[record.scan] = moved(self.folder, record, source.path, source.stamp, self.cancel)
        return Outcome(source.path, "moved", f"from {record.path}" if record.path else "")

    def _commit(self, made: Made, draft: Draft) -> Outcome:
        assert self._basis is not None
        begin = time.perf_counter()
        rows = rows_of(draft, self._basis)
        path = rows.record.path
        # A file that was written anew: what it held before is nowhere to be found now.
        replaced = [each.scan for each in self._records.values() if each.path == path and each.stamp]
        new = commit(self.folder, rows, replaced, self.cancel)
        self._committed += 1
        for scan in replaced:
            del self._records[scan]
        self._records[rows.record.scan] = rows.record
        if self._committed % _TIDY_EVERY == 0:
            finish(self.folder, self.encoder.name, self.cancel)
        took = time.perf_counter() - begin
        if not new:
            return Outcome(path, "known", "its voxels have been added meanwhile", 0, made.seconds, took)
        detail = "in place of what the file held before" if replaced else ""
        return Outcome(path, "added", detail, rows.record.regions, made.seconds, took)


def known_scans(folder: Place, encoder: str) -> dict[str, ScanRecord]:
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
