"""What the user points at to find its like, and what becomes of the answer in the scene."""

from __future__ import annotations

from typing import Any

import numpy as np
import slicer
from numpy.typing import NDArray
from slicer.i18n import tr as _

from CoralBayLib.core.errors import QueryError
from CoralBayLib.imaging.cropping import CroppedMask

from . import colors, segments, volumes

_ATTRIBUTE = "CoralBaySlicer.Query"
_VOLUME_ROLE = "CoralBaySlicer.Volume"
_STEP_MM = 3.0
_MOST_POINTS = 2000


def node(volume: Any) -> Any:
    """The markups node that holds a volume's query point, or None."""
    for each in slicer.util.getNodesByClass("vtkMRMLMarkupsFiducialNode") if volume is not None else ():
        if each.GetAttribute(_ATTRIBUTE) and each.GetNodeReferenceID(_VOLUME_ROLE) == volume.GetID():
            return each
    return None


def make(volume: Any) -> Any:
    """Make that node."""
    made = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", _("Query"))
    made.SetAttribute(_ATTRIBUTE, "1")
    made.SetNodeReferenceID(_VOLUME_ROLE, volume.GetID())
    made.CreateDefaultDisplayNodes()
    display = made.GetDisplayNode()
    for paint in (display.SetSelectedColor, display.SetColor, display.SetActiveColor):
        paint(*colors.QUERY)
    made.SetControlPointLabelFormat("%N")
    volumes.follow(made, volume)
    return made


def inside(roi: Any, volume: Any) -> NDArray[np.float64]:
    """Points on a lattice of a few mm in a markups ROI and in the volume, (N, 3) RAS mm of the world.

    Raises:
        QueryError: the ROI lies outside the volume.
    """
    size = np.array(roi.GetSize())
    if not (size > 0).all():
        raise QueryError(_("The region of interest has no extent. Draw it again."))
    axes = [np.linspace(-0.5, 0.5, max(2, min(40, int(length / _STEP_MM) + 1))) * length for length in size]
    own = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    if len(own) > _MOST_POINTS:
        own = own[np.random.default_rng(0).choice(len(own), _MOST_POINTS, replace=False)]
    matrix = slicer.util.arrayFromVTKMatrix(roi.GetObjectToWorldMatrix())
    world = own @ matrix[:3, :3].T + matrix[:3, 3]
    to_ijk = np.linalg.inv(volumes.ijk_to_ras(volume))
    ijk = volumes.from_world(volume, world) @ to_ijk[:3, :3].T + to_ijk[:3, 3]
    limit = np.array(volume.GetImageData().GetDimensions()) - 0.5
    within = ((ijk >= -0.5) & (ijk <= limit)).all(axis=1)
    if not within.any():
        raise QueryError(_("The region of interest lies outside the volume. Move it onto the scan."))
    return world[within]


def to_segment(logic: Any, volume: Any, parameters: Any) -> Any:
    """Write the regions found in a volume as one segment; returns the segmentation node."""
    found = logic.similarities[volume.GetID()]
    if not found.pieces.any():
        raise QueryError(_("No location reaches the similarity threshold. Lower the threshold and search again."))
    target = parameters.output or segments.new(volume, _("{volume} segmentation").format(volume=volume.GetName()))
    geometry = segments.way_to(target, volume) @ found.geometry
    logic.undo.save(target)
    segments.write(target, _("Similar regions"), colors.SIMILAR_REGIONS, CroppedMask.of(found.pieces > 0), geometry)
    parameters.output = target
    return target
