"""Converts log-odds to a labelmap: threshold, prompted components, argmax, and interpolation to the requested grid."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from scipy.special import logit

from CoralBayLib.core.progress import CancelToken, Progress, raise_if_cancelled, report
from CoralBayLib.imaging.cropping import bounding_box
from CoralBayLib.imaging.grid import Grid, Volume
from CoralBayLib.imaging.resampling import interpolate

from .options import require_threshold

_SLAB_VOXELS = 1 << 24
_OUTSIDE_BODY = -10.0
"""Margin of the log-odds over the threshold outside the body."""


def predict_labels(
    logits: Callable[[int], torch.Tensor],
    names: Mapping[int, str],
    body: Volume,
    grid: Grid,
    *,
    threshold: float = 0.5,
    seeds: Mapping[int, NDArray[np.float64]] | None = None,
    locked: NDArray[np.bool_] | None = None,
    progress: Progress | None = None,
    cancel: CancelToken | None = None,
) -> Volume:
    """Label every voxel with the structure of the largest log-odds over the threshold.

    Log-odds, not labels, are interpolated from the working grid, so that borders stay smooth on a finer grid.

    Args:
        logits: called with a label, gives its log-odds on the working grid, (K, J, I) float32.
        names: of the structures, by label; they are labeled in this order.
        body: mask of the patient on the working grid.
        grid: of the result.
        threshold: probability from which a voxel belongs to a structure.
        seeds: (N, 3) RAS points by label. Of a structure that is named here only the connected components that hold one
            of its points are kept, or all if none does.
        locked: [k, j, i] on the working grid, voxels that do not connect components; they get labels as others do, and the
            caller removes these on the grid of the result, where the border of what is locked is known exactly.
        progress: called with the fraction done and a message.
        cancel: checked between structures.

    Returns:
        Labelmap on the grid, uint8 (uint16 for labels over 255); 0 is background.

    Raises:
        VolumeError: the threshold is not between 0 and 1.
        Cancelled: `cancel` was called.
    """
    require_threshold(threshold)
    level, working = float(logit(threshold)), body.grid
    labels = empty_labels(grid.shape, list(names))
    best = np.zeros(grid.shape, dtype=np.float16)
    outside = torch.from_numpy(body.array == 0)
    for number, label in enumerate(names):
        raise_if_cancelled(cancel)
        report(progress, 0.1 + 0.9 * number / len(names), f"Segmenting {names[label]}")
        margin = torch.where(outside, _OUTSIDE_BODY, logits(label) - level)
        if seeds is not None and label in seeds:
            keep_prompted_components(margin.numpy(), working, seeds[label], locked)
        rasterize(labels, best, grid, margin, working, label)
    report(progress, 1.0, "Segmented")
    return Volume(labels, grid)


def empty_labels(shape: tuple[int, ...], known: Sequence[int]) -> NDArray[np.unsignedinteger]:
    """A labelmap of background: uint8, or uint16 for labels over 255."""
    return np.zeros(shape, dtype=np.uint8 if max(known) < 256 else np.uint16)


def update_argmax(labels: NDArray, best: NDArray[np.floating], values: NDArray[np.floating], label: int) -> None:
    """Give a structure the voxels where its value exceeds that of all structures before it.

    Args:
        labels: changed in place.
        best: the value of the structure that holds a voxel, or the value to exceed; changed in place.
        values: this structure's log-odds, or their margin over a threshold's.
        label: of this structure.
    """
    wins = values > best
    np.copyto(best, values, where=wins, casting="same_kind")
    np.copyto(labels, label, where=wins)


def keep_prompted_components(
    margin: NDArray[np.float32], grid: Grid, points_ras: NDArray[np.float64], locked: NDArray[np.bool_] | None = None
) -> None:
    """Negate the connected components of `margin > 0` that hold no point, in place; none if no point lies in any.

    The sign is changed, rather than setting a constant, so that interpolated borders stay smooth.

    Args:
        margin: (K, J, I) float32 on the grid.
        grid: of the margin.
        points_ras: (N, 3) RAS mm.
        locked: [k, j, i] voxels that do not connect components; they stay positive only beside one that is kept.
    """
    positive = margin > 0 if locked is None else (margin > 0) & ~locked
    box = bounding_box(positive)
    if box is None or not len(points_ras):
        return
    components, count = ndimage.label(positive[box])
    if count < 2 and locked is None:
        return
    start = np.array([side.start for side in box])
    kji = grid.nearest_ijk(points_ras)[:, ::-1] - start
    kji = kji[((kji >= 0) & (kji < components.shape)).all(axis=1)]
    prompted = np.zeros(count + 1, dtype=bool)
    prompted[components[tuple(kji.T)]] = True
    prompted[0] = False
    if prompted.any():
        drop = ~prompted
        drop[0] = False
        np.negative(margin[box], out=margin[box], where=drop[components])
        if locked is not None:
            grown = tuple(slice(max(side.start - 1, 0), side.stop + 1) for side in box)
            beside = np.zeros(margin.shape, dtype=bool)
            beside[box] = prompted[components]
            beside[grown] = ndimage.binary_dilation(beside[grown], ndimage.generate_binary_structure(3, 3))
            np.negative(margin, out=margin, where=locked & ~beside & (margin > 0))


def rasterize(labels: NDArray, best: NDArray[np.float16], grid: Grid, margin: torch.Tensor, working: Grid, label: int) -> None:
    """Write a label where its margin, interpolated to a grid, is positive and the largest so far.

    Args:
        labels: as in `update_argmax`, on `grid`; written in place.
        best: as in `update_argmax`, on `grid`; written in place.
        grid: of the labels.
        margin: (K, J, I) float32 log-odds over the threshold's, on `working`.
        working: the grid of the margin.
        label: of this structure.
    """
    box = bounding_box(margin.numpy() > 0)
    if box is None:
        return
    # One voxel more on each side: the border is drawn between it and the next.
    low, high = np.array([side.start for side in box[::-1]]) - 1, np.array([side.stop for side in box[::-1]])
    for slab in _boxes(grid, working, low, high):
        shape = tuple(side.stop - side.start for side in slab)
        part = grid.subgrid([side.start for side in reversed(slab)], 1, shape)
        values = interpolate(margin[None], working, part)[0].numpy()
        update_argmax(labels[slab], best[slab], values, label)


def _boxes(grid: Grid, working: Grid, low: NDArray, high: NDArray) -> Iterator[tuple[slice, slice, slice]]:
    """Slabs of `grid` (k, j, i) that together cover the working voxels from `low` to `high` (IJK, inclusive)."""
    corners = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)])
    ijk = grid.to_ijk(working.to_ras(low + corners * (high - low)))
    first = np.maximum(np.ceil(ijk.min(axis=0) - 1e-6).astype(int), 0)[::-1]
    last = np.minimum(np.floor(ijk.max(axis=0) + 1e-6).astype(int), np.array(grid.size) - 1)[::-1]
    if (last < first).any():
        return
    thickness = max(1, _SLAB_VOXELS // int(np.prod(last[1:] - first[1:] + 1)))
    for k in range(first[0], last[0] + 1, thickness):
        yield (
            slice(k, min(k + thickness, int(last[0]) + 1)),
            slice(int(first[1]), int(last[1]) + 1),
            slice(int(first[2]), int(last[2]) + 1),
        )
