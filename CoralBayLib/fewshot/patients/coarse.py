"""A scan on a coarse isotropic grid, for registration."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from CoralBayLib.features.alignment import AxisAlignment
from CoralBayLib.features.pyramid import FeaturePyramid
from CoralBayLib.fewshot.evidence.voxel_features import HU_RANGE, KNOTS_BY_HU, KNOTS_HU, hu_index
from CoralBayLib.imaging.cropping import bounding_box
from CoralBayLib.imaging.grid import Grid
from CoralBayLib.imaging.resampling import interpolate

from .descriptors import sample

SPACING_MM = 5.0
MOST_VOXELS = 600_000
"""Larger bodies get a coarser grid."""
TONES = 255
"""Of the image: evenly spaced over tissues, as `KNOTS_HU` are. 0 is outside of the patient."""
_TONE_BY_HU = np.round(1 + KNOTS_BY_HU / (len(KNOTS_HU) - 1) * (TONES - 1)).astype(np.uint8)


@dataclass(frozen=True, eq=False)
class CoarseScan:
    """A scan on a coarse grid with axes along R, A and S, cropped to the patient.

    Attributes:
        grid: isotropic.
        image: (K, J, I) uint8, see `TONES`.
    """

    grid: Grid
    image: torch.Tensor

    @classmethod
    def of(cls, pyramid: FeaturePyramid) -> CoarseScan:
        """The coarse scan of a pyramid."""
        working, body = pyramid.grid, pyramid.body.array
        box = bounding_box(body > 0) or tuple(slice(0, n) for n in body.shape)
        low = np.array([side.start for side in box])[::-1] - 0.5
        high = np.array([side.stop for side in box])[::-1] - 0.5
        corners = working.to_ras(np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)]) * (high - low) + low)
        first, extent = corners.min(axis=0), np.ptp(corners, axis=0)
        spacing = max(SPACING_MM, float(np.cbrt(np.prod(extent) / MOST_VOXELS)))
        matrix = np.diag([spacing, spacing, spacing, 1.0])
        matrix[:3, 3] = first + spacing / 2
        size = np.maximum(np.ceil(extent / spacing - 1e-6).astype(int), 1)
        grid = Grid(tuple(size[::-1]), matrix)
        both = np.stack([np.clip(pyramid.image.array, *HU_RANGE).astype(np.float32), (body > 0).astype(np.float32)])
        hu, inside = interpolate(torch.from_numpy(both), working, grid).numpy()
        return cls(grid, torch.from_numpy(np.where(inside >= 0.5, _TONE_BY_HU[hu_index(np.round(hu))], 0).astype(np.uint8)))

    @property
    def spacing_mm(self) -> float:
        """Of the grid, along every axis."""
        return float(self.grid.spacing_mm[0])

    @property
    def origin_ras(self) -> torch.Tensor:
        """(3,) RAS mm of the first voxel's center."""
        return torch.from_numpy(self.grid.ijk_to_ras[:3, 3].copy()).float()

    def kji_of(self, ras: torch.Tensor) -> torch.Tensor:
        """(..., 3) fractional indices (k, j, i) of (..., 3) RAS mm points."""
        return ((ras - self.origin_ras) / self.spacing_mm).flip(-1)

    def ras_of(self, kji: torch.Tensor) -> torch.Tensor:
        """The inverse of `kji_of`."""
        return kji.flip(-1) * self.spacing_mm + self.origin_ras

    def warped(self, ras: torch.Tensor, alignment: AxisAlignment) -> torch.Tensor:
        """Tones (...) float32 at (..., 3) RAS mm points of another patient, onto whom this one is mapped; 0 outside."""
        scale, shift = (torch.from_numpy(part).float() for part in (alignment.scale, alignment.shift))
        kji = self.kji_of((ras - shift) / scale)
        inside = ((kji > -0.5) & (kji < torch.tensor(self.grid.shape) - 0.5)).all(dim=-1)
        return torch.where(inside, sample(self.image[None].float(), kji)[0], 0.0)
