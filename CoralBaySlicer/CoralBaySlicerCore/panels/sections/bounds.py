"""Section of step 2: boxes around structures, segments that must not be touched, and segments to correct."""

from __future__ import annotations

from slicer.i18n import tr as _

from CoralBayLib.core.errors import PromptError
from CoralBaySlicerCore.interactive.controller import FewShot
from CoralBaySlicerCore.panels.base import Panel
from CoralBaySlicerCore.scene import boxes, masks, place_mode
from CoralBaySlicerCore.scene.overlays import Owner
from CoralBaySlicerCore.scene.structures import Structure


class Bounds:
    """Draws boxes, and chooses the segments that bound the structures or that they start from.

    Args:
        panel: of step 2.
        few_shot: the prompts of the scan.
    """

    def __init__(self, panel: Panel, few_shot: FewShot) -> None:
        self._panel, self._few_shot = panel, few_shot
        ui = panel.ui
        ui.drawBoxButton.connect("clicked(bool)", lambda *_: self.draw_box())
        ui.removeBoxButton.connect("clicked(bool)", lambda *_: self.remove_box())
        ui.startButton.connect("clicked(bool)", lambda *_: self.start())
        ui.discardStartButton.connect("clicked(bool)", lambda *_: self.discard_start())
        ui.startSelector.connect("currentSegmentChanged(QString)", lambda *_: self.refresh())

    def refresh(self) -> None:
        """Show what the selected structure has, and watch the chosen segmentations."""
        panel, few_shot = self._panel, self._few_shot
        if not panel.is_shown:
            return
        ui, parameters, structure = panel.ui, panel.parameters, self._structure
        few_shot.set_locks(parameters.locked, parameters.output if parameters.lockOthers else None)
        box = boxes.node_of(structure) if structure is not None else None
        ui.drawBoxButton.enabled = structure is not None
        ui.drawBoxButton.checked = box is not None and place_mode.is_placing(box)
        ui.removeBoxButton.enabled = box is not None
        ui.startButton.enabled = structure is not None and bool(ui.startSelector.currentSegmentID())
        chosen = masks.start_of(structure) if structure is not None else None
        ui.discardStartButton.enabled = chosen is not None
        ui.startLabel.visible = chosen is not None
        if structure is not None and chosen is not None:
            name = chosen[0].GetSegmentation().GetSegment(chosen[1]).GetName()
            ui.startLabel.text = _("{structure} starts from the segment {segment}. Points and strokes correct it.").format(
                structure=structure.name, segment=name
            )

    @property
    def _structure(self) -> Structure | None:
        """The selected structure; None if it is the background."""
        structure = self._few_shot.active_structure
        return structure if structure is not None and structure.label else None

    def draw_box(self) -> None:
        """Let the next two clicks in a slice view draw the box of the selected structure; a second press stops that."""
        panel, structure = self._panel, self._structure
        if structure is None:
            return
        drawn = boxes.node_of(structure)
        if drawn is not None and place_mode.is_placing(drawn):
            place_mode.stop()
        else:
            place_mode.start(self._few_shot.add_box(structure), once=True)
            panel.logic.overlays.request(Owner.PREVIEW)
        panel.refresh()

    def remove_box(self) -> None:
        """Remove the box of the selected structure."""
        if self._structure is not None:
            place_mode.stop()
            self._few_shot.remove_box(self._structure)
            self._panel.refresh()

    def start(self) -> None:
        """Let the selected structure start from the chosen segment."""
        panel, selector, structure = self._panel, self._panel.ui.startSelector, self._structure

        def choose() -> None:
            segmentation, segment_id = selector.currentNode(), str(selector.currentSegmentID() or "")
            if structure is None or segmentation is None or not segment_id:
                raise PromptError(_("Choose a structure in the table, and a segment to start from."))
            self._few_shot.start_from(structure, segmentation, segment_id)
            panel.logic.overlays.request(Owner.PREVIEW)

        panel.attempt(_("The structure cannot start from this segment."), choose)
        panel.refresh()

    def discard_start(self) -> None:
        """Let the selected structure start from nothing again."""
        if self._structure is not None:
            self._few_shot.start_from(self._structure, None)
            self._panel.refresh()
