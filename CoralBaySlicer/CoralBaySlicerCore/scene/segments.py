"""Segments: reading them as prompts or as a query, writing them on the geometry of the scan, and undo."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import slicer
import vtk
from numpy.typing import NDArray
from slicer.i18n import tr as _
from vtk.util.numpy_support import numpy_to_vtk, vtk_to_numpy

from CoralBayLib.core import names as naming
from CoralBayLib.core.errors import PromptError, VolumeError
from CoralBayLib.core.names import fold
from CoralBayLib.imaging.cropping import CroppedMask
from CoralBayLib.imaging.headers.terminology import term

from .colors import label_color
from .volumes import VolumeSnapshot, copy_transform, matrix_between, transform_points

_MAX_POINTS = 2000
"""Voxels of a segment that are used; others are dropped at random."""


def ids(segmentation: slicer.vtkMRMLSegmentationNode | None) -> list[str]:
    """The IDs of a segmentation's segments, in their order."""
    return list(segmentation.GetSegmentation().GetSegmentIDs()) if segmentation is not None else []


def is_background(name: str) -> bool:
    """Whether a segment of this name holds negative prompts."""
    return naming.is_background(name, _("Background"))


def points(
    segmentation: slicer.vtkMRMLSegmentationNode | None, segment_id: str, volume: slicer.vtkMRMLScalarVolumeNode
) -> NDArray[np.float64]:
    """Voxel centers of a segment in a volume's own space, (N, 3) RAS mm; at most `_MAX_POINTS`, drawn at random.

    Raises:
        PromptError: the segment no longer exists, or has no binary labelmap.
    """
    name = slicer.vtkSegmentationConverter.GetSegmentationBinaryLabelmapRepresentationName()
    segment = segmentation.GetSegmentation().GetSegment(segment_id) if segmentation is not None else None
    if segmentation is None or segment is None:
        raise PromptError(_("The segment no longer exists. Choose another."))
    if not segmentation.GetSegmentation().ContainsRepresentation(name) and not (
        segmentation.GetSegmentation().CreateRepresentation(name)
    ):
        raise PromptError(_("The segment '{name}' has no voxels to read.").format(name=segment.GetName()))
    image = segment.GetRepresentation(name)
    if image is None or image.GetPointData().GetScalars() is None:
        return np.empty((0, 3))
    extent = image.GetExtent()
    shape = tuple(extent[2 * axis + 1] - extent[2 * axis] + 1 for axis in (2, 1, 0))
    # Drawn before positions are computed, because a segment can have tens of millions of voxels.
    voxels = np.flatnonzero(vtk_to_numpy(image.GetPointData().GetScalars()) == segment.GetLabelValue())
    if len(voxels) > _MAX_POINTS:
        voxels = voxels[np.random.default_rng(0).choice(len(voxels), _MAX_POINTS, replace=False)]
    kji = np.stack(np.unravel_index(voxels, shape), axis=-1)
    matrix = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(matrix)
    matrix = slicer.util.arrayFromVTKMatrix(matrix)
    ijk = kji[:, ::-1] + np.array(extent[::2])
    return transform_points(
        ijk @ matrix[:3, :3].T + matrix[:3, 3], segmentation.GetParentTransformNode(), volume.GetParentTransformNode()
    )


def prompts(
    segmentation: slicer.vtkMRMLSegmentationNode | None, names: Mapping[int, str], volume: slicer.vtkMRMLScalarVolumeNode
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Voxels of the segments that are named as structures or as background, as points in a volume's own space.

    Args:
        segmentation: with the painted segments, or None.
        names: of the structures, by label.
        volume: the scan.

    Returns:
        (N, 3) RAS mm and (N,) labels; 0 is background.
    """
    by_name = {fold(name): label for label, name in names.items()}
    positions: list[NDArray[np.float64]] = [np.empty((0, 3))]
    labels = [np.empty(0, np.int64)]
    if segmentation is None:
        return positions[0], labels[0]
    for segment_id in ids(segmentation):
        name = segmentation.GetSegmentation().GetSegment(segment_id).GetName()
        label = 0 if is_background(name) else by_name.get(fold(name))
        if label is not None:
            positions.append(points(segmentation, segment_id, volume))
            labels.append(np.full(len(positions[-1]), label))
    return np.concatenate(positions), np.concatenate(labels)


def new_names(segmentation: slicer.vtkMRMLSegmentationNode | None, known: Sequence[str]) -> list[str]:
    """Names of the segments that are neither background nor known structures."""
    if segmentation is None:
        return []
    names = [segmentation.GetSegmentation().GetSegment(each).GetName() for each in ids(segmentation)]
    folded = {fold(name) for name in known}
    return [name for name in names if fold(name) not in folded and not is_background(name)]


def new(volume: slicer.vtkMRMLScalarVolumeNode, name: str) -> slicer.vtkMRMLSegmentationNode:
    """An empty segmentation node on a volume's geometry and under its parent transform."""
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", slicer.mrmlScene.GenerateUniqueName(name))
    node.CreateDefaultDisplayNodes()
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    copy_transform(node, volume)
    return node


def is_of_another(segmentation: slicer.vtkMRMLSegmentationNode, volume: slicer.vtkMRMLScalarVolumeNode | None) -> bool:
    """Whether a segmentation has its geometry from another volume than this one."""
    reference = segmentation.GetNodeReference(segmentation.GetReferenceImageGeometryReferenceRole())
    return reference is not None and volume is not None and reference is not volume


def transform_to(segmentation: slicer.vtkMRMLSegmentationNode, volume: slicer.vtkMRMLScalarVolumeNode) -> NDArray[np.float64]:
    """(4, 4) matrix from a volume's own space to a segmentation's.

    Raises:
        VolumeError: a non-linear transform lies between the two.
    """
    matrix = matrix_between(volume.GetParentTransformNode(), segmentation.GetParentTransformNode())
    if volume.GetParentTransformNode() is segmentation.GetParentTransformNode():
        return np.eye(4)
    if matrix is None:
        raise VolumeError(
            _(
                "A non-linear transform lies between the volume and the segmentation '{name}'. Choose a segmentation "
                "under the volume's own transform, or a new one."
            ).format(name=segmentation.GetName())
        )
    return matrix


def write(
    segmentation: slicer.vtkMRMLSegmentationNode,
    name: str,
    color: Sequence[float],
    cropped: CroppedMask,
    geometry: NDArray[np.float64],
) -> str:
    """Write voxels into the segment of a name, which is added if there is none; returns its ID.

    Args:
        segmentation: the node.
        name: of the segment.
        color: RGB from 0 to 1 for a new segment.
        cropped: the voxels.
        geometry: (4, 4), IJK of the grid of the voxels to the segmentation's own RAS mm.
    """
    inner = segmentation.GetSegmentation()
    segment_id = inner.GetSegmentIdBySegmentName(name)
    if not segment_id:
        # The ID resembles the name, so that scripts can find the segment by it.
        segment_id = inner.AddEmptySegment(inner.GenerateUniqueSegmentID(name), name, color)
        if term(name).is_known:
            # Slicer shows what it is, and its DICOM export writes the codes.
            inner.GetSegment(segment_id).SetTag(slicer.vtkSegment.GetTerminologyEntryTagName(), term(name).slicer_entry)
    image = oriented_image(cropped, geometry)
    logic = slicer.vtkSlicerSegmentationsModuleLogic
    if not logic.SetBinaryLabelmapToSegment(image, segmentation, segment_id, logic.MODE_REPLACE):
        raise VolumeError(_("The segment '{name}' could not be written.").format(name=name))
    return segment_id


def write_masks(
    segmentation: slicer.vtkMRMLSegmentationNode,
    volume: slicer.vtkMRMLScalarVolumeNode,
    scan: VolumeSnapshot,
    masks: dict[str, CroppedMask],
    colors: Mapping[str, Sequence[float]],
) -> dict[str, str]:
    """Write the masks of structures on a scan's grid as segments; returns their IDs by name."""
    geometry = transform_to(segmentation, volume) @ scan.volume.grid.ijk_to_ras
    if not ids(segmentation):
        segmentation.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    with slicer.util.NodeModify(segmentation):
        written = {
            name: write(segmentation, name, colors.get(name, label_color(number)), cropped, geometry)
            for number, (name, cropped) in enumerate(masks.items(), start=1)
        }
        if _reference_is_too_fine(segmentation):
            segmentation.SetReferenceImageGeometryParameterFromVolumeNode(volume)
        return written


def _reference_is_too_fine(segmentation: slicer.vtkMRMLSegmentationNode) -> bool:
    """Whether the voxels of the reference geometry are less than half as wide as those of every segment.

    So it is when a segmentation of a fine scan gets the segments of a coarse one. When Slicer saves it, it rounds the ratio
    to 0 and warns.
    """
    inner, converter = segmentation.GetSegmentation(), slicer.vtkSegmentationConverter
    name = converter.GetSegmentationBinaryLabelmapRepresentationName()
    images = [inner.GetSegment(each).GetRepresentation(name) for each in ids(segmentation)]
    spacings = [image.GetSpacing() for image in images if image is not None and not image.IsEmpty()]
    reference = slicer.vtkOrientedImageData()
    text = inner.GetConversionParameter(converter.GetReferenceImageGeometryParameterName())
    if not spacings or not text or not converter.DeserializeImageGeometry(text, reference, False):
        return False
    return np.cbrt(np.prod(reference.GetSpacing()) / min(map(np.prod, spacings))) < 0.5


def oriented_image(cropped: CroppedMask, geometry: NDArray[np.float64]) -> slicer.vtkOrientedImageData:
    """Voxels as the image of a segment, whose extent is that of the mask."""
    image = slicer.vtkOrientedImageData()
    size = cropped.mask.shape[::-1]
    extent = [bound for start, count in zip(cropped.start, size, strict=True) for bound in (start, start + count - 1)]
    image.SetExtent(*extent)
    image.SetImageToWorldMatrix(slicer.util.vtkMatrixFromArray(geometry))
    image.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 1)
    if cropped.mask.size:
        image.GetPointData().SetScalars(numpy_to_vtk(cropped.mask.ravel(), deep=True))
    return image


class Undo:
    """States of segmentations before each time that the module wrote to them."""

    def __init__(self) -> None:
        self._histories: dict[str, slicer.vtkSegmentationHistory] = {}

    def save(self, segmentation: slicer.vtkMRMLSegmentationNode) -> None:
        """Save a segmentation's state, so that it can be restored."""
        history = self._histories.get(segmentation.GetID())
        if history is None:
            history = self._histories[segmentation.GetID()] = slicer.vtkSegmentationHistory()
            history.SetSegmentation(segmentation.GetSegmentation())
        history.SaveState()

    def can_restore(self, segmentation: slicer.vtkMRMLSegmentationNode | None) -> bool:
        """Whether there is a saved state."""
        history = self._histories.get(segmentation.GetID()) if segmentation is not None else None
        return history is not None and history.IsRestorePreviousStateAvailable()

    def restore(self, segmentation: slicer.vtkMRMLSegmentationNode | None) -> None:
        """Restore the last saved state."""
        if segmentation is not None and self.can_restore(segmentation):
            self._histories[segmentation.GetID()].RestorePreviousState()

    def clear(self) -> None:
        """Discard all states, as when the scene closes."""
        self._histories.clear()
