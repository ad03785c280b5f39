"""The query of a similarity search in the scene: its point or region, and the segment of the results."""

from __future__ import annotations

import numpy as np
import slicer
from numpy.typing import NDArray
from slicer.i18n import tr as _

from CoralBayLib.core.errors import QueryError
from CoralBayLib.imaging.cropping import CroppedMask

from . import colors, segments, volumes
from .parameters import CoralBaySlicerParameters

_ATTRIBUTE = "CoralBaySlicer.Query"
_VOLUME_ROLE = "CoralBaySlicer.Volume"
_STEP_MM = 3.0
"""Distance between points in a region of interest."""
_MAX_POINTS = 2000


def node(volume: slicer.vtkMRMLScalarVolumeNode | None) -> slicer.vtkMRMLMarkupsFiducialNode | None:
    """The markups node with a volume's query point, or None."""
    if volume is None:
        return None
    for each in slicer.util.getNodesByClass("vtkMRMLMarkupsFiducialNode"):
        if each.GetAttribute(_ATTRIBUTE) and each.GetNodeReferenceID(_VOLUME_ROLE) == volume.GetID():
            return each
    return None


def make(volume: slicer.vtkMRMLScalarVolumeNode) -> slicer.vtkMRMLMarkupsFiducialNode:
    """Add the markups node of a volume's query point."""
    result = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", _("Query"))
    result.SetAttribute(_ATTRIBUTE, "1")
    result.SetNodeReferenceID(_VOLUME_ROLE, volume.GetID())
    result.CreateDefaultDisplayNodes()
    display = result.GetDisplayNode()
    for set_color in (display.SetSelectedColor, display.SetColor, display.SetActiveColor):
        set_color(*colors.QUERY)
    result.SetControlPointLabelFormat("%N")
    volumes.copy_transform(result, volume)
    return result


def points_in_roi(roi: slicer.vtkMRMLMarkupsROINode, volume: slicer.vtkMRMLScalarVolumeNode) -> NDArray[np.float64]:
    """Points on a lattice inside both a markups ROI and a volume, (N, 3) RAS mm of the world.

    Raises:
        QueryError: the ROI has no extent or lies outside the volume.
    """
    size = np.array(roi.GetSize())
    if not ((size > 0) & np.isfinite(size)).all():
        raise QueryError(_("The region of interest has no extent. Draw it again."))
    axes = [np.linspace(-0.5, 0.5, max(2, min(40, int(length / _STEP_MM) + 1))) * length for length in size]
    local: NDArray[np.float64] = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    if len(local) > _MAX_POINTS:
        local = local[np.random.default_rng(0).choice(len(local), _MAX_POINTS, replace=False)]
    matrix = slicer.util.arrayFromVTKMatrix(roi.GetObjectToWorldMatrix())
    world = local @ matrix[:3, :3].T + matrix[:3, 3]
    to_ijk = np.linalg.inv(volumes.ijk_to_ras(volume))
    ijk = volumes.from_world(volume, world) @ to_ijk[:3, :3].T + to_ijk[:3, 3]
    limit = np.array(volume.GetImageData().GetDimensions()) - 0.5
    within = ((ijk >= -0.5) & (ijk <= limit)).all(axis=1)
    if not within.any():
        raise QueryError(_("The region of interest lies outside the volume. Move it onto the scan."))
    return world[within]


def write_segment(
    volume: slicer.vtkMRMLScalarVolumeNode,
    regions: NDArray[np.uint16],
    geometry: NDArray[np.float64],
    parameters: CoralBaySlicerParameters,
    undo: segments.Undo,
) -> slicer.vtkMRMLSegmentationNode:
    """Write the regions of a search in a volume as one segment; returns the segmentation node.

    Args:
        volume: the scan.
        regions: [k, j, i], 0 outside of all regions.
        geometry: (4, 4), IJK of `regions` to the volume's own RAS mm.
        parameters: their output is written to; without one, a new node becomes the output.
        undo: saves the state of the node first.

    Raises:
        QueryError: no region reaches the similarity threshold.
    """
    if not regions.any():
        raise QueryError(_("No location reaches the similarity threshold. Lower the threshold and search again."))
    target = parameters.output or segments.new(volume, _("{volume} segmentation").format(volume=volume.GetName()))
    to_target = segments.transform_to(target, volume) @ geometry
    undo.save(target)
    segments.write(target, _("Similar regions"), colors.SIMILAR_REGIONS, CroppedMask.of(regions > 0), to_target)
    parameters.output = target
    return target
