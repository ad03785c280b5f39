"""Training examples: a piece of a CT as the network will see it, and the targets at the centres of its features."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage

from CoralBayLib.encoders.base import Axes, LevelSpec
from CoralBayLib.imaging.grid import Grid, Volume
from CoralBayLib.imaging.resampling import interpolate

from .teacher import TeacherPass

_PAST_THE_BODY = 4.0
"""How many voxels a crop may reach beyond the body's box."""

LEAST_SIDE = 64
"""The least side when the network is used."""


@dataclass(frozen=True, eq=False)
class Example:
    """One input with its targets.

    Attributes:
        image: (1, R, A, S) in [0, 1].
        targets: (D, r, a, s) of each of the student's first levels.
        weights: (1, r, a, s): how much of each place is patient, 0 where the teacher has not been.
    """

    image: torch.Tensor
    targets: list[torch.Tensor]
    weights: list[torch.Tensor]


def draw(
    made: TeacherPass, specs: list[LevelSpec], spacing_mm: float, most: Axes, whole: bool, random: np.random.Generator
) -> Example:
    """A random crop, jittered.

    Args:
        made: the teacher's pass.
        specs: the student's levels that have a layer of the teacher's each.
        spacing_mm: the student's.
        most: size along R, A, S; a body smaller than that is padded with air.
        whole: make the crop no larger than the body needs when the network is used.
        random: where the jitter comes from.
    """
    box = made.body.grid
    step = spacing_mm * random.uniform(0.94, 1.06) / box.spacing_mm
    extent = np.array(box.size) / step
    size = np.minimum(np.maximum(LEAST_SIDE, -(-extent // 32) * 32), most).astype(int) if whole else np.array(most)
    low, high = -_PAST_THE_BODY, np.maximum(extent - size, 0) + _PAST_THE_BODY
    start = random.uniform(low, np.where(extent > size, high, 0))
    crop = box.subgrid(start * step, step, tuple(size[::-1]))
    hu = sharpness_jitter(at(made.image, crop, outside=-1024.0), random)
    image = torch.from_numpy(to_unit(hu, random).transpose(2, 1, 0).copy())[None]
    targets, weights = [], []
    for (target, grid), spec in zip(made.targets, specs, strict=True):
        centres = crop.subgrid(spec.offset, spec.stride, tuple((-(-size // np.array(spec.stride)))[::-1]))
        targets.append(interpolate(target.float(), grid, centres).permute(0, 3, 2, 1).contiguous())
        body = at(made.body, centres, outside=0.0)
        weights.append(torch.from_numpy(body.transpose(2, 1, 0).copy())[None])
    return Example(image, targets, weights)


def at(volume: Volume, grid: Grid, outside: float) -> np.ndarray:
    """The volume on a parallel grid, float32 [k, j, i], with a constant beyond its border."""
    values = interpolate(torch.from_numpy(volume.array.astype(np.float32))[None], volume.grid, grid)[0].numpy()
    for axis in range(3):
        steps = np.zeros((grid.size[axis], 3))
        steps[:, axis] = np.arange(grid.size[axis])
        where = volume.grid.to_ijk(grid.to_ras(steps))[:, axis]
        beyond = (where < -0.5) | (where > volume.grid.size[axis] - 0.5)
        values[(slice(None),) * (2 - axis) + (beyond,)] = outside
    return values


def sharpness_jitter(hu: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Thicker slices, softer kernels, more noise."""
    if random.random() < 0.3:
        hu = ndimage.gaussian_filter1d(hu, random.uniform(0.3, 1.0), axis=0)
    if random.random() < 0.15:
        hu = ndimage.gaussian_filter(hu, random.uniform(0.2, 0.6))
    if random.random() < 0.5:
        hu = hu + random.normal(0, random.uniform(5, 35), hu.shape).astype(np.float32)
    return hu


def to_unit(hu: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """HU to [0, 1] by a window near [-1000, 1000]."""
    low = -1000 + random.normal(0, 15)
    high = 1000 + random.normal(0, 15)
    if random.random() < 0.3:
        high += random.uniform(-200, 300)
    return np.clip((hu - low) / (high - low), 0, 1).astype(np.float32)
