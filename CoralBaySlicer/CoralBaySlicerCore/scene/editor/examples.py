"""Segments that are painted in part, read as plain data: examples of what the segments are to become."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import slicer
import vtk
from numpy.typing import NDArray
from slicer.i18n import tr as _

from CoralBayLib.core.errors import PromptError, VolumeError
from CoralBayLib.fewshot.prompts import Prompts
from CoralBayLib.imaging.grid import Grid
from CoralBaySlicerCore.scene import masks, segments, volumes
from CoralBaySlicerCore.scene.masks import Masks

from .area import EditableArea


@dataclass(frozen=True, eq=False)
class Examples:
    """Copies of what a segmentation shows of the segments to complete.

    Attributes:
        volume: the scan's node; for use on the main thread only.
        segment_ids: of the segments to complete, by label from 1.
        prompts: painted voxels of these segments, and background, in the scan's own space.
        masks: `start` holds the painted voxels with their labels, `locked` the segments that must not be touched.
        area: where voxels may change.
        grid: of the result, that of the segmentation, in the scan's own space.
        geometry: (4, 4), IJK of that grid to the segmentation's own RAS mm.
    """

    volume: slicer.vtkMRMLScalarVolumeNode
    segment_ids: dict[int, str]
    prompts: Prompts
    masks: Masks | None
    area: EditableArea
    grid: Grid
    geometry: NDArray[np.float64]

    def same_as(self, other: Examples | None) -> bool:
        """Whether the same segments would result, so that nothing has to be computed again."""
        return (
            other is not None
            and self.volume is other.volume
            and self.segment_ids == other.segment_ids
            and self.masks is other.masks
            and self.prompts.same_as(other.prompts)
            and self.area.same_as(other.area)
            and self.grid.same_as(other.grid)
            and np.array_equal(self.geometry, other.geometry)
        )


def read(
    editor: slicer.vtkMRMLSegmentEditorNode,
    reference: slicer.vtkOrientedImageData | None,
    source: slicer.vtkOrientedImageData | None,
    selected_only: bool,
    before: Examples | None = None,
) -> Examples:
    """Read the segments that the Segment Editor shows; main thread only.

    Segments named as background are examples of what no segment is. Hidden segments are not used as examples.

    Args:
        editor: the parameters of the Segment Editor.
        reference: an image on the geometry of the segmentation; its voxels are not read.
        source: the scan on the geometry of the segmentation, or None unless an intensity range restricts the edits.
        selected_only: complete the selected segment; the other visible segments are then examples of what it is not, and are
            not touched. Otherwise all visible segments are completed.
        before: what was read last, whose copies are used again where nothing has changed.

    Raises:
        PromptError: no segment to complete has a voxel in the scan.
        VolumeError: there is no scan, or a non-linear transform lies between it and the segmentation.
    """
    segmentation, volume = editor.GetSegmentationNode(), editor.GetSourceVolumeNode()
    if segmentation is None or not volumes.is_scan(volume) or reference is None:
        raise VolumeError(_("Choose a segmentation and a CT as the source volume in the Segment Editor."))
    scan = volumes.read(volume).volume.grid
    matrix = vtk.vtkMatrix4x4()
    reference.GetImageToWorldMatrix(matrix)
    extent = reference.GetExtent()
    shape = tuple(extent[2 * axis + 1] - extent[2 * axis] + 1 for axis in (2, 1, 0))
    first = np.eye(4)
    first[:3, 3] = extent[::2]
    geometry = slicer.util.arrayFromVTKMatrix(matrix) @ first
    to_scan = np.linalg.inv(segments.transform_to(segmentation, volume))
    grid = Grid(shape, to_scan @ geometry)

    taught, visible = _taught(editor, segmentation, selected_only), visible_ids(segmentation)
    inner = segmentation.GetSegmentation()
    background = [each for each in visible if segments.is_background(inner.GetSegment(each).GetName())]
    points, labels = [np.empty((0, 3))], [np.empty(0, np.int64)]
    known: dict[int, str] = {}
    for segment_id in (*background, *taught):
        own = segments.points(segmentation, segment_id, volume)
        own = own[scan.contains(own)]
        label = 0
        if segment_id not in background and len(own):
            label = len(known) + 1
            known[label] = segment_id
        points.append(own)
        labels.append(np.full(len(own), label))
    if not known:
        raise PromptError(_nothing(selected_only))
    names = {label: inner.GetSegment(segment_id).GetName() for label, segment_id in known.items()}
    locked = {each: 1 for each in _locked(editor, segmentation, selected_only) if each not in known.values()}
    painted = [(segmentation, {segment_id: label for label, segment_id in known.items()})]
    copies = masks.read(volume, [(segmentation, locked)], painted, before.masks if before is not None else None)
    area = EditableArea.read(editor, volume, source, before.area if before is not None else None)
    prompts = Prompts(np.concatenate(points), np.concatenate(labels), names)
    return Examples(volume, known, prompts, copies, area, grid, geometry)


def visible_ids(segmentation: slicer.vtkMRMLSegmentationNode) -> list[str]:
    """The IDs of the segments that are shown."""
    display = segmentation.GetDisplayNode()
    return [each for each in segments.ids(segmentation) if display is None or display.GetSegmentVisibility(each)]


def _taught(
    editor: slicer.vtkMRMLSegmentEditorNode, segmentation: slicer.vtkMRMLSegmentationNode, selected_only: bool
) -> list[str]:
    """The segments to complete; some may be empty."""
    if selected_only:
        selected = editor.GetSelectedSegmentID()
        return [each for each in segments.ids(segmentation) if each == selected]
    inner = segmentation.GetSegmentation()
    return [each for each in visible_ids(segmentation) if not segments.is_background(inner.GetSegment(each).GetName())]


def _locked(
    editor: slicer.vtkMRMLSegmentEditorNode, segmentation: slicer.vtkMRMLSegmentationNode, selected_only: bool
) -> list[str]:
    """The segments whose voxels must not be touched, but for those that are completed."""
    mode = editor.GetMaskMode()
    if mode == segmentation.EditAllowedOutsideAllSegments:
        return segments.ids(segmentation)
    if mode == segmentation.EditAllowedOutsideVisibleSegments or selected_only:
        return visible_ids(segmentation)
    return []


def _nothing(selected_only: bool) -> str:
    if selected_only:
        return _("Select a segment and paint a part of it in the scan. The effect completes it.")
    return _("Paint a part of at least one visible segment in the scan. The effect completes it.")
