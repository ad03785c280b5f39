"""Nodes that are hidden from the user's selectors, and the slice views."""

from __future__ import annotations

import slicer

KIND = "CoralBaySlicer.Overlay"
"""Attribute of such a node: what it shows."""
_MAIN_VIEWS = ("Red", "Yellow", "Green")


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


def composites() -> list[slicer.vtkMRMLSliceCompositeNode]:
    """The composite nodes of the slice views: which volumes each shows."""
    return list(slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"))


def fill_empty_views(volume: slicer.vtkMRMLScalarVolumeNode | None) -> None:
    """Show a scan in the slice views that show nothing, such as those that a layout has added.

    Nothing happens when no view shows the scan: the user may look at something else.
    """
    views, layout = composites(), slicer.app.layoutManager()
    if volume is None or not any(view.GetBackgroundVolumeID() == volume.GetID() for view in views):
        return
    for view in views:
        if not view.GetBackgroundVolumeID():
            view.SetBackgroundVolumeID(volume.GetID())
            widget = layout.sliceWidget(view.GetLayoutName()) if layout is not None else None
            if widget is not None:
                widget.fitSliceToBackground()


def first_view() -> slicer.vtkMRMLSliceNode | None:
    """The slice node of the first visible slice view, Slicer's main views first; or None."""
    layout = slicer.app.layoutManager()
    names = layout.sliceViewNames() if layout is not None else ()
    # The names come in another order in each session.
    for name in [*(name for name in _MAIN_VIEWS if name in names), *sorted(set(names) - set(_MAIN_VIEWS))]:
        widget = layout.sliceWidget(name)
        if widget.visible:
            return widget.mrmlSliceNode()
    return None
