"""A Segment Editor with the effect CoralBay, and the ways a person works with it."""

from __future__ import annotations

from typing import Any

import host
import numpy as np


class EffectSession:
    """The Segment Editor with a scan, a segmentation and the effect.

    Args:
        volume: the scan's node.
        center: of its first ball, (3,) RAS mm of the scan's own space.
        segmentation: to edit; a new one on the scan's geometry by default.
    """

    def __init__(self, volume: Any, center: np.ndarray, segmentation: Any = None) -> None:
        import slicer
        from CoralBaySlicerCore.scene import segments

        slicer.util.selectModule("SegmentEditor")
        self.volume, self.center = volume, center
        self.editor = slicer.util.getModuleWidget("SegmentEditor").editor
        self.segmentation = segmentation or segments.new(volume, "Painted")
        self.editor.setSegmentationNode(self.segmentation)
        self.editor.setSourceVolumeNode(volume)
        self.node = self.editor.mrmlSegmentEditorNode()

    @property
    def effect(self) -> Any:
        """The Python object of the effect."""
        return self.editor.effectByName("CoralBay").self()

    @property
    def logic(self) -> Any:
        """The module's."""
        import slicer

        return slicer.util.getModuleLogic("CoralBaySlicer")

    def activate(self) -> Any:
        """Choose the effect."""
        self.editor.setActiveEffectByName("CoralBay")
        host.process_events()
        return self.effect

    def paint(self, name: str, place: np.ndarray, radius_mm: float = 4.0) -> str:
        """Add a ball to a segment, which is added if necessary, as with the brush; returns the segment's ID.

        Args:
            name: of the segment.
            place: (3,) RAS mm of the scan's own space.
            radius_mm: of the ball.
        """
        return self.paint_mask(name, self.ball(place, radius_mm))

    def paint_mask(self, name: str, mask: np.ndarray) -> str:
        """Add voxels [k, j, i] on the grid of the segmentation to a segment; returns the segment's ID."""
        import slicer

        inner = self.segmentation.GetSegmentation()
        segment_id = inner.GetSegmentIdBySegmentName(name) or inner.AddEmptySegment("", name)
        self.node.SetSelectedSegmentID(segment_id)
        image = self.image_of(mask)
        logic = slicer.vtkSlicerSegmentationsModuleLogic
        logic.SetBinaryLabelmapToSegment(image, self.segmentation, segment_id, logic.MODE_MERGE_MASK)
        return segment_id

    def image_of(self, mask: np.ndarray) -> Any:
        """A mask [k, j, i] on the grid of the segmentation, as the image of a segment."""
        from CoralBaySlicerCore.scene import segments

        from CoralBayLib.imaging.cropping import CroppedMask

        return segments.oriented_image(CroppedMask.of(mask), self._geometry()[0])

    def ball(self, place: np.ndarray, radius_mm: float) -> np.ndarray:
        """A ball as a mask [k, j, i] on the grid of the segmentation; its center is in the scan's own space."""
        from CoralBaySlicerCore.scene import segments

        matrix, shape = self._geometry()
        center = np.append(place, 1) @ segments.transform_to(self.segmentation, self.volume).T
        k, j, i = np.indices(shape)
        ras = np.stack([i, j, k], axis=-1) @ matrix[:3, :3].T + matrix[:3, 3]
        return np.linalg.norm(ras - center[:3], axis=-1) <= radius_mm

    def settle(self) -> None:
        """Wait until the effect has nothing to do."""
        host.process_events()
        effect = self.effect
        host.wait_for(lambda: not effect.completion.is_running and not effect.delayedAutoUpdateTimer.active, 30)

    def voxels(self, segment_id: str, segmentation: Any = None) -> np.ndarray:
        """The voxels of a segment, [k, j, i] bool on the grid of the segmentation."""
        import slicer
        import vtk
        from vtk.util.numpy_support import vtk_to_numpy

        matrix, shape = self._geometry()
        image = slicer.vtkOrientedImageData()
        (segmentation or self.segmentation).GetBinaryLabelmapRepresentation(segment_id, image)
        out = np.zeros(shape, bool)
        if image.IsEmpty():
            return out
        own = vtk.vtkMatrix4x4()
        image.GetImageToWorldMatrix(own)
        np.testing.assert_allclose(slicer.util.arrayFromVTKMatrix(own), matrix, atol=1e-6)
        a, b, c, d, e, f = image.GetExtent()
        array = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(f - e + 1, d - c + 1, b - a + 1)
        out[e : f + 1, c : d + 1, a : b + 1] = array > 0
        return out

    def previewed(self, segment_id: str) -> np.ndarray:
        """The previewed voxels of a segment, [k, j, i] bool on the grid of the segmentation."""
        return self.voxels(segment_id, self.effect.getPreviewNode())

    def _geometry(self) -> tuple[np.ndarray, tuple[int, int, int]]:
        """IJK to the segmentation's own RAS mm, and the shape [k, j, i]."""
        import slicer
        import vtk

        inner, image = self.segmentation.GetSegmentation(), slicer.vtkOrientedImageData()
        name = slicer.vtkSegmentationConverter.GetReferenceImageGeometryParameterName()
        slicer.vtkSegmentationConverter.DeserializeImageGeometry(inner.GetConversionParameter(name), image, False)
        matrix = vtk.vtkMatrix4x4()
        image.GetImageToWorldMatrix(matrix)
        a, b, c, d, e, f = image.GetExtent()
        assert (a, c, e) == (0, 0, 0)
        return slicer.util.arrayFromVTKMatrix(matrix), (f + 1, d + 1, b + 1)


def dice(one: np.ndarray, other: np.ndarray) -> float:
    """The Dice coefficient of two masks."""
    return 2 * np.count_nonzero(one & other) / max(np.count_nonzero(one) + np.count_nonzero(other), 1)
