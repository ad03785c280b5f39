"""A library of scans: regions and scans like a query, across many scans.

What is kept of a scan are short vectors of its tissue with their places, and where its file lies; no voxels. They lie in
one folder, in LanceDB tables, beside the basis that makes the vectors of all scans comparable.

Example::

    from CoralBayLib.library import Library

    library = Library("archive")
    library.add("/data/scans", encoder)              # a folder, files, or a volume
    hits = library.search_regions(pyramid, Query.point([42, 21, -243]), k=10)
    for hit in hits:
        print(hit.rank, hit.score, hit.path, hit.ras)
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any

from CoralBayLib.core.errors import LibraryError, QueryError
from CoralBayLib.core.progress import CancelToken, Progress
from CoralBayLib.encoders.base import Encoder
from CoralBayLib.features.pyramid import FeaturePyramid
from CoralBayLib.features.store import Store
from CoralBayLib.imaging.grid import Volume
from CoralBayLib.similarity.search import Query

from . import clusters, search, transactions, verify
from .basis import LibraryBasis
from .clusters import Cluster, Clustering
from .discovery import LeftOut, ScanSource, find_scans
from .export import export, export_clusters
from .ingest import Adding, Outcome, known_scans
from .records import ScanRecord, named
from .search import RegionHit, ScanHit
from .stats import Stats, stats_of
from .storage.base import default_place, place_of
from .storage.folder import file_name
from .storage.lance import readable
from .tables import Tables
from .verify import Finding
from .workers import Here, Workers

__all__ = [
    "Cluster",
    "Clustering",
    "Finding",
    "Library",
    "Outcome",
    "RegionHit",
    "ScanHit",
    "ScanRecord",
    "Stats",
    "default_place",
]


class Library:
    """A library in a folder or on object storage.

    Args:
        path: the folder, or an address of object storage such as `s3://bucket/folder`; it need not exist before the first
            `add`. `CORALBAY_LIBRARY` or `library` in the cache folder when None.

    Raises:
        LibraryError: the path cannot be that of a library.
    """

    def __init__(self, path: str | os.PathLike | None = None) -> None:
        self.folder = place_of(path)

    def add(
        self,
        scans: Volume | str | os.PathLike | Iterable[str | os.PathLike],
        encoder: Encoder,
        progress: Progress | None = None,
        cancel: CancelToken | None = None,
        **options: Any,
    ) -> list[Outcome]:
        """Add what is new; arguments, options and errors are those of `adding`. Returns what has become of each scan."""
        return list(self.adding(scans, encoder, progress, cancel, **options))

    def adding(
        self,
        scans: Volume | str | os.PathLike | Iterable[str | os.PathLike],
        encoder: Encoder,
        progress: Progress | None = None,
        cancel: CancelToken | None = None,
        *,
        store: Store | None = None,
        assume_hu: bool = False,
        with_uids: bool = False,
        name: str = "",
        workers: Workers | None = None,
    ) -> Iterable[Outcome]:
        """Add what is new, and tell of each scan as soon as it is done.

        A scan is in the library as a whole or not at all, whenever the work ends. It is known by its voxels and geometry,
        so that a copy is not added twice. The first scans decide the basis: let them be of the kind that will follow.

        Args:
            scans: a volume, or files and folders to search for images and DICOM series.
            encoder: from `load_encoder`. A library may hold several, one version of each.
            progress: told the fraction done and the time left.
            cancel: checked between the network's layers; what is done stays done.
            store: where embeddings are looked for and kept; with one, no embedding is computed twice.
            assume_hu: skip the check that the values look like HU.
            with_uids: keep DICOM SeriesInstanceUIDs.
            name: what a volume from memory is called in results.
            workers: those who embed; this process when None.

        Raises:
            LibraryError: LanceDB is not installed, or the folder is no library of this format.
            EncoderError: the library has features of another version of this encoder.
            StoreError: the disk is full or the folder cannot be written; the library is as it was.
            Cancelled: `cancel` was called.
        """
        known = {record.path: record for record in known_scans(self.folder, encoder.name).values()}
        if isinstance(scans, Volume):
            found, left_out = [ScanSource(name, volume=scans)], list[LeftOut]()
        else:
            paths = [scans] if isinstance(scans, (str, os.PathLike)) else list(scans)
            found, left_out = find_scans(paths, {path: record.stamp for path, record in known.items()}, progress, cancel)
        same = [each for each in found if each.path in known and each.stamp and known[each.path].stamp == each.stamp]
        paths_same = {each.path for each in same}
        return Adding(
            self.folder,
            encoder,
            workers or Here(encoder),
            [each for each in found if each.path not in paths_same],
            left_out,
            [known[path] for path in sorted(paths_same)],
            progress,
            cancel,
            store,
            assume_hu,
            with_uids,
        )

    def search_regions(
        self,
        pyramid: FeaturePyramid,
        query: Query,
        k: int = 10,
        *,
        min_distance_mm: float = 20.0,
        within: Sequence[str] | None = None,
        without: Sequence[str] = (),
        others: bool = False,
        exact: bool = False,
    ) -> list[RegionHit]:
        """The regions of the library most like a query.

        Args:
            pyramid: of the scan the query is from, which need not be in the library.
            query: a place in it.
            k: the most regions to return.
            min_distance_mm: between two regions of one scan; of those nearer to each other the best is returned.
            within: scans to search, by path or by the first digits of their names; all when None.
            without: scans to leave out.
            others: leave out the scan the query is from.
            exact: compare every region, without the approximate index.

        Raises:
            QueryError: the query lies outside its scan.
            EncoderError: the pyramid's features are not those of the library.
            LibraryError: there is no library, it is damaged, or has no such scan.
        """
        tables, basis = self._open(pyramid.identity["encoder"])
        vector = search.query_vector(basis, pyramid, query)
        own, allowed, excluded = self._limits(tables, pyramid, within, without, others)
        return search.search_regions(tables, vector, own, k, min_distance_mm, allowed, excluded, exact)

    def search_scans(
        self,
        pyramid: FeaturePyramid,
        k: int = 10,
        *,
        within: Sequence[str] | None = None,
        without: Sequence[str] = (),
        others: bool = False,
    ) -> list[ScanHit]:
        """The scans of the library most like a scan; arguments and errors are those of `search_regions`."""
        tables, basis = self._open(pyramid.identity["encoder"])
        basis.require(pyramid.identity, pyramid.signature, basis.levels)
        own, allowed, excluded = self._limits(tables, pyramid, within, without, others)
        return search.search_scans(tables, pyramid, own, k, allowed, excluded)

    def scans(self, encoder: str | None = None) -> list[ScanRecord]:
        """What is told of the scans of an encoder, or of all encoders, by path.

        Raises:
            LibraryError: there is no library, or it is damaged.
        """
        self.folder.require()
        names = self.folder.names() if encoder is None else [file_name(encoder)]
        found: list[ScanRecord] = []
        for name in names:
            tables = Tables(self.folder, name)
            with readable("scans"):
                found += tables.records() if tables.complete else []
        return sorted(found, key=lambda record: (record.encoder, record.path))

    def remove(self, scan: str, cancel: CancelToken | None = None) -> list[ScanRecord]:
        """Remove a scan, of all encoders; returns what was told of it.

        Args:
            scan: its path, or the first digits of its name.
            cancel: ends waiting for another writer.

        Raises:
            LibraryError: there is no such scan, or the library is damaged.
            StoreError: the folder cannot be written.
        """
        chosen = set(named(self.scans(), scan))
        found = [record for record in self.scans() if record.scan in chosen]
        for encoder in sorted({record.encoder for record in found}):
            transactions.remove(self.folder, encoder, sorted(chosen), cancel)
        return found

    def verify(
        self, repair: bool = False, progress: Progress | None = None, cancel: CancelToken | None = None
    ) -> list[Finding]:
        """Read the whole library and say what is wrong with it; see `checks.verify`."""
        return verify.verify(self.folder, repair, progress, cancel)

    def stats(self) -> list[Stats]:
        """What the library holds, an entry for each encoder.

        Raises:
            LibraryError: there is no library, or it is damaged.
        """
        self.folder.require()
        return [stats_of(self.folder, name) for name in self.folder.names()]

    def nbytes(self) -> int:
        """Bytes of the library's files."""
        return self.folder.nbytes()

    def cluster(
        self,
        count: int,
        encoder: str,
        seed: int = 0,
        progress: Progress | None = None,
        cancel: CancelToken | None = None,
    ) -> Clustering:
        """Clusters of the regions of all scans of an encoder, so that one is one kind of anatomy; see `clusters.cluster`."""
        return clusters.cluster(self._open(encoder)[0], count, seed, progress, cancel)

    def cluster_map(self, clustering: Clustering, pyramid: FeaturePyramid, cancel: CancelToken | None = None) -> Volume:
        """The clusters as a labelmap of a scan, which need not be in the library; see `Clustering.map_of`."""
        return clustering.map_of(self._open(clustering.encoder)[1], pyramid, cancel)

    def export_clusters(self, clustering: Clustering, path: str | os.PathLike, cancel: CancelToken | None = None) -> None:
        """Write the cluster of every region as CSV or JSON; see `exporting.export_clusters`."""
        export_clusters(self._open(clustering.encoder)[0], clustering, path, cancel)

    def export(self, path: str | os.PathLike) -> int:
        """Write the list of scans as CSV or JSON by the suffix; returns how many there are.

        Raises:
            LibraryError: another suffix, or no library.
            StoreError: the file could not be written.
        """
        records = self.scans()
        export(records, path)
        return len(records)

    def _open(self, encoder: str) -> tuple[Tables, LibraryBasis]:
        self.folder.require()
        if file_name(encoder) not in self.folder.names():
            known = ", ".join(self.folder.names()) or "no encoder yet"
            raise LibraryError(
                f"The library holds features of {known}, none of '{encoder}'. Choose one of them with --encoder."
            )
        basis = self.folder.load_basis(encoder)
        tables = Tables(self.folder, encoder)
        tables.require()
        return tables, basis

    def _limits(
        self, tables: Tables, pyramid: FeaturePyramid, within: Sequence[str] | None, without: Sequence[str], others: bool
    ) -> tuple[set[str], set[str] | None, set[str]]:
        """The query's own scans, those to search, and those to leave out, all by name."""
        with readable("scans"):
            own = {record.scan for record in tables.records_of(pyramid.key)}
            records = tables.records() if within is not None or without else []
        allowed = {name for each in within for name in named(records, each)} if within is not None else None
        excluded = {name for each in without for name in named(records, each)}
        if allowed is not None and not allowed:
            raise QueryError("There is no scan to search in.")
        return own, allowed, excluded | own if others else excluded
