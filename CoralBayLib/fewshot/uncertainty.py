"""Where a probe does not know: a map of its doubt, and the place that is most worth a prompt."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from CoralBayLib.core.errors import PromptError
from CoralBayLib.imaging.grid import Grid, Volume

_AROUND_MM = 6.0
_LOOKED_AT_MM = 4.0
"""About every so many mm a place is looked at: far fewer than voxels, and a click is no more precise."""
_AT_A_TIME = 5000


@dataclass(frozen=True, eq=False)
class Suggestion:
    """A place where an answer teaches much.

    Attributes:
        label: the structure of which it is in doubt whether the place belongs to it.
        ras: (3,) RAS mm; the last is the axial slice to look at.
    """

    label: int
    ras: NDArray[np.float64]


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


def suggest(
    probability: Mapping[int, NDArray],
    grid: Grid,
    prompts_ras: ArrayLike = (),
    avoid_ras: Sequence[ArrayLike] = (),
    min_distance_mm: float = 10.0,
) -> Suggestion:
    """The place where the next click is expected to mend most, of the structures that are given.

    A click mends something where the preview is wrong, and then much of what is in doubt around it too. So a place
    counts by how likely it is wrong times how much around it is expected to be, as a part of the structure: an error of
    1 ml is more to a gland than to a liver. Places near prompts have been judged.

    Args:
        probability: of each structure by label, [k, j, i]; whole percents (uint8) or floats in [0, 1], 0 outside the
            body. They must be honest (see `Probe.predict`): of odds that are too sure only borders are in doubt.
        grid: of them all.
        prompts_ras: (N, 3) RAS mm of the prompts so far.
        avoid_ras: further places to keep away from, such as those that were looked at and left.
        min_distance_mm: how far from any of these the place must be.

    Raises:
        PromptError: nothing is in doubt.
    """
    step = np.maximum(1, np.round(_LOOKED_AT_MM / grid.spacing_mm - 0.25).astype(int))
    thinned = tuple(slice(None, None, int(s)) for s in step[::-1])
    coarse = grid.sub((0, 0, 0), step, next(iter(probability.values()))[thinned].shape)
    total, best = np.zeros(coarse.shape, np.float32), np.zeros(coarse.shape, np.float32)
    whose = np.zeros(coarse.shape, np.int64)
    for label, one in probability.items():
        for box in ndimage.find_objects((one[thinned] > 0).view(np.uint8)):
            gain = _gain(one[thinned][box], coarse.spacing_mm)
            total[box] += gain
            whose[box][gain > best[box]] = label
            np.maximum(best[box], gain, out=best[box])
    taken = np.concatenate([np.reshape(np.asarray(points, dtype=np.float64), (-1, 3)) for points in (prompts_ras, *avoid_ras)])
    for kji in _highest_first(total):
        places = coarse.to_ras(kji[:, ::-1])
        free = np.ones(len(kji), bool)
        if len(taken):
            free = cKDTree(taken).query(places, distance_upper_bound=min_distance_mm)[0] >= min_distance_mm
        if free.any():
            first = int(free.argmax())
            return Suggestion(int(whose[tuple(kji[first])]), places[first])
    raise PromptError("The probe is certain everywhere. Add a prompt where the preview is wrong.")


def _gain(probability: NDArray, spacing_mm: NDArray[np.float64]) -> NDArray[np.float32]:
    """How much of a structure a click at each place is expected to mend, but for a factor that is the same for all."""
    one = probability.astype(np.float32)
    if probability.dtype == np.uint8:
        one *= 0.01
    wrong = np.minimum(one, 1 - one)
    around = ndimage.gaussian_filter(wrong, _AROUND_MM / spacing_mm[::-1], mode="constant", truncate=2.0)
    return wrong * around / one.sum()


def _highest_first(values: NDArray[np.float32]) -> Iterator[NDArray[np.intp]]:
    """(N, 3) indices of all positive voxels by falling value, some at a time."""
    positive = np.flatnonzero(values > 0)
    order = positive[np.argsort(-values.ravel()[positive], kind="stable")]
    for start in range(0, len(order), _AT_A_TIME):
        yield np.stack(np.unravel_index(order[start : start + _AT_A_TIME], values.shape), axis=1)
