"""Regions that a click may mean: the nested level sets of log-odds that contain it, and what describes each of them.

The level sets of `flood` are the connected components around the clicks, for all levels at once, so that regions need not
be labeled one by one. Descriptions are sums over histograms of levels, which take one pass for all regions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

PROBABILITIES = (0.02, 0.04, 0.07, 0.12, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.96)
LEVELS = np.log(np.array(PROBABILITIES) / (1 - np.array(PROBABILITIES))).astype(np.float32)
"""Log-odds of the level sets, ascending: the first is the largest region."""
NAMES = (
    "level", "log_ml", "expected_dice", "mean_probability", "share_of_probability", "log_area", "border_contrast",
    "border_edge", "border_strong", "border_of_body", "mean_intensity", "spread_of_intensity", "mean_edge", "log_reach",
    "relative_reach", "compactness", "growth_1", "growth_2", "growth_4", "log_own", "log_other", "clicked_intensity",
    "clicked_smooth_intensity", "appearance_inside", "appearance_outside", "contrast_to_clicks", "newest_is_own",
    "dice_with_previous", "gain", "loss", "log_ml_previous", "probability_of_gain", "probability_of_loss", "is_first",
    "is_addition", "is_removal",
)  # fmt: skip
"""What describes a region, in the order of the network's inputs."""
BEYOND = np.float32(50)
"""Log-odds larger than any; its negative is smaller than any."""
_STRONG_EDGE = 0.35
_SWEEPS = 3


@dataclass(frozen=True, eq=False)
class Surroundings:
    """Arrays on the region in which level sets are described; all [k, j, i].

    Attributes:
        log_odds: of the structure.
        intensity, edges: as in `inputs`.
        appearance: log-odds.
        contrast: difference of the smoothed intensity to the nearest of the clicked ones.
        mm: distance to the nearest click on the structure.
        body: mask.
        previous: mask of the answer before, or None at the first click.
        spacing_mm: (3,) along k, j, i.
        clicked: intensity and smoothed intensity at the clicks on the structure, means.
        own, other: number of clicks.
        newest_is_own: whether the newest click is on the structure.
    """

    log_odds: NDArray[np.float32]
    intensity: NDArray[np.float32]
    edges: NDArray[np.float32]
    appearance: NDArray[np.float32]
    contrast: NDArray[np.float32]
    mm: NDArray[np.float32]
    body: NDArray[np.bool_]
    previous: NDArray[np.bool_] | None
    spacing_mm: NDArray[np.float64]
    clicked: tuple[float, float]
    own: int
    other: int
    newest_is_own: bool


def flood(
    log_odds: NDArray[np.float32], seeds: NDArray[np.intp], within: NDArray[np.bool_] | None = None
) -> NDArray[np.float32]:
    """For each voxel the largest level at which it is connected with a seed.

    That is the largest, over all paths from the seeds, of the least value on the path. Sweeps in both directions along each
    axis find paths that turn back no more often than there are sweeps.

    Args:
        log_odds: [k, j, i].
        seeds: (N, 3) voxels (k, j, i).
        within: paths stay within this mask, if one is given.

    Returns:
        float32 of the same shape; `BEYOND` at the seeds, its negative where no path leads.
    """
    passable = log_odds.copy() if within is None else np.where(within, log_odds, -BEYOND)
    level = np.full(log_odds.shape, -BEYOND, np.float32)
    passable[tuple(seeds.T)] = level[tuple(seeds.T)] = BEYOND
    for _ in range(_SWEEPS):
        for axis in range(3):
            planes = np.ascontiguousarray(np.moveaxis(level, axis, 0))
            walls = np.ascontiguousarray(np.moveaxis(passable, axis, 0))
            through = np.empty_like(planes[0])
            for order in (range(1, len(planes)), range(len(planes) - 2, -1, -1)):
                back = -1 if order.step == 1 else 1
                for n in order:
                    np.minimum(planes[n + back], walls[n], out=through)
                    np.maximum(planes[n], through, out=planes[n])
            level = np.moveaxis(planes, 0, axis)
    return np.ascontiguousarray(level)


def describe(field: NDArray[np.float32], around: Surroundings, kind: str = "whole") -> NDArray[np.float32]:
    """Describe the regions `field >= level` for each of `LEVELS`.

    Args:
        field: from `flood`, [k, j, i].
        around: where it is.
        kind: "whole", "addition" to the previous answer or "removal" from it.

    Returns:
        (levels, len(NAMES)) float32.
    """
    n = len(LEVELS)
    bins = np.searchsorted(LEVELS, field.ravel(), side="right").astype(np.uint8)
    voxel_ml = float(np.prod(around.spacing_mm)) / 1000

    def inside(weights: NDArray | None = None) -> NDArray[np.float64]:
        """Sum of some values over each region."""
        counts = np.bincount(bins, None if weights is None else weights.ravel(), minlength=n + 1).astype(np.float64)
        return np.cumsum(counts[::-1])[::-1][1:]

    voxels = inside()
    size = np.maximum(voxels, 1)
    probability = 1 / (1 + np.exp(-around.log_odds))
    total = float(probability.sum())
    ml = size * voxel_ml
    log_ml = np.log(ml)
    mean_probability = inside(probability) / size
    mean = inside(around.intensity) / size
    spread = np.sqrt(np.maximum(inside(around.intensity**2) / size - mean**2, 0))
    reach = inside(around.mm) / size
    radius = (3 * ml * 1000 / (4 * np.pi)) ** (1 / 3)
    area, contrast, edge, strong, of_body, beyond = _borders(bins.reshape(field.shape), around, n)
    # Volume gained by the next levels: little where the border lies on an edge.
    growth = [np.array([log_ml[max(i - k, 0)] - log_ml[min(i + k, n - 1)] for i in range(n)]) for k in (1, 2, 4)]
    dice, gain, loss, log_previous = np.ones(n), np.zeros(n), np.zeros(n), np.zeros(n)
    of_gain, of_loss = np.zeros(n), np.zeros(n)
    if around.previous is not None and around.previous.any():
        before = float(around.previous.sum())
        kept = inside(around.previous.astype(np.float64))
        old = probability * around.previous
        old_inside = inside(old)
        dice, gain, loss = 2 * kept / (voxels + before), (voxels - kept) / before, (before - kept) / before
        log_previous[:] = np.log(before * voxel_ml)
        of_gain = (inside(probability) - old_inside) / np.maximum(voxels - kept, 1)
        of_loss = (float(old.sum()) - old_inside) / np.maximum(before - kept, 1)
    same = (around.own, around.other, *around.clicked)
    own, other, clicked, smooth_clicked = (np.full(n, value) for value in same)
    columns = (
        np.arange(n), log_ml, 2 * mean_probability * voxels / (voxels + total), mean_probability,
        mean_probability * voxels / max(total, 1e-6), np.log(area), contrast, edge, strong, of_body, mean, spread,
        inside(around.edges) / size, np.log(reach + 1), reach / radius, area**1.5 / (ml * 1000), *growth, np.log(own),
        np.log1p(other), clicked, smooth_clicked, inside(around.appearance) / size, beyond,
        inside(around.contrast) / size, np.full(n, around.newest_is_own), dice, np.log1p(gain), np.minimum(loss, 1),
        log_previous, of_gain, of_loss, np.full(n, around.previous is None), np.full(n, kind == "addition"),
        np.full(n, kind == "removal"),
    )  # fmt: skip
    return np.column_stack(columns).astype(np.float32)


def _borders(bins: NDArray[np.uint8], around: Surroundings, n: int) -> list[NDArray[np.float64]]:
    """Area of each region's border in mm^2, and means over it.

    The means are of the step of intensity, the edge, strong edges, the border of the body, and the appearance just outside.
    """
    sums = np.zeros((6, n + 2))
    for axis in range(3):
        face = float(np.prod(around.spacing_mm) / around.spacing_mm[axis])
        one, two = [slice(None)] * 3, [slice(None)] * 3
        one[axis], two[axis] = slice(None, -1), slice(1, None)
        first, second = tuple(one), tuple(two)
        at = np.flatnonzero((bins[first] != bins[second]).ravel())
        if not len(at):
            continue

        def both(array: NDArray, at: NDArray = at, first: tuple = first, second: tuple = second) -> tuple[NDArray, NDArray]:
            return array[first].ravel()[at], array[second].ravel()[at]

        a, b = both(bins)
        low, high = np.minimum(a, b) + 1, np.maximum(a, b) + 1
        intensity, edges, appearance, body = (
            both(array) for array in (around.intensity, around.edges, around.appearance, around.body)
        )
        edge = np.maximum(*edges)
        values = (
            None,
            np.abs(intensity[0] - intensity[1]),
            edge,
            edge > _STRONG_EDGE,
            ~(body[0] & body[1]),
            np.where(a < b, *appearance),
        )
        for row, value in zip(sums, values, strict=True):
            row += face * (np.bincount(low, value, n + 2) - np.bincount(high, value, n + 2))
    area, *others = np.cumsum(sums, axis=1)[:, 1 : n + 1]
    area = np.maximum(area, 1e-6)
    return [area, *(each / area for each in others)]
