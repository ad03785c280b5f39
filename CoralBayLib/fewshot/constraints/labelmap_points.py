"""Points drawn from a labelmap, spread over each structure and over the background. Imports no torch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from CoralBayLib.core.errors import PromptError
from CoralBayLib.imaging.grid import Grid, Volume

_CANDIDATES = 30
"""Voxels that are looked at for each point that is wanted; all of a structure may be millions."""


def spread_points(
    labelmap: Volume, labels: list[int], per_label: int, body: Volume | None = None, seed: int = 0
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Voxel centers of some labels, spread over the space that each label fills.

    What a label fills is halved across its longest side, and so on, until there are as many parts of equal size as points are
    wanted. One voxel of each part is drawn at random.

    Args:
        labelmap: whole numbers.
        labels: which values to draw from; 0 is the background.
        per_label: points of each label; all voxels of a label that has fewer.
        body: mask of the patient on the labelmap's grid, from which the background is drawn; None to draw it from all voxels.
        seed: of the draw.

    Returns:
        (N, 3) RAS mm and (N,) labels, in the order of `labels`.

    Raises:
        PromptError: `per_label` is less than 1, or the body is on another grid.
    """
    if per_label < 1:
        raise PromptError(f"Expected at least one point of each structure, got {per_label}.")
    if body is not None and not body.grid.same_as(labelmap.grid):
        raise PromptError("The mask of the body is on another grid than the labelmap.")
    points, kinds = [np.empty((0, 3))], [np.empty(0, np.int64)]
    for label in labels:
        mask = labelmap.array == label
        if label == 0 and body is not None:
            mask &= body.array != 0
        drawn = _spread(np.flatnonzero(mask), labelmap.grid, per_label, np.random.default_rng([seed, label]))
        points.append(drawn)
        kinds.append(np.full(len(drawn), label, np.int64))
    return np.concatenate(points), np.concatenate(kinds)


def _spread(voxels: NDArray[np.intp], grid: Grid, count: int, random: np.random.Generator) -> NDArray[np.float64]:
    """`count` of some voxels, given by their positions in the flattened array; (count, 3) RAS mm."""
    some = random.choice(voxels, min(len(voxels), _CANDIDATES * count), replace=False)
    points = grid.to_ras(np.stack(np.unravel_index(some, grid.shape)[::-1], axis=1))
    return points if len(points) <= count else points[_one_of_each_part(points, np.arange(len(points)), count)]


def _one_of_each_part(points: NDArray[np.float64], rows: NDArray[np.intp], count: int) -> list[int]:
    """Rows of `count` points, one of each of as many parts of equal size. The points are in random order."""
    if count == 1:
        return [int(rows[0])]
    axis = np.ptp(points[rows], axis=0).argmax()
    first = count // 2
    cut = len(rows) * first // count
    order = np.argpartition(points[rows, axis], cut)
    # Sorted, so that the rows of a part stay in random order.
    low, high = rows[np.sort(order[:cut])], rows[np.sort(order[cut:])]
    return _one_of_each_part(points, low, first) + _one_of_each_part(points, high, count - first)
