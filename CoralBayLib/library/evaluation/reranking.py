"""Re-ranking of regions by their surroundings: neighbors of the query are compared with those at the same offsets.

Like late interaction for volumes (arXiv 2405.09334, after ColBERT), each vector around the query is compared with the most
similar one of the candidate, and the similarities are averaged. Here a neighbor counts only where it agrees in space: it is
searched near the candidate at the same offset in RAS mm.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .labeled_regions import LabeledRegions

CANDIDATES = 50
"""Results of the first search that are put in a new order."""
RADIUS_MM = 30.0
"""Neighbors of the query that are compared."""
TOLERANCE_MM = 12.0
"""How far from the same offset a neighbor of a candidate may be."""


def rerank(scan: LabeledRegions, row: int, candidates: Sequence[tuple[LabeledRegions, int]]) -> NDArray[np.int64]:
    """A new order of candidates.

    Args:
        scan: that the query is from.
        row: of the query in the scan.
        candidates: scan and row of each result, best first.

    Returns:
        Indices of the candidates, by the mean of their own similarity and that of their surroundings. A neighbor that a
        candidate lacks, because the body ends there, counts 0.
    """
    query = scan.points_ras[row]
    distance = np.linalg.norm(scan.points_ras - query, axis=1)
    near = np.flatnonzero((distance <= RADIUS_MM) & (distance > 0))
    offsets, around = scan.points_ras[near] - query, scan.vectors[near]
    scores = []
    for other, hit in candidates:
        own = float(other.vectors[hit] @ scan.vectors[row])
        center = other.points_ras[hit]
        close = np.flatnonzero(np.linalg.norm(other.points_ras - center, axis=1) <= RADIUS_MM + TOLERANCE_MM)
        agrees = np.linalg.norm((other.points_ras[close] - center)[None] - offsets[:, None], axis=2) <= TOLERANCE_MM
        similar = np.where(agrees, around @ other.vectors[close].T, 0.0)
        scores.append(own + float(similar.max(axis=1).mean()) if len(near) else own)
    return np.argsort(-np.array(scores), kind="stable")
