"""Placing points with the mouse in Slicer's place mode."""

from __future__ import annotations

import slicer


def start(node: slicer.vtkMRMLMarkupsNode, once: bool = False) -> None:
    """Let every click in a view add a point to a markups node, until `stop` or until the user ends place mode.

    Args:
        node: the markups node.
        once: whether to end when the node has all the points that it needs, as an ROI has after two.
    """
    selection = slicer.app.applicationLogic().GetSelectionNode()
    selection.SetReferenceActivePlaceNodeClassName(node.GetClassName())
    selection.SetActivePlaceNodeID(node.GetID())
    if once:
        interaction().SwitchToSinglePlaceMode()
    else:
        interaction().SwitchToPersistentPlaceMode()


def stop() -> None:
    """End place mode."""
    interaction().SwitchToViewTransformMode()


def is_placing(node: slicer.vtkMRMLMarkupsNode | None) -> bool:
    """Whether a click adds a point to this node."""
    if node is None or interaction() is None:
        return False
    active = slicer.app.applicationLogic().GetSelectionNode().GetActivePlaceNodeID()
    return active == node.GetID() and interaction().GetCurrentInteractionMode() == interaction().Place


def interaction() -> slicer.vtkMRMLInteractionNode:
    """The interaction node, which holds the mouse mode."""
    return slicer.app.applicationLogic().GetInteractionNode()
