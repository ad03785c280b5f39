"""The slice views and the scans they show."""

from __future__ import annotations

import slicer

_MAIN_VIEWS = ("Red", "Yellow", "Green")


def composites() -> list[slicer.vtkMRMLSliceCompositeNode]:
    """The composite nodes of the slice views: which volumes each shows."""
    return list(slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"))


def slice_node(composite: slicer.vtkMRMLSliceCompositeNode) -> slicer.vtkMRMLSliceNode:
    """The slice node of the view of a composite node."""
    name = composite.GetLayoutName()
    return next(node for node in slicer.util.getNodesByClass("vtkMRMLSliceNode") if node.GetLayoutName() == name)


def shows(composite: slicer.vtkMRMLSliceCompositeNode, volume: slicer.vtkMRMLVolumeNode | None) -> bool:
    """Whether a view shows a scan in its background, so that a map of this scan may be drawn over it."""
    return volume is not None and composite.GetBackgroundVolumeID() == volume.GetID()


def is_shown(volume: slicer.vtkMRMLVolumeNode | None) -> bool:
    """Whether a slice view of the layout shows a scan in its background."""
    return any(shows(view, volume) and slice_node(view).IsMappedInLayout() for view in composites())


def show_scan(volume: slicer.vtkMRMLVolumeNode | None) -> None:
    """Show a scan in all slice views, unless a view of the layout shows it: the user may compare it with another scan."""
    if volume is None or is_shown(volume):
        return
    is_crossed = _is_crossed(volume)
    slicer.util.setSliceViewerLayers(background=volume)
    layout = slicer.app.layoutManager()
    if is_crossed or layout is None:
        return
    for name in layout.sliceViewNames():
        widget = layout.sliceWidget(name)
        # Slicer's own `fit` would go to the middle of this scan and of what lies in the other layers.
        widget.sliceLogic().FitSliceToVolume(volume, *widget.mrmlSliceNode().GetDimensions()[:2])


def fill_empty_views(volume: slicer.vtkMRMLScalarVolumeNode | None) -> None:
    """Show a scan in the slice views that show nothing, such as those that a layout has added.

    Nothing happens when no view shows the scan: the user may look at something else.
    """
    views, layout = composites(), slicer.app.layoutManager()
    if volume is None or not any(shows(view, volume) for view in views):
        return
    for view in views:
        if not view.GetBackgroundVolumeID():
            view.SetBackgroundVolumeID(volume.GetID())
            widget = layout.sliceWidget(view.GetLayoutName()) if layout is not None else None
            if widget is not None:
                widget.fitSliceToBackground()


def first_view(volume: slicer.vtkMRMLVolumeNode | None) -> slicer.vtkMRMLSliceNode | None:
    """The slice node of the first visible slice view that shows a scan, Slicer's main views first; or None."""
    layout = slicer.app.layoutManager()
    names = layout.sliceViewNames() if layout is not None else ()
    # The names come in another order in each session.
    for name in [*(name for name in _MAIN_VIEWS if name in names), *sorted(set(names) - set(_MAIN_VIEWS))]:
        widget = layout.sliceWidget(name)
        if widget.visible and shows(widget.mrmlSliceCompositeNode(), volume):
            return widget.mrmlSliceNode()
    return None


def _is_crossed(volume: slicer.vtkMRMLVolumeNode) -> bool:
    """Whether the center of each view of the layout lies in a scan, so that the scan is seen without another position."""
    bounds = [0.0] * 6
    volume.GetRASBounds(bounds)
    for view in composites():
        node = slice_node(view)
        center = [node.GetSliceToRAS().GetElement(axis, 3) for axis in range(3)]
        inside = all(bounds[2 * axis] <= center[axis] <= bounds[2 * axis + 1] for axis in range(3))
        if node.IsMappedInLayout() and not inside:
            return False
    return True
