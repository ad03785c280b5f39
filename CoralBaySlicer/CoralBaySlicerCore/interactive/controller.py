"""The prompts of a volume, and the preview that is updated when they change."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import qt
import slicer
from slicer.i18n import tr as _

from CoralBayLib.core.errors import CoralBayError
from CoralBayLib.core.names import fold
from CoralBayLib.fewshot.prompts import Prompts
from CoralBaySlicerCore.scene import boxes, masks, structures
from CoralBaySlicerCore.scene.clicks import extents
from CoralBaySlicerCore.scene.structures import History, Structure
from CoralBaySlicerCore.work.logic import CoralBaySlicerLogic
from CoralBaySlicerCore.work.remedies import describe_error

from . import sizes
from .previewer import Previewer, hint
from .prompt_nodes import PromptNodes

_DEBOUNCE_MS = 60


class FewShot(Previewer, PromptNodes):
    """Observes the prompts of one volume and keeps the preview of the probe up to date.

    The preview starts within 0.1 s after a prompt changed.

    Attributes:
        active: label of the structure that new prompts belong to.
        shown: label of the last active structure that was not the background.
        history: undo history of the point prompts.
        paused: whether the preview waits for `update`.
    """

    def __init__(self, logic: CoralBaySlicerLogic, changed: Callable[[], None]) -> None:
        PromptNodes.__init__(self)
        Previewer.__init__(self, logic, changed)
        self.activate(1)
        self.history = History()
        self.paused = False
        self._held = False
        self._timer = qt.QTimer()
        self._timer.setSingleShot(True)
        self._timer.setInterval(_DEBOUNCE_MS)
        self._timer.connect("timeout()", self._on_timeout)

    # -- observed nodes

    @property
    def active_structure(self) -> Structure | None:
        """The structure that new prompts belong to, or None."""
        return next((each for each in self.structures if each.label == self.active), None)

    def activate(self, label: int) -> None:
        """Choose the structure that new prompts belong to."""
        self.active = label
        if label:
            self.shown = label

    def set_volume(self, volume: slicer.vtkMRMLScalarVolumeNode | None) -> None:
        """Change to another volume and its prompts."""
        if volume is not self.volume:
            self.volume = volume
            self.activate(next((each.label for each in self.structures), 1))
            self.reset()
        self.watch()

    def set_painted(self, segmentation: slicer.vtkMRMLSegmentationNode | None) -> None:
        """Also use the segments of a segmentation as prompts; None for points only."""
        if segmentation is not self.painted:
            self.painted = segmentation
            self.watch()

    def set_locks(
        self, locked: slicer.vtkMRMLSegmentationNode | None, neighbors: slicer.vtkMRMLSegmentationNode | None
    ) -> None:
        """Choose what must not be touched; see the attributes."""
        if locked is not self.locked or neighbors is not self.neighbors:
            self.locked, self.neighbors = locked, neighbors
            self.watch()

    def reset(self) -> None:
        """Discard preview and history, as when the scene closes; the prompts are kept."""
        self.forget()
        self._masks = None
        self.history.clear()

    def watch(self) -> None:
        """Observe the current nodes of the prompts."""
        if self._follow_transform():
            # The positions that it would restore are those of before.
            self.history.clear()
        self._observe(self._schedule, self._on_point, self._on_drag_started, self._on_drag_ended)
        self._note_points()
        self.history.record(self.structures)
        self._schedule()

    def close(self) -> None:
        """Stop observing."""
        self._timer.stop()
        self.removeObservers()
        self.reset()

    # -- actions of the user

    def add_structure(self, name: str = "") -> Structure:
        """Add a structure and make it the active one."""
        if self.volume is None:
            raise CoralBayError(_("Choose a volume first."))
        structure = structures.add(self.volume, name)
        self.activate(structure.label)
        self.watch()
        return structure

    def add_missing(self, names: dict[int, str]) -> None:
        """Add the structures of a probe that the volume does not have, so that prompts can correct them."""
        known = {fold(each.name) for each in self.structures}
        new = [name for _label, name in sorted(names.items()) if fold(name) not in known]
        for name in new:
            structures.add(self.volume, name)
        if new:
            self.watch()

    def remove_structure(self, structure: Structure) -> None:
        """Remove a structure and its points."""
        boxes.remove(structure)
        structures.remove(structure)
        self.history.clear()
        self.activate(next((each.label for each in self.structures), 1))
        self.watch()

    def add_box(self, structure: Structure) -> slicer.vtkMRMLMarkupsROINode:
        """Add an empty box to a structure, to be drawn in the views, in place of one that it has."""
        node = boxes.add(structure, self.volume)
        self.watch()
        return node

    def remove_box(self, structure: Structure) -> None:
        """Remove the box of a structure."""
        boxes.remove(structure)
        self.watch()

    def start_from(
        self, structure: Structure, segmentation: slicer.vtkMRMLSegmentationNode | None, segment_id: str = ""
    ) -> None:
        """Let a structure start from a segment, which prompts correct; None to start from nothing."""
        masks.set_start(structure, segmentation, segment_id)
        self.watch()

    def clear(self) -> None:
        """Remove all points, which can be undone, and discard a probe that was loaded."""
        self.given = self._fitted_on = None
        with self._one_step():
            for structure in self.structures:
                structure.node.RemoveAllControlPoints()
        self.history.record(self.structures)

    def undo(self) -> None:
        """Undo the last change of the points."""
        with self._one_step():
            self.history.undo(self.structures)

    def redo(self) -> None:
        """Redo the last change that was undone."""
        with self._one_step():
            self.history.redo(self.structures)

    def next_size(self) -> None:
        """Show the next answer to the first click of the selected structure: the most probable region, a part, a larger one.

        If its answer can no longer be chosen, the message says why.
        """
        structure = next((each for each in self.structures if each.label and each.label == self.shown), None)
        reason = self._size_obstacle(structure, self.prompts() if structure is not None else Prompts.none())
        if structure is None or reason:
            self._set_message(reason)
            return
        extents.choose(structure.node, sizes.following(extents.extent_of(structure.node)))
        if self.paused:
            self._set_message(_("Press Update now to see the region of the new size."))
        else:
            self.update()

    @property
    def is_waiting(self) -> bool:
        """Whether changes of prompts are collected, and the preview starts soon."""
        return bool(self._timer.active)

    @property
    def status(self) -> str:
        """The message, and the size of the region that is shown while another one can be chosen."""
        preview, prompts, message = self.preview, self._previewed, self.message
        structure = next((each for each in self.structures if each.label and each.label == self.shown), None)
        if preview is None or prompts is None or structure is None or message not in ("", hint(prompts)):
            return message
        if structure.label not in preview.extents or self._size_obstacle(structure, prompts):
            return message
        size = sizes.describe(extents.extent_of(structure.node), preview.extents[structure.label])
        return f"{size} {message}".strip()

    def update(self) -> None:
        """Compute the preview of the current prompts."""
        if self.volume is None:
            return
        if self._adopt_painted():
            self.watch()
        try:
            self.fit(self.prompts(), self.masks(), self.extents())
        except CoralBayError as error:
            self._set_message(describe_error(error))

    def follow_scan(self) -> None:
        """Update the preview if the features of the volume were computed, removed or changed, or its transform was."""
        if self._is_moved:
            self.watch()
        if self.features_changed and not self.paused:
            self._schedule()

    def pause(self, paused: bool) -> None:
        """Pause the preview until `update` is called, or resume it and apply the changes made in the meantime."""
        if self.paused and not paused:
            self._schedule()
        self.paused = paused

    def colors(self) -> dict[str, tuple[float, float, float]]:
        """The structures' colors by name."""
        return {each.name: each.color for each in self.structures if each.label}

    # -- internal

    def _schedule(self, *_: object) -> None:
        # Not restarted while it runs, because the mouse moves continuously while points are placed.
        if not self._timer.active:
            self._timer.start()

    def _on_timeout(self) -> None:
        if self.volume is None or slicer.mrmlScene.IsBatchProcessing():
            return
        if not self._held:
            self.history.note_labels(self.structures)
        if not self.paused:
            self.update()
        self.changed()

    def _on_point(self, *_: object) -> None:
        if not self._held:
            self._note_points()
            self.history.record(self.structures)
        self._schedule()

    @contextmanager
    def _one_step(self) -> Iterator[None]:
        """Record all changes of points inside as one step; changes by the history itself are not recorded."""
        self._held = True
        try:
            yield
        finally:
            self._held = False
            self._note_points()
            self._schedule()

    def _size_obstacle(self, structure: Structure | None, prompts: Prompts) -> str:
        """Why no other size of a structure's region can be shown; "" if it can."""
        return sizes.obstacle(
            structure, self.structures, prompts, given=self.given is not None, connected=self._options.connected
        )

    def _on_drag_started(self, *_: object) -> None:
        self._held = True

    def _on_drag_ended(self, *_: object) -> None:
        self._held = False
        self._on_point()
