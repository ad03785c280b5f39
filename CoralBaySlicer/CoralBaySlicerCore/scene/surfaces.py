"""Segments in 3D: their surfaces, made on the worker, since Slicer's own way would hold up the event loop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

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
"""Of vtkWindowedSincPolyDataFilter: what Slicer's default smoothing of 0.5 amounts to."""


@dataclass(frozen=True, eq=False)
class Solid:
    """A segment's voxels, free of MRML.

    Attributes:
        segment_id: of the segment.
        stamp: changes when its voxels do.
        array: [k, j, i], of all segments that share it.
        value: what this segment's voxels hold.
        start: (i, j, k) of the first voxel.
        geometry: (4, 4), IJK to the segmentation's own RAS mm.
    """

    segment_id: str
    stamp: int
    array: NDArray
    value: int
    start: tuple[int, int, int]
    geometry: NDArray[np.float64]


def shown(segmentation: Any) -> bool:
    """Whether a segmentation has surfaces."""
    return segmentation is not None and segmentation.GetSegmentation().ContainsRepresentation(_surface_name())


def remove(segmentation: Any) -> None:
    """Take the surfaces away. Slicer would make them anew on the main thread with each change of the voxels."""
    if shown(segmentation):
        segmentation.RemoveClosedSurfaceRepresentation()


def read(segmentation: Any) -> list[Solid]:
    """The segments that hold voxels; main thread only."""
    found, copies = [], {}
    for segment_id in ids(segmentation):
        segment = segmentation.GetSegmentation().GetSegment(segment_id)
        image = segment.GetRepresentation(_voxels_name())
        if image is None or image.GetPointData().GetScalars() is None:
            continue
        extent, matrix = image.GetExtent(), vtk.vtkMatrix4x4()
        image.GetImageToWorldMatrix(matrix)
        shape = tuple(extent[2 * axis + 1] - extent[2 * axis] + 1 for axis in (2, 1, 0))
        # Segments that do not overlap share their voxels.
        if image not in copies:
            copies[image] = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(shape).copy()
        found.append(
            Solid(
                segment_id,
                image.GetMTime(),
                copies[image],
                segment.GetLabelValue(),
                tuple(extent[::2]),
                slicer.util.arrayFromVTKMatrix(matrix),
            )
        )
    return found


def build(solids: list[Solid], progress: Progress, cancel: CancelToken) -> dict[str, tuple[int, Any]]:
    """Stamp and surface, a vtkPolyData in the segmentation's own RAS mm, by segment ID; on the worker."""
    made = {}
    for number, solid in enumerate(solids):
        cancel.raise_if_cancelled()
        progress(number / len(solids), "")
        made[solid.segment_id] = (solid.stamp, _surface(solid))
    return made


def put(segmentation: Any, made: dict[str, tuple[int, Any]]) -> None:
    """Show surfaces in the 3D views, but for segments that have changed or gone meanwhile; main thread only."""
    inner = segmentation.GetSegmentation()
    with slicer.util.NodeModify(segmentation):
        for segment_id, (stamp, surface) in made.items():
            segment = inner.GetSegment(segment_id)
            image = segment.GetRepresentation(_voxels_name()) if segment is not None else None
            if image is not None and image.GetMTime() == stamp:
                segment.AddRepresentation(_surface_name(), surface)
        display = segmentation.GetDisplayNode()
        display.SetPreferredDisplayRepresentationName3D(_surface_name())
        display.SetVisibility3D(True)


def _surface(solid: Solid) -> Any:
    piece = CroppedMask.of(solid.array == solid.value)
    if not piece.mask.size:
        return vtk.vtkPolyData()
    # A border of nothing, so that the surface is closed where the segment meets the end of the scan.
    mask = np.pad(piece.mask, 1)
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
    to_ras = np.array(solid.geometry)
    to_ras[:3, 3] += to_ras[:3, :3] @ (np.array(solid.start) + piece.start - 1)
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
