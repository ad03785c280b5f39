"""Section of step 1: choice of the encoder and its inference mode, and encoders from Python files."""

from __future__ import annotations

from collections.abc import Sequence

import qt
from slicer.i18n import tr as _

from CoralBayLib.encoders.cards import EncoderCard
from CoralBaySlicerCore.scene.parameters import choose_encoder
from CoralBaySlicerCore.setup import encoder_cards, encoder_files
from CoralBaySlicerCore.work.worker import Task

from .base import Panel, chosen_path


class EncoderSection:
    """The encoder in step 1.

    Args:
        panel: of step 1.
    """

    def __init__(self, panel: Panel) -> None:
        self._panel = panel
        self._updating = False
        self._cards: dict[str, EncoderCard] = {}
        ui = panel.ui
        self.offer([*encoder_cards.shipped(), *(file.card for file in encoder_files.remembered())])
        ui.addEncoderButton.connect("clicked(bool)", lambda *_: self.add_file())
        ui.forgetEncoderButton.connect("clicked(bool)", lambda *_: self.forget_file())
        ui.encoderSelector.connect("currentIndexChanged(int)", lambda *_: self._on_encoder())
        ui.settingSelector.connect("currentIndexChanged(int)", lambda *_: self._on_setting())

    def refresh(self) -> None:
        """Show the chosen encoder and its card."""
        ui, name = self._panel.ui, self._panel.parameters.encoder
        self._updating = True
        if ui.encoderSelector.findData(name) < 0:
            ui.encoderSelector.addItem(name, name)
        ui.encoderSelector.currentIndex = ui.encoderSelector.findData(name)
        self._fill_settings()
        self._updating = False
        card = self._cards.get(name)
        ui.encoderSelector.toolTip = (
            encoder_cards.details(card) if card else _("The pretrained network that computes features from the CT")
        )
        file = encoder_files.file_of(name)
        ui.encoderLabel.text = (file.missing() if file else "") or (encoder_cards.summary(card) if card else "")
        ui.encoderLabel.visible = ui.encoderLabelLabel.visible = bool(ui.encoderLabel.text)
        ui.addEncoderButton.enabled = self._panel.activity.task is None
        ui.forgetEncoderButton.enabled = ui.addEncoderButton.enabled and file is not None

    def offer(self, offered: Sequence[EncoderCard]) -> None:
        """Add encoders to the menu, or update their entries."""
        selector = self._panel.ui.encoderSelector
        self._updating = True
        for card in offered:
            self._cards[card.name] = card
            place = selector.findData(card.name)
            if place < 0:
                selector.addItem(encoder_cards.menu_title(card), card.name)
                place = selector.findData(card.name)
            selector.setItemText(place, encoder_cards.menu_title(card))
            selector.setItemData(place, encoder_cards.details(card), qt.Qt.ToolTipRole)
        self._updating = False

    def add_file(self) -> None:
        """Add the encoders of a Python file, which is run after the user has agreed."""
        panel, parameters = self._panel, self._panel.parameters
        path = chosen_path(qt.QFileDialog.getOpenFileName(panel.root, _("Add encoder from file"), "", "*.py"))
        if not path or not encoder_files.ask_to_run(path):
            return

        def done(found: list[encoder_files.EncoderFile]) -> None:
            encoder_files.remember(found)
            self.offer([each.card for each in found])
            choose_encoder(parameters, found[0].name)
            panel.refresh()

        def start() -> Task:
            return panel.logic.workTask(lambda *_a: encoder_files.read(path), _("Adding the encoder"))

        panel.run(_("The encoder could not be added."), start, done)

    def forget_file(self) -> None:
        """Remove the chosen encoder, and others of its file, from the menu."""
        panel, parameters = self._panel, self._panel.parameters
        file = encoder_files.file_of(parameters.encoder)
        if file is None:
            return

        def done(names: list[str]) -> None:
            choose_encoder(parameters, encoder_cards.shipped()[0].name)
            self._updating = True
            for name in names:
                self._cards.pop(name, None)
                panel.ui.encoderSelector.removeItem(panel.ui.encoderSelector.findData(name))
            self._updating = False
            panel.refresh()

        def start() -> Task:
            # On the worker, after tasks that may still add these encoders to the menu. It needs no packages.
            task = Task(lambda *_a: encoder_files.unload(file.path), title=_("Removing the encoder from the menu"))
            return panel.logic.worker.start(task)

        panel.run(_("The encoder could not be removed from the menu."), start, lambda _r: done(encoder_files.forget(file.path)))

    def _fill_settings(self) -> None:
        ui, parameters = self._panel.ui, self._panel.parameters
        card = self._cards.get(parameters.encoder)
        offered = card.settings if card is not None and len(card.settings) > 1 else ()
        if [ui.settingSelector.itemData(i) for i in range(ui.settingSelector.count)] != [each.name for each in offered]:
            ui.settingSelector.clear()
            for each in offered:
                ui.settingSelector.addItem(each.title, each.name)
        ui.settingSelector.currentIndex = max(ui.settingSelector.findData(parameters.setting), 0) if offered else -1
        ui.settingSelector.visible = ui.settingSelectorLabel.visible = bool(offered)

    def _on_encoder(self) -> None:
        if self._may_write() and self._panel.ui.encoderSelector.currentIndex >= 0:
            choose_encoder(self._panel.parameters, str(self._panel.ui.encoderSelector.currentData))

    def _on_setting(self) -> None:
        if self._may_write() and self._panel.ui.settingSelector.currentIndex >= 0:
            self._panel.parameters.setting = str(self._panel.ui.settingSelector.currentData)

    def _may_write(self) -> bool:
        return self._panel.is_shown and not self._updating
