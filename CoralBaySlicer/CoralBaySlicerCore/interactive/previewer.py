"""The preview of what prompts, or a probe that was made elsewhere, say of a scan."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from slicer.i18n import tr as _

from CoralBayLib.core.errors import Cancelled, CoralBayError
from CoralBayLib.core.progress import CancelToken
from CoralBaySlicerCore.scene import volumes
from CoralBaySlicerCore.scene.overlays import Owner
from CoralBaySlicerCore.scene.structures import Structure
from CoralBaySlicerCore.work import compute
from CoralBaySlicerCore.work.compute import Points, Preview
from CoralBaySlicerCore.work.logic import CoralBaySlicerLogic
from CoralBaySlicerCore.work.worker import Task, in_words

from . import preview_display
from .glance import clicked, glance


class Previewer:
    """Keeps a preview up to date; while one is computed the newest prompts win.

    `changed` is called, on the main thread, whenever something is to be shown anew.

    Attributes:
        volume: the scan, or None.
        preview: what the probe says, or None.
        given: the probe the preview shows when it was made elsewhere. On its own scan, until the prompts change; on
            another, prompts correct it.
        message: what the user reads below the preview.
    """

    def __init__(self, logic: CoralBaySlicerLogic, changed: Callable[[], None]) -> None:
        self.logic = logic
        self.changed = changed
        self.volume: Any = None
        self.preview: Preview | None = None
        self.given: Any = None
        self.message = ""
        self._threshold = 50.0
        self._connected = self._started_connected = True
        self._fitted_on: Points | None = None
        self._fitted_with: Any = None
        self._previewed: Points | None = None
        self._running: Task | None = None
        self._bounding: tuple | None = None
        self._seen: list[np.ndarray] = []

    @property
    def features_changed(self) -> bool:
        """Whether the features of the volume have come, gone or changed since they were last used."""
        return self.volume is not None and self.logic.features.at_hand(self.volume) is not self._fitted_with

    def fit(self, points: Points) -> None:
        """Fit a probe on prompts and show what it says; nothing happens when neither they nor the features changed."""
        features, known = self.logic.features.at_hand(self.volume), points.same_as(self._fitted_on)
        if known and features is self._fitted_with:
            return
        changed, marked = self._fitted_on is not None and not known, bool((points.labels > 0).any())
        corrected = features is not None and self.given is not None and self.given.adapts_to(features)
        if marked and not known and not corrected:
            self.given = None
        if features is not self._fitted_with:
            self._previewed = None
        self._fitted_on, self._fitted_with = points, features
        if features is None:
            self._stop(_("Compute the embeddings of this scan first (step 1)."))
        elif self.given is not None or marked:
            self._start(points, self.given)
        else:
            self._stop(_("Click on a structure that you want."))
        if changed:
            # A new prompt asks for the preview, whichever map is shown.
            self.logic.overlays.request(Owner.PREVIEW)

    def show_probe(self, probe: Any, points: Points) -> None:
        """Show what a probe says that was made elsewhere; see `given`."""
        self.given = probe
        self._fitted_on, self._fitted_with = points, None
        self.fit(points)

    def forget(self) -> None:
        """Let go of the preview, as when the volume changes."""
        self.given = self._fitted_on = self._fitted_with = None
        self._seen = []
        self._stop("", tell=False)

    def next_place(self, label: int, points: Points, found: Callable[[np.ndarray], None]) -> None:
        """Look for the place, of those not shown yet, where a prompt is expected to mend most of a structure; the message
        asks about it, and `found` gets it in RAS mm of the world."""
        if self.preview is None:
            raise CoralBayError(_("There is no preview yet. Mark a structure first."))
        preview, seen, volume = self.preview, list(self._seen), self.volume

        def finish(place: tuple[int, np.ndarray]) -> None:
            about, own = place
            self._seen.append(own)
            world = volumes.to_world(volume, own)[0]
            found(world)
            words = _("Is this {name}? Axial slice at S {mm} mm. Click here as what it is (0 for the background).")
            # A structure may be too new for the probe to know it: see `glance`.
            self._say(words.format(name=(points.names | preview.probe.names_)[about], mm=round(world[2])))

        task = Task(lambda *_args: compute.next_place(preview, label, points, seen), finish, lane="place")
        task.on_failed = lambda error: None if isinstance(error, Cancelled) else self._say(in_words(error))
        self.logic.worker.start(task)

    def show(self, structures: list[Structure], label: int, wanted: preview_display.DisplayOptions) -> None:
        """Show the preview in the slice views, of the map that of the structure of that label."""
        self._threshold, self._connected = wanted.threshold, wanted.connected
        self._follow_threshold()
        asked_anew = self._connected != self._started_connected and not self.features_changed
        if self.preview is not None and self._fitted_on is not None and asked_anew:
            self._start(self._fitted_on, self.given)
        preview_display.show(self.logic.overlays, self.preview, self.volume, structures, label, wanted)

    # -- inner workings

    def _start(self, points: Points, probe: Any) -> None:
        """Compute the preview of prompts or a probe; first of the structure alone that was clicked, where there are many."""
        preview, again = self.preview, self._connected == self._started_connected
        label = clicked(self._previewed, points, preview) if probe is None and again else None
        self._started_connected = self._connected
        if label is None or preview is None:
            self._start_whole(points, probe)
            return

        def finish(glanced: Preview) -> None:
            if self.preview is preview:
                self.preview, self._previewed = glanced, points

        def whole() -> None:
            if task is self._running:
                self._start_whole(points, probe)
                self.changed()

        task = self._launch(lambda pyramid, cancel: glance(pyramid, points, label, preview, cancel), finish)
        if task is not None:
            task.on_done = lambda _result: whole()
            task.on_failed = lambda error: self._on_failed(task, error) if isinstance(error, Cancelled) else whole()

    def _start_whole(self, points: Points, probe: Any) -> None:
        volume, threshold, connected = self.volume, self._threshold, self._connected

        def finish(preview: Preview) -> None:
            if self.volume is volume:
                self.preview, self._previewed = preview, points if probe is None else None
                self.logic.probe, self._seen = preview.probe, []

        task = self._launch(
            lambda pyramid, cancel: compute.preview(pyramid, points, threshold, probe, cancel, connected), finish
        )
        if task is not None:
            task.on_done = lambda _result: self._say(_missing(self.preview) if probe is not None else _hint(points))
            task.on_failed = lambda error: self._on_failed(task, error)

    def _launch(self, run: Callable[[Any, CancelToken], Preview], finish: Callable[[Preview], None]) -> Task | None:
        """Start to compute a preview, which takes the place of any that is being computed; None, and the user is told, when
        that cannot be."""
        try:
            task = self.logic.start(self.volume, run, finish, lane="preview", title=_("Preview"))
        except CoralBayError as error:
            self._say(in_words(error))
            return None
        ahead = self.logic.worker.ahead_of(task)
        if ahead is not None and ahead.title:
            self._say(_("The preview waits for this to finish: {title}").format(title=ahead.title))
            task.on_progress = lambda *_args: self._say("")
        self._running = task
        return task

    def _stop(self, message: str, tell: bool = True) -> None:
        if self._running is not None:
            self._running.cancel()
        self.preview = self._previewed = self._running = None
        self.message = message
        if tell:
            self.changed()

    def _follow_threshold(self) -> None:
        """Have the structures bounded anew when the threshold is another than the preview's."""
        preview, threshold = self.preview, self._threshold
        if preview is None or threshold == preview.threshold or (preview, threshold) == self._bounding:
            return

        def finish(bounded: Preview) -> None:
            if self.preview is preview:
                self.preview = bounded

        task = Task(lambda *_args: compute.with_threshold(preview, threshold), finish, lane="threshold")
        task.on_done = lambda _result: self.changed()
        self._bounding = (preview, threshold)
        self.logic.worker.start(task)

    def _on_failed(self, task: Task, error: Exception) -> None:
        # One that a newer one has stopped has nothing to say.
        if task is self._running:
            self._fitted_on = None if isinstance(error, Cancelled) else self._fitted_on
            self._say(in_words(error))

    def _say(self, message: str) -> None:
        self.message = message
        self.changed()


def _missing(preview: Preview | None) -> str:
    """Which structures of a probe from elsewhere were not found, in words."""
    probe = preview.probe if preview is not None else None
    names = [name for label, name in probe.names_.items() if label not in probe.prompts_.labels] if probe else []
    # One that was not adapted, as from a file of before there was anything to do it with, may have no prompts at all.
    if not names or probe.home_ is None:
        return ""
    return _("Not found in this scan: {names}. Click on them if they are there.").format(names=", ".join(names))


def _hint(points: Points) -> str:
    """What would make the preview better, in words; "" when nothing is missing."""
    if len(np.unique(points.labels)) == 1:
        return _("Press 0 and click on a few places that do not belong to the structure: the preview gets better.")
    return ""
