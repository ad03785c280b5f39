"""The segmentation that shows completed segments before they are applied."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import slicer
from numpy.typing import NDArray
from slicer.i18n import tr as _

from CoralBayLib.imaging.cropping import CroppedMask
from CoralBaySlicerCore.scene import segments, volumes

ROLE = "SegmentationResultPreview"
"""Reference of the Segment Editor's parameters to the preview; effects of Slicer that complete segments share it."""
OWNER = "SegmentationResultPreviewOwnerEffect"
"""Parameter with the name of the effect that the preview belongs to."""


def make(segmentation: slicer.vtkMRMLSegmentationNode) -> slicer.vtkMRMLSegmentationNode:
    """An empty node for the preview of a segmentation, under its parent transform."""
    name = _("{segmentation} preview").format(segmentation=segmentation.GetName())
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
    node.CreateDefaultDisplayNodes()
    node.GetDisplayNode().SetVisibility2DOutline(False)
    # Smoothing takes long, and a preview is changed often.
    rule = slicer.vtkBinaryLabelmapToClosedSurfaceConversionRule
    node.GetSegmentation().SetConversionParameter(rule.GetSmoothingFactorParameterName(), "-0.5")
    volumes.copy_transform(node, segmentation)
    return node


def fill(
    node: slicer.vtkMRMLSegmentationNode,
    segmentation: slicer.vtkMRMLSegmentationNode,
    masks: Mapping[str, CroppedMask],
    geometry: NDArray[np.float64],
) -> None:
    """Show completed segments in place of those shown before.

    Args:
        node: of the preview.
        segmentation: whose segments are completed; names and colors are its.
        masks: voxels by the ID of the segment.
        geometry: (4, 4), IJK of the grid of the voxels to the segmentation's own RAS mm.
    """
    inner, names = node.GetSegmentation(), slicer.vtkSegmentationConverter
    volumes.copy_transform(node, segmentation)
    # They would be computed again with each change.
    node.RemoveClosedSurfaceRepresentation()
    with slicer.util.NodeModify(node):
        for segment_id in segments.ids(node):
            if segment_id not in masks:
                inner.RemoveSegment(segment_id)
        for segment_id, mask in masks.items():
            own, segment = segmentation.GetSegmentation().GetSegment(segment_id), inner.GetSegment(segment_id)
            if own is None:
                continue
            if segment is None:
                segment = slicer.vtkSegment()
                inner.AddSegment(segment, segment_id)
            segment.SetName(own.GetName())
            segment.SetColor(own.GetColor())
            segment.SetLabelValue(1)
            image = segments.oriented_image(mask, geometry)
            segment.AddRepresentation(names.GetSegmentationBinaryLabelmapRepresentationName(), image)
    node.Modified()
