"""Step 2: few-shot segmentation."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import slicer
from slicer.i18n import tr as _

from CoralBaySlicerCore.interactive import preview_display
from CoralBaySlicerCore.interactive.controller import FewShot
from CoralBaySlicerCore.interactive.preview_display import DisplayOptions
from CoralBaySlicerCore.scene import boxes, overlays, place_mode, segments, structures, volumes
from CoralBaySlicerCore.scene.overlays import Owner

from .base import Panel
from .painting import Painting
from .sections.bounds import Bounds
from .sections.output import Output
from .tables.structure_table import StructureTable
from .transfer import Transfer

if TYPE_CHECKING:
    import numpy as np


class SegmentPanel(Panel):
    """Turns points and strokes into a live preview, and into segments on request."""

    name = "segment"
    ui_file = "SegmentPanel.ui"

    def setup(self) -> None:
        """Connect the widgets."""
        ui = self.ui
        self.few_shot = FewShot(self.logic, self.refresh)
        self._painting = Painting(self, self.few_shot)
        self._transfer = Transfer(self, self.few_shot)
        self._bounds = Bounds(self, self.few_shot)
        self.output = Output(self, self.few_shot)
        self._options: DisplayOptions | None = None
        self.logic.overlays.offer(Owner.PREVIEW, self._draw)
        for title, kind in (
            (_("Probability of the selected structure"), overlays.PROBABILITY),
            (_("Uncertainty"), overlays.UNCERTAINTY),
            (_("None"), "off"),
        ):
            ui.overlaySelector.addItem(title, kind)
        self._table = StructureTable(ui.structureTable, self._on_selected, self._on_renamed)
        clicks = {
            ui.addStructureButton: self.add_structure,
            ui.removeStructureButton: self.remove_structure,
            ui.placeButton: self._on_place,
            ui.undoButton: self.few_shot.undo,
            ui.redoButton: self.few_shot.redo,
            ui.clearButton: self.few_shot.clear,
            ui.updateButton: self.update_preview,
            ui.suggestButton: self.suggest_click,
            ui.sizeButton: self.few_shot.next_size,
            ui.keepMapButton: self.keep_map,
        }
        for button, action in clicks.items():
            button.connect("clicked(bool)", _ignoring(action))
        ui.overlaySelector.connect("currentIndexChanged(int)", lambda *_: self._on_overlay())
        ui.shortcutsLabel.text = _(
            "Keys: 1 to 9 place points of a structure, 0 of the background, Z undo, Y redo, U suggest next click, "
            "Tab other size, Esc stop"
        )
        self.few_shot.addObserver(place_mode.interaction(), place_mode.interaction().InteractionModeChangedEvent, self._on_mode)

    def shortcuts(self) -> dict[str, Callable[[], object]]:
        """Actions by key."""
        keys: dict[str, Callable[[], object]] = {
            "Z": self.few_shot.undo,
            "Y": self.few_shot.redo,
            "U": self.suggest_click,
            "Esc": self.stop,
        }
        for label in range(10):
            keys[str(label)] = _ignoring(partial(self.click_on, label))
        return keys

    def view_shortcuts(self) -> dict[str, Callable[[], object]]:
        """Tab, which goes to the next field elsewhere."""
        return {"Tab": self.few_shot.next_size}

    def refresh(self) -> None:
        """Show the structures, the preview and the current state."""
        if not self.is_shown:
            return
        ui, few_shot = self.ui, self.few_shot
        few_shot.pause(not self.parameters.livePreview)
        if self.volume is not few_shot.volume:
            place_mode.stop()
            few_shot.set_volume(self.volume)
            self.output.release()
        few_shot.set_painted(self.parameters.painted)
        self._bounds.refresh()
        few_shot.follow_scan()
        structure, preview = few_shot.active_structure, few_shot.preview
        self._table.fill(few_shot.structures, few_shot.active, preview.dice_estimate if preview is not None else {})
        ui.addStructureButton.enabled = self.volume is not None
        ui.removeStructureButton.enabled = structure is not None and structure.label > 0
        ui.placeButton.enabled = structure is not None
        ui.placeButton.checked = structure is not None and place_mode.is_placing(structure.node)
        ui.undoButton.enabled, ui.redoButton.enabled = few_shot.history.can_undo, few_shot.history.can_redo
        marked = any(len(each.world_points()) for each in few_shot.structures)
        ui.clearButton.enabled = marked or few_shot.given is not None
        ui.updateButton.enabled = self.volume is not None
        ui.suggestButton.enabled = preview is not None
        ui.sizeButton.enabled = any(each.label for each in few_shot.structures)
        ui.keepMapButton.enabled = preview is not None and self.parameters.overlay != "off"
        ui.previewLabel.text = few_shot.status
        ui.previewLabel.visible = bool(ui.previewLabel.text)
        ui.overlaySelector.currentIndex = max(ui.overlaySelector.findData(self.parameters.overlay), 0)
        self.output.refresh()
        self._painting.refresh()
        self._transfer.refresh()
        self._show_preview()

    def exit(self) -> None:
        """Stop placing points and painting."""
        self.stop()

    def stop(self) -> None:
        """Stop placing points and painting: the mouse moves the views again."""
        place_mode.stop()
        self._painting.stop()

    def forget(self) -> None:
        """Drop the scan and its prompts."""
        super().forget()
        self._painting.forget()
        self._options = None
        self.few_shot.set_painted(None)
        self.few_shot.set_locks(None, None)
        self.few_shot.set_volume(None)

    def close(self) -> None:
        """Stop watching the scene."""
        self._painting.close()
        self.few_shot.close()

    # -- what the user does

    def add_structure(self) -> None:
        """Add a structure and start placing its points."""
        structure = self.attempt(_("The structure could not be added."), self.few_shot.add_structure)
        if structure is not None:
            place_mode.start(structure.node)
            self.logic.overlays.request(Owner.PREVIEW)
            self.refresh()

    def remove_structure(self) -> None:
        """Remove the selected structure and its points."""
        structure = self.few_shot.active_structure
        if structure is not None and structure.label:
            place_mode.stop()
            self.few_shot.remove_structure(structure)
            self.refresh()

    def click_on(self, label: int) -> None:
        """Start placing points of a structure; label 0 is the background."""
        if not any(each.label == label for each in self.few_shot.structures):
            if label > 1 or self.volume is None:
                return
            self.few_shot.add_structure()
        self.few_shot.activate(label)
        structure = self.few_shot.active_structure
        if structure is None:
            return
        place_mode.start(structure.node)
        self.logic.overlays.request(Owner.PREVIEW)
        self.refresh()

    def update_preview(self) -> None:
        """Compute the preview from the current prompts, and show it."""
        self.few_shot.update()
        self.logic.overlays.request(Owner.PREVIEW)

    def suggest_click(self) -> None:
        """Go to the location where a click is expected to improve the selected structure most; again, to the next one."""

        def found(world: np.ndarray) -> None:
            # While another module is shown, its views are left alone.
            if self.is_shown:
                volumes.jump_to(world)

        few_shot = self.few_shot
        self.logic.overlays.request(Owner.PREVIEW)
        self.attempt(_("No click can be suggested."), lambda: few_shot.suggest_click(few_shot.shown, few_shot.prompts(), found))

    def keep_map(self) -> None:
        """Keep the map that is shown as a volume of its own."""
        few_shot, kind = self.few_shot, self.parameters.overlay
        preview, volume = few_shot.preview, few_shot.volume
        if preview is None or volume is None:
            return
        keep = partial(preview_display.keep, preview, volume, few_shot.structures, few_shot.shown, kind)
        node = self.attempt(_("The map could not be kept."), keep)
        if node is not None:
            slicer.util.showStatusMessage(_("Kept as volume: {name}").format(name=node.GetName()), 5000)

    # -- inner workings

    def _show_preview(self) -> None:
        """Draw the preview if it owns the views. A change of its display options requests them."""
        parameters = self.parameters
        options = DisplayOptions(
            parameters.overlay,
            parameters.threshold,
            parameters.overlayOpacity / 100,
            parameters.together,
            parameters.outlines,
            parameters.connected,
        )
        before, self._options = self._options, options
        if before in (None, options):
            self.logic.overlays.refresh()
        else:
            self.logic.overlays.request(Owner.PREVIEW)

    def _draw(self) -> bool:
        few_shot = self.few_shot
        if not self.is_shown or self._options is None:
            return False
        few_shot.show(few_shot.structures, few_shot.shown, self._options)
        return few_shot.preview is not None

    def _on_selected(self, structure: structures.Structure) -> None:
        if structure.label != self.few_shot.active:
            was_placing = self.ui.placeButton.checked
            self.few_shot.activate(structure.label)
            if was_placing:
                place_mode.start(structure.node)
            self.logic.overlays.request(Owner.PREVIEW)
            self.refresh()

    def _on_renamed(self, structure: structures.Structure, name: str) -> None:
        if structure.label and name and not segments.is_background(name):
            structure.node.SetName(name)
            box = boxes.node_of(structure)
            if box is not None:
                box.SetName(name)
            self.few_shot.update()
        self.refresh()

    def _on_place(self) -> None:
        structure = self.few_shot.active_structure
        if structure is not None and not place_mode.is_placing(structure.node):
            place_mode.start(structure.node)
            self.logic.overlays.request(Owner.PREVIEW)
        else:
            place_mode.stop()
        self.refresh()

    def _on_mode(self, *_: object) -> None:
        structure = self.few_shot.active_structure
        self.ui.placeButton.checked = structure is not None and place_mode.is_placing(structure.node)

    def _on_overlay(self) -> None:
        if self.is_shown and self.ui.overlaySelector.currentIndex >= 0:
            self.parameters.overlay = str(self.ui.overlaySelector.currentData)


def _ignoring(action: Callable[[], object]) -> Callable[..., object]:
    """A slot that ignores the arguments of its signal."""
    return lambda *_: action()
