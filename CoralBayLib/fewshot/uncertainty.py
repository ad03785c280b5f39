"""Uncertainty of a segmentation: a map, the suggested next click, and the expected Dice."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage
from scipy.spatial import cKDTree
from scipy.special import expit

from CoralBayLib.core.deprecation import deprecated_function
from CoralBayLib.core.errors import PromptError
from CoralBayLib.imaging.grid import Grid, Volume

DICE_ERROR = 0.35
"""Root mean square error of the estimated Dice, as a fraction of its distance to 1; see Testing/benchmarks/suggest.py."""
_SMOOTHING_MM = 6.0
"""Standard deviation of the Gaussian that sums expected errors around a location; see DECISIONS.md."""
_CANDIDATE_MM = 4.0
"""Distance between candidate locations; clicks are not more precise."""
_CHUNK = 5000


@dataclass(frozen=True, eq=False)
class Suggestion:
    """A location where a click is expected to improve the segmentation most.

    Attributes:
        label: the structure that is uncertain there.
        ras: (3,) RAS mm.
    """

    label: int
    ras: NDArray[np.float64]


def uncertainty_map(probability: Iterable[torch.Tensor], body: Volume) -> Volume:
    """Uncertainty at every voxel: 1 where a structure's probability is 0.5, 0 where all structures are certain.

    Args:
        probability: (K, J, I) of each structure, as `Probe.predict` gives them.
        body: mask on the same grid; the uncertainty is 0 outside of it.

    Returns:
        float32 on the same grid, in [0, 1].
    """
    # One structure at a time, so that the maps of all structures need not be in memory.
    uncertainty = torch.zeros(body.array.shape)
    for one in probability:
        torch.maximum(uncertainty, 1 - (2 * one - 1).abs_(), out=uncertainty)
    array = uncertainty.numpy()
    array[body.array == 0] = 0
    return Volume(array, body.grid)


def suggest_click(
    probability: Mapping[int, NDArray],
    grid: Grid,
    prompts_ras: ArrayLike = (),
    avoid_ras: Sequence[ArrayLike] = (),
    min_distance_mm: float = 10.0,
) -> Suggestion:
    """The location where the next click is expected to improve the given structures most.

    A click corrects an error and often the uncertain region around it. The score of a location is its probability of an error
    times the expected volume of errors around it as a fraction of the structure, because an error of 1 ml matters more in a
    gland than in a liver. Locations near prompts are excluded.

    Args:
        probability: of each structure by label, [k, j, i]; whole percents (uint8) or floats in [0, 1], 0 outside the
            body. They must be calibrated (see `Probe.predict`): with overconfident ones only borders are uncertain.
        grid: of all maps.
        prompts_ras: (N, 3) RAS mm of the prompts so far.
        avoid_ras: further locations to keep away from, such as suggestions that the user skipped.
        min_distance_mm: least distance from any of these.

    Returns:
        The location, and the structure that gains most there.

    Raises:
        PromptError: no voxel is uncertain.
    """
    step = np.maximum(1, np.round(_CANDIDATE_MM / grid.spacing_mm - 0.25).astype(int))
    thinned = tuple(slice(None, None, int(s)) for s in step[::-1])
    coarse = grid.subgrid((0, 0, 0), step, next(iter(probability.values()))[thinned].shape)
    total, best = np.zeros(coarse.shape, np.float32), np.zeros(coarse.shape, np.float32)
    structure = np.zeros(coarse.shape, np.int64)
    for label, one in probability.items():
        for box in ndimage.find_objects((one[thinned] > 0).view(np.uint8)):
            gain = _gain(one[thinned][box], coarse.spacing_mm)
            total[box] += gain
            structure[box][gain > best[box]] = label
            np.maximum(best[box], gain, out=best[box])
    avoided = np.concatenate(
        [np.reshape(np.asarray(points, dtype=np.float64), (-1, 3)) for points in (prompts_ras, *avoid_ras)]
    )
    for kji in _highest_first(total):
        candidates = coarse.to_ras(kji[:, ::-1])
        free = np.ones(len(kji), bool)
        if len(avoided):
            free = cKDTree(avoided).query(candidates, distance_upper_bound=min_distance_mm)[0] >= min_distance_mm
        if free.any():
            first = int(free.argmax())
            return Suggestion(int(structure[tuple(kji[first])]), candidates[first])
    raise PromptError("The probe is certain everywhere. Add a prompt where the preview is wrong.")


def _gain(probability: NDArray, spacing_mm: NDArray[np.float64]) -> NDArray[np.float32]:
    """Expected improvement of a structure by a click at each voxel, up to a common factor."""
    one = probability.astype(np.float32)
    if probability.dtype == np.uint8:
        one *= 0.01
    wrong = np.minimum(one, 1 - one)
    around = ndimage.gaussian_filter(wrong, _SMOOTHING_MM / spacing_mm[::-1], mode="constant", truncate=2.0)
    return wrong * around / one.sum()


def _highest_first(values: NDArray[np.float32]) -> Iterator[NDArray[np.intp]]:
    """(N, 3) indices of all positive voxels by descending value, in chunks."""
    positive = np.flatnonzero(values > 0)
    order = positive[np.argsort(-values.ravel()[positive], kind="stable")]
    for start in range(0, len(order), _CHUNK):
        yield np.stack(np.unravel_index(order[start : start + _CHUNK], values.shape), axis=1)


def dice_from_probabilities(
    labels: NDArray, log_odds: NDArray[np.float32], totals: Mapping[int, float]
) -> dict[int, tuple[float, float]]:
    """Expected Dice of a segmentation, estimated from its own calibrated probabilities.

    With A the voxels of a structure and p its probabilities, 2 sum_A(p) / (|A| + sum(p)): the expected overlap
    divided by the expected mean size, where the last sum is over the whole body.

    Args:
        labels: [k, j, i] the structure of each voxel; 0 for none.
        log_odds: at each voxel, those of its structure.
        totals: sum of each structure's probability over all voxels, by label.

    Returns:
        By label, the estimate and its standard deviation, both in [0, 1].
    """
    labeled = np.flatnonzero(labels)
    structure = labels.ravel()[labeled]
    length = max(totals, default=0) + 1
    sizes = np.bincount(structure, minlength=length)
    overlap = np.bincount(structure, weights=expit(log_odds.ravel()[labeled]), minlength=length)
    result = {}
    for label, total in totals.items():
        estimate = float(2 * overlap[label] / max(sizes[label] + total, 1e-6))
        result[label] = estimate, DICE_ERROR * (1 - estimate)
    return result


suggest = deprecated_function("suggest", suggest_click)
agreement = deprecated_function("agreement", dice_from_probabilities)
