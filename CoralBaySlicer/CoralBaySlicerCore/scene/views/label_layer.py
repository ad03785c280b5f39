"""The label layer of the slice views, which shows all structures of a preview in their colors.

What the layer showed before is remembered, and restored when the structures are hidden.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import slicer
from numpy.typing import NDArray
from slicer.i18n import tr as _

from CoralBaySlicerCore.scene.hidden_nodes import KIND, add_hidden
from CoralBaySlicerCore.scene.volumes import copy_transform, put_array

from .slices import composites, shows, slice_node

Colors = Mapping[int, tuple[str, Sequence[float]]]
"""Name and RGB from 0 to 1 by label."""

_NAME = "structures"


class LabelLayer:
    """A labelmap over the scan, drawn as outlines or filled."""

    def __init__(self) -> None:
        # By view; None for a view in which the user has chosen another labelmap meanwhile.
        self._before: dict[str, tuple[str | None, float, bool] | None] = {}
        self._held: tuple[Any, slicer.vtkMRMLScalarVolumeNode | None] = (None, None)
        self._colors: Colors = {}
        self.shown = False

    @property
    def node(self) -> slicer.vtkMRMLLabelMapVolumeNode | None:
        """The labelmap node, or None."""
        found = slicer.util.getNodesByClass("vtkMRMLLabelMapVolumeNode")
        return next((node for node in found if node.GetAttribute(KIND) == _NAME), None)

    def update(self, labels: NDArray, geometry: NDArray, volume: slicer.vtkMRMLScalarVolumeNode, colors: Colors) -> None:
        """Set the voxels of the labelmap node, which is created if necessary.

        Args:
            labels: [k, j, i], 0 for the background.
            geometry: (4, 4), IJK to the volume's own RAS mm.
            volume: the scan they belong to.
            colors: of the labels.
        """
        node = self.node
        if node is None:
            node = add_hidden("vtkMRMLLabelMapVolumeNode", "CoralBay: " + _("Structures"), _NAME)
            self._held, self._colors = (None, None), {}
        # The same array is not set again: setting voxels renders every view.
        if self._held[0] is not labels or self._held[1] is not volume:
            put_array(node, labels, geometry, volume)
            self._held = (labels, volume)
        copy_transform(node, volume)
        if node.GetDisplayNode() is None:
            node.CreateDefaultDisplayNodes()
            table = add_hidden("vtkMRMLColorTableNode", node.GetName(), _NAME)
            _fill(table, colors)
            node.GetDisplayNode().SetAndObserveColorNodeID(table.GetID())
            node.GetDisplayNode().SetSaveWithScene(False)
        if colors != self._colors:
            _fill(node.GetDisplayNode().GetColorNode(), colors)
            self._colors = dict(colors)

    def show(self, opacity: float, outlines: bool) -> None:
        """Show the labels in the slice views that show their scan; views with a labelmap that the user has chosen keep it."""
        node, volume = self.node, self._held[1]
        if node is None:
            return
        self.shown = True
        for composite in composites():
            view, key = slice_node(composite), composite.GetID()
            if not shows(composite, volume):
                self._restore(composite, view)
                self._before.pop(key, None)
                continue
            if key not in self._before:
                self._before[key] = (composite.GetLabelVolumeID(), composite.GetLabelOpacity(), bool(view.GetUseLabelOutline()))
            elif composite.GetLabelVolumeID() != node.GetID():
                self._restore(composite, view)
                continue
            with slicer.util.NodeModify(composite):
                composite.SetLabelVolumeID(node.GetID())
                composite.SetLabelOpacity(opacity)
            view.SetUseLabelOutline(outlines)

    def hide(self) -> None:
        """Show what the views showed before."""
        for composite in composites() if self.shown else ():
            self._restore(composite, slice_node(composite))
        self.forget()

    def forget(self) -> None:
        """Forget what the views showed before, as when the scene was closed."""
        self.shown = False
        self._before = {}

    def _restore(self, composite: slicer.vtkMRMLSliceCompositeNode, view: slicer.vtkMRMLSliceNode) -> None:
        before, node = self._before.get(composite.GetID()), self.node
        if before is None:
            return
        # The user may have chosen another labelmap meanwhile.
        if node is not None and composite.GetLabelVolumeID() == node.GetID():
            with slicer.util.NodeModify(composite):
                composite.SetLabelVolumeID(before[0])
                composite.SetLabelOpacity(before[1])
        view.SetUseLabelOutline(before[2])
        self._before[composite.GetID()] = None


def _fill(table: slicer.vtkMRMLColorTableNode, colors: Colors) -> None:
    """Set a color table to these colors; 0 and all other labels are transparent."""
    count = max(colors, default=0) + 1
    with slicer.util.NodeModify(table):
        table.SetTypeToUser()
        table.SetNumberOfColors(count)
        table.GetLookupTable().SetRange(0, count - 1)
        for label in range(count):
            name, rgb = colors.get(label, ("", (0.0, 0.0, 0.0)))
            table.SetColor(label, name, *rgb, 1.0 if label in colors else 0.0)
