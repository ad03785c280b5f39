"""What a voxel has in common with the clicks: the inputs of the click network.

Geodesic and Euclidean distances to the nearest click on the structure and on anything else, the intensity beside that
of the clicks, the log-odds of appearance, and the previous answer. All are computed in a box of the working grid, on every
n-th voxel of it where the box is large.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from CoralBayLib.features.pyramid import FeaturePyramid
from CoralBayLib.fewshot.evidence import evidence_of
from CoralBayLib.fewshot.evidence.geodesic import path_lengths, step_costs
from CoralBayLib.fewshot.evidence.voxel_features import KNOTS_BY_HU, hu_index
from CoralBayLib.fewshot.probe import Probe
from CoralBayLib.imaging.grid import Grid

NAMES = (
    "log_geodesic_own", "log_geodesic_other", "log_mm_own", "log_mm_other", "appearance", "intensity_own",
    "intensity_other", "smooth_intensity_own", "smooth_intensity_other", "edge", "intensity", "smooth_intensity",
    "clicked_intensity", "clicked_smooth_intensity", "previous", "geodesic_difference", "mm_difference",
)  # fmt: skip
"""The inputs in their order; intensities are in steps of `KNOTS_HU`, see `voxel_features`."""
FAR_GEODESIC = 60.0
"""Geodesic distances are cut off here; also the distance where there is no click."""
FAR_MM = 200.0
NO_CONTRAST = 6.0
"""Difference of intensity to clicks that do not exist."""
_FEW_POINTS = 24
_EDGE_SMOOTHING_MM = 1.2
KNOTS = KNOTS_BY_HU.astype(np.float32)
"""Intensity in steps of `KNOTS_HU`, by HU index."""


@dataclass(frozen=True)
class Region:
    """A box of the working grid, or every n-th voxel of it.

    Attributes:
        low: (3,) first voxel, (k, j, i).
        high: (3,) stop, (k, j, i).
        step: (3,) voxels from one to the next along k, j, i.
    """

    low: NDArray[np.intp]
    high: NDArray[np.intp]
    step: NDArray[np.intp]

    @classmethod
    def around(
        cls, grid: Grid, low: NDArray[np.intp], high: NDArray[np.intp], margin_mm: float, max_voxels: int = 1 << 62
    ) -> Region:
        """The box from one voxel to another (inclusive) with a margin, with steps so that it has few enough voxels."""
        spacing = grid.spacing_mm[::-1]
        reach = np.ceil(margin_mm / spacing).astype(int)
        low, high = np.maximum(low - reach, 0), np.minimum(high + reach + 1, grid.shape)
        step = np.ones(3, int)
        while np.prod(np.ceil((high - low) / step)) > max_voxels:
            step[np.argmin(step * spacing)] += 1
        return cls(low, high, step)

    @property
    def slices(self) -> tuple[slice, ...]:
        """Slices (k, j, i) of an array on the working grid."""
        return tuple(slice(int(a), int(b), int(s)) for a, b, s in zip(self.low, self.high, self.step, strict=True))

    @property
    def shape(self) -> tuple[int, ...]:
        """Voxels along k, j, i."""
        return tuple(int(n) for n in np.ceil((self.high - self.low) / self.step))

    @property
    def is_full(self) -> bool:
        """Whether it has every voxel of the box."""
        return bool((self.step == 1).all())

    def full(self) -> Region:
        """The same box with every voxel."""
        return Region(self.low, self.high, np.ones(3, int))

    def grid(self, working: Grid) -> Grid:
        """Its grid."""
        return working.subgrid(self.low[::-1], self.step[::-1], self.shape)

    def spacing_mm(self, working: Grid) -> NDArray[np.float64]:
        """Distance of its voxels along k, j, i."""
        return self.step * working.spacing_mm[::-1]

    def nearest(self, kji: NDArray[np.intp]) -> NDArray[np.intp]:
        """The nearest of its voxels to some of the working grid, (N, 3), and those outside clamped to its border."""
        return np.clip(((kji - self.low) / self.step + 0.5).astype(int), 0, np.array(self.shape) - 1)

    def contains(self, kji: NDArray[np.intp]) -> NDArray[np.bool_]:
        """Which of (N, 3) working voxels lie in the box."""
        return np.asarray(((kji >= self.low) & (kji < self.high)).all(axis=1))


@dataclass(frozen=True, eq=False)
class Clicks:
    """Points at one moment of a session.

    Attributes:
        kji: (N, 3) working voxels, in the order in which they were given.
        own: (N,) which of them are on the structure; the last is the newest.
    """

    kji: NDArray[np.intp]
    own: NDArray[np.bool_]


class ClickScan:
    """What the inputs need of one scan, made once.

    Args:
        pyramid: of the scan.
    """

    def __init__(self, pyramid: FeaturePyramid) -> None:
        self.grid = pyramid.grid
        self.body: NDArray[np.bool_] = pyramid.body.array > 0
        self.index = hu_index(pyramid.image.array)
        self._pyramid_evidence = evidence_of(pyramid)
        spacing = self.grid.spacing_mm[::-1]
        self.smooth = ndimage.gaussian_filter(KNOTS[self.index], _EDGE_SMOOTHING_MM / spacing, truncate=2.5)
        squares = np.zeros(self.smooth.shape, np.float32)
        for axis in range(3):
            if self.smooth.shape[axis] > 1:
                squares += (np.gradient(self.smooth, axis=axis) * np.float32(2 / spacing[axis])) ** 2
        self.edges = np.sqrt(squares)

    @cached_property
    def smooth_index(self) -> NDArray[np.int32]:
        """Of the HU smoothed by a few mm, in tables by HU; [k, j, i]."""
        return self._pyramid_evidence.voxel_features.smooth_index

    @property
    def tissue(self) -> NDArray[np.float32]:
        """The intensity that geodesic paths cross; walls outside of the body."""
        return self._pyramid_evidence.geodesic.tissue

    def intensity(self, region: Region) -> NDArray[np.float32]:
        """Intensity of a region's voxels, in steps of `KNOTS_HU`."""
        return KNOTS[self.index[region.slices]]


@dataclass(frozen=True, eq=False)
class Distances:
    """Distances from the clicks on a region.

    Attributes:
        own, other: log of the geodesic distances.
    """

    own: NDArray[np.float32]
    other: NDArray[np.float32]

    @classmethod
    def on(cls, scan: ClickScan, region: Region, clicks: Clicks) -> Distances:
        """Follow paths in a region."""
        costs = step_costs(scan.tissue[region.slices], region.spacing_mm(scan.grid)[::-1])
        at, inside = region.nearest(clicks.kji), region.contains(clicks.kji)

        def logs(chosen: NDArray[np.bool_]) -> NDArray[np.float32]:
            if not chosen.any():
                return np.full(region.shape, np.log(FAR_GEODESIC + 0.5), np.float32)
            length = path_lengths(region.shape, at[chosen][:, ::-1], costs)
            np.minimum(length, np.float32(FAR_GEODESIC), out=length)
            length += np.float32(0.5)
            return np.log(length, out=length)

        return cls(logs(clicks.own & inside), logs(~clicks.own & inside))


def click_inputs(
    scan: ClickScan,
    region: Region,
    clicks: Clicks,
    distances: Distances,
    appearance: NDArray[np.float32],
    previous: NDArray[np.float32] | None,
) -> torch.Tensor:
    """The inputs of the click network.

    Args:
        scan: of the clicks.
        region: where.
        clicks: so far.
        distances: geodesic ones on the region.
        appearance: log-odds on the region.
        previous: log-odds of the answer before the newest click on the working grid, if there was one.

    Returns:
        (inputs, voxels) float32, in the order of `NAMES`.
    """
    out = np.empty((len(NAMES), int(np.prod(region.shape))), np.float32)
    rows = dict(zip(NAMES, out, strict=True))
    index, smooth_index = scan.index[region.slices].ravel(), scan.smooth_index[region.slices].ravel()
    at = tuple(clicks.kji.T)
    clicked, smooth_clicked = scan.smooth[at], KNOTS[scan.smooth_index[at]]
    for name, chosen, length in (("own", clicks.own, distances.own), ("other", ~clicks.own, distances.other)):
        rows[f"log_geodesic_{name}"][:] = length.ravel()
        rows[f"log_mm_{name}"][:] = np.log(distance_mm(region, scan.grid, clicks.kji[chosen]) + 2).ravel()
        np.take(contrast_by_hu(clicked[chosen]), index, out=rows[f"intensity_{name}"])
        np.take(contrast_by_hu(smooth_clicked[chosen]), smooth_index, out=rows[f"smooth_intensity_{name}"])
    rows["appearance"][:] = appearance.ravel()
    rows["edge"][:] = scan.edges[region.slices].ravel()
    np.take(KNOTS, index, out=rows["intensity"])
    np.take(KNOTS, smooth_index, out=rows["smooth_intensity"])
    rows["clicked_intensity"][:] = clicked[clicks.own].mean()
    rows["clicked_smooth_intensity"][:] = smooth_clicked[clicks.own].mean()
    rows["previous"][:] = 0 if previous is None else previous[region.slices].ravel()
    np.subtract(rows["log_geodesic_own"], rows["log_geodesic_other"], out=rows["geodesic_difference"])
    np.subtract(rows["log_mm_own"], rows["log_mm_other"], out=rows["mm_difference"])
    return torch.from_numpy(out)


def appearance_on(probe: Probe, pyramid: FeaturePyramid, region: Region) -> NDArray[np.float32]:
    """Log-odds of a probe's only structure on a region, by appearance alone."""
    deep = pyramid.linear_map(probe.weights_, probe.intercept_, on=region.grid(pyramid.grid))
    features = evidence_of(pyramid).voxel_features
    return (deep[0] + features.linear_map_on(probe.image_weights_[0], region.slices)).numpy()


def distance_mm(region: Region, grid: Grid, kji: NDArray[np.intp]) -> NDArray[np.float32]:
    """Euclidean distance of a region's voxels to the nearest of (N, 3) working voxels, float32 mm."""
    if not len(kji):
        return np.full(region.shape, FAR_MM, np.float32)
    spacing = region.spacing_mm(grid)
    if len(kji) > _FEW_POINTS:
        kji = kji[region.contains(kji)]
        if not len(kji):
            return np.full(region.shape, FAR_MM, np.float32)
        free = np.ones(region.shape, bool)
        free[tuple(region.nearest(kji).T)] = False
        return ndimage.distance_transform_edt(free, sampling=spacing).astype(np.float32)
    steps = [np.arange(n) for n in region.shape]
    best = np.full(region.shape, FAR_MM**2, np.float32)
    for point in (kji - region.low) / region.step:
        k, j, i = (((s - p) * mm).astype(np.float32) ** 2 for s, p, mm in zip(steps, point, spacing, strict=True))
        np.minimum(best, (k[:, None] + j)[:, :, None] + i, out=best)
    return np.sqrt(best, out=best)


def contrast_by_hu(levels: NDArray[np.float32]) -> NDArray[np.float32]:
    """By HU index: the difference of intensity to the nearest of some levels."""
    if not len(levels):
        return np.full(len(KNOTS), NO_CONTRAST, np.float32)
    ordered = np.sort(levels)
    after = np.searchsorted(ordered, KNOTS).clip(1, len(ordered) - 1) if len(ordered) > 1 else np.zeros(len(KNOTS), int)
    return np.minimum(np.abs(KNOTS - ordered[after]), np.abs(KNOTS - ordered[after - 1])).astype(np.float32)
