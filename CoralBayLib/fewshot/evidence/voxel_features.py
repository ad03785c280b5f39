"""Intensity and position of every working voxel, as features for a probe.

Deep features describe the anatomy but are coarse; the CT shows where borders lie. A weighted sum of functions of the HU
is one function of the HU, so at full resolution it is a table look-up, however many functions there are.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from CoralBayLib.imaging.grid import Volume

KNOTS_HU = (-1000, -850, -600, -300, -120, -60, -10, 30, 70, 120, 180, 260, 400, 700, 1200)
"""Peaks of the hat functions of the HU: dense over soft tissues, sparse over air and bone."""
SMOOTHING_MM = 3.0
HU_RANGE = (-1024, 3071)
"""HU beyond this range are clipped to it."""
KNOTS_BY_HU = np.interp(np.arange(HU_RANGE[0], HU_RANGE[1] + 1), KNOTS_HU, np.arange(len(KNOTS_HU)))
"""For each HU of the range, the fractional number of `KNOTS_HU` below it: a scale on which tissues are evenly spaced."""
_INTENSITY_GAIN = 3.0
_SLAB_VOXELS = 1 << 18
"""Voxels processed at a time: enough for all threads, and few enough for the cache of a CPU."""
_POSITION_MM = 80.0
"""Millimeters per unit of the position features, so that their scale is like that of whitened features."""


class VoxelFeatures:
    """Hat functions of the HU and of the smoothed HU, and the position in the body.

    Args:
        image: int16 HU on the working grid.
        body: mask on the same grid; positions are relative to its centroid, along the grid's own axes.

    Attributes:
        channels: number of features.
    """

    channels = 2 * len(KNOTS_HU) + 3

    def __init__(self, image: Volume, body: Volume) -> None:
        self.grid = image.grid
        sigma = SMOOTHING_MM / image.grid.spacing_mm[::-1]
        smooth = ndimage.gaussian_filter(image.array.astype(np.float32), sigma, truncate=2.5)
        self._images = [torch.from_numpy(hu_index(each).ravel()) for each in (image.array, np.round(smooth))]
        counts = [body.array.sum(axis=tuple(a for a in range(3) if a != axis)) for axis in (2, 1, 0)]
        self._center = np.array([np.average(np.arange(len(c)), weights=c) if c.any() else len(c) / 2 for c in counts])
        levels = np.arange(HU_RANGE[0], HU_RANGE[1] + 1)
        hats = [np.interp(levels, KNOTS_HU, row) for row in np.eye(len(KNOTS_HU))]
        self._hats = torch.from_numpy(_INTENSITY_GAIN * np.stack(hats)).float()

    def sample(self, ras: ArrayLike) -> torch.Tensor:
        """Features of the working voxel nearest to each (N, 3) RAS point; returns (N, channels) float32."""
        ijk = self.grid.nearest_ijk(ras)
        parts = [self._hats[:, torch.from_numpy(index).long()].T for index in self._indices_at(ijk).T]
        parts.append(torch.from_numpy(self._position(ijk)).float())
        return torch.cat(parts, dim=1)

    def hu_indices(self, ras: ArrayLike) -> NDArray[np.int32]:
        """Of the HU and the smoothed HU in tables by HU (see `hu_index`), at the nearest working voxels; (N, 2)."""
        return self._indices_at(self.grid.nearest_ijk(ras))

    def _indices_at(self, ijk: NDArray[np.int64]) -> NDArray[np.int32]:
        flat = torch.from_numpy(np.ravel_multi_index(tuple(ijk[:, ::-1].T), self.grid.shape))
        return torch.stack([image[flat] for image in self._images], dim=1).numpy()

    def add_linear_map(self, weights: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        """Add `weights @ features` at every working voxel to a map.

        Args:
            weights: (M, channels) float32.
            out: (M, K, J, I) float32, changed in place.

        Returns:
            `out`.
        """
        knots = len(KNOTS_HU)
        slice_size = self.grid.size[0] * self.grid.size[1]
        slices = max(1, _SLAB_VOXELS // slice_size)
        for target, row in zip(out, weights, strict=True):
            tables = [row[n * knots : (n + 1) * knots] @ self._hats for n in range(len(self._images))]
            # A plane: the sum of one ramp along each axis.
            k, j, i = (self._ramp(axis, float(row[2 * knots + axis])) for axis in (2, 1, 0))
            within = (j[:, None] + i).flatten()
            for first in range(0, len(k), slices):
                part = target[first : first + slices].view(-1, slice_size)
                part += within + k[first : first + slices, None]
                voxels = slice(first * slice_size, first * slice_size + part.numel())
                part = part.view(-1)
                for table, image in zip(tables, self._images, strict=True):
                    part += table.index_select(0, image[voxels])
        return out

    @property
    def smooth_index(self) -> NDArray[np.int32]:
        """Of the smoothed HU in tables by HU, [k, j, i] (see `hu_index`)."""
        return self._images[1].view(self.grid.shape).numpy()

    def linear_map_on(self, weights: torch.Tensor, slices: tuple[slice, ...]) -> torch.Tensor:
        """`weights @ features` at some of the working voxels.

        Args:
            weights: (channels,) float32.
            slices: (k, j, i), with steps or without.

        Returns:
            (k, j, i) float32.
        """
        knots = len(KNOTS_HU)
        k, j, i = (self._ramp(axis, float(weights[2 * knots + axis]))[slices[2 - axis]] for axis in (2, 1, 0))
        out = (k[:, None] + j)[:, :, None] + i
        for n, image in enumerate(self._images):
            table = weights[n * knots : (n + 1) * knots] @ self._hats
            out += table[image.view(self.grid.shape)[slices]]
        return out

    def _ramp(self, axis: int, slope: float) -> torch.Tensor:
        steps = (np.arange(self.grid.size[axis]) - self._center[axis]) * self._unit[axis]
        return torch.from_numpy(slope * steps).float()

    @property
    def _unit(self) -> NDArray[np.float64]:
        return self.grid.spacing_mm / _POSITION_MM

    def _position(self, ijk: NDArray) -> NDArray[np.float64]:
        return (ijk - self._center) * self._unit


def hu_index(hu: NDArray) -> NDArray[np.int32]:
    """Index of each HU in tables with one entry for each HU of `HU_RANGE`."""
    return np.clip(hu, *HU_RANGE).astype(np.int32) - HU_RANGE[0]
