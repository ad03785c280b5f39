"""From the frames of a DICOM SEG file to one labelmap. Fractions become masks, and segments must not overlap."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from CoralBayLib.core.errors import VolumeError
from CoralBayLib.core.names import printable_name

from .segment import Segment

if TYPE_CHECKING:
    from pydicom import Dataset

Masks = Callable[[NDArray], tuple[NDArray, NDArray]]
"""Which voxels of a frame belong to its segment, and which of them only just: they have half of the largest fraction."""


def masks_of(dataset: Dataset, kind: str, name: str) -> tuple[Masks | None, str]:
    """How to read the frames of a file.

    Args:
        dataset: its header.
        kind: its SegmentationType.
        name: of the file, for messages.

    Returns:
        masks: None for a labelmap, whose values are the numbers of segments.
        note: a sentence on what was done about fractions; "" without any.

    Raises:
        VolumeError: the file has fractions and does not tell of what.
    """
    if kind == "LABELMAP":
        return None, ""
    if kind == "BINARY":
        return lambda values: (values != 0, np.zeros(values.shape, bool)), ""
    highest = int(dataset.get("MaximumFractionalValue") or 0)
    if highest < 1:
        raise VolumeError(f"{name} is fractional and has no MaximumFractionalValue. Export the segmentation again.")
    what = printable_name(str(dataset.get("SegmentationFractionalType") or "fraction").lower())[:16]
    note = (
        f"{name} has fractions ({what}) instead of masks: voxels with at least half of the largest fraction, {highest}, belong "
        "to a segment."
    )

    def at_least_half(values: NDArray) -> tuple[NDArray, NDArray]:
        double = values.astype(np.int32) * 2
        return double >= highest, double == highest

    return at_least_half, note


def paint(
    array: NDArray,
    frames: Iterable[tuple[NDArray, int, int]],
    masks: Masks | None,
    segments: list[Segment],
    name: str,
) -> None:
    """Write frames into a labelmap.

    Args:
        array: [k, j, i], all 0; takes the numbers of the segments.
        frames: the values [j, i] of each, the number of its segment, and its slice k.
        masks: of `masks_of`.
        segments: of the file.
        name: of the file, for messages.

    Raises:
        VolumeError: segments share voxels, or a voxel is of a segment that the file does not describe.
    """
    names = {segment.label: segment.name for segment in segments}
    shared: Counter[tuple[int, int]] = Counter()
    for frame, number, k in frames:
        target = array[k]
        if masks is None:
            found = set(np.unique(frame).tolist()) - {0}
            if found - set(names):
                raise VolumeError(
                    f"{name} has voxels of segment {min(found - set(names))}, which it does not describe. Export it again."
                )
            mask, new = frame != 0, frame
        else:
            mask, just = masks(frame)
            if not mask.any():
                continue
            # Of two segments with half of a voxel each, the first keeps it.
            mask = mask & ~(just & (target != 0))
            new = np.full(frame.shape, number, array.dtype)
        taken = mask & (target != 0) & (target != new)
        if taken.any():
            pairs, counts = np.unique(np.stack([target[taken], new[taken]]), axis=1, return_counts=True)
            for (one, other), count in zip(pairs.T.tolist(), counts.tolist(), strict=True):
                shared[int(one), int(other)] += count
        target[mask] = new[mask]
    if shared:
        (one, other), count = shared.most_common(1)[0]
        more = f", and {len(shared) - 1} more pairs share some" if len(shared) > 1 else ""
        raise VolumeError(
            f"{name}: the segments '{names[one]}' and '{names[other]}' share {count:,} voxels{more}. Expected segments that do "
            "not overlap. In Slicer, load the file, separate the segments with Logical operators and save them as .seg.nrrd."
        )
