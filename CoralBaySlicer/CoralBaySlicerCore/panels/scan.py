"""Step 1: the scan, the encoder, and its features."""

from __future__ import annotations

import slicer
from slicer.i18n import tr as _

from CoralBayLib.core.errors import CoralBayError
from CoralBaySlicerCore.scene import volumes
from CoralBaySlicerCore.scene.views import slices
from CoralBaySlicerCore.setup import packages, settings
from CoralBaySlicerCore.work import scan_check

from .base import Panel
from .encoder import EncoderSection
from .sections.server import ADD, ServerSection
from .weights import WeightsSection

_MAX_NAME = 24
"""Most characters of a scan's name in the title of the collapsed step."""


class ScanPanel(Panel):
    """Chooses volume, encoder, device and weights; computes the features or reads them from the store."""

    name = "scan"
    ui_file = "ScanPanel.ui"

    def setup(self) -> None:
        """Fill the selectors and connect the widgets."""
        ui = self.ui
        self._looked_for: tuple | None = None
        self._was_ready: bool | None = None
        self._updating = self._adding_server = False
        self.encoder = EncoderSection(self)
        self.weights = WeightsSection(self, self.encoder.offer)
        self.server = ServerSection(self, self._server_chosen)
        for title, name in ((_("Automatic"), "auto"), (_("CPU"), "cpu"), (_("NVIDIA graphics card (CUDA)"), "cuda")):
            ui.deviceSelector.addItem(title, name)
        # Only the user's choice: the views stay as they are when the module is entered or a scene is loaded.
        ui.volumeSelector.connect("nodeActivated(vtkMRMLNode*)", slices.show_scan)
        ui.deviceSelector.connect("currentIndexChanged(int)", lambda *_: self._on_device())
        ui.weightsPath.connect("currentPathChanged(QString)", lambda *_: self._on_weights())
        ui.computeButton.connect("clicked(bool)", lambda *_: self.compute())
        ui.checkButton.connect("clicked(bool)", lambda *_: self.check())
        ui.clearStoreButton.connect("clicked(bool)", lambda *_: self.clear_store())

    def refresh(self) -> None:
        """Show what is chosen, and whether the features are ready."""
        if not self.is_shown:
            return
        ui, parameters = self.ui, self.parameters
        self._updating = True
        self.encoder.refresh()
        self.weights.refresh()
        self.server.refresh(self._adding_server)
        device = ADD if self._adding_server else settings.device()
        ui.deviceSelector.currentIndex = max(ui.deviceSelector.findData(device), 0)
        if ui.weightsPath.currentPath != settings.weights_file(parameters.encoder):
            ui.weightsPath.currentPath = settings.weights_file(parameters.encoder)
        self._updating = False
        ui.deviceLabel.text = self.logic.features.session.device or _("Shown after the first use")
        ready = self.logic.features.cached(self.volume) is not None
        running = self.activity.task is not None
        ui.computeButton.enabled = self.volume is not None and not ready and not running
        ui.checkButton.enabled = self.volume is not None
        ui.statusLabel.text = self._status(ready)
        self._fold(ready)
        if self.volume is not None and not ready and not running:
            self._look_in_store()

    def compute(self) -> None:
        """Compute the features of the scan."""
        volume = self.volume
        if volumes.is_transformed_nonlinearly(volume):
            slicer.util.warningDisplay(
                _(
                    "A non-linear transform is applied to this volume. Features are computed on the untransformed volume. "
                    "Points are transformed to it, and segments are placed under the same transform."
                )
            )
        self.run(
            _("The features could not be computed."),
            lambda: self.logic.embedTask(volume),
            lambda _result: self.refresh(),
            allow_fallback=True,
        )
        self.refresh()

    def check(self) -> None:
        """Show what is known of the scan and of its file, and what is wrong with them."""
        assume_hu, title = self.parameters.assumeHU, _("CoralBay: check scan")

        def show(found: scan_check.ScanCheck) -> None:
            display = slicer.util.warningDisplay if found.scan_faults or found.file_faults else slicer.util.infoDisplay
            display(scan_check.describe(found), windowTitle=title)

        self.run(
            _("The scan could not be checked."),
            lambda: scan_check.checkTask(self.logic, self.volume, assume_hu),
            lambda found: self.when_visible(lambda: show(found)),
        )

    def clear_store(self) -> None:
        """Delete all stored features after asking."""
        if not slicer.util.confirmOkCancelDisplay(
            _("Delete the stored features of all scans from this computer? They can be computed again at any time.")
        ):
            return

        def clear(*_args: object) -> int:
            from CoralBayLib.features.store import Store

            return Store().clear()

        def show_count(count: int) -> None:
            slicer.util.infoDisplay(_("The stored features were deleted (scans: {count}).").format(count=count))

        self.run(
            _("The stored features could not be deleted."),
            lambda: self.logic.workTask(clear, _("Deleting stored features")),
            show_count,
        )

    def _fold(self, ready: bool) -> None:
        """Collapse the step when the features become ready, and expand it when they are missing: the others need the room."""
        if ready is not self._was_ready:
            self._was_ready = ready
            self.header.collapsed = ready
        title = _("1. Scan and encoder")
        if ready and self.volume is not None:
            title = _("1. Scan: {scan}, ready").format(scan=_shortened(self.volume.GetName()))
        self.header.text = title

    def _status(self, ready: bool) -> str:
        if self.volume is None:
            return _("Choose a CT.")
        if ready:
            return _("The features are ready. Continue with any other step.")
        if self.activity.task is not None:
            return _("Working...")
        return _("The features of this scan are not computed yet.")

    def _look_in_store(self) -> None:
        """Read the features from the store if they are there, without any question or installation."""
        try:
            looked_for = (volumes.read(self.volume).fingerprint, self.logic.encoder_config())
        except CoralBayError:
            return
        if looked_for == self._looked_for or packages.missing():
            return
        self._looked_for = looked_for
        task = self.logic.storedTask(self.volume)
        task.on_done = lambda pyramid: self.activity.notify() if pyramid is not None else None

    def _on_device(self) -> None:
        if self._may_write():
            device = str(self.ui.deviceSelector.currentData)
            self._adding_server = device == ADD
            if not self._adding_server:
                settings.set_device(device)
            self.refresh()

    def _server_chosen(self) -> None:
        self._adding_server = False
        self.refresh()

    def _on_weights(self) -> None:
        if self._may_write():
            settings.set_weights_file(self.parameters.encoder, self.ui.weightsPath.currentPath)
            self.refresh()

    def _may_write(self) -> bool:
        return self.is_shown and not self._updating


def _shortened(name: str) -> str:
    return name if len(name) <= _MAX_NAME else name[: _MAX_NAME - 3] + "..."
