"""The options of the effect in the Segment Editor, below those that Slicer adds itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ctk
import qt
import slicer
from slicer.i18n import tr as _

from CoralBayLib.fewshot.options import Options
from CoralBaySlicerCore.scene import overlays
from CoralBaySlicerCore.setup import encoder_cards

DEFAULTS: dict[str, str | int] = {"Segments": "visible", "ThresholdPercent": 50, "ConnectedOnly": 1}
"""The effect's own parameters, which the scene keeps."""


class EffectOptions:
    """Widgets of the effect, and its parameters. The effect that Slicer clones has no widgets.

    Args:
        effect: Slicer's object of the effect, which has the parameters.
        changed: called after the user has changed an option.
        look_for_others: called to segment all that looks like the selected segment.
        keep_map: called with the kind of map to keep as a volume.
    """

    def __init__(
        self,
        effect: Any,
        changed: Callable[[], None],
        look_for_others: Callable[[], None],
        keep_map: Callable[[str], None],
    ) -> None:
        self._effect = effect
        self._changed = changed
        self._look_for_others = look_for_others
        self._keep_map = keep_map
        self._slots: tuple[tuple[Any, str, Callable[..., None]], ...] = ()

    def set_up(self) -> None:
        """Create the widgets, and add them to the options of the effect."""
        self.segmentsSelector = qt.QComboBox()
        self.segmentsSelector.setToolTip(
            _(
                "All visible segments: each is completed, and serves as background for the others.\n"
                "Selected segment: it is completed; other visible segments serve as background and are not changed."
            )
        )
        for title, value in ((_("All visible segments"), "visible"), (_("Selected segment"), "selected")):
            self.segmentsSelector.addItem(title, value)
        self.thresholdSlider = ctk.ctkSliderWidget()
        self.thresholdSlider.minimum, self.thresholdSlider.maximum = 1, 99
        self.thresholdSlider.decimals, self.thresholdSlider.singleStep = 0, 1
        self.thresholdSlider.suffix = "%"
        self.thresholdSlider.setToolTip(
            _("Probability from which a voxel belongs to a segment; a higher one makes segments smaller.")
        )
        self.connectedCheck = qt.QCheckBox(_("Keep painted components only"))
        self.connectedCheck.setToolTip(
            _("Keep only those connected parts of a segment in which something is painted. Uncheck to find others in the scan.")
        )
        self.encoderLabel = qt.QLabel()
        self.encoderLabel.setWordWrap(True)
        self.encoderButton = qt.QPushButton(_("Change..."))
        self.encoderButton.setToolTip(_("Open the module CoralBay, where encoder, weights and device are chosen (step 1)."))
        self.othersButton = qt.QPushButton(_("Segment all that look like it"))
        self.othersButton.setToolTip(
            _(
                "Search the scan for regions that look like the selected segment. Each becomes a segment of its own, with a "
                "row in a table: volume, mean HU, position, similarity. Settings: step 3 of the module CoralBay."
            )
        )
        self.mapSelector = qt.QComboBox()
        for title, kind in (
            (_("Probability of the selected segment"), overlays.PROBABILITY),
            (_("Uncertainty"), overlays.UNCERTAINTY),
        ):
            self.mapSelector.addItem(title, kind)
        self.keepMapButton = qt.QPushButton(_("Keep as volume"))
        self.keepMapButton.setToolTip(_("Add a scalar volume with this map of the preview, in percent, for other modules."))
        for selector in (self.segmentsSelector, self.mapSelector):
            # Long entries must not widen Slicer's panel.
            selector.setSizeAdjustPolicy(qt.QComboBox.AdjustToMinimumContentsLengthWithIcon)
            selector.setMinimumContentsLength(8)
        maps = qt.QHBoxLayout()
        maps.addWidget(self.mapSelector, 1)
        maps.addWidget(self.keepMapButton)
        self.progressBar = qt.QProgressBar()
        self.progressBar.setMaximum(100)
        self.progressBar.visible = False
        self.messageLabel = qt.QLabel()
        self.messageLabel.setWordWrap(True)
        self.messageLabel.visible = False
        encoder = qt.QHBoxLayout()
        encoder.addWidget(self.encoderLabel, 1)
        encoder.addWidget(self.encoderButton)
        rows: tuple[tuple[str, Any], ...] = (
            (_("Complete:"), self.segmentsSelector),
            (_("Threshold:"), self.thresholdSlider),
            ("", self.connectedCheck),
            (_("Encoder:"), encoder),
            ("", self.othersButton),
            (_("Map:"), maps),
            ("", self.progressBar),
            ("", self.messageLabel),
        )
        slots: tuple[tuple[Any, str, Callable[..., None]], ...] = (
            (self.segmentsSelector, "currentIndexChanged(int)", self._on_changed),
            (self.thresholdSlider, "valueChanged(double)", self._on_changed),
            (self.connectedCheck, "toggled(bool)", self._on_changed),
            (self.encoderButton, "clicked(bool)", self._open_module),
            (self.othersButton, "clicked(bool)", self._on_others),
            (self.keepMapButton, "clicked(bool)", self._on_keep_map),
        )
        self._slots = slots
        for widget, signal, slot in slots:
            widget.connect(signal, slot)
        for label, widget in rows:
            if label:
                self._effect.addLabeledOptionsWidget(label, widget)
            else:
                self._effect.addOptionsWidget(widget)

    def set_defaults(self) -> None:
        """Give parameters that the scene does not have their defaults."""
        for name, value in DEFAULTS.items():
            self._effect.setParameterDefault(name, value)

    @property
    def selected_only(self) -> bool:
        """Whether only the selected segment is completed."""
        return self._value("Segments") == "selected"

    @property
    def options(self) -> Options:
        """Threshold and components."""
        return Options(self._threshold() / 100, self._value("ConnectedOnly") != "0")

    def show(self, encoder: str) -> None:
        """Show the parameters, and the name of the encoder."""
        for widget in (self.segmentsSelector, self.thresholdSlider, self.connectedCheck):
            widget.blockSignals(True)
        self.segmentsSelector.currentIndex = max(self.segmentsSelector.findData(self._value("Segments")), 0)
        self.thresholdSlider.value = self._threshold()
        self.connectedCheck.checked = self.options.connected
        for widget in (self.segmentsSelector, self.thresholdSlider, self.connectedCheck):
            widget.blockSignals(False)
        self.encoderLabel.text = encoder_cards.title(encoder)

    def show_progress(self, title: str, fraction: float, message: str) -> None:
        """Show what is done and how far it is, and a message; "" for none."""
        self.progressBar.visible = bool(title)
        self.progressBar.setFormat(_("{title}... %p%").format(title=title))
        self.progressBar.value = int(100 * fraction)
        self.messageLabel.text = message
        self.messageLabel.visible = bool(message)

    def close(self) -> None:
        """Disconnect the widgets."""
        for widget, signal, slot in self._slots:
            widget.disconnect(signal, slot)
        self._slots = ()

    # -- internal

    def _value(self, name: str) -> str:
        """A parameter; its default where a scene holds none."""
        if not self._effect.parameterDefined(name):
            return str(DEFAULTS[name])
        return str(self._effect.parameter(name))

    def _threshold(self) -> float:
        """The threshold, percent; the default where a scene file was damaged or edited."""
        try:
            value = float(self._value("ThresholdPercent"))
        except ValueError:
            value = float("nan")
        return value if 1 <= value <= 99 else float(DEFAULTS["ThresholdPercent"])

    def _on_changed(self, *_: object) -> None:
        values = {
            "Segments": str(self.segmentsSelector.currentData),
            "ThresholdPercent": round(self.thresholdSlider.value),
            "ConnectedOnly": int(self.connectedCheck.checked),
        }
        for name, value in values.items():
            self._effect.setParameter(name, value)
        self._changed()

    def _on_others(self, *_: object) -> None:
        self._look_for_others()

    def _on_keep_map(self, *_: object) -> None:
        self._keep_map(str(self.mapSelector.currentData))

    def _open_module(self, *_: object) -> None:
        slicer.util.selectModule("CoralBaySlicer")
