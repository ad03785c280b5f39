"""The encoder of step 1: which one, how it is run, and what there is to know about it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import slicer
from slicer.i18n import tr as _

from CoralBayLib.encoders.cards import EncoderCard, shipped_card

from ..parameters import ENCODERS, SETTINGS

if TYPE_CHECKING:
    from .scan import ScanPanel


class EncoderChoice:
    """The part of the panel of step 1 that is about the encoder.

    Args:
        panel: of step 1.
    """

    def __init__(self, panel: ScanPanel) -> None:
        self._panel = panel
        self._updating = False
        self._cards: dict[str, EncoderCard] = {}
        ui = panel.ui
        for name in ENCODERS:
            self._offer(shipped_card(name))
        ui.encoderSelector.connect("currentIndexChanged(int)", lambda *_: self._on_encoder())
        ui.settingSelector.connect("currentIndexChanged(int)", lambda *_: self._on_setting())

    def refresh(self) -> None:
        """Show what is chosen, and its card."""
        ui, name = self._panel.ui, self._panel.parameters.encoder
        self._updating = True
        if ui.encoderSelector.findData(name) < 0:
            ui.encoderSelector.addItem(name, name)
        ui.encoderSelector.currentIndex = ui.encoderSelector.findData(name)
        self._fill_settings()
        self._updating = False
        card = self._cards.get(name)
        ui.encoderSelector.toolTip = _tip(card) if card else _("The pretrained network that turns the CT into features")
        ui.encoderLabel.text = _told(card) if card else ""

    def _offer(self, card: EncoderCard) -> None:
        self._cards[card.name] = card
        self._panel.ui.encoderSelector.addItem(card.title, card.name)

    def _fill_settings(self) -> None:
        ui, parameters = self._panel.ui, self._panel.parameters
        offered = SETTINGS.get(parameters.encoder, ())
        titles = {
            "faithful": _("Small windows, as trained (best, less memory)"),
            "whole": _("Whole scan at once (faster)"),
        }
        if [ui.settingSelector.itemData(i) for i in range(ui.settingSelector.count)] != list(offered):
            ui.settingSelector.clear()
            for name in offered:
                ui.settingSelector.addItem(titles.get(name, name), name)
        ui.settingSelector.currentIndex = max(ui.settingSelector.findData(parameters.setting), 0) if offered else -1
        ui.settingSelector.enabled = len(offered) > 1

    def _on_encoder(self) -> None:
        parameters = self._panel.parameters
        if self._may_write() and self._panel.ui.encoderSelector.currentIndex >= 0:
            with slicer.util.NodeModify(parameters.parameterNode):
                parameters.setting = ""
                parameters.encoder = str(self._panel.ui.encoderSelector.currentData)

    def _on_setting(self) -> None:
        if self._may_write() and self._panel.ui.settingSelector.currentIndex >= 0:
            self._panel.parameters.setting = str(self._panel.ui.settingSelector.currentData)

    def _may_write(self) -> bool:
        return self._panel.parameters is not None and not self._updating


def _told(card: EncoderCard) -> str:
    licence = card.weights_licence or _("unknown")
    return _("{summary} Licence of the weights: {licence}.").format(summary=card.summary, licence=licence)


def _tip(card: EncoderCard) -> str:
    lines: list[Any] = [card.summary]
    lines += [_("Good for: {text}").format(text=card.good_for)] if card.good_for else []
    lines += [_("Limits: {text}").format(text=card.limits)] if card.limits else []
    lines += [_("Please cite: {text}").format(text=card.citation)] if card.citation else []
    return "\n".join(lines)
