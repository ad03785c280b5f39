"""The search for similar regions, on the worker: plain data in, plain data out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from CoralBayLib.core.progress import CancelToken, Progress, raise_if_cancelled


@dataclass(frozen=True, eq=False)
class Similarity:
    """What the views and the table show of one scan.

    Attributes:
        node_id: of the volume.
        percents: similarity, (K, J, I) uint8; negative cosines are 0.
        geometry: (4, 4), IJK to the volume's own RAS mm.
        places: (N, 3) peaks in the volume's own RAS mm, by falling score.
        scores: (N,).
        volumes_ml: (N,).
        leaders: (N,) index of the highest peak of the piece that a peak lies in: its own, or an earlier one.
        pieces: uint16 [k, j, i], the rank (from 1) of the region a voxel belongs to.
    """

    node_id: str
    percents: NDArray[np.uint8]
    geometry: NDArray[np.float64]
    places: NDArray[np.float64]
    scores: NDArray[np.float64]
    volumes_ml: NDArray[np.float64]
    leaders: NDArray[np.int64]
    pieces: NDArray[np.uint16]


def similar(
    pyramids: dict[str, Any],
    query_id: str,
    points: NDArray[np.float64],
    count: int,
    distance_mm: float,
    threshold: float,
    progress: Progress | None = None,
    cancel: CancelToken | None = None,
) -> list[Similarity]:
    """Look for places like those of a query in scans; `points` are in the own RAS of the scan `query_id`."""
    from CoralBayLib.fewshot.preview import to_percent
    from CoralBayLib.similarity.regions import extents, in_basis_of
    from CoralBayLib.similarity.search import Query, find_regions, similarity_map

    home = pyramids[query_id]
    vector = Query.stroke(points).vector(home)
    found = []
    for number, (node_id, pyramid) in enumerate(pyramids.items()):
        raise_if_cancelled(cancel)
        if progress is not None:
            progress(number / len(pyramids), "")
        simmap = similarity_map(pyramid if node_id == query_id else in_basis_of(pyramid, home), vector)
        regions = find_regions(simmap, count, distance_mm)
        around = extents(simmap, regions, threshold)
        places = np.array([region.ras for region in regions]).reshape(-1, 3)
        scores = np.array([region.score for region in regions])
        ranks = around.labelmap.nearest_values(places).astype(np.int64) if len(places) else np.empty(0, np.int64)
        found.append(
            Similarity(
                node_id,
                to_percent(simmap.array),
                np.array(simmap.grid.ijk_to_ras),
                places,
                scores,
                np.array(around.volumes_ml),
                np.where(ranks > 0, ranks - 1, np.arange(len(places))),
                around.labelmap.array,
            )
        )
    return found
