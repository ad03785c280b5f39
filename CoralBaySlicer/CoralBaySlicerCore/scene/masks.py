"""Masks from segments, read as plain data: what must not be touched, and what structures start from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import slicer
import vtk
from numpy.typing import NDArray
from slicer.i18n import tr as _
from vtk.util.numpy_support import vtk_to_numpy

from CoralBayLib.core.errors import VolumeError
from CoralBayLib.core.names import fold
from CoralBayLib.imaging.grid import Grid, Volume

from . import segments
from .structures import Structure
from .volumes import matrix_between

_START, _START_SEGMENT = "CoralBaySlicer.Start", "CoralBaySlicer.StartSegment"
"""Of a structure's node: the reference to the segmentation that it starts from, and the attribute with the segment's ID."""

Wanted = Sequence[tuple[slicer.vtkMRMLSegmentationNode, Mapping[str, int]]]
"""Segmentations, and in each the label to give to segments, by their IDs."""


@dataclass(frozen=True, eq=False)
class Piece:
    """Voxels of some segments of one image.

    Attributes:
        image: values of the segments, in the scan's own space.
        labels: the label of each value; other values are 0.
    """

    image: Volume
    labels: dict[int, int]


@dataclass(frozen=True, eq=False)
class Masks:
    """Copies of the voxels of segments, for use on a worker.

    Attributes:
        locked: what must not be touched.
        start: what structures start from, with their labels.
        key: changes with the voxels, the geometry and the choice of segments.
        results: of `masks_on`, kept for the next preview.
    """

    locked: tuple[Piece, ...]
    start: tuple[Piece, ...]
    key: tuple
    results: list[tuple[Grid, Volume | None, Volume | None]] = field(default_factory=list)


def read(volume: slicer.vtkMRMLScalarVolumeNode, locked: Wanted, start: Wanted, before: Masks | None = None) -> Masks | None:
    """Read segments; None if there are none.

    Args:
        volume: the scan.
        locked: segments that must not be touched.
        start: segments that structures start from.
        before: what was read last, which is returned again if nothing has changed.

    Raises:
        VolumeError: a segment has no voxels to read, or a non-linear transform lies between it and the scan.
    """
    images = [[each for source in which for each in _images(*source, volume)] for which in (locked, start)]
    key = tuple(tuple(each.key for each in some) for some in images)
    if not any(images):
        return None
    if before is not None and before.key == key:
        return before
    return Masks(tuple(each.piece() for each in images[0]), tuple(each.piece() for each in images[1]), key)


def key_of(volume: slicer.vtkMRMLScalarVolumeNode, start: Wanted) -> tuple:
    """The key of the `Masks` that `read` makes of segments to start from, without copies of voxels; () if there are none.

    Raises:
        VolumeError: see `read`.
    """
    keys = tuple(each.key for source in start for each in _images(*source, volume))
    return ((), keys) if keys else ()


def lockable(
    segmentation: slicer.vtkMRMLSegmentationNode | None, structures: Iterable[str], visible_only: bool = True
) -> dict[str, int]:
    """The segments of a segmentation that can be locked: those not named as a structure or as background.

    Args:
        segmentation: or None.
        structures: names of the structures of the scan.
        visible_only: whether to leave out hidden segments.
    """
    if segmentation is None:
        return {}
    names, display = {fold(name) for name in structures}, segmentation.GetDisplayNode()
    found = {}
    for segment_id in segments.ids(segmentation):
        name = segmentation.GetSegmentation().GetSegment(segment_id).GetName()
        shown = not visible_only or display is None or display.GetSegmentVisibility(segment_id)
        if shown and fold(name) not in names and not segments.is_background(name):
            found[segment_id] = 1
    return found


def named(segmentation: slicer.vtkMRMLSegmentationNode, names: Mapping[int, str]) -> dict[str, int]:
    """The segments that are named as structures, with the labels of these."""
    by_name = {fold(name): label for label, name in names.items()}
    found = {}
    for segment_id in segments.ids(segmentation):
        label = by_name.get(fold(segmentation.GetSegmentation().GetSegment(segment_id).GetName()))
        if label is not None:
            found[segment_id] = label
    return found


def start_of(structure: Structure) -> tuple[slicer.vtkMRMLSegmentationNode, str] | None:
    """The segmentation and the ID of the segment that a structure starts from; None if there is none."""
    node, segment_id = structure.node.GetNodeReference(_START), structure.node.GetAttribute(_START_SEGMENT)
    if not isinstance(node, slicer.vtkMRMLSegmentationNode) or segment_id not in segments.ids(node):
        return None
    return node, segment_id


def set_start(structure: Structure, segmentation: slicer.vtkMRMLSegmentationNode | None, segment_id: str = "") -> None:
    """Let a structure start from a segment; None to let it start from nothing."""
    structure.node.SetNodeReferenceID(_START, segmentation.GetID() if segmentation is not None else None)
    if segmentation is not None:
        structure.node.SetAttribute(_START_SEGMENT, segment_id)
    else:
        structure.node.RemoveAttribute(_START_SEGMENT)


@dataclass(frozen=True, eq=False)
class _Image:
    """An image of a segmentation, and the labels of the segments in it."""

    data: Any
    labels: dict[int, int]
    to_ras: NDArray[np.float64]

    @property
    def key(self) -> tuple:
        scalars = self.data.GetPointData().GetScalars()
        times = (self.data.GetMTime(), scalars.GetMTime())
        return (
            self.data.GetAddressAsString(""),
            *times,
            tuple(sorted(self.labels.items())),
            self.data.GetExtent(),
            self.to_ras.tobytes(),
        )

    def piece(self) -> Piece:
        """A copy of the voxels."""
        extent = self.data.GetExtent()
        shape = tuple(extent[2 * axis + 1] - extent[2 * axis] + 1 for axis in (2, 1, 0))
        array = vtk_to_numpy(self.data.GetPointData().GetScalars()).reshape(shape).copy()
        first = np.eye(4)
        first[:3, 3] = extent[::2]
        return Piece(Volume(array, Grid(shape, self.to_ras @ first)), self.labels)


def _images(
    segmentation: slicer.vtkMRMLSegmentationNode, label_by_segment: Mapping[str, int], volume: slicer.vtkMRMLScalarVolumeNode
) -> list[_Image]:
    """The images of some segments that have voxels; segments may share an image."""
    if not label_by_segment:
        return []
    name = slicer.vtkSegmentationConverter.GetSegmentationBinaryLabelmapRepresentationName()
    inner = segmentation.GetSegmentation()
    if not inner.ContainsRepresentation(name) and not inner.CreateRepresentation(name):
        raise VolumeError(
            _("The segmentation '{name}' has no voxels to read. Choose another.").format(name=segmentation.GetName())
        )
    between = matrix_between(segmentation.GetParentTransformNode(), volume.GetParentTransformNode())
    if segmentation.GetParentTransformNode() is volume.GetParentTransformNode():
        between = np.eye(4)
    if between is None:
        raise VolumeError(
            _(
                "A non-linear transform lies between the volume and the segmentation '{name}'. Choose a segmentation under "
                "the volume's own transform."
            ).format(name=segmentation.GetName())
        )
    found: dict[str, _Image] = {}
    for segment_id, label in label_by_segment.items():
        segment = inner.GetSegment(segment_id)
        data = segment.GetRepresentation(name) if segment is not None else None
        if data is None or data.IsEmpty() or data.GetPointData().GetScalars() is None:
            continue
        matrix = vtk.vtkMatrix4x4()
        data.GetImageToWorldMatrix(matrix)
        to_ras = between @ slicer.util.arrayFromVTKMatrix(matrix)
        address = data.GetAddressAsString("")
        image = found.setdefault(address, _Image(data, {}, to_ras))
        image.labels[segment.GetLabelValue()] = label
    return list(found.values())
