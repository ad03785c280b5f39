"""Maps shown over the scan: each in a volume node of its own, with its own colors and legend.

What the slice views showed before is remembered, and brought back when the overlays are hidden.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import slicer
import vtk
from numpy.typing import NDArray
from slicer.i18n import tr as _

from . import colors
from .colors import Ramp
from .hidden_nodes import KIND, add_hidden, composites, first_view
from .label_layer import LabelLayer
from .volumes import put_array

PROBABILITY, UNCERTAINTY, SIMILARITY, COLORS = "probability", "uncertainty", "similarity", "colors"
SPEAKS_FOR = "speaks-for"
OF_PREVIEW = (PROBABILITY, UNCERTAINTY)

_RAMPS = {UNCERTAINTY: colors.UNCERTAINTY, SPEAKS_FOR: colors.SALIENCY, SIMILARITY: colors.SIMILARITY}


def titles() -> dict[str, str]:
    """What each map is called in the scene and beside its legend."""
    return {
        PROBABILITY: _("Probability (%)"),
        UNCERTAINTY: _("Uncertainty (%)"),
        SIMILARITY: _("Similarity (%)"),
        COLORS: _("Feature colors"),
        SPEAKS_FOR: _("Speaks for it (% of most)"),
    }


class Overlays:
    """The overlays of the module, one node a kind, at most one shown at a time.

    Attributes:
        shown: the kind that is shown, or None.
        structures: all structures of a preview, which go with its maps and with no others.
    """

    def __init__(self) -> None:
        self.structures = LabelLayer()
        self._before: dict[str, tuple[str | None, float]] = {}
        self._held: dict[str, tuple] = {}
        self.shown: str | None = None

    def node(self, kind: str) -> Any:
        """The overlay's volume node, or None."""
        found = slicer.util.getNodesByClass("vtkMRMLVolumeNode")
        return next((node for node in found if node.GetAttribute(KIND) == kind), None)

    def update(self, kind: str, array: NDArray[np.uint8], geometry: NDArray[np.float64], volume: Any) -> Any:
        """Put a map into the overlay's node, which is made at first; percents [k, j, i], or RGB [k, j, i, 3].

        The same array again costs nothing: setting voxels renders every view.
        """
        node = self.node(kind)
        if node is not None and self._held.get(kind, (None, None))[0] is array and self._held[kind][1] is volume:
            return node
        if node is None:
            node = self._make(kind)
        put_array(node, array, geometry, volume)
        self._held[kind] = (array, volume)
        if node.GetDisplayNode() is None:
            node.CreateDefaultDisplayNodes()
            if kind != COLORS:
                self._dress(node, kind)
        return node

    def set_color(self, kind: str, color: Sequence[float]) -> None:
        """Let a map run from black to a color, such as that of the structure it is of."""
        node = self.node(kind)
        if node is not None and node.GetDisplayNode() is not None:
            table, brightest = node.GetDisplayNode().GetColorNode(), [0.0] * 4
            table.GetColor(255, brightest)
            if not np.allclose(brightest[:3], color, atol=0.01):
                _fill(table, colors.shades(color))

    def set_threshold(self, kind: str, percent: float) -> None:
        """Hide what lies below."""
        node = self.node(kind)
        if node is not None and node.GetDisplayNode() is not None and kind != COLORS:
            display = node.GetDisplayNode()
            with slicer.util.NodeModify(display):
                display.SetLowerThreshold(max(percent, 1))
                display.SetUpperThreshold(100)
                display.SetApplyThreshold(True)

    def show(self, kind: str, opacity: float) -> None:
        """Show one map in all slice views.

        Args:
            kind: which; nothing happens when there is no such map.
            opacity: from 0 to 1.
        """
        node = self.node(kind)
        if node is None:
            return
        if self.shown is None:
            self._before = {view.GetID(): (view.GetForegroundVolumeID(), view.GetForegroundOpacity()) for view in composites()}
        if self.shown not in (None, kind):
            self._set_legend(self.shown, False)
        if kind not in OF_PREVIEW:
            self.structures.hide()
        self.shown = kind
        for view in composites():
            with slicer.util.NodeModify(view):
                view.SetForegroundVolumeID(node.GetID())
                view.SetForegroundOpacity(opacity)
        self._set_legend(kind, True)

    def hide(self) -> None:
        """Show what the views showed before."""
        self.structures.hide()
        self.hide_map()

    def hide_map(self) -> None:
        """Show what the views showed before, but leave the structures where they are."""
        if self.shown is None:
            return
        ours = {node.GetID() for kind in titles() if (node := self.node(kind)) is not None}
        for view in composites():
            before, opacity = self._before.get(view.GetID(), (None, 0.0))
            # A user who has put something else there meanwhile keeps it.
            if view.GetForegroundVolumeID() in ours:
                with slicer.util.NodeModify(view):
                    view.SetForegroundVolumeID(before)
                    view.SetForegroundOpacity(opacity)
        self._set_legend(self.shown, False)
        self.render_in_3d(self.shown, False)
        self.shown = None
        self._before = {}

    def render_in_3d(self, kind: str, visible: bool, threshold: float = 50) -> None:
        """Show or hide a map in the 3D views, solid above a threshold in percent."""
        node, logic = self.node(kind), slicer.modules.volumerendering.logic()
        if node is None:
            return
        display = logic.GetFirstVolumeRenderingDisplayNode(node)
        if display is None:
            if not visible:
                return
            display = logic.CreateVolumeRenderingDisplayNode()
            display.UnRegister(logic)
            display.SetSaveWithScene(False)
            slicer.mrmlScene.AddNode(display)
            shading = add_hidden("vtkMRMLVolumePropertyNode", node.GetName(), kind)
            display.SetAndObserveVolumePropertyNodeID(shading.GetID())
            node.AddAndObserveDisplayNodeID(display.GetID())
        if visible:
            _shade(display.GetVolumePropertyNode().GetVolumeProperty(), _RAMPS.get(kind, _RAMPS[SIMILARITY]), threshold)
        display.SetVisibility(visible)

    def forget(self) -> None:
        """The scene was closed: there is nothing to bring back."""
        self.structures.forget()
        self.shown = None
        self._before = {}
        self._held = {}

    def _make(self, kind: str) -> Any:
        node_class = "vtkMRMLVectorVolumeNode" if kind == COLORS else "vtkMRMLScalarVolumeNode"
        return add_hidden(node_class, f"CoralBay: {titles()[kind]}", kind)

    def _dress(self, node: Any, kind: str) -> None:
        display = node.GetDisplayNode()
        table = add_hidden("vtkMRMLColorTableNode", node.GetName(), kind)
        _fill(table, _RAMPS.get(kind, colors.shades(colors.label_color(1))))
        with slicer.util.NodeModify(display):
            display.SetAndObserveColorNodeID(table.GetID())
            display.SetAutoWindowLevel(False)
            display.SetWindowLevelMinMax(0, 100)
        display.SetSaveWithScene(False)
        self.set_threshold(kind, 1)

    def _set_legend(self, kind: str, visible: bool) -> None:
        node = self.node(kind)
        if node is None or node.GetDisplayNode() is None or kind == COLORS:
            return
        legend = slicer.vtkSlicerColorLogic.GetColorLegendDisplayNode(node)
        if legend is None:
            if not visible:
                return
            legend = slicer.vtkSlicerColorLogic.AddDefaultColorLegendDisplayNode(node)
            legend.SetTitleText(titles()[kind])
            legend.SetLabelFormat("%.0f")
            legend.SetNumberOfLabels(3)
            # In the corner, where a scan has air. The text is fitted to the size: Slicer's own covers a third of a view.
            legend.SetSize(0.04, 0.22)
            legend.SetPosition(0.99, 0.02)
            legend.SetSaveWithScene(False)
        view = first_view()
        if visible and view is not None and legend.GetViewNodeIDs() != (view.GetID(),):
            # One will do for all views: the same map is over each.
            legend.SetViewNodeIDs([view.GetID()])
        legend.SetVisibility(visible)


def _fill(table: Any, ramp: Ramp) -> None:
    """Make a color node a ramp through some colors."""
    steps = np.linspace(0, len(ramp) - 1, 256)
    rgb = np.stack([np.interp(steps, range(len(ramp)), [stop[part] for stop in ramp]) for part in range(3)], axis=1)
    with slicer.util.NodeModify(table):
        if table.GetNumberOfColors() != 256:
            table.SetTypeToUser()
            table.SetNumberOfColors(256)
            table.GetLookupTable().SetRange(0, 255)
        for number, color in enumerate(rgb):
            table.SetColor(number, f"{round(number / 2.55)}", *color, 1.0)


def _shade(shading: Any, ramp: Ramp, threshold: float) -> None:
    """Let a volume in percent be seen from a threshold on, the more solid the higher."""
    opacity, color = vtk.vtkPiecewiseFunction(), vtk.vtkColorTransferFunction()
    for value, alpha in ((0, 0), (max(threshold - 5, 1), 0), (max(threshold, 2), 0.15), (100, 0.6)):
        opacity.AddPoint(value, alpha)
    for number, rgb in enumerate(ramp):
        color.AddRGBPoint(100 * number / (len(ramp) - 1), *rgb)
    shading.SetScalarOpacity(opacity)
    shading.SetColor(color)
    shading.SetInterpolationTypeToLinear()
