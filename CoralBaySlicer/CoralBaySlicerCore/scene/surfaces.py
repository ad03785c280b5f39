"""Surfaces of segments for the 3D views, computed on the worker, because Slicer would block the event loop."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import slicer
import vtk
from numpy.typing import NDArray
from vtk.util.numpy_support import numpy_to_vtk, vtk_to_numpy

from CoralBayLib.core.progress import CancelToken, Progress
from CoralBayLib.imaging.cropping import CroppedMask

from .segments import ids

_SMOOTHING_STEPS = 20
_PASS_BAND = 0.01
"""Pass band of vtkWindowedSincPolyDataFilter, equal to Slicer's default smoothing factor of 0.5."""


@dataclass(frozen=True, eq=False)
class SegmentVoxels:
    """Voxels of a segment, without MRML.

    Attributes:
        segment_id: of the segment.
        mtime: modification time of its image.
        array: [k, j, i], shared by the segments of one labelmap.
        value: of this segment's voxels in the array.
        start: (i, j, k) of the first voxel.
        geometry: (4, 4), IJK to the segmentation's own RAS mm.
    """

    segment_id: str
    mtime: int
    array: NDArray
    value: int
    start: tuple[int, int, int]
    geometry: NDArray[np.float64]


def has_surfaces(segmentation: slicer.vtkMRMLSegmentationNode) -> bool:
    """Whether a segmentation has surfaces."""
    return segmentation is not None and segmentation.GetSegmentation().ContainsRepresentation(_surface_name())


def remove(segmentation: slicer.vtkMRMLSegmentationNode) -> None:
    """Remove the surfaces, because Slicer would compute them again on the main thread with each change of the voxels."""
    if has_surfaces(segmentation):
        segmentation.RemoveClosedSurfaceRepresentation()


def read(segmentation: slicer.vtkMRMLSegmentationNode) -> list[SegmentVoxels]:
    """The voxels of all segments that have any; main thread only."""
    result, copies = [], {}
    for segment_id in ids(segmentation):
        segment = segmentation.GetSegmentation().GetSegment(segment_id)
        image = segment.GetRepresentation(_voxels_name())
        if image is None or image.GetPointData().GetScalars() is None:
            continue
        extent, matrix = image.GetExtent(), vtk.vtkMatrix4x4()
        image.GetImageToWorldMatrix(matrix)
        shape = tuple(extent[2 * axis + 1] - extent[2 * axis] + 1 for axis in (2, 1, 0))
        # Segments that do not overlap share an image.
        if image not in copies:
            copies[image] = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(shape).copy()
        result.append(
            SegmentVoxels(
                segment_id,
                image.GetMTime(),
                copies[image],
                segment.GetLabelValue(),
                tuple(extent[::2]),
                slicer.util.arrayFromVTKMatrix(matrix),
            )
        )
    return result


def build(segments: list[SegmentVoxels], progress: Progress, cancel: CancelToken) -> dict[str, tuple[int, vtk.vtkPolyData]]:
    """Compute surfaces on the worker.

    Returns:
        By segment ID: `SegmentVoxels.mtime`, and the surface (vtkPolyData in the segmentation's own RAS mm).
    """
    surfaces = {}
    for number, segment in enumerate(segments):
        cancel.raise_if_cancelled()
        progress(number / len(segments), "")
        surfaces[segment.segment_id] = (segment.mtime, _surface(segment))
    return surfaces


def put(segmentation: slicer.vtkMRMLSegmentationNode, surfaces: dict[str, tuple[int, vtk.vtkPolyData]]) -> None:
    """Show surfaces in the 3D views, except those of segments that were changed or removed since; main thread only."""
    inner = segmentation.GetSegmentation()
    with slicer.util.NodeModify(segmentation):
        for segment_id, (mtime, surface) in surfaces.items():
            segment = inner.GetSegment(segment_id)
            image = segment.GetRepresentation(_voxels_name()) if segment is not None else None
            if image is not None and image.GetMTime() == mtime:
                segment.AddRepresentation(_surface_name(), surface)
        display = segmentation.GetDisplayNode()
        display.SetPreferredDisplayRepresentationName3D(_surface_name())
        display.SetVisibility3D(True)


def _surface(segment: SegmentVoxels) -> vtk.vtkPolyData:
    cropped = CroppedMask.of(segment.array == segment.value)
    if not cropped.mask.size:
        return vtk.vtkPolyData()
    # Padded, so that the surface is closed where the segment touches the border of the scan.
    mask = np.pad(cropped.mask, 1)
    image = vtk.vtkImageData()
    image.SetDimensions(*mask.shape[::-1])
    image.GetPointData().SetScalars(numpy_to_vtk(mask.ravel(), deep=True))
    border = vtk.vtkDiscreteFlyingEdges3D()
    border.SetInputData(image)
    border.ComputeNormalsOff()
    border.SetValue(0, 1)
    smooth = vtk.vtkWindowedSincPolyDataFilter()
    smooth.SetInputConnection(border.GetOutputPort())
    smooth.SetNumberOfIterations(_SMOOTHING_STEPS)
    smooth.SetPassBand(_PASS_BAND)
    smooth.BoundarySmoothingOff()
    smooth.FeatureEdgeSmoothingOff()
    smooth.NonManifoldSmoothingOn()
    smooth.NormalizeCoordinatesOn()
    to_ras = np.array(segment.geometry)
    to_ras[:3, 3] += to_ras[:3, :3] @ (np.array(segment.start) + cropped.start - 1)
    transform = vtk.vtkTransform()
    transform.SetMatrix(to_ras.ravel().tolist())
    placed = vtk.vtkTransformPolyDataFilter()
    placed.SetInputConnection(smooth.GetOutputPort())
    placed.SetTransform(transform)
    last = placed
    if np.linalg.det(to_ras[:3, :3]) < 0:
        last = vtk.vtkReverseSense()
        last.SetInputConnection(placed.GetOutputPort())
    normals = vtk.vtkPolyDataNormals()
    normals.SetInputConnection(last.GetOutputPort())
    normals.ConsistencyOff()
    normals.SplittingOff()
    normals.Update()
    return normals.GetOutput()


def _surface_name() -> str:
    return slicer.vtkSegmentationConverter.GetSegmentationClosedSurfaceRepresentationName()


def _voxels_name() -> str:
    return slicer.vtkSegmentationConverter.GetSegmentationBinaryLabelmapRepresentationName()
