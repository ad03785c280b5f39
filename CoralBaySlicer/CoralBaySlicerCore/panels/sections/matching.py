"""Section of step 3: the query point in another scan of the scene."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import slicer
from slicer.i18n import tr as _

from CoralBayLib.core.errors import QueryError
from CoralBaySlicerCore.panels.base import Panel
from CoralBaySlicerCore.scene import volumes
from CoralBaySlicerCore.work.matching import FoundPlace, match_task

if TYPE_CHECKING:
    from CoralBaySlicerCore.work.worker import Task


class PlaceMatching:
    """Finds the query point in another scan, shows that scan, and centers the views on the match.

    Args:
        panel: of step 3.
        query_points: (N, 3) of the query, RAS mm of the world.
    """

    def __init__(self, panel: Panel, query_points: Callable[[], np.ndarray]) -> None:
        self._panel, self._query_points = panel, query_points
        self._ids: list[str] = []
        panel.ui.matchButton.connect("clicked(bool)", lambda *_: self.find())

    def refresh(self, visible: bool) -> None:
        """List the other scans; `visible` tells whether the query is a point in the scene."""
        ui, volume = self._panel.ui, self._panel.volume
        others = volumes.other_scans(volume) if volume is not None and visible else []
        ids = [node.GetID() for node in others]
        names = [node.GetName() for node in others]
        if ids != self._ids or names != [ui.matchSelector.itemText(n) for n in range(len(ids))]:
            chosen = ui.matchSelector.currentIndex
            chosen_id = self._ids[chosen] if 0 <= chosen < len(self._ids) else ""
            ui.matchSelector.clear()
            for name in names:
                ui.matchSelector.addItem(name)
            self._ids = ids
            if chosen_id in ids:
                ui.matchSelector.currentIndex = ids.index(chosen_id)
        ui.matchRow.visible = bool(ids)
        ui.matchLabel.visible = bool(ids) and bool(ui.matchLabel.text)

    def forget(self) -> None:
        """Drop what was found."""
        self._panel.ui.matchLabel.text = ""

    def find(self) -> None:
        """Find the query point in the chosen scan."""
        panel = self._panel
        volume, index = panel.volume, panel.ui.matchSelector.currentIndex
        if volume is None or not 0 <= index < len(self._ids):
            return

        def start() -> Task:
            other = slicer.mrmlScene.GetNodeByID(self._ids[index])
            if other is None:
                raise QueryError(_("That scan is no longer in the scene. Choose another."))
            return match_task(panel.logic, volume, self._query_points()[0], other)

        panel.run(_("The matching place could not be found."), start, self._on_found, allow_fallback=True)

    def _on_found(self, found: FoundPlace) -> None:
        from CoralBayLib.similarity.match_scores import score_in_words

        panel = self._panel
        node = slicer.mrmlScene.GetNodeByID(found.node_id)
        if node is None:
            return
        same, different = _("The scans appear to be of the same patient."), _("The scans are of different patients.")
        panel.ui.matchLabel.text = _("{name}: {words} (score {score:.2f}). {patients}").format(
            name=node.GetName(),
            words=score_in_words(found.score),
            score=found.score,
            patients=same if found.same_patient else different,
        )

        def show() -> None:
            slicer.util.setSliceViewerLayers(background=node)
            volumes.jump_to(found.ras)
            panel.refresh()

        panel.when_visible(show)
