"""Maps over the scan in the slice views: who may show one, and how each looks.

Each map has a volume node of its own, with its own colors and legend. At most one is shown at a time, and only in the slice
views whose background is the scan that it was computed from. What the slice views showed before is remembered, and restored
when the map is hidden.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum

import numpy as np
import slicer
from numpy.typing import NDArray
from slicer.i18n import tr as _

from . import color_nodes, colors
from .hidden_nodes import KIND, add_hidden
from .views import slices
from .views.foreground_layer import ForegroundLayer
from .views.label_layer import LabelLayer
from .volumes import copy_transform, put_array

PROBABILITY, UNCERTAINTY, SIMILARITY, FEATURES, SALIENCY = "probability", "uncertainty", "similarity", "features", "saliency"
WORDS = "words"
"""The kinds of maps."""

_RAMPS = {UNCERTAINTY: colors.UNCERTAINTY, SALIENCY: colors.SALIENCY, SIMILARITY: colors.SIMILARITY, WORDS: colors.SIMILARITY}


class Owner(Enum):
    """Who can show a map."""

    PREVIEW = "preview"
    SIMILARITY = "similarity"
    FEATURES = "features"
    SALIENCY = "saliency"
    WORDS = "words"


def titles() -> dict[str, str]:
    """What each map is called in the scene and beside its legend."""
    return {
        PROBABILITY: _("Probability (%)"),
        UNCERTAINTY: _("Uncertainty (%)"),
        SIMILARITY: _("Similarity (%)"),
        FEATURES: _("Feature map"),
        SALIENCY: _("Saliency (% of maximum)"),
        WORDS: _("Fit of the words (%)"),
    }


def ramp_of(kind: str, color: Sequence[float] | None = None) -> colors.Ramp:
    """The colors of a map; a probability has the color of its structure."""
    return _RAMPS.get(kind, colors.shades(color or colors.label_color(1)))


class Overlays:
    """The maps of the module, and the decision which of them is shown.

    The preview is shown unless another owner has requested the views. The last request counts; when it is released, the
    views go back to the request before it, and in the end to the preview. A request for the preview ends all others.

    A request also shows the current scan, unless a view shows it already. Later the user may look at another scan: views
    without the map's own scan are left alone.

    Each owner offers a function that draws its map with `update` and `show_map`. Nobody else calls those two.

    Example::

        overlays.offer(Owner.SALIENCY, draw)  # draw() returns False when there is no map of the current scan
        overlays.request(Owner.SALIENCY)      # draws it, in place of what was shown
        overlays.refresh()                    # draws it again, e.g. with another opacity
        overlays.release(Owner.SALIENCY)      # draws what was shown before

    Attributes:
        shown: the kind of the map that is shown, or None.
        structures: all structures of the preview in the label layer, shown with the preview only.
        changed: called when the owner of the views has changed.
        scan: returns the current scan, or None.
    """

    def __init__(self) -> None:
        self.structures = LabelLayer()
        self.shown: str | None = None
        self.changed: Callable[[], object] = lambda: None
        self.scan: Callable[[], slicer.vtkMRMLScalarVolumeNode | None] = lambda: None
        self._draws: dict[Owner, Callable[[], bool]] = {}
        self._requests: list[Owner] = []
        self._drawn = Owner.PREVIEW
        self._suspended = False
        self._layer = ForegroundLayer()
        self._held: dict[str, tuple] = {}
        self._titles: dict[str, str] = {}

    # -- who is shown

    @property
    def owner(self) -> Owner:
        """Who may show a map now."""
        return self._requests[-1] if self._requests else Owner.PREVIEW

    def offer(self, owner: Owner, draw: Callable[[], bool]) -> None:
        """Set the function that draws an owner's map; it returns whether there is a map to draw."""
        self._draws[owner] = draw

    def request(self, owner: Owner) -> None:
        """Show the current scan and an owner's map, if there is one, until it is released or another is requested."""
        others = [each for each in self._requests if each is not owner]
        self._requests = [] if owner is Owner.PREVIEW else [*others, owner]
        if not self._suspended:
            slices.show_scan(self.scan())
        self.refresh()

    def release(self, owner: Owner) -> None:
        """End an owner's request; what was shown before is shown again."""
        if owner in self._requests:
            self._requests.remove(owner)
            self.refresh()

    def refresh(self) -> None:
        """Draw the current owner's map as it is now. Requests without a map to draw are dropped."""
        if self._suspended:
            return
        while not self._draw(self.owner) and self._requests:
            self._requests.pop()
        if self.owner is not Owner.PREVIEW:
            self.structures.hide()
        if self.owner is not self._drawn:
            self._drawn = self.owner
            self.changed()

    def suspend(self) -> None:
        """Restore the views while another module uses them; the requests are kept."""
        self._suspended = True
        self.hide()

    def resume(self) -> None:
        """Show what was shown before `suspend`."""
        self._suspended = False
        self.refresh()

    def forget(self) -> None:
        """Drop all requests and maps, since the scene was closed; there is nothing to restore."""
        self.structures.forget()
        self.shown = None
        self._drawn = Owner.PREVIEW
        self._requests = []
        self._layer.forget()
        self._held = {}

    def _draw(self, owner: Owner) -> bool:
        draw = self._draws.get(owner)
        drawn = draw is not None and draw()
        if not drawn and owner is Owner.PREVIEW:
            self.hide()
        return drawn

    # -- how a map is shown

    def node(self, kind: str) -> slicer.vtkMRMLVolumeNode | None:
        """The volume node of a map, or None."""
        found = slicer.util.getNodesByClass("vtkMRMLVolumeNode")
        return next((node for node in found if node.GetAttribute(KIND) == kind), None)

    def has_map(self, kind: str, volume: slicer.vtkMRMLScalarVolumeNode | None) -> bool:
        """Whether there is a map of this kind, and it is of this volume."""
        return volume is not None and self._held.get(kind, (None, None))[1] is volume and self.node(kind) is not None

    def update(
        self,
        kind: str,
        array: NDArray[np.uint8],
        geometry: NDArray[np.float64],
        volume: slicer.vtkMRMLScalarVolumeNode,
        title: str | None = None,
    ) -> None:
        """Set the voxels of a map, without showing it. The same array again is skipped: setting voxels renders every view.

        Args:
            kind: of the map.
            array: percent [k, j, i], or RGB [k, j, i, 3] for `FEATURES`.
            geometry: (4, 4), IJK to the volume's own RAS mm.
            volume: the scan it is of.
            title: beside its legend; None for that of its kind.
        """
        self._titles[kind] = title or titles()[kind]
        node = self.node(kind)
        if node is not None and self.has_map(kind, volume) and self._held[kind][0] is array:
            copy_transform(node, volume)
            return
        if node is None:
            node_class = "vtkMRMLVectorVolumeNode" if kind == FEATURES else "vtkMRMLScalarVolumeNode"
            node = add_hidden(node_class, f"CoralBay: {titles()[kind]}", kind)
        put_array(node, array, geometry, volume)
        self._held[kind] = (array, volume)
        if node.GetDisplayNode() is None:
            node.CreateDefaultDisplayNodes()
            if kind != FEATURES:
                self._set_up_display(node, kind)

    def set_color(self, kind: str, color: Sequence[float]) -> None:
        """Color a map from a dark shade to a color, such as that of the structure it is of."""
        node = self.node(kind)
        if node is not None and node.GetDisplayNode() is not None:
            table, brightest = node.GetDisplayNode().GetColorNode(), [0.0] * 4
            table.GetColor(255, brightest)
            if not np.allclose(brightest[:3], color, atol=0.01):
                color_nodes.fill(table, colors.shades(color))

    def set_threshold(self, kind: str, percent: float) -> None:
        """Hide values below a threshold."""
        node = self.node(kind)
        if node is not None and node.GetDisplayNode() is not None and kind != FEATURES:
            display = node.GetDisplayNode()
            with slicer.util.NodeModify(display):
                display.SetLowerThreshold(max(percent, 1))
                display.SetUpperThreshold(100)
                display.SetApplyThreshold(True)

    def show_map(self, kind: str, opacity: float) -> bool:
        """Show one map in the slice views that show its scan.

        Args:
            kind: of the map.
            opacity: from 0 to 1.

        Returns:
            Whether it is shown; not so if it has no node, or if no view of the layout shows its scan.
        """
        node, volume = self.node(kind), self._held.get(kind, (None, None))[1]
        if node is None or not slices.is_shown(volume):
            self.hide_map()
            return False
        if self.shown is not None and self.shown != kind:
            self._show_legend(False)
            self.render_in_3d(self.shown, False)
        self.shown = kind
        self._layer.show(node, opacity, volume)
        self._show_legend(True)
        return True

    def hide(self) -> None:
        """Show what the views showed before."""
        self.structures.hide()
        self.hide_map()

    def hide_map(self) -> None:
        """Show what the views showed before, but leave the structures in the label layer."""
        if self.shown is None:
            return
        self._layer.hide()
        self._show_legend(False)
        self.render_in_3d(self.shown, False)
        self.shown = None

    def render_in_3d(self, kind: str, visible: bool, threshold: float = 50) -> None:
        """Show or hide a map in the 3D views by volume rendering, from a threshold in percent."""
        # While Slicer ends, its modules may be gone before this one.
        node, logic = self.node(kind), slicer.app.applicationLogic().GetModuleLogic("VolumeRendering")
        if node is None or logic is None:
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
            color_nodes.shade(
                display.GetVolumePropertyNode().GetVolumeProperty(), _RAMPS.get(kind, _RAMPS[SIMILARITY]), threshold
            )
        display.SetVisibility(visible)

    def _set_up_display(self, node: slicer.vtkMRMLScalarVolumeNode, kind: str) -> None:
        display = node.GetDisplayNode()
        table = add_hidden("vtkMRMLColorTableNode", node.GetName(), kind)
        color_nodes.fill(table, ramp_of(kind))
        with slicer.util.NodeModify(display):
            display.SetAndObserveColorNodeID(table.GetID())
            display.SetAutoWindowLevel(False)
            display.SetWindowLevelMinMax(0, 100)
        display.SetSaveWithScene(False)
        self.set_threshold(kind, 1)

    def _show_legend(self, visible: bool) -> None:
        if self.shown is None or self.shown == FEATURES:
            return
        node = self.node(self.shown)
        if node is not None:
            view = slices.first_view(self._held.get(self.shown, (None, None))[1])
            color_nodes.show_legend(node, self._titles.get(self.shown, titles()[self.shown]), visible, view)
