"""From prompts to a clean labelmap on the source volume's own grid."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from CoralBayLib.core.errors import VolumeError
from CoralBayLib.core.progress import CancelToken, Progress, raise_if_cancelled, report
from CoralBayLib.features.pyramid import FeaturePyramid
from CoralBayLib.imaging.grid import Grid, Volume, interpolate

from .probe import Probe
from .prompts import Prompts
from .transfer import for_scan

_SLAB_VOXELS = 1 << 24


def segment(
    volume: Volume,
    pyramid: FeaturePyramid,
    prompts: Prompts,
    *,
    probe: Probe | None = None,
    threshold: float = 0.5,
    connected: bool = True,
    progress: Progress | None = None,
    cancel: CancelToken | None = None,
) -> Volume:
    """Segment every structure of the prompts.

    Args:
        volume: the CT that was embedded; its grid is the result's.
        pyramid: its features.
        prompts: points of each structure and, the better for it, of the background.
        probe: a fitted probe to use instead of fitting one on the prompts. One of another scan is adapted to this, and
            the prompts, of which there may then be none, correct it (see `transfer`).
        threshold: probability from which a voxel belongs to a structure; where several claim it, the likeliest wins.
        connected: keep only the pieces of a structure that one of its prompts touches (all where none is touched, or where
            so many are that nobody would point at each, as with ribs: `Probe.scattered_`); without this, what looks alike
            far from all prompts belongs to every structure too.
        progress: called with the fraction done and a message.
        cancel: checked between steps.

    Returns:
        Labelmap on the volume's grid, uint8 (uint16 for labels over 255); 0 is background.

    Raises:
        PromptError: no prompts, some outside the volume, or background only.
        VolumeError: the volume is not the one that was embedded.
        ProbeError: the probe was made for other features.
        Cancelled: `cancel` was called.
    """
    if not volume.grid.same_as(pyramid.source_grid):
        raise VolumeError("These features are of a volume with another grid; embed this volume first.")
    report(progress, 0.0, "Fitting the probe")
    given, probe = probe, for_scan(probe, pyramid, prompts) if probe else Probe().fit(pyramid, prompts)
    raise_if_cancelled(cancel)
    touched = None if not connected else prompts if given in (None, probe) else probe.prompts_
    return labelmap_on(volume.grid, pyramid, probe, touched, threshold, progress, cancel, anywhere=not connected or None)


def labelmap_on(
    grid: Grid,
    pyramid: FeaturePyramid,
    probe: Probe,
    prompts: Prompts | None = None,
    threshold: float = 0.5,
    progress: Progress | None = None,
    cancel: CancelToken | None = None,
    *,
    anywhere: bool | None = None,
) -> Volume:
    """What a fitted probe says, on any grid; see `segment`, and `Probe.logits` for `anywhere`.

    Log-odds, not labels, are interpolated from the working grid, so that borders stay smooth on a finer grid.
    """
    if not 0 < threshold < 1:
        raise VolumeError(f"The threshold must lie between 0 and 1, got {threshold}.")
    level = log_odds(threshold)
    labels = no_labels(grid.shape, probe.labels_)
    best = np.zeros(grid.shape, dtype=np.float16)
    outside = torch.from_numpy(pyramid.body.array == 0)
    for number, label in enumerate(probe.labels_):
        raise_if_cancelled(cancel)
        report(progress, 0.1 + 0.9 * number / len(probe.labels_), f"Segmenting {probe.names_[label]}")
        margin = probe.logits(pyramid, [label], anywhere)[0] - level
        margin.masked_fill_(outside, -10.0)
        if prompts is not None and label not in probe.scattered_:
            points = prompts.points_ras[prompts.labels == label]
            keep_touched(margin.numpy(), pyramid.grid, points)
        paint(labels, best, grid, margin, pyramid.grid, label)
    report(progress, 1.0, "Segmented")
    return Volume(labels, grid)


def log_odds(probability: float) -> float:
    """Of a probability between 0 and 1."""
    return float(np.log(probability / (1 - probability)))


def no_labels(shape: tuple[int, ...], known: Sequence[int]) -> NDArray[np.unsignedinteger]:
    """A labelmap of background that can hold the labels known."""
    return np.zeros(shape, dtype=np.uint8 if max(known) < 256 else np.uint16)


def claim(labels: NDArray, best: NDArray[np.floating], values: NDArray[np.floating], label: int) -> None:
    """Give a structure the voxels where its value exceeds that of all before it: the likeliest structure wins.

    Args:
        labels: changed in place.
        best: the value of the structure that holds a voxel, or what one must exceed; changed in place.
        values: this structure's log-odds, or their margin over a threshold's.
        label: of this structure.
    """
    wins = values > best
    np.copyto(best, values, where=wins, casting="same_kind")
    np.copyto(labels, label, where=wins)


def keep_touched(margin: NDArray[np.float32], grid: Grid, points_ras: NDArray[np.float64]) -> None:
    """Make the pieces of `margin > 0` that no point lies in negative, in place; nothing when no point lies in any.

    The sign is turned rather than a constant set, so that interpolation between voxels still finds a smooth border.
    """
    pieces, count = ndimage.label(margin > 0)
    if count < 2 or not len(points_ras):
        return
    touched = np.zeros(count + 1, dtype=bool)
    touched[np.unique(Volume(pieces, grid).values_at(points_ras))] = True
    touched[0] = False
    if touched.any():
        drop = ~touched
        drop[0] = False
        np.negative(margin, out=margin, where=drop[pieces])


def paint(labels: NDArray, best: NDArray[np.float16], grid: Grid, margin: torch.Tensor, working: Grid, label: int) -> None:
    """Write `label` where its margin, interpolated to `grid`, is positive and the largest so far."""
    positive = margin > 0
    spans = [torch.nonzero(positive.amax(dim=tuple(a for a in range(3) if a != axis))).flatten() for axis in (2, 1, 0)]
    if not len(spans[0]):
        return
    # One voxel more on each side: between it and the next the border is drawn.
    low, high = np.array([int(s[0]) for s in spans]) - 1, np.array([int(s[-1]) for s in spans]) + 1
    for box in _boxes(grid, working, low, high):
        shape = tuple(s.stop - s.start for s in box)
        on = grid.sub([s.start for s in reversed(box)], 1, shape)  # type: ignore[arg-type]
        values = interpolate(margin[None], working, on)[0].numpy()
        claim(labels[box], best[box], values, label)


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
