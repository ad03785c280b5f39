"""The foreground layer of the slice views, which shows one map over its scan.

What the layer showed before is remembered, and restored when the map is hidden.
"""

from __future__ import annotations

import slicer

from CoralBaySlicerCore.scene.hidden_nodes import KIND

from .slices import composites, shows


class ForegroundLayer:
    """A map over the scan it was computed from; views with another scan keep what they show."""

    def __init__(self) -> None:
        self._before: dict[str, tuple[str | None, float]] = {}

    def show(self, node: slicer.vtkMRMLVolumeNode, opacity: float, volume: slicer.vtkMRMLVolumeNode) -> None:
        """Show a map in the slice views that show its scan, and restore the others.

        Args:
            node: of the map.
            opacity: from 0 to 1.
            volume: the scan.
        """
        for view in composites():
            if not shows(view, volume):
                self._restore(view)
                continue
            self._before.setdefault(view.GetID(), (view.GetForegroundVolumeID(), view.GetForegroundOpacity()))
            with slicer.util.NodeModify(view):
                view.SetForegroundVolumeID(node.GetID())
                view.SetForegroundOpacity(opacity)

    def hide(self) -> None:
        """Show what the views showed before."""
        for view in composites():
            self._restore(view)
        self.forget()

    def forget(self) -> None:
        """Forget what the views showed before, as when the scene was closed."""
        self._before = {}

    def _restore(self, view: slicer.vtkMRMLSliceCompositeNode) -> None:
        before = self._before.pop(view.GetID(), None)
        node = slicer.mrmlScene.GetNodeByID(view.GetForegroundVolumeID() or "")
        # The user may have chosen another volume there meanwhile.
        if before is not None and node is not None and node.GetAttribute(KIND) is not None:
            with slicer.util.NodeModify(view):
                view.SetForegroundVolumeID(before[0])
                view.SetForegroundOpacity(before[1])
