"""Completion of segments that are painted in part, on the worker: plain data in, plain data out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from CoralBayLib.core.progress import CancelToken, raise_if_cancelled
from CoralBayLib.fewshot.options import Options
from CoralBayLib.imaging.cropping import CroppedMask
from CoralBayLib.imaging.grid import Volume
from CoralBaySlicerCore.scene.editor.area import excluded
from CoralBaySlicerCore.scene.editor.examples import Examples

from .masks import masks_on

if TYPE_CHECKING:
    from CoralBayLib.features.pyramid import FeaturePyramid
    from CoralBayLib.fewshot.segmenter import Segmenter


def fit(pyramid: FeaturePyramid, examples: Examples) -> Segmenter:
    """Fit a probe on examples.

    Raises:
        CoralBayError: the examples cannot be used.
    """
    from CoralBayLib.fewshot.segmenter import Segmenter

    locked, painted = masks_on(examples.masks, examples.grid)
    if locked is not None and painted is not None:
        # Segments may overlap. A voxel that was painted is an example, also where another segment is locked.
        locked = Volume(np.where(painted.array > 0, 0, locked.array), locked.grid)
    return Segmenter(pyramid).fit(examples.prompts, locked=locked)


def complete(
    segmenter: Segmenter, examples: Examples, options: Options, cancel: CancelToken | None = None
) -> dict[str, CroppedMask]:
    """The completed segments by their IDs, on the grid of the segmentation.

    Painted voxels keep their segments. Voxels outside of the editable area change nowhere else.

    Args:
        segmenter: fitted on the examples.
        examples: what was painted.
        options: threshold and whether to keep connected components only.
        cancel: checked between steps.
    """
    from scipy import ndimage

    labels = segmenter.labelmap(examples.grid, options, None, cancel).array
    raise_if_cancelled(cancel)
    painted = masks_on(examples.masks, examples.grid)[1]
    inside = [masks_on(each, examples.grid)[0] for each in examples.area.inside]
    nowhere = np.zeros(examples.grid.shape, np.uint8) if examples.area.inside else None
    outside = excluded(examples.area, inside[0].array if inside and inside[0] is not None else nowhere)
    if outside is not None:
        labels = np.where(outside, 0, labels)
    if painted is not None:
        labels = np.where(painted.array > 0, painted.array, labels)
    raise_if_cancelled(cancel)
    boxes = ndimage.find_objects(labels)
    found = {}
    for label, segment_id in examples.segment_ids.items():
        box = boxes[label - 1] if label <= len(boxes) else None
        if box is None:
            found[segment_id] = CroppedMask.of(np.zeros((1, 1, 1), bool))
            continue
        k, j, i = (side.start for side in box)
        found[segment_id] = CroppedMask((i, j, k), np.ascontiguousarray(labels[box] == label, dtype=np.uint8))
    return found
