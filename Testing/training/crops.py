"""Training examples: a crop of a CT as the network will see it, and the targets at the centers of its features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from CoralBayLib.encoders.base import Axes, LevelSpec
from CoralBayLib.imaging.grid import Grid, Volume
from CoralBayLib.imaging.resampling import interpolate

from .jitter import AIR_HU, agent_jitter, field_of_view, sharpness_jitter, to_unit
from .teacher import TeacherPass

_PAST_THE_BODY = 4.0
"""How many voxels a crop may reach beyond the body's box."""
_OFF_CENTER = 0.2
"""How far a point that a crop is drawn around may lie from its middle, as a share of its sides."""

LEAST_SIDE = 64
"""The least side when the network is used."""


@dataclass(frozen=True, eq=False)
class Example:
    """One input with its targets.

    Attributes:
        image: (1, R, A, S) in [0, 1].
        targets: (D, r, a, s) of each of the student's first levels.
        weights: (1, r, a, s): how much of each place is patient, 0 where the teacher has not been.
        grid: of the image.
        low, high: (3,) the first and last voxel along R, A, S within the field of view.
    """

    image: torch.Tensor
    targets: list[torch.Tensor]
    weights: list[torch.Tensor]
    grid: Grid
    low: NDArray[np.float64]
    high: NDArray[np.float64]

    def holds(self, ijk: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Whether (N, 3) indices lie in the field of view."""
        return ((ijk >= self.low) & (ijk <= self.high)).all(axis=1)


def size_for(passes: Sequence[TeacherPass], spacing_mm: float, most: Axes) -> Axes:
    """The size of a crop that holds each of the bodies, as the network sees them when it is used, but no larger than `most`.

    Args:
        passes: the teacher's, of one or several scans.
        spacing_mm: the student's.
        most: voxels along R, A, S.
    """
    bodies = [made.body.grid for made in passes]
    extent = np.max([np.array(body.size) * body.spacing_mm / spacing_mm for body in bodies], axis=0)
    r, a, s = np.minimum(np.maximum(LEAST_SIDE, -(-extent // 32) * 32), most).astype(int).tolist()
    return r, a, s


def draw(
    made: TeacherPass,
    specs: list[LevelSpec],
    spacing_mm: float,
    size: Axes,
    random: np.random.Generator,
    around: NDArray[np.float64] | None = None,
) -> Example:
    """A random crop with random changes.

    Args:
        made: the teacher's pass.
        specs: the student's levels that have a layer of the teacher's each.
        spacing_mm: the student's.
        size: voxels along R, A, S; a body smaller than that is padded with air.
        random: where the changes come from.
        around: (3,) RAS mm of a point that the crop is to hold, near its middle where the body allows it.
    """
    box = made.body.grid
    step = spacing_mm * random.uniform(0.94, 1.06) / box.spacing_mm
    extent = np.array(box.size) / step
    sides = np.array(size)
    low, high = -_PAST_THE_BODY, np.maximum(extent - sides, 0) + _PAST_THE_BODY
    last = np.where(extent > sides, high, 0)
    if around is None:
        start = random.uniform(low, last)
    else:
        middle = box.to_ijk(around[None])[0] / step + sides * random.uniform(-_OFF_CENTER, _OFF_CENTER, 3)
        start = np.clip(middle - sides / 2, low, last)
    crop = box.subgrid(start * step, step, size[::-1])
    seen = field_of_view(size, random)
    hu = at(made.image, crop, outside=AIR_HU)
    hu = sharpness_jitter(agent_jitter(hu, random), random)
    hu[~_within(*seen, 0.0, 1, hu.shape)] = AIR_HU
    image = torch.from_numpy(to_unit(hu, random).transpose(2, 1, 0).copy())[None]
    targets, weights = [], []
    for (target, grid), spec in zip(made.targets, specs, strict=True):
        centers = crop.subgrid(spec.offset, spec.stride, tuple((-(-sides // np.array(spec.stride)))[::-1]))
        targets.append(interpolate(target.float(), grid, centers).permute(0, 3, 2, 1).contiguous())
        body = at(made.body, centers, outside=0.0)
        body[~_within(*seen, spec.offset, spec.stride, body.shape)] = 0
        weights.append(torch.from_numpy(body.transpose(2, 1, 0).copy())[None])
    return Example(image, targets, weights, crop, *seen)


def _within(
    low: NDArray[np.float64], high: NDArray[np.float64], offset: Axes | float, stride: Axes | int, shape: tuple[int, ...]
) -> NDArray[np.bool_]:
    """Which nodes of a [k, j, i] lattice in a crop lie within its field of view."""
    offsets, strides = np.broadcast_to(offset, 3), np.broadcast_to(stride, 3)
    sides = []
    for axis in range(3):
        where = np.arange(shape[2 - axis]) * strides[axis] + offsets[axis]
        sides.append((where >= low[axis]) & (where <= high[axis]))
    return sides[2][:, None, None] & sides[1][:, None] & sides[0]


def at(volume: Volume, grid: Grid, outside: float) -> NDArray[np.float32]:
    """The volume on a parallel grid, float32 [k, j, i], with a constant beyond its border."""
    values = interpolate(torch.from_numpy(volume.array.astype(np.float32))[None], volume.grid, grid)[0].numpy()
    for axis in range(3):
        steps = np.zeros((grid.size[axis], 3))
        steps[:, axis] = np.arange(grid.size[axis])
        where = volume.grid.to_ijk(grid.to_ras(steps))[:, axis]
        beyond = (where < -0.5) | (where > volume.grid.size[axis] - 0.5)
        values[(slice(None),) * (2 - axis) + (beyond,)] = outside
    return values
