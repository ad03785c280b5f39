"""Conversion between MRML volumes and plain data: voxels, geometry and parent transforms.

All computations are in a volume's own space, without its parent transform, so that features stay valid when the transform
changes. World points are transformed into that space, and nodes that are made for a volume get the same parent transform, so
that they overlay the volume in the views.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np
import slicer
import vtk
from numpy.typing import ArrayLike, NDArray
from slicer.i18n import tr as _

from CoralBayLib.core.errors import VolumeError
from CoralBayLib.imaging.grid import Grid, Volume

KEPT_MAP = "CoralBaySlicer.KeptMap"
"""Attribute of a volume node with a map of CoralBay: what it shows."""


@dataclass(frozen=True, eq=False)
class VolumeSnapshot:
    """Voxels and geometry of a volume node, without MRML, for use on a worker.

    Attributes:
        volume: voxels, which share the node's memory, with the geometry in the volume's own RAS mm.
        node_id, name: of the volume node.
        fingerprint: changes with the voxels or the geometry.
    """

    volume: Volume
    node_id: str
    name: str
    fingerprint: tuple


def read(node: slicer.vtkMRMLScalarVolumeNode | None) -> VolumeSnapshot:
    """Read a volume node's voxels and geometry.

    Raises:
        VolumeError: there is no node, it holds no 3D image, or its geometry is unusable.
    """
    if node is None:
        raise VolumeError(_("Choose a volume first."))
    if node.GetImageData() is None or node.GetImageData().GetPointData().GetScalars() is None:
        raise VolumeError(_("The volume '{name}' holds no image.").format(name=node.GetName()))
    # Not the dimensions of the array: of a scalar volume with several components, none can be made.
    if node.GetImageData().GetNumberOfScalarComponents() != 1:
        raise VolumeError(
            _("The volume '{name}' has several values per voxel. Choose a CT with one value per voxel.").format(
                name=node.GetName()
            )
        )
    array = slicer.util.arrayFromVolume(node)
    volume = Volume(array, Grid(array.shape, ijk_to_ras(node)))
    return VolumeSnapshot(volume, node.GetID(), node.GetName(), fingerprint(node))


def is_scan(node: slicer.vtkMRMLNode | None) -> bool:
    """Whether a node is offered as a scan: a scalar volume that is neither a labelmap nor a map of the module."""
    if node is None or node.GetHideFromEditors() or node.GetAttribute(KEPT_MAP) is not None:
        return False
    # Exactly this class: derived classes hold labels, vectors or tensors.
    return bool(node.GetClassName() == "vtkMRMLScalarVolumeNode")


def other_scans(volume: slicer.vtkMRMLScalarVolumeNode) -> list[slicer.vtkMRMLScalarVolumeNode]:
    """All scans in the scene except one."""
    nodes = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
    return [node for node in nodes if node is not volume and is_scan(node)]


def fingerprint(node: slicer.vtkMRMLVolumeNode) -> tuple:
    """A value that changes with the voxels or the IJK-to-RAS matrix, but not with the parent transform."""
    image = node.GetImageData()
    return (image.GetMTime() if image is not None else 0, ijk_to_ras(node).tobytes())


def ijk_to_ras(node: slicer.vtkMRMLVolumeNode) -> NDArray[np.float64]:
    """(4, 4) matrix from IJK to the volume's own RAS mm."""
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    # Rounded, because saving and loading changes the last digits and the sign of zeros, and so the key of stored features.
    return np.round(slicer.util.arrayFromVTKMatrix(matrix), 9) + 0.0


def files_of(node: slicer.vtkMRMLStorableNode) -> list[str]:
    """The absolute paths of the files that a volume was read from or written to."""
    storage = node.GetStorageNode()
    if storage is None or not storage.GetFileName():
        return []
    names = [storage.GetNthFileName(n) for n in range(storage.GetNumberOfFileNames())] or [storage.GetFileName()]
    return [os.path.abspath(storage.GetAbsoluteFilePath(name) or name) for name in names]  # noqa: PTH100 - normalizes '..'


def is_transformed_nonlinearly(node: slicer.vtkMRMLVolumeNode | None) -> bool:
    """Whether the volume is under a non-linear transform."""
    parent = node.GetParentTransformNode() if node is not None else None
    return parent is not None and not parent.IsTransformToWorldLinear()


def to_world(node: slicer.vtkMRMLTransformableNode, points: ArrayLike) -> NDArray[np.float64]:
    """Transform (N, 3) RAS mm points from a node's own space to the world."""
    return transform_points(points, node.GetParentTransformNode(), None)


def from_world(node: slicer.vtkMRMLTransformableNode, points: ArrayLike) -> NDArray[np.float64]:
    """Transform (N, 3) RAS mm points from the world to a node's own space."""
    return transform_points(points, None, node.GetParentTransformNode())


def transform_points(
    points: ArrayLike, source: slicer.vtkMRMLTransformNode | None, target: slicer.vtkMRMLTransformNode | None
) -> NDArray[np.float64]:
    """Transform (N, 3) RAS mm points from the space of one transform node to that of another; None is the world."""
    points = np.array(points, dtype=np.float64).reshape(-1, 3)
    if source is target or not len(points):
        return points
    matrix = matrix_between(source, target)
    if matrix is not None:
        return points @ matrix[:3, :3].T + matrix[:3, 3]
    general = vtk.vtkGeneralTransform()
    slicer.vtkMRMLTransformNode.GetTransformBetweenNodes(source, target, general)
    return np.array([general.TransformPoint(point) for point in points])


def matrix_between(
    source: slicer.vtkMRMLTransformNode | None, target: slicer.vtkMRMLTransformNode | None
) -> NDArray[np.float64] | None:
    """(4, 4) matrix from the space of one transform node to that of another; None if the transform is not linear."""
    for node in (source, target):
        if node is not None and not node.IsTransformToWorldLinear():
            return None
    matrix = vtk.vtkMatrix4x4()
    slicer.vtkMRMLTransformNode.GetMatrixTransformBetweenNodes(source, target, matrix)
    return slicer.util.arrayFromVTKMatrix(matrix)


def put_array(
    node: slicer.vtkMRMLVolumeNode, array: NDArray, geometry: NDArray[np.float64], like: slicer.vtkMRMLTransformableNode
) -> None:
    """Set voxels [k, j, i(, component)] and geometry of a volume node, and give it the parent transform of another node."""
    with slicer.util.NodeModify(node):
        node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(geometry))
        slicer.util.updateVolumeFromArray(node, array)
        copy_transform(node, like)


def copy_transform(node: slicer.vtkMRMLTransformableNode, like: slicer.vtkMRMLTransformableNode) -> None:
    """Give a node the parent transform of another node."""
    if node.GetTransformNodeID() != like.GetTransformNodeID():
        node.SetAndObserveTransformNodeID(like.GetTransformNodeID())


def set_window(node: slicer.vtkMRMLScalarVolumeNode, black_hu: float, white_hu: float) -> None:
    """Show the values between two limits, HU, from black to white."""
    node.CreateDefaultDisplayNodes()
    display = node.GetDisplayNode()
    with slicer.util.NodeModify(display):
        display.SetAutoWindowLevel(False)
        display.SetWindowLevelMinMax(black_hu, white_hu)


def jump_to(world: ArrayLike) -> None:
    """Center all slice views on a position, (3,) RAS mm of the world."""
    slicer.vtkMRMLSliceNode.JumpAllSlices(
        slicer.mrmlScene, *(float(part) for part in np.ravel(world)), slicer.vtkMRMLSliceNode.CenteredJumpSlice
    )
