"""The area that the Segment Editor may change, as plain data."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import slicer
from numpy.typing import NDArray
from vtk.util.numpy_support import vtk_to_numpy

from CoralBaySlicerCore.scene import masks, segments
from CoralBaySlicerCore.scene.masks import Masks


@dataclass(frozen=True, eq=False)
class EditableArea:
    """Where voxels may change. "Outside of segments" is not part of it: those segments are locked, see `Examples`.

    Attributes:
        inside: segments inside which voxels may change; empty for everywhere, None within for nowhere.
        values: [k, j, i] intensities on the grid of the segmentation, or None for no restriction.
        limits: least and largest intensity of voxels that may change.
        key: changes with the intensities.
    """

    inside: tuple[Masks | None, ...] = ()
    values: NDArray | None = None
    limits: tuple[float, float] = (0.0, 0.0)
    key: tuple = ()

    @classmethod
    def read(
        cls,
        editor: slicer.vtkMRMLSegmentEditorNode,
        volume: slicer.vtkMRMLScalarVolumeNode,
        source: slicer.vtkOrientedImageData | None,
        before: EditableArea | None,
    ) -> EditableArea:
        """Read the parameters of the Segment Editor; main thread only.

        Args:
            editor: these parameters.
            volume: the scan.
            source: the scan on the geometry of the segmentation; used if an intensity range restricts the edits.
            before: what was read last.

        Raises:
            VolumeError: a segment has no voxels to read, or a non-linear transform lies between it and the scan.
        """
        segmentation, mode = editor.GetSegmentationNode(), editor.GetMaskMode()
        known: list[str] | None = None
        if mode == segmentation.EditAllowedInsideAllSegments:
            known = segments.ids(segmentation)
        elif mode == segmentation.EditAllowedInsideVisibleSegments:
            display = segmentation.GetDisplayNode()
            known = [each for each in segments.ids(segmentation) if display is None or display.GetSegmentVisibility(each)]
        elif mode == segmentation.EditAllowedInsideSingleSegment:
            known = [each for each in segments.ids(segmentation) if each == editor.GetMaskSegmentID()]
        inside: tuple[Masks | None, ...] = ()
        if known is not None:
            last = before.inside[0] if before is not None and before.inside else None
            inside = (masks.read(volume, [(segmentation, dict.fromkeys(known, 1))], [], last),)
        if not editor.GetSourceVolumeIntensityMask() or source is None:
            return cls(inside)
        low, high = editor.GetSourceVolumeIntensityMaskRange()
        key = (source.GetMTime(), source.GetPointData().GetScalars().GetMTime())
        if before is not None and before.values is not None and before.key == key:
            return cls(inside, before.values, (low, high), key)
        extent = source.GetExtent()
        shape = tuple(extent[2 * axis + 1] - extent[2 * axis] + 1 for axis in (2, 1, 0))
        values = vtk_to_numpy(source.GetPointData().GetScalars()).reshape(shape).copy()
        return cls(inside, values, (low, high), key)

    def same_as(self, other: EditableArea) -> bool:
        """Whether the area is the same."""
        same_values = self.limits == other.limits and self.key == other.key
        return len(self.inside) == len(other.inside) and all(map(_is, self.inside, other.inside)) and same_values


def _is(one: Masks | None, other: Masks | None) -> bool:
    return one is other


def excluded(area: EditableArea, inside: NDArray | None) -> NDArray[np.bool_] | None:
    """The voxels that must not change, [k, j, i]; None if there are none.

    Args:
        area: the area.
        inside: mask of the segments of `area.inside` on the grid of the segmentation, or None where there is none of them.
    """
    out = None
    if area.inside and inside is not None:
        out = inside == 0
    if area.values is not None:
        low, high = area.limits
        beyond = (area.values < low) | (area.values > high)
        out = beyond if out is None else out | beyond
    return out
