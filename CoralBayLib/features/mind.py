"""MIND-SSC descriptors (Heinrich et al., MICCAI 2013): the surroundings of a voxel, whatever the contrast of the image.

A descriptor compares the neighbors of a voxel with each other. How far away these are and how the image is continued is up to
the caller; the pairs and the last step are the same everywhere.
"""

from __future__ import annotations

import torch

NEIGHBORS = ((0, 1, 1), (1, 1, 0), (1, 0, 1), (1, 1, 2), (2, 1, 1), (1, 2, 1))
"""Indices of the six neighbors of the center of a cube of 3 x 3 x 3 voxels."""
PAIRS = tuple(
    (a, b)
    for a in range(6)
    for b in range(a)
    if sum((x - y) ** 2 for x, y in zip(NEIGHBORS[a], NEIGHBORS[b], strict=True)) == 2
)
"""The pairs of neighbors that share an edge, which are the channels of a descriptor: indices of `NEIGHBORS`."""
CHANNELS = len(PAIRS)
"""Of a descriptor: 12."""


def descriptors(distances: torch.Tensor, variances: tuple[float, float] | None = None) -> torch.Tensor:
    """Descriptors from the differences of neighbors: `exp(-d / variance)`, where d is measured from the least of a voxel.

    Args:
        distances: (12, K, J, I) mean squared difference of the patches around each pair of neighbors.
        variances: range of the variance, which is the mean distance of a voxel: below it lies noise. By default 1/1000 to
            1000 times the mean variance of the image.

    Returns:
        (12, K, J, I) values in 0 to 1.
    """
    distances = distances - distances.amin(dim=0)
    variance = distances.mean(dim=0)
    if variances is None:
        mean = float(variance.mean()) or 1.0
        variances = mean * 1e-3, mean * 1e3
    return torch.exp(-distances / variance.clamp(*variances))
