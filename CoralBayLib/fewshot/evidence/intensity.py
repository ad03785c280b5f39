"""What the CT says of a structure beside its neighbours: which HU are its own, and where in them its border runs.

Deep features are coarse and paths only tell what hangs together. Between a structure and what lies around it, the HU of
the prompts on both sides often decide; and a border that passes close by an edge of the CT belongs on that edge.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from CoralBayLib.imaging.grid import Volume

from .voxel_features import KNOTS_BY_HU, KNOTS_HU, hu_index

WEIGHT = 1.5
"""Of the log-likelihood ratio of the HU, beside appearance and nearness."""
RESERVE = 0.8
"""Log-odds that everything starts behind by: background prompts are drawn at some distance from a border, so that what
lies between two prompts belongs to the structure less than half of the way."""
_AROUND_MM = 15.0
"""Prompts on anything else within this of the structure's own are its neighbours."""
_BANDWIDTH = 0.5
"""Of the densities of HU, in steps of `KNOTS_HU`."""
_LEAST_SHARE = 0.02
_MOST = 3.0
_SURE = 5.0
_SMOOTHNESS = 0.15
"""The guided filter's epsilon, in squared steps of `KNOTS_HU`: edges much smaller than its root are smoothed over."""
_OUT_OF_QUESTION = -10.0
_KNOTS = KNOTS_BY_HU.astype(np.float32)
_BINS = np.linspace(0, len(KNOTS_HU) - 1, 4 * len(KNOTS_HU) - 3)


class Contrast:
    """The CT of one scan.

    Args:
        image: int16 HU on the working grid.
    """

    def __init__(self, image: Volume) -> None:
        self.image = image

    def sharpen(
        self, points_ras: NDArray[np.float64], own: NDArray[np.bool_], out: torch.Tensor, within: tuple[slice, ...]
    ) -> None:
        """Join the HU's say to a structure's log-odds, and move its borders onto nearby edges.

        Args:
            points_ras: (N, 3) RAS mm of all prompts.
            own: (N,) which of them are the structure's; at least one.
            out: (K, J, I) log-odds on the working grid, changed in place.
            within: (k, j, i) slices of the structure's surroundings; nothing outside is touched.
        """
        span = _span((out[within] > _OUT_OF_QUESTION).numpy())
        if span is None:
            return
        values = out[within][span]
        index = hu_index(self.image.array[within][span])
        if not own.all():
            values += torch.from_numpy((self._table(points_ras, own) - np.float32(RESERVE))[index])
        doubtful = values.clamp(-_SURE, _SURE)
        smooth = guided_filter(torch.from_numpy(_KNOTS[index]), doubtful, _SMOOTHNESS, self.image.grid.close_axes)
        values += smooth - doubtful

    def _table(self, points_ras: NDArray[np.float64], own: NDArray[np.bool_]) -> NDArray[np.float32]:
        """By HU from -1024 on: how much likelier it is in the structure than beside it, as weighted log-likelihood ratio
        of two kernel density estimates (Parzen 1962)."""
        mine = points_ras[own]
        beside = ~own & ((points_ras >= mine.min(axis=0) - _AROUND_MM) & (points_ras <= mine.max(axis=0) + _AROUND_MM)).all(1)
        if not beside.any():
            return np.zeros(len(_KNOTS), np.float32)
        ratio = np.log(self._density(mine)) - np.log(self._density(points_ras[beside]))
        return WEIGHT * np.interp(_KNOTS, _BINS, ratio.clip(-_MOST, _MOST)).astype(np.float32)

    def _density(self, points_ras: NDArray[np.float64]) -> NDArray[np.float64]:
        """Share of each of `_BINS` at some points, none being without any."""
        grid = self.image.grid
        ijk = np.clip(np.round(grid.to_ijk(points_ras)).astype(int), 0, np.array(grid.size) - 1)
        levels, counts = np.unique(hu_index(self.image.array[tuple(ijk[:, ::-1].T)]), return_counts=True)
        away = (_BINS[:, None] - _KNOTS[levels]) / _BANDWIDTH
        density = np.exp(-0.5 * away**2) @ counts
        density += _LEAST_SHARE * density.max()
        return density / density.sum()


def guided_filter(guide: torch.Tensor, values: torch.Tensor, epsilon: float, axes: tuple[int, ...] = (0, 1, 2)) -> torch.Tensor:
    """Smooth values along the edges of a guide, in cubes of 3 voxels (He, Sun and Tang 2013).

    Args:
        guide: (K, J, I) float32.
        values: of the same shape.
        epsilon: variance of the guide, in its units squared, under which it is taken for flat.
        axes: along which a cube extends; one voxel thick along the others.

    Returns:
        float32 of the same shape.
    """
    spare = torch.empty_like(guide)

    def average(of: torch.Tensor) -> torch.Tensor:
        return _average(of, axes, spare)

    middle, shift = average(guide.clone()), average(values.clone())
    slope = average(guide * values).addcmul_(middle, shift, value=-1)
    slope /= average(guide * guide).addcmul_(middle, middle, value=-1).add_(epsilon)
    shift = average(shift.addcmul_(slope, middle, value=-1))
    return average(slope).mul_(guide).add_(shift)


def _average(values: torch.Tensor, axes: tuple[int, ...], spare: torch.Tensor) -> torch.Tensor:
    """Of each voxel and its neighbours along some axes, in place, the image going on beyond its border as it is there.

    New memory would take longer to be handed out than the sums do, hence the spare.
    """
    for axis in axes:
        last = values.shape[axis] - 1
        before = spare.copy_(values)
        for there, here in ((0, 1), (1, 0)):
            values.narrow(axis, here, last).add_(before.narrow(axis, there, last))
            values.narrow(axis, there * last, 1).add_(before.narrow(axis, there * last, 1))
    return values.mul_(3.0 ** -len(axes))


def _span(mask: NDArray[np.bool_]) -> tuple[slice, ...] | None:
    """The smallest box around a mask and two voxels more; None for an empty one."""
    spans = []
    for axis in range(3):
        where = np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))
        if not len(where):
            return None
        spans.append(slice(max(0, int(where[0]) - 2), int(where[-1]) + 3))
    return tuple(spans)
