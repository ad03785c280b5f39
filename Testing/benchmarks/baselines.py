"""Baselines for encoders: features made without learning, as pyramids for the same probe and the same search."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from uuid import uuid4

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from CoralBayLib.encoders.base import InputSpec
from CoralBayLib.features.preprocessing import Prepared, prepare
from CoralBayLib.features.pyramid import FeaturePyramid, Level
from CoralBayLib.fewshot.evidence import ScanEvidence, use_evidence
from CoralBayLib.imaging.grid import Volume

SPACING_MM = 3.0
SCALES_MM = (1.5, 3.0, 6.0, 12.0)
_INPUT = InputSpec((SPACING_MM,) * 3, (-1000.0, 1000.0), (1, 1, 1))


class _NoVoxelFeatures:
    """In place of intensity and position, so that a probe uses the pyramid alone."""

    channels = 0

    def sample(self, ras: ArrayLike) -> torch.Tensor:
        return torch.zeros(len(np.asarray(ras)), 0)

    def add_linear_map(self, weights: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        return out


class _PositionEvidence(ScanEvidence):
    """The evidence of a scan without voxel features."""

    @cached_property
    def voxel_features(self) -> _NoVoxelFeatures:  # type: ignore[override]
        return _NoVoxelFeatures()


def position_only(volume: Volume) -> FeaturePyramid:
    """Position of a voxel between the ends of the body along R, A and S, from -1 to 1."""
    prepared = prepare(volume, _INPUT)
    axes = []
    for axis in (2, 1, 0):
        where = np.flatnonzero(prepared.body.array.any(axis=tuple(a for a in range(3) if a != axis)))
        low, high = where[0], max(where[-1], where[0] + 1)
        axes.append(2 * (np.arange(prepared.body.array.shape[axis]) - low) / (high - low) - 1)
    i, j, k = np.meshgrid(*axes, indexing="ij")
    features = np.stack([i, j, k]).transpose(0, 3, 2, 1).astype(np.float32)
    made = _pyramid(volume, prepared, features, "position only")
    use_evidence(made, _PositionEvidence(made.image, made.body))
    return made


def hand_made(volume: Volume) -> FeaturePyramid:
    """Intensity, gradient magnitude and eigenvalues of the Hessian at several Gaussian scales."""
    prepared = prepare(volume, _INPUT)
    image = np.clip(prepared.image.array, -1000, 1000).astype(np.float32) / 1000
    made = [image]
    for scale in SCALES_MM:
        sigma = scale / SPACING_MM
        made += [ndimage.gaussian_filter(image, sigma), ndimage.gaussian_gradient_magnitude(image, sigma)]
        made += list(_hessian_eigenvalues(image, sigma))
    # With a key, the geodesic distance to the prompts is used with these features as with an encoder's.
    return replace(_pyramid(volume, prepared, np.stack(made), "hand-made filters"), key=uuid4().hex)


def _hessian_eigenvalues(image: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    """(3, K, J, I), in ascending order; slice by slice to save memory."""
    parts = {}
    for a in range(3):
        for b in range(a, 3):
            order = [0, 0, 0]
            order[a] += 1
            order[b] += 1
            parts[a, b] = ndimage.gaussian_filter(image, sigma, order=order)
    out = np.empty((3, *image.shape), np.float32)
    for k in range(len(image)):
        matrix = np.stack([np.stack([parts[min(a, b), max(a, b)][k] for b in range(3)], -1) for a in range(3)], -1)
        out[:, k] = np.moveaxis(np.linalg.eigvalsh(matrix), -1, 0)
    return out


def _pyramid(volume: Volume, prepared: Prepared, features: NDArray[np.float32], name: str) -> FeaturePyramid:
    grid = prepared.image.grid
    image = Volume(np.clip(np.round(prepared.image.array), -1024, 3071).astype(np.int16), grid)
    level = Level("all", grid, torch.from_numpy(np.ascontiguousarray(features)).half())
    return FeaturePyramid((level,), image, prepared.body, {"encoder": name}, volume.grid)
