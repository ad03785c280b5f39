"""Click, look, click: the prompts of a volume, and the preview that follows them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import qt
import slicer
from slicer.i18n import tr as _
from slicer.util import VTKObservationMixin

from CoralBayLib.errors import Cancelled, CoralBayError

from . import compute, overlay, segments, structures, volumes
from .compute import Points, Preview
from .logic import CoralBaySlicerLogic
from .structures import History, Structure
from .worker import Task, in_words

_DEBOUNCE_MS = 60
_LEAST_DOUBT = 5
"""Percent of uncertainty from which it is shown."""


class FewShot(VTKObservationMixin):
    """Watches the prompts of one volume and keeps a preview of the probe they make.

    A change of a prompt is taken up within a few hundredths of a second; while a preview is computed the newest prompts
    win. `changed` is called, on the main thread, whenever something is to be shown anew.

    Attributes:
        volume: whose prompts these are, or None.
        active: label of the structure that clicks are for; while it is the background, the one before stays shown.
        preview: what the probe of the prompts says, or None.
        message: what the user reads below the preview.
    """

    def __init__(self, logic: CoralBaySlicerLogic, changed: Callable[[], None]) -> None:
        VTKObservationMixin.__init__(self)
        self.logic = logic
        self.changed = changed
        self.volume: Any = None
        self.painted: Any = None
        self.activate(1)
        self.preview: Preview | None = None
        self.history = History()
        self.message = ""
        self.paused = False
        self._held = False
        self._fitted_on: Points | None = None
        self._fitted_with: Any = None
        self._running: Task | None = None
        self._seen: list[np.ndarray] = []
        self._timer = qt.QTimer()
        self._timer.setSingleShot(True)
        self._timer.setInterval(_DEBOUNCE_MS)
        self._timer.connect("timeout()", self._take_up)

    # -- what is watched

    @property
    def structures(self) -> list[Structure]:
        """The structures of the volume, the background last."""
        return structures.of(self.volume)

    @property
    def active_structure(self) -> Structure | None:
        """The structure that is clicked and shown."""
        return next((each for each in self.structures if each.label == self.active), None)

    def activate(self, label: int) -> None:
        """Choose the structure that clicks are for."""
        self.active = label
        if label:
            self._shown = label

    def set_volume(self, volume: Any) -> None:
        """Turn to another volume and its prompts."""
        if volume is not self.volume:
            self.volume = volume
            self.activate(next((each.label for each in self.structures), 1))
            self.reset()
        self.watch()

    def set_painted(self, segmentation: Any) -> None:
        """Take the segments of a segmentation as prompts as well; None for points alone."""
        if segmentation is not self.painted:
            self.painted = segmentation
            self.watch()

    def reset(self) -> None:
        """Forget preview and history, as when the scene closes; the prompts themselves stay."""
        if self._running is not None:
            self._running.cancel()
        self.preview = self._fitted_on = self._fitted_with = None
        self.message = ""
        self._seen = []
        self.history.clear()

    def watch(self) -> None:
        """Observe the nodes there are now."""
        self.removeObservers()
        for structure in self.structures:
            node = structure.node
            volumes.follow(node, self.volume)
            self.addObserver(node, node.PointModifiedEvent, self._schedule)
            for event in (node.PointPositionDefinedEvent, node.PointPositionUndefinedEvent, node.PointRemovedEvent):
                self.addObserver(node, event, self._on_point)
            self.addObserver(node, node.PointStartInteractionEvent, self._on_drag_started)
            self.addObserver(node, node.PointEndInteractionEvent, self._on_drag_ended)
        if self.painted is not None:
            inner = self.painted.GetSegmentation()
            for event in (
                inner.SourceRepresentationModified,
                inner.SegmentModified,
                inner.SegmentAdded,
                inner.SegmentRemoved,
            ):
                self.addObserver(inner, event, self._schedule)
        self.history.record(self.structures)
        self._schedule()

    def close(self) -> None:
        """Stop watching."""
        self._timer.stop()
        self.removeObservers()
        self.reset()

    # -- what the user does

    def add_structure(self, name: str = "") -> Structure:
        """Add a structure and make it the active one."""
        if self.volume is None:
            raise CoralBayError(_("Choose a volume first."))
        structure = structures.add(self.volume, name)
        self.activate(structure.label)
        self.watch()
        return structure

    def remove_structure(self, structure: Structure) -> None:
        """Take a structure and its points away."""
        structures.remove(structure)
        self.history.clear()
        self.activate(next((each.label for each in self.structures), 1))
        self.watch()

    def clear(self) -> None:
        """Remove all points; can be undone."""
        with self._one_step():
            for structure in self.structures:
                structure.node.RemoveAllControlPoints()
        self.history.record(self.structures)

    def undo(self) -> None:
        """Take back the last change of the points."""
        with self._one_step():
            self.history.undo(self.structures)

    def redo(self) -> None:
        """Take back an undo."""
        with self._one_step():
            self.history.redo(self.structures)

    def points(self) -> Points:
        """All prompts, clicked and painted, in the volume's own space."""
        known = self.structures
        points, labels, names = structures.points_in(self.volume, known)
        by_name = {name.casefold(): label for label, name in names.items()}
        for segment_id in segments.ids(self.painted):
            name = self.painted.GetSegmentation().GetSegment(segment_id).GetName()
            voxels = segments.points(self.painted, segment_id, self.volume)
            label = 0 if segments.is_background(name) else by_name.get(name.casefold())
            if label is not None:
                points = np.concatenate([points, voxels])
                labels = np.concatenate([labels, np.full(len(voxels), label)])
        used = {label: name for label, name in names.items() if (labels == label).any()}
        return Points(points, labels, used)

    def update(self) -> None:
        """Fit the probe on the prompts as they are and show what it says."""
        if self.volume is None:
            return
        self._adopt_painted()
        points, features = self.points(), self.logic.features.at_hand(self.volume)
        if points.same_as(self._fitted_on) and features is self._fitted_with:
            return
        self._fitted_on, self._fitted_with = points, features
        problem = self._problem(points)
        if features is None:
            self.preview = None
        if problem:
            self._say(problem)
        else:
            self._start(points, None)

    def follow_features(self) -> None:
        """Take up the prompts anew when the features of the volume have come, gone or changed."""
        if self.volume is not None and self.logic.features.at_hand(self.volume) is not self._fitted_with:
            self._schedule()

    def show_probe(self, probe: Any) -> None:
        """Show what a probe says that was made elsewhere."""
        self._start(Points.none(), probe)

    def next_place(self, found: Callable[[np.ndarray], None], failed: Callable[[Exception], None]) -> None:
        """Look for the most uncertain place that was not shown yet; `found` gets it in RAS mm of the world."""
        if self.preview is None:
            raise CoralBayError(_("There is no preview yet. Mark a structure and the background first."))
        preview, points, seen, volume = self.preview, self.points(), list(self._seen), self.volume

        def finish(place: np.ndarray) -> np.ndarray:
            self._seen.append(place)
            return volumes.to_world(volume, place)[0]

        task = Task(lambda *_args: compute.next_place(preview.uncertainty, points, seen), finish, lane="place")
        task.on_done, task.on_failed = found, failed
        self.logic.worker.start(task)

    def colours(self) -> dict[str, tuple[float, float, float]]:
        """The structures' colours by name."""
        return {each.name: each.colour for each in self.structures if each.label}

    # -- the overlay

    def show(self, kind: str, threshold: float, opacity: float) -> None:
        """Show the preview in the slice views.

        Args:
            kind: "probability", "uncertainty" or "off".
            threshold: percent below which the probability is not shown.
            opacity: from 0 to 1.
        """
        overlays = self.logic.overlays
        if kind not in (overlay.PROBABILITY, overlay.UNCERTAINTY) or self.preview is None or self.volume is None:
            if overlays.shown in (overlay.PROBABILITY, overlay.UNCERTAINTY):
                overlays.hide()
            return
        if kind == overlay.UNCERTAINTY:
            overlays.update(kind, self.preview.doubt, self.preview.geometry, self.volume)
            overlays.set_threshold(kind, _LEAST_DOUBT)
        else:
            label = self._shown if self._shown in self.preview.percents else min(self.preview.percents)
            overlays.update(kind, self.preview.percents[label], self.preview.geometry, self.volume)
            colour = next((each.colour for each in self.structures if each.label == label), None)
            if colour is not None:
                overlays.set_colour(kind, colour)
            overlays.set_threshold(kind, threshold)
        overlays.show(kind, opacity)

    # -- inner workings

    def _schedule(self, *_: Any) -> None:
        # Not started anew while it runs: the mouse moves all the time while points are placed.
        if not self._timer.active:
            self._timer.start()

    def _take_up(self) -> None:
        if self.volume is None or slicer.mrmlScene.IsBatchProcessing():
            return
        if not self.paused:
            self.update()
        self.changed()

    def _on_point(self, *_: Any) -> None:
        if not self._held:
            self.history.record(self.structures)
        self._schedule()

    @contextmanager
    def _one_step(self) -> Iterator[None]:
        """All changes of points inside count as one, or as none if they come from the history itself."""
        self._held = True
        try:
            yield
        finally:
            self._held = False
            self._schedule()

    def _on_drag_started(self, *_: Any) -> None:
        self._held = True

    def _on_drag_ended(self, *_: Any) -> None:
        self._held = False
        self._on_point()

    def _adopt_painted(self) -> None:
        """A painted segment of a new name is a new structure."""
        names = {each.name.casefold() for each in self.structures}
        new = []
        for segment_id in segments.ids(self.painted):
            name = self.painted.GetSegmentation().GetSegment(segment_id).GetName()
            if name.casefold() not in names and not segments.is_background(name):
                new.append(name)
        for name in new:
            structures.add(self.volume, name)
        if new:
            self.watch()

    def _problem(self, points: Points) -> str:
        """What keeps the preview from being made, in words; "" when nothing does."""
        if self._fitted_with is None:
            return _("Compute the embeddings of this scan first (step 1).")
        if not (points.labels > 0).any():
            return _("Click on a structure that you want.")
        return ""

    def _start(self, points: Points, probe: Any) -> None:
        volume = self.volume

        def finish(preview: Preview) -> None:
            if self.volume is volume:
                self.preview, self.logic.probe, self._seen = preview, preview.probe, []

        try:
            task = self.logic.start(
                volume,
                lambda pyramid, cancel: compute.preview(pyramid, points, probe, cancel),
                finish,
                lane="preview",
                title=_("Preview"),
            )
        except CoralBayError as error:
            self._say(in_words(error))
            return
        task.on_done = lambda _result: self._say("")
        task.on_failed = lambda error: self._on_failed(task, error)
        self._running = task

    def _on_failed(self, task: Task, error: Exception) -> None:
        # One that a newer one has stopped has nothing to say.
        if task is self._running:
            self._fitted_on = None if isinstance(error, Cancelled) else self._fitted_on
            self._say(in_words(error))

    def _say(self, message: str) -> None:
        self.message = message
        self.changed()
