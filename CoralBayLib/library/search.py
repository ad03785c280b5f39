"""Search of a library: the regions, and the scans, that are most similar to a query."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from CoralBayLib.core.deprecation import deprecated_attribute
from CoralBayLib.core.errors import QueryError
from CoralBayLib.features.pyramid import FeaturePyramid
from CoralBayLib.similarity.search import Query

from .basis import LibraryBasis
from .locations import file_exists
from .storage.index import nearest
from .tables import Tables, sql_in

_CANDIDATES = 20
"""Candidates per requested region in the first search: about as many as lie within 20 mm of a region."""
_JSON_KEYS = {"file_exists": "there", "is_query_scan": "own"}


class _Hit:
    """What hits of both kinds have."""

    there = deprecated_attribute("there", "file_exists")
    own = deprecated_attribute("own", "is_query_scan")

    def as_dict(self) -> dict[str, Any]:
        """The hit as JSON."""
        return {_JSON_KEYS.get(each.name, each.name): getattr(self, each.name) for each in fields(self)}  # type: ignore[arg-type]


@dataclass(frozen=True)
class RegionHit(_Hit):
    """A region of the library that was found.

    Attributes:
        rank: from 1.
        score: cosine with the query, at most 1.
        ras: (R, A, S) mm in the space of its scan.
        scan: ID of its scan in the library.
        path: where the scan was when it was added.
        file_exists: whether it is still there; None if that was not looked at, see `locations.file_exists`.
        is_query_scan: whether its scan is the one that the query is from.
    """

    rank: int
    score: float
    ras: tuple[float, float, float]
    scan: str
    path: str
    file_exists: bool | None
    is_query_scan: bool


@dataclass(frozen=True)
class ScanHit(_Hit):
    """A scan of the library that was found; the attributes are those of `RegionHit`."""

    rank: int
    score: float
    scan: str
    path: str
    file_exists: bool | None
    is_query_scan: bool


def query_vector(basis: LibraryBasis, pyramid: FeaturePyramid, query: Query) -> NDArray[np.float32]:
    """The (D,) vector of a query in a library's basis.

    Raises:
        QueryError: the query lies outside the scan, or its features are at the mean of the library.
        EncoderError: the scan's features are not those of the library.
    """
    vector = basis.view(pyramid).sample_whitened(query.inside(pyramid)).mean(dim=0)
    if not torch.isfinite(vector).all() or float(vector.norm()) < 1e-6:
        raise QueryError("The features at this position are not distinctive. Choose another position.")
    return vector.float().numpy()


def search_regions(
    tables: Tables,
    vector: NDArray[np.float32],
    query_scans: Collection[str],
    k: int,
    min_distance_mm: float,
    included: Collection[str] | None,
    excluded: Collection[str],
    exact: bool = False,
) -> list[RegionHit]:
    """The regions most similar to a vector, best first, with a minimum distance between those of one scan.

    Args:
        tables: of the encoder.
        vector: (D,) in the library's basis.
        query_scans: IDs of the scan that the query is from.
        k: maximum number of regions.
        min_distance_mm: between two regions of one scan.
        included: IDs of scans to search; all if None.
        excluded: IDs of scans not to search.
        exact: compare every region, without the index.

    Raises:
        QueryError: k or the distance is out of range.
        LibraryError: a table cannot be read.
    """
    if k < 1 or min_distance_mm < 0:
        raise QueryError(f"Expected k of at least 1 and a distance of at least 0 mm, got {k} and {min_distance_mm}.")
    total, count = tables.regions.count(), k * _CANDIDATES
    where = _condition(included, excluded)
    paths: dict[str, str | None] = {}
    while True:
        columns = ["scan", "ras", "_distance"]
        rows = nearest(tables.regions, vector, min(count, max(1, total)), columns, where, exact)
        scans = rows["scan"].to_pylist()
        new = {scan for scan in scans if scan not in paths}
        # A region without a scan is being written, or was left by a writer that was killed.
        paths.update(dict.fromkeys(new))
        paths.update(tables.paths(new) if new else {})
        points = np.array(rows["ras"].to_pylist(), dtype=np.float64).reshape(-1, 3)
        scores = 1.0 - rows["_distance"].to_numpy()
        hits = _suppress_neighbors(scans, points, scores, paths, query_scans, k, min_distance_mm)
        if len(hits) == k or len(scans) < count:
            return hits
        count *= 4


def _suppress_neighbors(
    scans: list[str],
    points: NDArray[np.float64],
    scores: NDArray[np.float64],
    paths: dict[str, str | None],
    query_scans: Collection[str],
    k: int,
    min_distance_mm: float,
) -> list[RegionHit]:
    """The first k candidates that keep the distance from better ones of the same scan."""
    kept: dict[str, list[NDArray]] = {}
    hits: list[RegionHit] = []
    for scan, point, score in zip(scans, points, scores, strict=True):
        path = paths[scan]
        near = kept.setdefault(scan, [])
        if path is None or any(np.linalg.norm(point - other) < min_distance_mm for other in near):
            continue
        near.append(point)
        ras = (float(point[0]), float(point[1]), float(point[2]))
        hits.append(RegionHit(len(hits) + 1, float(score), ras, scan, path, file_exists(path), scan in query_scans))
        if len(hits) == k:
            break
    return hits


def search_scans(
    tables: Tables,
    vector: NDArray[np.float32],
    query_scans: Collection[str],
    k: int,
    included: Collection[str] | None,
    excluded: Collection[str],
) -> list[ScanHit]:
    """The scans whose vectors are most similar to a vector by cosine, best first.

    Args:
        tables: of the encoder.
        vector: (S,) of a scan, see `scan_vector`, or of a text.
        query_scans: IDs of the scan that the query is from.
        k: maximum number of scans.
        included: IDs of scans to search; all if None.
        excluded: IDs of scans not to search.

    Raises:
        QueryError: k is out of range.
        LibraryError: a table cannot be read.
    """
    if k < 1:
        raise QueryError(f"Expected k of at least 1, got {k}.")
    rows = tables.scans.nearest(vector, k, ["scan", "_distance"], _condition(included, excluded))
    scans = rows["scan"].to_pylist()
    paths = tables.paths(scans)
    scores = 1.0 - rows["_distance"].to_numpy()
    # One may have been removed in between.
    found = [(scan, float(score)) for scan, score in zip(scans, scores, strict=True) if scan in paths]
    return [
        ScanHit(rank, score, scan, paths[scan], file_exists(paths[scan]), scan in query_scans)
        for rank, (scan, score) in enumerate(found, 1)
    ]


def _condition(included: Collection[str] | None, excluded: Collection[str]) -> str:
    parts = [sql_in(included)] if included is not None else []
    parts += [f"NOT ({sql_in(excluded)})"] if excluded else []
    return " AND ".join(parts)
