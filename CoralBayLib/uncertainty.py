"""Where a probe does not know: a map of its doubt, and the place that is most worth a prompt."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from .errors import PromptError
from .geometry import Grid, Volume

_SMOOTHING_MM = 6.0
_FEWEST_PLACES = 2000


def uncertainty_map(probability: torch.Tensor, body: Volume) -> Volume:
    """Doubt at every voxel: 1 where a structure's probability is 0.5, 0 where all are certain.

    Args:
        probability: (S, K, J, I), each structure on its own, as `Probe.predict` gives it.
        body: mask on the same grid; there is no doubt outside it.

    Returns:
        float32 on the same grid, in [0, 1].
    """
    # One structure at a time: the largest doubt needs no copy of them all.
    doubt = torch.zeros(probability.shape[1:])
    for one in probability:
        torch.maximum(doubt, 1 - (2 * one - 1).abs_(), out=doubt)
    array = doubt.numpy()
    array[body.array == 0] = 0
    return Volume(array, body.grid)


def most_uncertain(
    uncertainty: Volume, prompts_ras: ArrayLike = (), min_distance_mm: float = 10.0, avoid_ras: Sequence[ArrayLike] = ()
) -> NDArray[np.float64]:
    """The place where much is in doubt: not a lone voxel, for every border has some of those.

    Args:
        uncertainty: from `uncertainty_map`.
        prompts_ras: (N, 3) RAS mm of the prompts so far; their neighbourhood has been judged already.
        min_distance_mm: how far from any prompt the place must be.
        avoid_ras: further places to keep away from, such as those that were looked at and left.

    Returns:
        (3,) RAS mm.

    Raises:
        PromptError: nothing is in doubt.
    """
    sigma = _SMOOTHING_MM / uncertainty.grid.spacing_mm[::-1]
    smooth = ndimage.gaussian_filter(uncertainty.array, sigma, mode="constant", truncate=2.0)
    taken = np.concatenate([np.reshape(p, (-1, 3)) for p in (prompts_ras, *avoid_ras)]) if len(avoid_ras) else prompts_ras
    taken = np.reshape(np.asarray(taken, dtype=np.float64), (-1, 3))
    place = _highest_away_from(smooth, uncertainty.grid, taken, min_distance_mm)
    if place is None:
        raise PromptError("The probe is certain everywhere. Add a prompt where the preview is wrong.")
    return place


def _highest_away_from(
    values: NDArray[np.float32], grid: Grid, taken: NDArray[np.float64], distance_mm: float
) -> NDArray[np.float64] | None:
    flat = values.ravel()
    tree = cKDTree(taken) if len(taken) else None
    count = min(_FEWEST_PLACES, flat.size)
    while True:
        top = np.argpartition(flat, flat.size - count)[flat.size - count :]
        top = top[np.argsort(-flat[top], kind="stable")]
        top = top[flat[top] > 1e-3]
        points = grid.to_ras(np.stack(np.unravel_index(top, values.shape), axis=1)[:, ::-1])
        free = points if tree is None or not len(points) else points[tree.query(points)[0] >= distance_mm]
        if len(free):
            return free[0]
        # All of the highest lie beside prompts: look further down, as long as there is anything.
        if len(top) < count or count == flat.size:
            return None
        count = min(flat.size, count * 8)
