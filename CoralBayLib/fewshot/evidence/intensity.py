"""Intensity of a structure compared with its neighbors: its typical HU, and the edges of the CT at its border.

Deep features are coarse, and geodesic paths only show connection. Between a structure and its neighbors, the HU of
the prompts on both sides often decide, and a border close to an edge of the CT belongs on that edge.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from CoralBayLib.imaging.grid import Volume

from .voxel_features import KNOTS_BY_HU, KNOTS_HU, hu_index

WEIGHT = 1.5
"""Weight of the log-likelihood ratio of the HU."""
PRIOR_OFFSET = 0.8
"""Subtracted from every structure's log-odds: background prompts lie at some distance from a border, so that less than
half of the way between two prompts belongs to the structure."""
_NEIGHBOR_MM = 15.0
"""Prompts of anything else within this distance of the structure's own are its neighbors."""
_BANDWIDTH = 0.5
"""Bandwidth of the density estimates over HU, in steps of `KNOTS_HU`."""
_MIN_DENSITY = 0.02
"""Added to densities, as a fraction of their maximum."""
_MAX_LOG_RATIO = 3.0
_MAX_LOG_ODDS = 5.0
"""Log-odds beyond this are not moved by the guided filter."""
_EPSILON = 0.15
"""Epsilon of the guided filter, in squared steps of `KNOTS_HU`: edges much smaller than its root are smoothed."""
_NEGLIGIBLE = -10.0
"""Voxels with lower log-odds are not changed."""
_KNOTS = KNOTS_BY_HU.astype(np.float32)
_BINS = np.linspace(0, len(KNOTS_HU) - 1, 4 * len(KNOTS_HU) - 3)


class IntensityEvidence:
    """The intensities of one scan.

    Args:
        image: int16 HU on the working grid.
    """

    def __init__(self, image: Volume) -> None:
        self.image = image

    def refine(
        self, points_ras: NDArray[np.float64], own: NDArray[np.bool_], out: torch.Tensor, within: tuple[slice, ...]
    ) -> None:
        """Add the log-likelihood ratio of the HU to a structure's log-odds, and move its borders onto nearby edges.

        Args:
            points_ras: (N, 3) RAS mm of all prompts.
            own: (N,) which of them are the structure's; at least one.
            out: (K, J, I) log-odds on the working grid, changed in place.
            within: (k, j, i) slices of the structure's surroundings; nothing outside is changed.
        """
        span = _span((out[within] > _NEGLIGIBLE).numpy())
        if span is None:
            return
        values = out[within][span]
        index = hu_index(self.image.array[within][span])
        if not own.all():
            values += torch.from_numpy((self._table(points_ras, own) - np.float32(PRIOR_OFFSET))[index])
        clamped = values.clamp(-_MAX_LOG_ODDS, _MAX_LOG_ODDS)
        smooth = guided_filter(torch.from_numpy(_KNOTS[index]), clamped, _EPSILON, self.image.grid.isotropic_axes)
        values += smooth - clamped

    def _table(self, points_ras: NDArray[np.float64], own: NDArray[np.bool_]) -> NDArray[np.float32]:
        """By HU from -1024 upwards: the weighted log-likelihood ratio of the structure and its neighbors.

        The densities are kernel density estimates (Parzen 1962) of the HU at the prompts.
        """
        own_points = points_ras[own]
        beside = ~own & (
            (points_ras >= own_points.min(axis=0) - _NEIGHBOR_MM) & (points_ras <= own_points.max(axis=0) + _NEIGHBOR_MM)
        ).all(1)
        if not beside.any():
            return np.zeros(len(_KNOTS), np.float32)
        ratio = np.log(self._density(own_points)) - np.log(self._density(points_ras[beside]))
        return WEIGHT * np.interp(_KNOTS, _BINS, ratio.clip(-_MAX_LOG_RATIO, _MAX_LOG_RATIO)).astype(np.float32)

    def _density(self, points_ras: NDArray[np.float64]) -> NDArray[np.float64]:
        """Density of each of `_BINS` at some points; none is zero."""
        levels, counts = np.unique(hu_index(self.image.nearest_values(points_ras)), return_counts=True)
        away = (_BINS[:, None] - _KNOTS[levels]) / _BANDWIDTH
        density = np.exp(-0.5 * away**2) @ counts
        density += _MIN_DENSITY * density.max()
        return density / density.sum()


def guided_filter(guide: torch.Tensor, values: torch.Tensor, epsilon: float, axes: tuple[int, ...] = (0, 1, 2)) -> torch.Tensor:
    """Guided filter in cubes of 3 voxels (He, Sun and Tang 2013): smooth values, but not across the edges of a guide.

    Args:
        guide: (K, J, I) float32.
        values: of the same shape.
        epsilon: variance of the guide, in its units squared, below which it counts as constant.
        axes: array axes along which a cube extends; it is one voxel thick along the others.

    Returns:
        float32 of the same shape.
    """
    buffer = torch.empty_like(guide)

    def average(of: torch.Tensor) -> torch.Tensor:
        return _average(of, axes, buffer)

    middle, shift = average(guide.clone()), average(values.clone())
    slope = average(guide * values).addcmul_(middle, shift, value=-1)
    slope /= average(guide * guide).addcmul_(middle, middle, value=-1).add_(epsilon)
    shift = average(shift.addcmul_(slope, middle, value=-1))
    return average(slope).mul_(guide).add_(shift)


def _average(values: torch.Tensor, axes: tuple[int, ...], buffer: torch.Tensor) -> torch.Tensor:
    """Mean of each voxel and its neighbors along some axes, in place; edge values continue beyond the border.

    The buffer avoids an allocation, which takes longer than the sums.
    """
    for axis in axes:
        last = values.shape[axis] - 1
        before = buffer.copy_(values)
        for there, here in ((0, 1), (1, 0)):
            values.narrow(axis, here, last).add_(before.narrow(axis, there, last))
            values.narrow(axis, there * last, 1).add_(before.narrow(axis, there * last, 1))
    return values.mul_(3.0 ** -len(axes))


def _span(mask: NDArray[np.bool_]) -> tuple[slice, ...] | None:
    """The bounding box of a mask, two voxels larger on each side; None for an empty mask."""
    spans = []
    for axis in range(3):
        where = np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))
        if not len(where):
            return None
        spans.append(slice(max(0, int(where[0]) - 2), int(where[-1]) + 3))
    return tuple(spans)
