"""A library of scans: search regions and scans that are similar to a query, across many scans.

A library keeps short vectors of each scan's tissue with their positions, and the path of its file, but no voxels. They are in
LanceDB tables, beside the basis that makes the vectors of all scans comparable.

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

from CoralBayLib.core.deprecation import deprecated_attribute, deprecated_names, deprecated_parameters
from CoralBayLib.core.errors import LibraryError, QueryError, Remedy
from CoralBayLib.core.progress import CancelToken, Progress
from CoralBayLib.encoders.base import Encoder
from CoralBayLib.encoders.language import require_text_encoder
from CoralBayLib.features.pyramid import FeaturePyramid
from CoralBayLib.features.store import Store
from CoralBayLib.imaging.discovery import ScanSource, Skipped, find_scans
from CoralBayLib.imaging.grid import Volume
from CoralBayLib.similarity.search import Query

from . import clusters, locations, outliers, reports, search, transactions, verify
from .basis import LibraryBasis, load_basis
from .clusters import Cluster, Clustering
from .drafts import scan_vector
from .export import export, export_clusters
from .ingest import Ingest, Outcome, known_scans
from .outliers import Outlier
from .records import ScanRecord, resolve_scan
from .search import RegionHit, ScanHit
from .stats import Stats, compute_stats
from .storage.format import slug
from .storage.open import default_location, open_storage
from .tables import Tables
from .verify import Issue
from .workers import DraftWorkers, LocalWorkers

__all__ = [
    "Cluster",
    "Clustering",
    "Issue",
    "Library",
    "Outcome",
    "Outlier",
    "RegionHit",
    "ScanHit",
    "ScanRecord",
    "Stats",
    "default_location",
]

__getattr__ = deprecated_names(__name__, {"Finding": "Issue", "default_place": "default_location"})


class Library:
    """A library in a folder or on object storage.

    Args:
        path: the folder, or an address of object storage such as `s3://bucket/folder`; it need not exist before the first
            `add`. `CORALBAY_LIBRARY` or `library` in the cache folder if None.

    Attributes:
        storage: its files, tables and lock.

    Raises:
        LibraryError: the address cannot be used.
    """

    folder = deprecated_attribute("folder", "storage")
    adding = deprecated_attribute("adding", "iter_add")

    def __init__(self, path: str | os.PathLike | None = None) -> None:
        self.storage = open_storage(path)
        locations.remember([self.storage.root])

    def add(
        self,
        scans: Volume | str | os.PathLike | Iterable[str | os.PathLike],
        encoder: Encoder,
        progress: Progress | None = None,
        cancel: CancelToken | None = None,
        **options: Any,
    ) -> list[Outcome]:
        """Add the scans that are new; arguments and errors as in `iter_add`. Returns the outcome of each scan."""
        return list(self.iter_add(scans, encoder, progress, cancel, **options))

    def iter_add(
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
        workers: DraftWorkers | None = None,
    ) -> Ingest:
        """Add the scans that are new while iterating, which gives the outcome of each scan as soon as it is done.

        A scan is in the library completely or not at all, whenever the work ends. It is recognized by its voxels and
        geometry, so a copy is not added twice. The basis is fitted on the first scans, which should be like those that
        follow.

        Args:
            scans: a volume, or files and folders to search for images and DICOM series.
            encoder: from `load_encoder`. A library can hold several encoders, each with one version of its weights.
            progress: called with the fraction done and a message that has the time left.
            cancel: checked between the network's layers; scans that were already added are kept.
            store: where embeddings are looked for and kept, so that none is computed twice.
            assume_hu: skip the check that the values look like HU.
            with_uids: keep DICOM SeriesInstanceUIDs.
            name: the path of a volume from memory in results.
            workers: make the drafts; `LocalWorkers` if None.

        Raises:
            LibraryError: LanceDB is not installed, or the folder holds no library of this format.
            EncoderError: the library has features of another version of this encoder.
            StoreError: the disk is full or the folder cannot be written; the library is as it was.
            Cancelled: `cancel` was called.
        """
        known = {record.path: record for record in known_scans(self.storage, encoder.name).values()}
        if isinstance(scans, Volume):
            found, skipped = [ScanSource(name, volume=scans)], list[Skipped]()
        else:
            paths = [scans] if isinstance(scans, (str, os.PathLike)) else list(scans)
            locations.remember(paths)
            fingerprints = {path: record.fingerprint for path, record in known.items()}
            found, skipped = find_scans(paths, fingerprints, progress, cancel)
        unchanged = {
            each.path
            for each in found
            if each.path in known and each.fingerprint and known[each.path].fingerprint == each.fingerprint
        }
        return Ingest(
            self.storage,
            encoder,
            workers or LocalWorkers(encoder),
            [each for each in found if each.path not in unchanged],
            skipped,
            [known[path] for path in sorted(unchanged)],
            progress,
            cancel,
            store,
            assume_hu,
            with_uids,
        )

    @deprecated_parameters(within="include", without="exclude", others="exclude_query_scan")
    def search_regions(
        self,
        pyramid: FeaturePyramid,
        query: Query,
        k: int = 10,
        *,
        min_distance_mm: float = 20.0,
        include: Sequence[str] | None = None,
        exclude: Sequence[str] = (),
        exclude_query_scan: bool = False,
        exact: bool = False,
    ) -> list[RegionHit]:
        """The regions of the library that are most similar to a query, best first.

        Args:
            pyramid: of the scan that the query is from, which need not be in the library.
            query: a position or region in that scan.
            k: maximum number of regions.
            min_distance_mm: minimum distance between two regions of one scan; of closer regions only the best is returned.
            include: scans to search, by path or by the first digits of their IDs; all if None.
            exclude: scans not to search.
            exclude_query_scan: do not search the scan that the query is from.
            exact: compare every region, without the approximate index.

        Raises:
            QueryError: the query lies outside its scan.
            EncoderError: the pyramid's features are not those of the library.
            LibraryError: there is no library, it is damaged, or has no such scan.
        """
        tables, basis = self._open(pyramid.identity["encoder"])
        vector = search.query_vector(basis, pyramid, query)
        query_scans, included, excluded = self._limits(tables, pyramid, include, exclude, exclude_query_scan)
        return search.search_regions(tables, vector, query_scans, k, min_distance_mm, included, excluded, exact)

    @deprecated_parameters(within="include", without="exclude", others="exclude_query_scan")
    def search_scans(
        self,
        pyramid: FeaturePyramid,
        k: int = 10,
        *,
        include: Sequence[str] | None = None,
        exclude: Sequence[str] = (),
        exclude_query_scan: bool = False,
    ) -> list[ScanHit]:
        """The scans of the library that are most similar to a scan; arguments and errors as in `search_regions`."""
        tables, basis = self._open(pyramid.identity["encoder"])
        basis.require(pyramid.identity, pyramid.signature, basis.levels)
        query_scans, included, excluded = self._limits(tables, pyramid, include, exclude, exclude_query_scan)
        return search.search_scans(tables, scan_vector(pyramid), query_scans, k, included, excluded)

    def search_text(
        self,
        text: str,
        encoder: Encoder,
        k: int = 10,
        *,
        include: Sequence[str] | None = None,
        exclude: Sequence[str] = (),
    ) -> list[ScanHit]:
        """The scans of the library that a text describes best.

        Args:
            text: in English, such as "pleural effusion".
            encoder: from `load_encoder`: the one whose features the library has, which embeds texts.
            k: maximum number of scans.
            include: scans to search, by path or by the first digits of their IDs; all if None.
            exclude: scans not to search.

        Raises:
            QueryError: the text is empty or too long.
            EncoderError: the encoder embeds no texts, its weights or setting are not those of the library, or a package is
                missing.
            WeightsError: the vocabulary is missing.
            LibraryError: there is no library, it is damaged, or has no such scan.
        """
        texts = require_text_encoder(encoder)
        tables, basis = self._open(encoder.name)
        basis.require_encoder(encoder)
        vector = texts.embed_text(text).float().numpy()
        _own, included, excluded = self._limits(tables, None, include, exclude, False)
        return search.search_scans(tables, vector, (), k, included, excluded)

    def scans(self, encoder: str | None = None) -> list[ScanRecord]:
        """The records of the scans of an encoder, or of all encoders, sorted by encoder and path.

        Raises:
            LibraryError: there is no library, or it is damaged.
        """
        self.storage.require()
        found: list[ScanRecord] = []
        for name in self.storage.encoders() if encoder is None else [encoder]:
            tables = Tables(self.storage, name)
            found += tables.records() if tables.complete else []
        return sorted(found, key=lambda record: (record.encoder, record.path))

    def remove(self, scan: str, cancel: CancelToken | None = None) -> list[ScanRecord]:
        """Remove a scan, of all encoders; returns its records.

        Args:
            scan: its path, or the first digits of its ID.
            cancel: ends waiting for another writer.

        Raises:
            LibraryError: there is no such scan, or the library is damaged.
            StoreError: the folder cannot be written.
        """
        records = self.scans()
        chosen = resolve_scan(records, scan)
        found = [record for record in records if record.scan == chosen]
        # First: a report without its scan, as after a crash, could not be removed by naming the scan.
        reports.remove_reports(self.storage, [chosen], cancel)
        for encoder in sorted({record.encoder for record in found}):
            transactions.remove(self.storage, encoder, [chosen], cancel)
        return found

    def report_count(self) -> int:
        """The number of scans that the library keeps a report with.

        Raises:
            LibraryError: the reports are damaged.
        """
        return len(reports.read_reports(self.storage))

    def verify(self, repair: bool = False, progress: Progress | None = None, cancel: CancelToken | None = None) -> list[Issue]:
        """Read the whole library and report its faults; see `verify.verify`."""
        return verify.verify(self.storage, repair, progress, cancel)

    def stats(self) -> list[Stats]:
        """The statistics of each encoder.

        Raises:
            LibraryError: there is no library, or it is damaged.
        """
        self.storage.require()
        return [compute_stats(self.storage, name) for name in self.storage.encoders()]

    def nbytes(self) -> int:
        """Size of the library in bytes."""
        return self.storage.nbytes()

    def outliers(
        self,
        encoder: str,
        labels: str | os.PathLike | None = None,
        least: float = outliers.LEAST_DEVIATIONS,
        read_files: bool = True,
        progress: Progress | None = None,
        cancel: CancelToken | None = None,
    ) -> list[Outlier]:
        """Scans, and segments of labeled ones, that are unlike the rest; see `outliers.find_outliers`."""
        return outliers.find_outliers(self._open(encoder)[0], labels, least, read_files, progress, cancel)

    def cluster(
        self,
        count: int,
        encoder: str,
        seed: int = 0,
        progress: Progress | None = None,
        cancel: CancelToken | None = None,
    ) -> Clustering:
        """Cluster the regions of all scans of an encoder by kind of anatomy; see `clusters.cluster`."""
        return clusters.cluster(self._open(encoder)[0], count, seed, progress, cancel)

    def cluster_map(self, clustering: Clustering, pyramid: FeaturePyramid, cancel: CancelToken | None = None) -> Volume:
        """The clusters as a labelmap of a scan, which need not be in the library; see `Clustering.labelmap`."""
        return clustering.labelmap(self._open(clustering.encoder)[1], pyramid, cancel)

    def export_clusters(self, clustering: Clustering, path: str | os.PathLike, cancel: CancelToken | None = None) -> None:
        """Write the cluster of every region as CSV or JSON; see `export.export_clusters`."""
        export_clusters(self._open(clustering.encoder)[0], clustering, path, cancel)

    def export(self, path: str | os.PathLike) -> int:
        """Write the list of scans as CSV or JSON, by the suffix; returns the number of scans.

        Raises:
            LibraryError: another suffix, or no library.
            StoreError: the file could not be written.
        """
        records = self.scans()
        export(records, path)
        return len(records)

    def require_encoder(self, encoder: str) -> None:
        """Check that the library has features of an encoder.

        Raises:
            LibraryError: it has none, or there is no library.
        """
        self.storage.require()
        encoders = self.storage.encoders()
        if slug(encoder) not in encoders:
            known = ", ".join(encoders) or "no encoder yet"
            raise LibraryError(
                f"The library holds features of {known}, but none of '{encoder}'.",
                remedy=Remedy.CHOOSE_ENCODER if encoders else Remedy.ADD_SCANS,
                encoder=encoder,
            )

    def _open(self, encoder: str) -> tuple[Tables, LibraryBasis]:
        self.require_encoder(encoder)
        basis = load_basis(self.storage, encoder)
        tables = Tables(self.storage, encoder)
        tables.require()
        return tables, basis

    def _limits(
        self,
        tables: Tables,
        pyramid: FeaturePyramid | None,
        include: Sequence[str] | None,
        exclude: Sequence[str],
        exclude_query_scan: bool,
    ) -> tuple[set[str], set[str] | None, set[str]]:
        """IDs of the scan that the query is from, of those to search, and of those not to search."""
        query_scans = {record.scan for record in tables.records_of(pyramid.key)} if pyramid is not None else set()
        records = tables.records() if include is not None or exclude else []
        included = {resolve_scan(records, each) for each in include} if include is not None else None
        excluded = {resolve_scan(records, each) for each in exclude}
        if included is not None and not included:
            raise QueryError("There is no scan to search in.")
        return query_scans, included, excluded | query_scans if exclude_query_scan else excluded
