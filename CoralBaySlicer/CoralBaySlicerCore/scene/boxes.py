"""Boxes around structures: a markups ROI that the structure's node refers to, drawn and changed with Slicer's own handles."""

from __future__ import annotations

import numpy as np
import slicer

from CoralBayLib.fewshot.constraints.boxes import Box

from .structures import Structure
from .volumes import copy_transform, from_world

_ROLE = "CoralBaySlicer.Box"


def node_of(structure: Structure) -> slicer.vtkMRMLMarkupsROINode | None:
    """The node of a structure's box, or None."""
    node = structure.node.GetNodeReference(_ROLE)
    return node if isinstance(node, slicer.vtkMRMLMarkupsROINode) else None


def add(structure: Structure, volume: slicer.vtkMRMLScalarVolumeNode) -> slicer.vtkMRMLMarkupsROINode:
    """Add an empty box, in place of one that the structure has."""
    remove(structure)
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode", structure.name)
    node.CreateDefaultDisplayNodes()
    copy_transform(node, volume)
    display = node.GetDisplayNode()
    for set_color in (display.SetSelectedColor, display.SetColor, display.SetActiveColor):
        set_color(*structure.color)
    display.SetFillOpacity(0.1)
    display.SetPropertiesLabelVisibility(False)
    structure.node.SetNodeReferenceID(_ROLE, node.GetID())
    return node


def remove(structure: Structure) -> None:
    """Remove a structure's box, if it has one."""
    node = node_of(structure)
    if node is not None:
        slicer.mrmlScene.RemoveNode(node)
    structure.node.RemoveNodeReferenceIDs(_ROLE)


def box_of(structure: Structure, volume: slicer.vtkMRMLScalarVolumeNode) -> Box | None:
    """The box of a structure in a volume's own space; None while there is none, or while it is being drawn."""
    node = node_of(structure)
    if node is None or not structure.label or not node.GetControlPointPlacementComplete() or min(node.GetSize()) <= 0:
        return None
    matrix = slicer.util.arrayFromVTKMatrix(node.GetObjectToWorldMatrix())
    signs = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])
    corners = (signs * np.array(node.GetSize()) / 2) @ matrix[:3, :3].T + matrix[:3, 3]
    corners = from_world(volume, corners)
    center = corners.mean(axis=0)
    # Under a transform with shear the corners are those of no box: the smallest box with the nearest axes contains them.
    edges = signs.T @ (corners - center)
    left, _, right = np.linalg.svd(edges / np.linalg.norm(edges, axis=1, keepdims=True))
    axes = left @ right
    local = (corners - center) @ axes.T
    low, high = local.min(axis=0), local.max(axis=0)
    return Box(center + (low + high) / 2 @ axes, axes, high - low, structure.label)


def boxes_of(structures: list[Structure], volume: slicer.vtkMRMLScalarVolumeNode) -> tuple[Box, ...]:
    """The boxes of some structures in a volume's own space."""
    return tuple(box for structure in structures if (box := box_of(structure, volume)) is not None)
