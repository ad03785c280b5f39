"""Which regions, and which scans, of a library are like a query."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from CoralBayLib.core.errors import QueryError
from CoralBayLib.features.pyramid import FeaturePyramid
from CoralBayLib.similarity.search import Query

from .basis import LibraryBasis
from .index import nearest
from .records import is_there, scan_vector
from .storage.lance import readable
from .tables import Tables, among

_FIRST_FETCH = 20
"""Candidates for each wanted region in the first fetch: about as many lie in a ball of 20 mm."""


@dataclass(frozen=True)
class RegionHit:
    """A region of the library.

    Attributes:
        rank: from 1.
        score: cosine with the query, at most 1.
        ras: (R, A, S) mm in its scan's own space.
        scan: its name in the library.
        path: where the scan was when it was added.
        there: whether it still is.
        own: whether it lies in the scan that the query is from.
    """

    rank: int
    score: float
    ras: tuple[float, float, float]
    scan: str
    path: str
    there: bool
    own: bool


@dataclass(frozen=True)
class ScanHit:
    """A scan of the library; the attributes are those of `RegionHit`."""

    rank: int
    score: float
    scan: str
    path: str
    there: bool
    own: bool


def as_dict(hit: RegionHit | ScanHit) -> dict[str, Any]:
    """The hit as JSON can say it."""
    return asdict(hit)


def query_vector(basis: LibraryBasis, pyramid: FeaturePyramid, query: Query) -> np.ndarray:
    """The query's (D,) float32 vector in a library's basis.

    Raises:
        QueryError: the query lies outside the scan.
        EncoderError: the scan has other features than the library.
    """
    vector = basis.view(pyramid).sample_whitened(query.inside(pyramid)).mean(dim=0)
    if not torch.isfinite(vector).all() or float(vector.norm()) < 1e-6:
        raise QueryError("The features at this place say nothing. Point at another place.")
    return vector.float().numpy()


def search_regions(
    tables: Tables,
    vector: np.ndarray,
    own: Collection[str],
    k: int,
    min_distance_mm: float,
    allowed: Collection[str] | None,
    excluded: Collection[str],
    exact: bool = False,
) -> list[RegionHit]:
    """The regions most like a vector, of each scan only such as keep a distance from each other.

    Args:
        tables: of the encoder.
        vector: (D,) in the library's basis.
        own: scans that the query is from.
        k: the most regions to return.
        min_distance_mm: between two regions of a scan.
        allowed: scans to search; all when None.
        excluded: scans to leave out.
        exact: compare every region, without the index.
    """
    if k < 1 or min_distance_mm < 0:
        raise QueryError(f"Expected k of at least 1 and a distance of at least 0 mm, got {k} and {min_distance_mm}.")
    with readable("regions"):
        total, count = tables.regions.count_rows(), k * _FIRST_FETCH
        condition = _condition(allowed, excluded)
        known: dict[str, str | None] = {}
        while True:
            found = nearest(tables.regions, vector, min(count, max(1, total)), exact)
            if condition:
                found = found.where(condition)
            rows = found.select(["scan", "ras", "_distance"]).to_arrow()
            names = rows["scan"].to_pylist()
            new = {name for name in names if name not in known}
            # A region without a scan is being written, or was left by a writer that was killed.
            known.update(dict.fromkeys(new))
            known.update(tables.paths(new) if new else {})
            places = np.array(rows["ras"].to_pylist(), dtype=np.float64).reshape(-1, 3)
            scores = 1.0 - rows["_distance"].to_numpy()
            hits = _spread(names, places, scores, known, own, k, min_distance_mm)
            if len(hits) == k or len(names) < count:
                return hits
            count *= 4


def _spread(
    names: list[str],
    places: np.ndarray,
    scores: np.ndarray,
    known: dict[str, str | None],
    own: Collection[str],
    k: int,
    min_distance_mm: float,
) -> list[RegionHit]:
    """The first k that keep their distance."""
    kept: dict[str, list[np.ndarray]] = {}
    hits: list[RegionHit] = []
    for name, place, score in zip(names, places, scores, strict=True):
        path = known[name]
        near = kept.setdefault(name, [])
        if path is None or any(np.linalg.norm(place - other) < min_distance_mm for other in near):
            continue
        near.append(place)
        ras = (float(place[0]), float(place[1]), float(place[2]))
        hits.append(RegionHit(len(hits) + 1, float(score), ras, name, path, is_there(path), name in own))
        if len(hits) == k:
            break
    return hits


def search_scans(
    tables: Tables,
    pyramid: FeaturePyramid,
    own: Collection[str],
    k: int,
    allowed: Collection[str] | None,
    excluded: Collection[str],
) -> list[ScanHit]:
    """The scans most like a scan, by the cosine of their vectors."""
    if k < 1:
        raise QueryError(f"Expected k of at least 1, got {k}.")
    with readable("scans"):
        query = tables.scans.search(scan_vector(pyramid), vector_column_name="vector").distance_type("cosine").limit(k)
        condition = _condition(allowed, excluded)
        if condition:
            query = query.where(condition)
        rows = query.select(["scan", "_distance"]).to_arrow()
        names = rows["scan"].to_pylist()
        paths = tables.paths(names)
        scores = 1.0 - rows["_distance"].to_numpy()
    # One may have been removed in between.
    left = [(name, float(score)) for name, score in zip(names, scores, strict=True) if name in paths]
    return [
        ScanHit(rank, score, name, paths[name], is_there(paths[name]), name in own)
        for rank, (name, score) in enumerate(left, 1)
    ]


def _condition(allowed: Collection[str] | None, excluded: Collection[str]) -> str:
    parts = [among(allowed)] if allowed is not None else []
    parts += [f"NOT ({among(excluded)})"] if excluded else []
    return " AND ".join(parts)
