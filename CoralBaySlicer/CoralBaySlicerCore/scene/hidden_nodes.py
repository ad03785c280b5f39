"""Nodes that are hidden from the user's selectors."""

from __future__ import annotations

import slicer

KIND = "CoralBaySlicer.Overlay"
"""Attribute of such a node: what it shows."""


def add_hidden(node_class: str, name: str, kind: str) -> slicer.vtkMRMLNode:
    """Add a node that is not listed in selectors and not saved with the scene."""
    node = slicer.mrmlScene.CreateNodeByClass(node_class)
    node.UnRegister(None)
    node.SetName(name)
    node.SetAttribute(KIND, kind)
    # Set before the node is added: selectors check it only then.
    node.SetHideFromEditors(True)
    node.SetSaveWithScene(False)
    return slicer.mrmlScene.AddNode(node)
