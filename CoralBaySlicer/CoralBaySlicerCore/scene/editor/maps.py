"""Maps of completed segments, kept as volumes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import slicer

from CoralBaySlicerCore.scene import overlays
from CoralBaySlicerCore.scene.maps import kept

from .examples import Examples

if TYPE_CHECKING:
    from CoralBayLib.fewshot.preview import Preview


def keep_of_segment(
    preview: Preview, examples: Examples, segmentation: slicer.vtkMRMLSegmentationNode, segment_id: str | None, kind: str
) -> slicer.vtkMRMLScalarVolumeNode:
    """Add a volume node with a map.

    Args:
        preview: probabilities and uncertainty of the examples' segments.
        examples: what it was made from.
        segmentation: whose names and colors the map gets.
        segment_id: whose probability is kept; that of the first segment if it was not completed.
        kind: `overlays.PROBABILITY` or `overlays.UNCERTAINTY`.
    """
    geometry = preview.grid.ijk_to_ras
    if kind == overlays.UNCERTAINTY:
        return kept.keep(kind, preview.uncertainty, geometry, examples.volume)
    label = next((label for label, each in examples.segment_ids.items() if each == segment_id), min(examples.segment_ids))
    segment = segmentation.GetSegmentation().GetSegment(examples.segment_ids[label])
    name, color = (segment.GetName(), segment.GetColor()) if segment is not None else (examples.prompts.name(label), None)
    return kept.keep(kind, preview.percent[label], geometry, examples.volume, name, color)
