"""Section of step 3: search by words, in the scan or in a library."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from slicer.i18n import tr as _

from CoralBayLib.core.errors import QueryError
from CoralBaySlicerCore.panels.base import Panel
from CoralBaySlicerCore.scene import overlays as overlay
from CoralBaySlicerCore.scene.overlays import Owner
from CoralBaySlicerCore.setup import encoder_cards
from CoralBaySlicerCore.work.library import tasks as scan_library
from CoralBaySlicerCore.work.words.tasks import WordMap, search_library_task, word_map_task

if TYPE_CHECKING:
    from CoralBayLib.library.search import ScanHit
    from CoralBaySlicerCore.work.worker import Task


class WordSearch:
    """Shows where words describe the scan best, or lists the scans of a library that they describe best.

    Args:
        panel: of step 3.
        show_hits: shows scans of a library in the table of results.
    """

    def __init__(self, panel: Panel, show_hits: Callable[[list[ScanHit]], None]) -> None:
        self._panel, self._show_hits = panel, show_hits
        self._maps: dict[str, WordMap] = {}
        self._updating = self._in_library = False
        panel.logic.overlays.offer(Owner.WORDS, self._draw)
        panel.ui.wordsButton.connect("clicked(bool)", lambda *_: self.search())
        panel.ui.wordsEdit.connect("returnPressed()", lambda *_: self.search())
        panel.ui.wordsMapCheck.connect("toggled(bool)", lambda *_: self._on_show())

    def refresh(self, in_library: bool) -> None:
        """Show the current state; `in_library` tells whether a library is searched."""
        ui, panel = self._panel.ui, self._panel
        self._in_library, self._updating = in_library, True
        encoder = panel.parameters.encoder
        usable = encoder_cards.embeds_texts(encoder)
        ui.wordsEdit.enabled = usable
        ui.wordsButton.enabled = usable and (in_library or panel.volume is not None)
        ui.wordsButton.text = _("Search library") if in_library else _("Show where")
        reason = _("Search by words needs an encoder that was trained with reports, such as {name}; choose one in step 1.")
        ui.wordsLabel.text = "" if usable else reason.format(name=encoder_cards.title("colipri"))
        ui.wordsLabel.visible = not usable
        ui.wordsMapCheck.visible = not in_library
        ui.wordsMapCheck.enabled = panel.volume is not None and panel.volume.GetID() in self._maps
        ui.wordsMapCheck.checked = panel.logic.overlays.owner is Owner.WORDS
        self._updating = False

    def forget(self) -> None:
        """Drop what was found."""
        self._maps = {}

    def search(self) -> None:
        """Search for the words."""
        panel, in_library = self._panel, self._in_library
        text, count, volume = str(panel.ui.wordsEdit.text).strip(), panel.parameters.regionCount, panel.volume

        def start() -> Task | None:
            if not text:
                raise QueryError(_("Write what to look for, in English, such as 'pleural effusion'."))
            if in_library:
                return search_library_task(panel.logic, scan_library.folder(), text, count)
            return word_map_task(panel.logic, volume, text) if volume is not None else None

        panel.run(_("The search by words failed."), start, self._show_hits if in_library else self._on_map)

    def _on_map(self, found: WordMap) -> None:
        self._maps = {found.node_id: found}
        self._panel.when_visible(self._show_map)

    def _show_map(self) -> None:
        self._panel.logic.overlays.request(Owner.WORDS)
        self._panel.refresh()

    def _draw(self) -> bool:
        panel = self._panel
        found = self._maps.get(panel.volume.GetID()) if panel.volume is not None else None
        if found is None:
            return False
        overlays = panel.logic.overlays
        overlays.update(overlay.WORDS, found.percent, found.geometry, panel.volume)
        overlays.set_threshold(overlay.WORDS, panel.parameters.similarityThreshold)
        overlays.show_map(overlay.WORDS, panel.parameters.similarityOpacity / 100)
        return True

    def _on_show(self) -> None:
        if self._updating:
            return
        if self._panel.ui.wordsMapCheck.checked:
            self._panel.logic.overlays.request(Owner.WORDS)
        else:
            self._panel.logic.overlays.release(Owner.WORDS)
