"""Between MRML volumes and plain data: voxels, geometry, and the way through parent transforms.

Everything is computed in a volume's own space, before its parent transform: moving a volume then costs nothing and its
features stay valid. World points are taken into that space through the full transform, and nodes made for a volume are
put under the same transform, so they lie on it in the views whatever the transform is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import slicer
import vtk
from numpy.typing import ArrayLike, NDArray
from slicer.i18n import tr as _

from CoralBayLib.core.errors import VolumeError
from CoralBayLib.imaging.grid import Grid, Volume


@dataclass(frozen=True, eq=False)
class VolumeSnapshot:
    """A volume node as it is now, free of MRML so that a worker may have it.

    Attributes:
        volume: voxels, which share the node's memory, and geometry in the volume's own RAS mm.
        node_id, name: of the volume node.
        fingerprint: changes when the voxels or the geometry do.
    """

    volume: Volume
    node_id: str
    name: str
    fingerprint: tuple


def read(node: Any) -> VolumeSnapshot:
    """Take a volume node's voxels and geometry.

    Raises:
        VolumeError: there is no node, it holds no 3D image, or its geometry is unusable.
    """
    if node is None:
        raise VolumeError(_("Choose a volume first."))
    if node.GetImageData() is None or node.GetImageData().GetPointData().GetScalars() is None:
        raise VolumeError(_("The volume '{name}' holds no image.").format(name=node.GetName()))
    array = slicer.util.arrayFromVolume(node)
    if array.ndim != 3:
        raise VolumeError(
            _("The volume '{name}' has several values per voxel. Choose a CT with one value per voxel.").format(
                name=node.GetName()
            )
        )
    volume = Volume(array, Grid(array.shape, ijk_to_ras(node)))
    return VolumeSnapshot(volume, node.GetID(), node.GetName(), fingerprint(node))


def is_scan(node: Any) -> bool:
    """Whether a node is offered as a scan: a volume of one value a voxel that is no labelmap and none of our overlays."""
    # The class itself: what derives from it holds labels, vectors or tensors.
    return node is not None and node.GetClassName() == "vtkMRMLScalarVolumeNode" and not node.GetHideFromEditors()


def other_scans(volume: Any) -> list[Any]:
    """The scans of the scene but one."""
    found = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
    return [node for node in found if node is not volume and is_scan(node)]


def fingerprint(node: Any) -> tuple:
    """Something that changes whenever the voxels or the IJK-to-RAS matrix do, but not with the parent transform."""
    image = node.GetImageData()
    return (image.GetMTime() if image is not None else 0, ijk_to_ras(node).tobytes())


def ijk_to_ras(node: Any) -> NDArray[np.float64]:
    """(4, 4) from IJK to the volume's own RAS mm."""
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    # Saving and loading changes the last digits and the sign of zeros, and with them the key of stored features.
    return np.round(slicer.util.arrayFromVTKMatrix(matrix), 9) + 0.0


def is_transformed_nonlinearly(node: Any) -> bool:
    """Whether a parent transform bends the volume."""
    parent = node.GetParentTransformNode() if node is not None else None
    return parent is not None and not parent.IsTransformToWorldLinear()


def to_world(node: Any, points: ArrayLike) -> NDArray[np.float64]:
    """Take (N, 3) points, mm, from a node's own space to the world."""
    return between(points, node.GetParentTransformNode(), None)


def from_world(node: Any, points: ArrayLike) -> NDArray[np.float64]:
    """Take (N, 3) points, mm, from the world to a node's own space."""
    return between(points, None, node.GetParentTransformNode())


def between(points: ArrayLike, source: Any, target: Any) -> NDArray[np.float64]:
    """Take (N, 3) points, mm, from below one transform node to below another; None is the world."""
    points = np.array(points, dtype=np.float64).reshape(-1, 3)
    if source is target or not len(points):
        return points
    matrix = linear_between(source, target)
    if matrix is not None:
        return points @ matrix[:3, :3].T + matrix[:3, 3]
    general = vtk.vtkGeneralTransform()
    slicer.vtkMRMLTransformNode.GetTransformBetweenNodes(source, target, general)
    return np.array([general.TransformPoint(point) for point in points])


def linear_between(source: Any, target: Any) -> NDArray[np.float64] | None:
    """(4, 4) from below one transform node to below another; None when the way is not linear."""
    for node in (source, target):
        if node is not None and not node.IsTransformToWorldLinear():
            return None
    matrix = vtk.vtkMatrix4x4()
    slicer.vtkMRMLTransformNode.GetMatrixTransformBetweenNodes(source, target, matrix)
    return slicer.util.arrayFromVTKMatrix(matrix)


def put_array(node: Any, array: NDArray, geometry: NDArray[np.float64], like: Any) -> None:
    """Give a volume node voxels [k, j, i(, component)] and a geometry, under the parent transform of another node."""
    with slicer.util.NodeModify(node):
        node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(geometry))
        slicer.util.updateVolumeFromArray(node, array)
        follow(node, like)


def follow(node: Any, like: Any) -> None:
    """Put a node under the same parent transform as another."""
    if node.GetTransformNodeID() != like.GetTransformNodeID():
        node.SetAndObserveTransformNodeID(like.GetTransformNodeID())


def jump_to(world: ArrayLike) -> None:
    """Centre all slice views on a place of the world, RAS mm."""
    slicer.vtkMRMLSliceNode.JumpAllSlices(
        slicer.mrmlScene, *(float(part) for part in np.ravel(world)), slicer.vtkMRMLSliceNode.CenteredJumpSlice
    )
