"""What a structure may be that a box was drawn around: places to begin at, and what regions have to do with the box.

A tight box tells two things that no click does: the structure reaches all six faces, and it does not go on outside.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.cluster.vq import kmeans2

from CoralBayLib.features.pyramid import FeaturePyramid
from CoralBayLib.fewshot.constraints.boxes import MARGIN_MM, Box
from CoralBayLib.imaging.grid import Grid

from .inputs import ClickScan, Region
from .level_sets import LEVELS

OUTSIDE_MM = 8.0
"""So far outside of the box its surroundings are looked at."""
BOX_VOXELS = 45_000
"""Of a box and its surroundings; larger ones are looked at on every n-th voxel."""
NAMES = (
    "gap", "largest_gap", "covered", "most_covered", "least_covered", "log_fill", "fill", "alike_inside", "alike_outside",
    "alike_rest", "log_alike", "goes_on", "goes_on_alike", "share_alike", "off_center", "log_box_ml", "elongation",
    "from_center", "from_core",
)  # fmt: skip
"""What describes a region in its box, in the order of the network's inputs."""
_INTENSITIES = (0.08, 0.35, 0.65, 0.92)
"""Quantiles at which groups of intensities in a box begin."""
_PLACES, _SHALLOW, _APART_MM, _APART = 4, 0.4, 10.0, 0.25
"""At most so many places in a group, at least this fraction as deep as the deepest, so far from each other in mm and as a
fraction of the box."""
_CORE_POINTS = 15
_ALIKE, _LEAST_SPREAD = 1.5, 0.15
"""Intensities are alike within so many standard deviations of a region; which is at least this, in steps of `KNOTS_HU`."""
_BINS = 96


class BoxRegions:
    """A box on the working grid of a scan.

    Args:
        pyramid: of the scan.
        scan: of the same scan.
        box: around the structure.
    """

    def __init__(self, pyramid: FeaturePyramid, scan: ClickScan, box: Box) -> None:
        self.grid, self.scan, self.box = pyramid.grid, scan, box
        half = box.size_mm / 2
        kji = self.grid.nearest_ijk(box.corners())[:, ::-1]
        self.region = Region.around(self.grid, kji.min(axis=0), kji.max(axis=0), OUTSIDE_MM, BOX_VOXELS)
        self.local = local_mm(self.region, self.grid, box)
        away = (np.abs(self.local) - half).max(axis=1)
        body = scan.body[self.region.slices].ravel()
        self._inside, self._near = (away <= 1e-6) & body, away <= MARGIN_MM
        self._shell = ~self._near & body
        self._spacing = float(self.region.spacing_mm(self.grid).max())
        self._layers = [
            (sign * self.local[:, axis] > half[axis] - self._spacing) & self._near for axis in range(3) for sign in (-1, 1)
        ]
        self._intensity = scan.smooth[self.region.slices].ravel()

    def beginnings(self) -> dict[str, NDArray[np.float64]]:
        """Points that may be in the structure, by name (N, 3) RAS mm.

        They are the box's center, points all over its middle, and the deepest places of each group of intensities.
        """
        found = {"center": self.box.center_ras[None]}
        core = self.box.core_points()
        ijk = np.clip(np.round(self.grid.to_ijk(core)).astype(int), 0, np.array(self.grid.size) - 1)
        core = core[self.scan.body[tuple(ijk[:, ::-1].T)]]
        if len(core):
            found["core"] = core[:: max(1, len(core) // _CORE_POINTS)]
        values = self._intensity[self._inside]
        if len(values) < len(_INTENSITIES) or not np.ptp(values):
            return found
        groups = kmeans2(values, np.quantile(values, _INTENSITIES), minit="matrix", missing="warn")[1]
        for number in range(len(_INTENSITIES)):
            mask = np.zeros(len(self._inside), bool)
            mask[self._inside] = groups == number
            if mask.any():
                found[f"intensity {number}"] = self._deepest(mask)
        return found

    def _deepest(self, mask: NDArray[np.bool_]) -> NDArray[np.float64]:
        """A few of the places of a mask that are farthest from its border, apart from each other; RAS mm."""
        shape = self.region.shape
        spacing = self.region.spacing_mm(self.grid)
        depth = ndimage.distance_transform_edt(np.pad(mask.reshape(shape), 1), sampling=spacing)[1:-1, 1:-1, 1:-1].ravel()
        least, apart = _SHALLOW * depth.max(), max(_APART_MM, _APART * self.box.size_mm.max())
        places: list[NDArray[np.float64]] = []
        while len(places) < _PLACES and depth.max() > least:
            at = int(depth.argmax())
            places.append(self.box.center_ras + self.local[at] @ self.box.axes)
            depth[np.linalg.norm(self.local - self.local[at], axis=1) < apart] = 0
        return np.array(places)

    def describe(self, field: NDArray[np.float32], beginning: str) -> NDArray[np.float32]:
        """Describe the regions `field >= level` for each of `LEVELS`.

        Args:
            field: from `level_sets.flood` on `region`.
            beginning: one of `beginnings`, from which it was flooded.

        Returns:
            (levels, len(NAMES)) float32.
        """
        half, n = self.box.size_mm / 2, len(LEVELS)
        bins = np.searchsorted(LEVELS, np.where(self._near, field.ravel(), -np.inf), side="right")

        def inside(mask: NDArray[np.bool_] | None = None, weights: NDArray | None = None) -> NDArray[np.float64]:
            chosen = slice(None) if mask is None else mask
            sums = np.bincount(bins[chosen], None if weights is None else weights[chosen], n + 1)
            return np.cumsum(sums[::-1].astype(float))[::-1][1:]

        voxels = np.maximum(inside(), 1)
        low, high = np.full((n + 1, 3), np.inf), np.full((n + 1, 3), -np.inf)
        for number in np.unique(bins[bins > 0]):
            part = self.local[bins == number]
            low[number], high[number] = part.min(axis=0), part.max(axis=0)
        low = np.minimum.accumulate(low[::-1])[::-1][1:] - self._spacing / 2
        high = np.maximum.accumulate(high[::-1])[::-1][1:] + self._spacing / 2
        gaps = np.clip(np.hstack([low + half, half - high]), 0, 2 * np.tile(half, 2)) / np.tile(2 * half, 2)
        covered = np.stack([inside(layer) / max(int(np.count_nonzero(layer & self._inside)), 1) for layer in self._layers])
        mean = np.stack([inside(weights=self.local[:, axis]) for axis in range(3)], axis=1) / voxels[:, None]
        fill = voxels * np.prod(self.region.spacing_mm(self.grid)) / np.prod(self.box.size_mm)
        same = (np.log(np.prod(self.box.size_mm) / 1000), np.log(self.box.size_mm.max() / self.box.size_mm.min()))
        columns = (
            gaps.sum(axis=1) / 3, gaps.max(axis=1), covered.mean(axis=0), covered.max(axis=0), covered.min(axis=0),
            np.log(fill + 0.01), fill, *self._alike(field, bins, voxels), np.abs(mean / half).max(axis=1),
            *(np.full(n, value) for value in (*same, beginning == "center", beginning == "core")),
        )  # fmt: skip
        return np.column_stack(columns).astype(np.float32)

    def _alike(self, field: NDArray[np.float32], bins: NDArray, voxels: NDArray[np.float64]) -> list[NDArray[np.float64]]:
        """Shares of voxels whose intensity is like that of each region, and what continues it.

        The shares are of the region itself, of what is around the box, and of the rest of the box. Then follow the volume that
        continues the region outside of the box, the part of it that is alike, and its share.
        """
        n, edges = len(LEVELS), np.linspace(self._intensity.min(), self._intensity.max() + 1e-3, _BINS + 1)
        at = np.clip(np.searchsorted(edges, self._intensity, side="right") - 1, 0, _BINS - 1)
        middle = (edges[1:] + edges[:-1]) / 2

        def histograms(level: NDArray, mask: NDArray[np.bool_] | slice = slice(None)) -> NDArray[np.float64]:
            table = np.bincount(level[mask] * _BINS + at[mask], minlength=(n + 1) * _BINS).reshape(n + 1, _BINS)
            return np.cumsum(table[::-1].astype(float), axis=0)[::-1][1:]

        own = histograms(bins)
        mean = own @ middle / voxels
        spread = np.sqrt(np.maximum(own @ middle**2 / voxels - mean**2, 0))
        alike = np.abs(middle - mean[:, None]) < _ALIKE * np.maximum(spread, _LEAST_SPREAD)[:, None]
        shell = np.bincount(at[self._shell], minlength=_BINS).astype(float)
        rest = np.bincount(at[self._inside], minlength=_BINS) - histograms(bins, self._inside)
        # Two voxels around the region, outside of the box.
        wide = ndimage.maximum_filter(np.where(self._near.reshape(field.shape), field, -np.inf), size=5).ravel()
        beyond = histograms(np.searchsorted(LEVELS, wide, side="right"), self._shell)
        inside_share = (own * alike).sum(axis=1) / voxels
        outside_share = alike @ shell / max(shell.sum(), 1)
        rest_share = (rest * alike).sum(axis=1) / np.maximum(rest.sum(axis=1), 1)
        on, on_alike = beyond.sum(axis=1), (beyond * alike).sum(axis=1)
        area = voxels ** (2 / 3)
        ratio = np.log((inside_share + 0.02) / (outside_share + 0.02))
        return [inside_share, outside_share, rest_share, ratio, on / area, on_alike / area, on_alike / np.maximum(on, 1)]


def local_mm(region: Region, working: Grid, box: Box) -> NDArray[np.float64]:
    """(voxels, 3) mm of a region's voxels along a box's axes from its center."""
    grid = region.grid(working)
    k, j, i = np.indices(region.shape).reshape(3, -1)
    return (grid.to_ras(np.stack([i, j, k], axis=1)) - box.center_ras) @ box.axes.T
