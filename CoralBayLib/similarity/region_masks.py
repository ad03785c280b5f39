"""Similar regions as masks on the grid of a scan, with volume and mean HU."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import ndimage

from CoralBayLib.core.progress import CancelToken, raise_if_cancelled
from CoralBayLib.imaging.cropping import CroppedMask
from CoralBayLib.imaging.grid import Grid, Volume
from CoralBayLib.imaging.resampling import resample


@dataclass(frozen=True, eq=False)
class RegionMask:
    """The voxels of a region.

    Attributes:
        rank: of the region, from 1.
        ras: its most similar point, (3,) RAS mm.
        score: similarity at that point, at most 1.
        mask: its voxels on the grid of the scan.
        volume_ml: of these voxels.
        mean_hu: of these voxels.
    """

    rank: int
    ras: tuple[float, float, float]
    score: float
    mask: CroppedMask
    volume_ml: float
    mean_hu: float


def region_masks(
    simmap: Volume,
    regions: Volume,
    peaks_ras: ArrayLike,
    scores: Sequence[float],
    threshold: float,
    scan: Volume,
    cancel: CancelToken | None = None,
) -> list[RegionMask]:
    """Masks of regions on the grid of the scan, in the order of their ranks.

    The border of a region is where the similarity, interpolated linearly, reaches the threshold. Regions do not overlap.

    Args:
        simmap: similarity, as from `search.similarity_map`.
        regions: labelmap of the regions' ranks on the same grid, as from `regions.extents`; a peak without voxels of its own
            has no mask.
        peaks_ras: (N, 3) RAS mm of the peaks, by rank.
        scores: (N,) similarity at the peaks.
        threshold: similarity from which a voxel belongs to a region.
        scan: the CT.
        cancel: checked between regions.

    Raises:
        Cancelled: `cancel` was called.
    """
    peaks, found, taken = np.asarray(peaks_ras, np.float64).reshape(-1, 3), [], np.zeros(scan.grid.shape, bool)
    for rank, box in enumerate(ndimage.find_objects(regions.array), start=1):
        raise_if_cancelled(cancel)
        if box is None:
            continue
        where, inside = _on_scan(simmap, regions, rank, box, threshold, scan.grid)
        inside = inside & ~taken[where]
        if not inside.any():
            # Smaller than a voxel of the scan.
            i, j, k = scan.grid.nearest_ijk(peaks[rank - 1][None])[0]
            where, inside = (slice(k, k + 1), slice(j, j + 1), slice(i, i + 1)), np.ones((1, 1, 1), bool)
        taken[where] |= inside
        k, j, i = (side.start for side in where)
        cut = CroppedMask.of(inside)
        mask = CroppedMask((i + cut.start[0], j + cut.start[1], k + cut.start[2]), cut.mask)
        volume_ml = float(np.count_nonzero(inside)) * scan.grid.voxel_volume_mm3 / 1000
        r, a, s = (float(value) for value in peaks[rank - 1])
        found.append(
            RegionMask(rank, (r, a, s), float(scores[rank - 1]), mask, volume_ml, float(scan.array[where][inside].mean()))
        )
    return found


def _on_scan(
    simmap: Volume, regions: Volume, rank: int, box: tuple[slice, ...], threshold: float, grid: Grid
) -> tuple[tuple[slice, ...], np.ndarray]:
    """The (k, j, i) slices of the scan around a region, and its voxels in them."""
    # One voxel around for the border, one more for the interpolation.
    box = tuple(
        slice(max(side.start - 2, 0), min(side.stop + 2, size)) for side, size in zip(box, simmap.grid.shape, strict=True)
    )
    labels = regions.array[box]
    own = labels == rank
    near = ndimage.binary_dilation(own, np.ones((3, 3, 3), bool)) & ((labels == 0) | own)
    start = [side.start for side in reversed(box)]
    part = simmap.grid.subgrid(start, 1, near.shape)
    corners = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)]) * (np.array(part.size) - 1)
    ijk = grid.to_ijk(part.to_ras(corners))
    low = np.clip(np.floor(ijk.min(axis=0)).astype(int), 0, np.array(grid.size) - 1)
    high = np.clip(np.ceil(ijk.max(axis=0)).astype(int) + 1, low + 1, grid.size)
    where = tuple(slice(a, b) for a, b in zip(low[::-1], high[::-1], strict=True))
    target = grid.subgrid(low, 1, tuple(side.stop - side.start for side in where))
    similarity = resample(Volume(simmap.array[box], part), target, "linear").array
    nearest = resample(Volume(near.astype(np.uint8), part), target, "nearest").array
    return where, (similarity >= threshold) & (nearest > 0)
