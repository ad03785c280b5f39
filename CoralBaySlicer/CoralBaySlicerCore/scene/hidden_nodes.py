"""Nodes of the module's own that the user does not choose from, and the views they are shown in."""

from __future__ import annotations

from typing import Any

import slicer

KIND = "CoralBaySlicer.Overlay"
"""Attribute of such a node: what it shows."""


def add_hidden(node_class: str, name: str, kind: str) -> Any:
    """A node that is neither offered in selectors nor saved: it can be made again at any time."""
    node = slicer.mrmlScene.CreateNodeByClass(node_class)
    node.UnRegister(None)
    node.SetName(name)
    node.SetAttribute(KIND, kind)
    # Before it is added: selectors look once, when it comes.
    node.SetHideFromEditors(True)
    node.SetSaveWithScene(False)
    return slicer.mrmlScene.AddNode(node)


def composites() -> list[Any]:
    """What each slice view is composed of."""
    return list(slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"))


def first_view() -> Any:
    """The node of the first slice view that is seen, or None."""
    layout = slicer.app.layoutManager()
    for name in layout.sliceViewNames() if layout is not None else ():
        widget = layout.sliceWidget(name)
        if widget.visible:
            return widget.mrmlSliceNode()
    return None
