"""The search for similar regions, on the worker: plain data in, plain data out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from CoralBayLib.core.progress import CancelToken, Progress, raise_if_cancelled
from CoralBayLib.imaging.grid import Grid, Volume

if TYPE_CHECKING:
    from CoralBayLib.features.pyramid import FeaturePyramid
    from CoralBayLib.similarity.region_masks import RegionMask


@dataclass(frozen=True, eq=False)
class Similarity:
    """Similarity of one scan to a query, for the views and the table.

    Attributes:
        node_id: of the volume.
        percent: similarity, (K, J, I) uint8 percent; negative cosines are 0.
        geometry: (4, 4), IJK to the volume's own RAS mm.
        peaks: (N, 3) the volume's own RAS mm, by descending score.
        scores: (N,) similarity at the peaks, at most 1.
        volumes_ml: (N,) volume of the component around each peak.
        leaders: (N,) index of the highest peak in the component of each peak, which may be the peak itself.
        regions: uint16 [k, j, i], rank (from 1) of the region that a voxel belongs to; 0 for none.
        threshold: similarity, from 0 to 1, down to which regions extend.
    """

    node_id: str
    percent: NDArray[np.uint8]
    geometry: NDArray[np.float64]
    peaks: NDArray[np.float64]
    scores: NDArray[np.float64]
    volumes_ml: NDArray[np.float64]
    leaders: NDArray[np.int64]
    regions: NDArray[np.uint16]
    threshold: float


def similar(
    pyramids: dict[str, FeaturePyramid],
    query_id: str,
    points: NDArray[np.float64],
    count: int,
    distance_mm: float,
    threshold: float,
    progress: Progress | None = None,
    cancel: CancelToken | None = None,
) -> list[Similarity]:
    """Search scans for regions that are similar to a query.

    Args:
        pyramids: features by the node ID of the volume.
        query_id: of the volume that the query lies in.
        points: (N, 3) of the query, RAS mm in that volume's own space.
        count: most regions for each scan.
        distance_mm: least distance between two peaks.
        threshold: similarity, from 0 to 1, down to which a region extends.
        progress: called with the fraction done.
        cancel: checked between scans.
    """
    from CoralBayLib.fewshot.preview import to_percent
    from CoralBayLib.similarity.regions import extents, in_basis_of
    from CoralBayLib.similarity.search import Query, find_regions, similarity_map

    query_pyramid = pyramids[query_id]
    vector = Query.stroke(points).vector(query_pyramid)
    results = []
    for number, (node_id, pyramid) in enumerate(pyramids.items()):
        raise_if_cancelled(cancel)
        if progress is not None:
            progress(number / len(pyramids), "")
        simmap = similarity_map(pyramid if node_id == query_id else in_basis_of(pyramid, query_pyramid), vector)
        regions = find_regions(simmap, count, distance_mm)
        around = extents(simmap, regions, threshold)
        peaks = np.array([region.ras for region in regions]).reshape(-1, 3)
        scores = np.array([region.score for region in regions])
        ranks = around.labelmap.nearest_values(peaks).astype(np.int64) if len(peaks) else np.empty(0, np.int64)
        results.append(
            Similarity(
                node_id,
                to_percent(simmap.array),
                np.array(simmap.grid.ijk_to_ras),
                peaks,
                scores,
                np.array(around.volumes_ml),
                np.where(ranks > 0, ranks - 1, np.arange(len(peaks))),
                around.labelmap.array,
                threshold,
            )
        )
    return results


def region_masks_of(found: Similarity, scan: Volume, cancel: CancelToken | None = None) -> list[RegionMask]:
    """The regions of a search as masks on the grid of their scan."""
    from CoralBayLib.similarity.region_masks import region_masks

    grid = Grid(found.percent.shape, found.geometry)
    simmap = Volume(found.percent.astype(np.float32) / 100, grid)
    return region_masks(simmap, Volume(found.regions, grid), found.peaks, found.scores.tolist(), found.threshold, scan, cancel)
