"""Small cubes of a CT on lattices of points in RAS, and how well two of them agree.

Points are sampled along R, A and S, whatever the axes of the scan are, so that scans of any two grids can be compared.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch.nn.functional import avg_pool3d, conv3d

from CoralBayLib.features.mind import CHANNELS, NEIGHBORS, PAIRS, descriptors
from CoralBayLib.features.pyramid import FeaturePyramid

_WINDOW_HU = (-1000.0, 1000.0)
_NOISE_HU2 = (1e2, 1e5)
"""Range of the variance in MIND, square HU: below it lies noise, above it metal."""


def lattice(radius: int, step_mm: float) -> NDArray[np.float64]:
    """Offsets to the points of a cube of (2 radius + 1)^3 points, (N, 3) mm along R, A, S; R varies slowest."""
    steps = np.arange(-radius, radius + 1) * step_mm
    return np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(-1, 3)


def cube(values: torch.Tensor) -> torch.Tensor:
    """(N, C) values at the points of a `lattice` as a (1, C, n, n, n) map."""
    n = round(len(values) ** (1 / 3))
    return values.T.reshape(1, values.shape[1], n, n, n)


def gaussian_window(radius: int, sigma: float) -> torch.Tensor:
    """(1, 1, n, n, n) weights over a `lattice` that sum to one; sigma is in steps."""
    weights = torch.from_numpy(np.exp(-0.5 * (lattice(radius, 1.0) ** 2).sum(axis=1, keepdims=True) / sigma**2)).float()
    return cube(weights / weights.sum())


def sample_hu(pyramid: FeaturePyramid, points_ras: NDArray[np.float64]) -> torch.Tensor:
    """(N, 1) HU at (N, 3) RAS mm points by linear interpolation, clipped to -1000 to 1000; edge values are continued."""
    kji = pyramid.grid.to_ijk(points_ras)[:, ::-1].T
    values = ndimage.map_coordinates(pyramid.image.array, kji, order=1, mode="nearest", output=np.float32)
    return torch.from_numpy(values.clip(*_WINDOW_HU))[:, None]


def mind_ssc(image: torch.Tensor) -> torch.Tensor:
    """MIND-SSC descriptors (see `features.mind`) of neighbors one voxel apart.

    Args:
        image: (1, 1, n, n, n) HU.

    Returns:
        (1, 12, n - 4, n - 4, n - 4) values in 0 to 1.
    """
    difference = torch.zeros(CHANNELS, 1, 3, 3, 3)
    for row, (a, b) in enumerate(PAIRS):
        difference[(row, 0, *NEIGHBORS[a])] = 1
        difference[(row, 0, *NEIGHBORS[b])] = -1
    distances = avg_pool3d(conv3d(image, difference) ** 2, 3, stride=1)
    return descriptors(distances[0], _NOISE_HU2)[None]


def squared_difference(patch: torch.Tensor, region: torch.Tensor, window: torch.Tensor) -> torch.Tensor:
    """Weighted mean squared difference of a patch and every place of a region.

    Args:
        patch: (1, C, n, n, n).
        region: (1, C, m, m, m), m at least n.
        window: (1, 1, n, n, n) weights with the sum one.

    Returns:
        (m - n + 1,) * 3.
    """
    channels = patch.shape[1]
    squares = conv3d((region**2).sum(dim=1, keepdim=True), window)
    cross = conv3d(region, patch * window)
    return ((squares - 2 * cross + (patch**2 * window).sum()) / channels)[0, 0].clamp_min(0)


def correlation(patch: torch.Tensor, region: torch.Tensor, window: torch.Tensor) -> torch.Tensor:
    """Weighted normalized cross-correlation of a patch and every place of a region.

    Args:
        patch: (1, 1, n, n, n).
        region: (1, 1, m, m, m), m at least n.
        window: (1, 1, n, n, n) weights with the sum one.

    Returns:
        (m - n + 1,) * 3 values in -1 to 1; 0 where one of the two is uniform up to noise.
    """
    # Centered first, since single precision loses the variance beside a large mean.
    patch, region = patch - (patch * window).sum(), region - region.mean()
    patch_variance = (patch**2 * window).sum()
    mean = conv3d(region, window)
    variance = conv3d(region**2, window) - mean**2
    least = float(_NOISE_HU2[0]) / 4
    found = conv3d(region, patch * window) / (variance.clamp_min(least) * patch_variance.clamp_min(least)).sqrt()
    return found[0, 0].clamp(-1, 1)


def peak(values: torch.Tensor, step_mm: float) -> NDArray[np.float64]:
    """Offset of the largest value of a (n, n, n) map from its center, (3,) mm.

    Between the points of the lattice it is the vertex of a parabola along each axis.
    """
    n = values.shape[0]
    at = np.array(np.unravel_index(int(values.argmax()), tuple(values.shape)))
    offset = at - (n - 1) / 2
    for axis in range(3):
        if 0 < at[axis] < n - 1:
            left, middle, right = (float(values[tuple(at + move * np.eye(3, dtype=int)[axis])]) for move in (-1, 0, 1))
            bend = left - 2 * middle + right
            if bend < 0:
                offset[axis] += 0.5 * (left - right) / bend
    return np.asarray(offset * step_mm, dtype=np.float64)
