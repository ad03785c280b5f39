"""The prompts of a volume, and the preview that is updated when they change."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import qt
import slicer
import vtk
from slicer.i18n import tr as _
from slicer.util import VTKObservationMixin

from CoralBayLib.core.errors import CoralBayError
from CoralBayLib.core.names import fold
from CoralBayLib.fewshot.prompts import Prompts
from CoralBaySlicerCore.scene import boxes, masks, segments, structures, volumes
from CoralBaySlicerCore.scene.clicks import extents
from CoralBaySlicerCore.scene.masks import Masks
from CoralBaySlicerCore.scene.structures import History, Structure
from CoralBaySlicerCore.work.logic import CoralBaySlicerLogic
from CoralBaySlicerCore.work.worker import describe_error

from . import sizes
from .previewer import Previewer, hint

_DEBOUNCE_MS = 60


class FewShot(Previewer, VTKObservationMixin):
    """Observes the prompts of one volume and keeps the preview of the probe up to date.

    The preview starts within 0.1 s after a prompt changed.

    Attributes:
        painted: segmentation node whose segments are prompts, or None.
        locked: segmentation node whose visible segments must not be touched, or None.
        neighbors: segmentation node whose segments must not be touched, but for those of the structures, or None.
        active: label of the structure that new prompts belong to.
        shown: label of the last active structure that was not the background.
        history: undo history of the point prompts.
        paused: whether the preview waits for `update`.
    """

    def __init__(self, logic: CoralBaySlicerLogic, changed: Callable[[], None]) -> None:
        VTKObservationMixin.__init__(self)
        Previewer.__init__(self, logic, changed)
        self.painted: slicer.vtkMRMLSegmentationNode | None = None
        self.locked: slicer.vtkMRMLSegmentationNode | None = None
        self.neighbors: slicer.vtkMRMLSegmentationNode | None = None
        self._masks: Masks | None = None
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
    def structures(self) -> list[Structure]:
        """The structures of the volume, the background last."""
        return structures.of_volume(self.volume)

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
        for follower in (self._schedule, self._on_point, self._on_drag_started, self._on_drag_ended):
            # Not those of others, such as the panel's observer of the mouse mode.
            self.removeObservers(follower)
        for structure in self.structures:
            node = structure.node
            volumes.copy_transform(node, self.volume)
            self.addObserver(node, node.PointModifiedEvent, self._schedule)
            for event in (node.PointPositionDefinedEvent, node.PointPositionUndefinedEvent, node.PointRemovedEvent):
                self.addObserver(node, event, self._on_point)
            self.addObserver(node, node.PointStartInteractionEvent, self._on_drag_started)
            self.addObserver(node, node.PointEndInteractionEvent, self._on_drag_ended)
            box = boxes.node_of(structure)
            if box is not None:
                volumes.copy_transform(box, self.volume)
                self.addObserver(box, vtk.vtkCommand.ModifiedEvent, self._schedule)
        starts = [start[0] for each in self.structures if (start := masks.start_of(each)) is not None]
        for segmentation in dict.fromkeys(filter(None, (self.painted, self.locked, self.neighbors, *starts))):
            inner = segmentation.GetSegmentation()
            for event in (
                inner.SourceRepresentationModified,
                inner.SegmentModified,
                inner.SegmentAdded,
                inner.SegmentRemoved,
            ):
                self.addObserver(inner, event, self._schedule)
            self.addObserver(segmentation, segmentation.TransformModifiedEvent, self._schedule)
        display = self.locked.GetDisplayNode() if self.locked is not None else None
        if display is not None:
            # Hidden segments may be touched.
            self.addObserver(display, vtk.vtkCommand.ModifiedEvent, self._schedule)
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

    def extents(self) -> dict[int, int]:
        """By label, which answers to first clicks are wanted; see the library's `Segmenter.fit`."""
        found = {each.label: extents.extent_of(each.node) for each in self.structures}
        return {label: extent for label, extent in found.items() if label and extent}

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

    def prompts(self) -> Prompts:
        """All prompts, clicked, painted and drawn as boxes, in the volume's own space; clicks in their order come first."""
        self._note_points()
        points, labels, names = structures.points_in(self.volume, self.structures)
        painted, painted_labels = segments.prompts(self.painted, names, self.volume)
        labels = np.concatenate([labels, painted_labels])
        return Prompts(np.concatenate([points, painted]), labels, names, boxes.boxes_of(self.structures, self.volume))

    def masks(self) -> Masks | None:
        """What must not be touched and what structures start from; None if there is nothing.

        Raises:
            VolumeError: a segmentation cannot be used.
        """
        known = self.structures
        names = [each.name for each in known]
        starts = [(*start, each.label) for each in known if each.label and (start := masks.start_of(each)) is not None]
        locked = []
        for node, visible_only in ((self.locked, True), (self.neighbors, False)):
            if node is not None:
                # What a structure starts from is that structure, whatever its name.
                own = {segment_id for segmentation, segment_id, _label in starts if segmentation is node}
                found = masks.lockable(node, names, visible_only)
                locked.append((node, {each: label for each, label in found.items() if each not in own}))
        wanted = [(node, {segment_id: label}) for node, segment_id, label in starts]
        self._masks = masks.read(self.volume, locked, wanted, self._masks)
        return self._masks

    def update(self) -> None:
        """Compute the preview of the current prompts."""
        if self.volume is None:
            return
        self._adopt_painted()
        try:
            self.fit(self.prompts(), self.masks(), self.extents())
        except CoralBayError as error:
            self._set_message(describe_error(error))

    def follow_features(self) -> None:
        """Update the preview if the features of the volume were computed, removed or changed."""
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

    def _note_points(self) -> None:
        """Take note of new points and of first clicks that were removed."""
        known = self.structures
        structures.number_points(known)
        extents.forget_removed(each.node for each in known)

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

    def _adopt_painted(self) -> None:
        """Add a structure for each painted segment that has a new name."""
        new = segments.new_names(self.painted, [each.name for each in self.structures])
        for name in new:
            structures.add(self.volume, name)
        if new:
            self.watch()
