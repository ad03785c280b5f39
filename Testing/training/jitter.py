"""Random changes of a crop: contrast agent, noise, slice thickness, HU window, field of view."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from CoralBayLib.encoders.base import Axes

AIR_HU = -1024.0
_AGENT_HU = (-30.0, 90.0)
"""Least and largest change of tissue by the imitated contrast agent."""
_AGENT_NODES = 4
"""Along each axis of a crop: the change is smooth between them."""
_TISSUE_HU, _SATURATION_HU, _BONE_HU = 0.0, 40.0, 300.0
"""The change is nothing below the first, whole at the second, and ends at the third."""
_THICKEST = 3
"""In voxels of a crop, along S."""
_MOST_CUT = 0.3
"""Of a side of the crop."""


def agent_jitter(hu: NDArray[np.float32], random: np.random.Generator) -> NDArray[np.float32]:
    """A smooth change of the HU of soft tissue, as contrast agent would cause."""
    if random.random() >= 0.4:
        return hu
    amount = random.uniform(*_AGENT_HU) * random.uniform(0, 1, (_AGENT_NODES,) * 3)
    nodes = np.meshgrid(*(np.linspace(0, _AGENT_NODES - 1, n) for n in hu.shape), indexing="ij", sparse=True)
    field = ndimage.map_coordinates(amount, np.broadcast_arrays(*nodes), order=1)
    smooth = ndimage.gaussian_filter(hu, 0.7)
    share = np.interp(smooth, [_TISSUE_HU, _SATURATION_HU, _BONE_HU / 2, _BONE_HU], [0, 1, 1, 0])
    return (hu + field * share).astype(np.float32)


def sharpness_jitter(hu: NDArray[np.float32], random: np.random.Generator) -> NDArray[np.float32]:
    """Thicker slices, softer kernels, more noise."""
    if random.random() < 0.3:
        hu = ndimage.gaussian_filter1d(hu, random.uniform(0.3, 1.0), axis=0)
    elif random.random() < 0.2:
        hu = thick_slices(hu, int(random.integers(2, _THICKEST + 1)))
    if random.random() < 0.15:
        hu = ndimage.gaussian_filter(hu, random.uniform(0.2, 0.6))
    if random.random() < 0.5:
        hu = hu + random.normal(0, random.uniform(5, 35), hu.shape).astype(np.float32)
    return hu


def thick_slices(hu: NDArray[np.float32], thickness: int) -> NDArray[np.float32]:
    """The crop as if it had been interpolated from slices that are so many voxels thick."""
    count = len(hu)
    padded = np.pad(hu, ((0, -count % thickness), (0, 0), (0, 0)), mode="edge")
    slices = padded.reshape(-1, thickness, *hu.shape[1:]).mean(axis=1)
    where = np.clip((np.arange(count) - (thickness - 1) / 2) / thickness, 0, len(slices) - 1)
    below = np.minimum(where.astype(int), max(len(slices) - 2, 0))
    above = np.minimum(below + 1, len(slices) - 1)
    share = (where - below)[:, None, None].astype(np.float32)
    return slices[below] * (1 - share) + slices[above] * share


def field_of_view(size: Axes, random: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The first and last voxel (3,) along R, A, S that a scanner of a smaller field of view would show."""
    low, high = np.zeros(3), np.array(size, float) - 1
    if random.random() < 0.25:
        axis = int(random.integers(3))
        cut = np.floor(random.uniform(0, _MOST_CUT) * size[axis])
        if random.random() < 0.5:
            low[axis] += cut
        else:
            high[axis] -= cut
    return low, high


def to_unit(hu: NDArray[np.float32], random: np.random.Generator) -> NDArray[np.float32]:
    """HU to [0, 1] by a window near [-1000, 1000]."""
    low = -1000 + random.normal(0, 15)
    high = 1000 + random.normal(0, 15)
    if random.random() < 0.3:
        high += random.uniform(-200, 300)
    return np.clip((hu - low) / (high - low), 0, 1).astype(np.float32)
