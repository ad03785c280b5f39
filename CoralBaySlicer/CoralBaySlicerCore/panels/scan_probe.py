"""Section of step 5: a scan probe is saved, loaded, applied and explained by a saliency map."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import qt
from slicer.i18n import tr as _

from CoralBaySlicerCore.scene import overlays as overlay
from CoralBaySlicerCore.scene.overlays import Owner
from CoralBaySlicerCore.scene.scan_tables import Predictions, Study
from CoralBaySlicerCore.work import scan_probes

from .base import Panel, chosen_path

if TYPE_CHECKING:
    import numpy as np
    import slicer
    from numpy.typing import NDArray

    from CoralBayLib.scan_probes.loading import AnyProbe
    from CoralBaySlicerCore.work.worker import Task


class ScanProbeSection:
    """The scan probe that was trained or loaded last.

    Args:
        panel: of step 5.
        study: the table and what its columns mean, without a target; raises `ScansError` when something is not chosen.
        show_predictions: puts predictions into a new table node beside the source table and returns it.
        tell: shows a text below the buttons.

    Attributes:
        probe: the library's probe, linear or attentive, or None.
    """

    def __init__(
        self,
        panel: Panel,
        study: Callable[[], Study],
        show_predictions: Callable[[slicer.vtkMRMLTableNode, Predictions, str], slicer.vtkMRMLTableNode],
        tell: Callable[[str], None],
    ) -> None:
        self._panel = panel
        self._study, self._show_predictions, self._tell = study, show_predictions, tell
        self.probe: AnyProbe | None = None
        panel.logic.overlays.offer(Owner.SALIENCY, self._draw)
        ui = panel.ui
        ui.saveScanProbeButton.connect("clicked(bool)", lambda *_: self.save())
        ui.loadScanProbeButton.connect("clicked(bool)", lambda *_: self.load())
        ui.applyTableButton.connect("clicked(bool)", lambda *_: self.apply_to_table())
        ui.applyScanButton.connect("clicked(bool)", lambda *_: self.apply_to_scan())
        ui.saliencyButton.connect("clicked(bool)", lambda *_: self.toggle_saliency())
        ui.saliencyClassSelector.connect("currentIndexChanged(int)", lambda *_: self._on_class())
        ui.predictionLabel.visible = False

    def refresh(self) -> None:
        """Show the current state."""
        ui, panel, probe = self._panel.ui, self._panel, self.probe
        has_probe, has_scan = probe is not None, panel.volume is not None
        ui.scanProbeLabel.text = self._about()
        ui.saveScanProbeButton.enabled = has_probe
        ui.applyTableButton.enabled = has_probe and panel.parameters.scansTable is not None
        ui.applyScanButton.enabled = ui.saliencyButton.enabled = has_probe and has_scan
        shown = self.shown
        ui.saliencyButton.checked = shown
        ui.saliencyDisplayForm.visible = shown
        ui.saliencyForm.visible = has_probe
        ui.saliencyClassSelector.visible = ui.saliencyClassSelectorLabel.visible = ui.saliencyClassSelector.count > 1

    @property
    def shown(self) -> bool:
        """Whether the saliency map is shown."""
        return self._panel.logic.overlays.owner is Owner.SALIENCY

    def forget(self) -> None:
        """Called when the scene closes."""
        self._show_prediction("")

    def take(self, probe: AnyProbe) -> None:
        """Use another probe."""
        self.probe = probe
        self._show_prediction("")
        self._panel.logic.overlays.release(Owner.SALIENCY)
        selector = self._panel.ui.saliencyClassSelector
        selector.blockSignals(True)
        selector.clear()
        for name in probe.classes_ or [probe.target]:
            selector.addItem(name)
        if probe.kind == "attentive":
            selector.addItem(_("Attention: where the probe looks"))
        # Of two classes, the positive one is last: "yes" after "no", 1 after 0.
        selector.setCurrentIndex(1 if len(probe.classes_) == 2 else 0)
        selector.blockSignals(False)
        self._panel.ui.probeBox.collapsed = False

    # -- what the user does

    def save(self) -> None:
        """Write the probe to a file."""
        path = chosen_path(
            qt.QFileDialog.getSaveFileName(self._panel.root, _("Save probe"), "scans.safetensors", "*.safetensors")
        )
        probe = self.probe
        if path and probe is not None:
            self._panel.attempt(_("The probe could not be saved."), lambda: scan_probes.save(probe, path))

    def load(self) -> None:
        """Read a probe from a file."""
        path = chosen_path(qt.QFileDialog.getOpenFileName(self._panel.root, _("Load probe"), "", "*.safetensors"))
        if not path:
            return

        def read(*_args: object) -> AnyProbe:
            from CoralBayLib.scan_probes import load_scan_probe

            return load_scan_probe(path)

        def done(probe: AnyProbe) -> None:
            self.take(probe)
            self._panel.refresh()

        panel = self._panel
        panel.run(_("The probe could not be loaded."), lambda: panel.logic.workTask(read, _("Loading the probe")), done)

    def apply_to_table(self) -> None:
        """Predict for each scan of the table, into a new table."""
        panel, probe, source = self._panel, self.probe, self._panel.parameters.scansTable
        if probe is None:
            return
        failure = _("The probe could not be applied. Nothing was changed.")

        def done(predictions: Predictions) -> None:
            name = _("{target}: predicted").format(target=probe.target)
            node = panel.attempt(failure, lambda: self._show_predictions(source, predictions, name))
            if node is not None:
                count = len(predictions.values) - len(predictions.left_out)
                self._tell(_("Scans predicted: {count}. See the table '{name}'.").format(count=count, name=node.GetName()))
                panel.refresh()

        panel.run(failure, lambda: scan_probes.applyTask(panel.logic, probe, self._study()), done)

    def apply_to_scan(self) -> None:
        """Predict for the current scan."""
        panel, probe, volume = self._panel, self.probe, self._panel.volume
        if probe is None:
            return

        def finish(prediction: dict[str, float]) -> None:
            assert volume is not None  # without one the task is not started
            text = ", ".join(f"{name} {value:.2f}" for name, value in prediction.items())
            self._show_prediction(_("{scan}: {prediction}").format(scan=volume.GetName(), prediction=text))

        def start() -> Task:
            return panel.logic.start(
                volume,
                lambda pyramid, _cancel: scan_probes.predict_scan(pyramid, probe),
                finish,
                "scan-prediction",
                _("Applying the probe"),
            )

        panel.run(_("The probe could not be applied. Nothing was changed."), start)

    def toggle_saliency(self) -> None:
        """Show or hide the saliency map."""
        if self.shown:
            self._panel.logic.overlays.release(Owner.SALIENCY)
        else:
            self.show_map()

    def show_map(self) -> None:
        """Compute and show the saliency map of the chosen class."""
        panel, probe, volume = self._panel, self.probe, self._panel.volume
        if probe is None:
            return
        class_index = max(panel.ui.saliencyClassSelector.currentIndex, 0)

        def finish(result: tuple[NDArray[np.uint8], NDArray[np.float64]]) -> None:
            title = _("Attention (% of maximum)") if scan_probes.is_attention(probe, class_index) else None
            panel.logic.overlays.update(overlay.SALIENCY, *result, volume, title)

        def start() -> Task:
            return panel.logic.start(
                volume,
                lambda pyramid, _cancel: scan_probes.saliency(pyramid, probe, class_index),
                finish,
                overlay.SALIENCY,
                _("Computing the saliency map"),
            )

        panel.run(
            _("The saliency map could not be computed."),
            start,
            lambda _result: panel.when_visible(partial(self._show_if, volume)),
        )
        panel.refresh()

    # -- inner workings

    def _about(self) -> str:
        probe = self.probe
        if probe is None:
            return _("There is no probe yet. Train one on a table, or load one.")
        if probe.task_ == "survival":
            return _("Predicts the log risk of '{target}', relative to the average scan.").format(target=probe.target)
        if probe.task_ == "regression":
            return _("Predicts '{target}'.").format(target=probe.target)
        return _("Predicts '{target}': {classes}.").format(target=probe.target, classes=", ".join(probe.classes_))

    def _show_prediction(self, text: str) -> None:
        self._panel.ui.predictionLabel.text = text
        self._panel.ui.predictionLabel.visible = bool(text)

    def _on_class(self) -> None:
        if self.shown:
            self.show_map()

    def _show_if(self, volume: slicer.vtkMRMLScalarVolumeNode) -> None:
        # The user may have chosen another scan meanwhile.
        if volume is self._panel.volume:
            self._panel.logic.overlays.request(Owner.SALIENCY)
        self._panel.refresh()

    def _draw(self) -> bool:
        overlays = self._panel.logic.overlays
        if not self._panel.is_shown or not overlays.has_map(overlay.SALIENCY, self._panel.volume):
            return False
        parameters = self._panel.parameters
        overlays.set_threshold(overlay.SALIENCY, parameters.speaksThreshold)
        overlays.show_map(overlay.SALIENCY, parameters.speaksOpacity / 100)
        return True
