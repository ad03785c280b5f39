"""Step 4: the features as a color map, and clusters of them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import qt
import slicer
from slicer.i18n import tr as _

from CoralBaySlicerCore.scene import overlays, volumes
from CoralBaySlicerCore.scene.overlays import Owner
from CoralBaySlicerCore.work.compute import feature_maps

from .base import Panel, chosen_path

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from CoralBayLib.similarity.feature_maps import FeatureProjection


class FeatureMapsPanel(Panel):
    """Shows principal components of the features as colors, and clusters of similar locations as a labelmap."""

    name = "feature_maps"
    ui_file = "FeatureMapsPanel.ui"

    def setup(self) -> None:
        """Connect the widgets."""
        ui = self.ui
        self.basis: FeatureProjection | None = None
        self.logic.overlays.offer(Owner.FEATURES, self._draw)
        ui.colorsButton.connect("clicked(bool)", lambda *_: self.show_colors())
        ui.hideColorsButton.connect("clicked(bool)", lambda *_: self.hide_colors())
        ui.newBasisButton.connect("clicked(bool)", lambda *_: self.new_basis())
        ui.saveBasisButton.connect("clicked(bool)", lambda *_: self.save_basis())
        ui.loadBasisButton.connect("clicked(bool)", lambda *_: self.load_basis())
        ui.clustersButton.connect("clicked(bool)", lambda *_: self.make_clusters())

    def refresh(self) -> None:
        """Show the current state."""
        if not self.is_shown:
            return
        ui, has_scan = self.ui, self.volume is not None
        ui.colorsButton.enabled = ui.clustersButton.enabled = has_scan
        ui.hideColorsButton.enabled = self.logic.overlays.owner is Owner.FEATURES
        ui.saveBasisButton.enabled = ui.newBasisButton.enabled = self.basis is not None
        ui.basisLabel.text = (
            _("Other scans will be shown with the same colors.")
            if self.basis is not None
            else _("The first scan that is shown sets the colors.")
        )

    def forget(self) -> None:
        """Drop the color basis."""
        super().forget()
        self.basis = None

    def show_colors(self) -> None:
        """Compute the feature map and show it over the scan."""
        volume, basis = self.volume, self.basis

        def finish(result: tuple[NDArray[np.uint8], NDArray[np.float64], FeatureProjection]) -> None:
            rgb, geometry, self.basis = result
            self.logic.overlays.update(overlays.FEATURES, rgb, geometry, volume)

        self.run(
            _("The feature map could not be computed."),
            lambda: self.logic.start(
                volume,
                lambda pyramid, _c: feature_maps.colors(pyramid, basis),
                finish,
                "feature-maps",
                _("Computing the feature map"),
            ),
            lambda _result: self.when_visible(partial(self._show, volume)),
            allow_fallback=True,
        )

    def hide_colors(self) -> None:
        """Hide the feature map."""
        self.logic.overlays.release(Owner.FEATURES)

    def new_basis(self) -> None:
        """Drop the color basis; the next scan that is shown defines a new one."""
        self.basis = None
        self.refresh()

    def save_basis(self) -> None:
        """Save the color basis, so that other scans and sessions get the same colors."""
        path = chosen_path(qt.QFileDialog.getSaveFileName(self.root, _("Save colors"), "colors.safetensors", "*.safetensors"))
        basis = self.basis
        if path and basis is not None:
            self.attempt(_("The colors could not be saved."), lambda: basis.save(path))

    def load_basis(self) -> None:
        """Load a color basis."""
        path = chosen_path(qt.QFileDialog.getOpenFileName(self.root, _("Load colors"), "", "*.safetensors"))
        if not path:
            return

        def read(*_args: object) -> FeatureProjection:
            from CoralBayLib.similarity.feature_maps import FeatureProjection

            return FeatureProjection.load(path)

        def done(basis: FeatureProjection) -> None:
            self.basis = basis
            self.refresh()

        self.run(_("The colors could not be loaded."), lambda: self.logic.workTask(read, _("Loading the colors")), done)

    def make_clusters(self) -> None:
        """Create a labelmap of clusters of similar locations."""
        volume, count = self.volume, self.parameters.clusters

        def finish(result: tuple[NDArray, NDArray[np.float64], FeatureProjection]) -> slicer.vtkMRMLLabelMapVolumeNode:
            assert volume is not None  # without one the task is not started
            labels, geometry, _basis = result
            name = slicer.mrmlScene.GenerateUniqueName(_("{volume} clusters").format(volume=volume.GetName()))
            node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", name)
            volumes.put_array(node, labels, geometry, volume)
            node.CreateDefaultDisplayNodes()
            node.GetDisplayNode().SetAndObserveColorNodeID("vtkMRMLColorTableNodeFileGenericColors.txt")
            return node

        def show(node: slicer.vtkMRMLLabelMapVolumeNode) -> None:
            if slicer.mrmlScene.IsNodePresent(node):
                slicer.util.setSliceViewerLayers(label=node, labelOpacity=0.5)

        self.run(
            _("The clusters could not be computed."),
            lambda: self.logic.start(
                volume,
                lambda pyramid, cancel: feature_maps.clusters(pyramid, count, None, cancel),
                finish,
                "feature-maps",
                _("Finding clusters"),
            ),
            lambda node: self.when_visible(partial(show, node)),
            allow_fallback=True,
        )

    def _show(self, volume: slicer.vtkMRMLScalarVolumeNode) -> None:
        # The user may have chosen another scan meanwhile.
        if volume is self.volume:
            self.logic.overlays.request(Owner.FEATURES)
        self.refresh()

    def _draw(self) -> bool:
        if not self.is_shown or not self.logic.overlays.has_map(overlays.FEATURES, self.volume):
            return False
        self.logic.overlays.show_map(overlays.FEATURES, self.parameters.colourOpacity / 100)
        return True
