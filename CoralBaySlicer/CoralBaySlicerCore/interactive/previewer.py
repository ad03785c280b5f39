"""The preview of prompts, or of a probe that was made elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from slicer.i18n import tr as _

from CoralBayLib.core.errors import Cancelled, CoralBayError
from CoralBayLib.core.progress import CancelToken
from CoralBayLib.fewshot.options import Options
from CoralBayLib.fewshot.prompts import Prompts
from CoralBaySlicerCore.scene import volumes
from CoralBaySlicerCore.scene.overlays import Owner
from CoralBaySlicerCore.scene.structures import Structure
from CoralBaySlicerCore.work.logic import CoralBaySlicerLogic
from CoralBaySlicerCore.work.worker import Task, describe_error

from . import preview_display

if TYPE_CHECKING:
    from CoralBayLib.fewshot.preview import Preview
    from CoralBayLib.fewshot.segmenter import Segmenter

_MIN_STRUCTURES = 3
"""Of fewer structures all are fitted as fast as one."""
_MAX_COMPARED = 20_000
"""Prompts that are compared on the main thread; large painted segments have more."""


class Previewer:
    """Keeps a preview up to date; while one is computed, the newest prompts replace it.

    `changed` is called, on the main thread, whenever there is something new to show.

    Attributes:
        volume: the scan, or None.
        preview: the library's `Preview`, or None.
        segmenter: the library's `Segmenter` that made it, or None.
        given: the probe of the preview if it was made elsewhere. On its own scan it is shown until the prompts change; on
            another scan, prompts correct it.
        message: the text below the preview.
    """

    def __init__(self, logic: CoralBaySlicerLogic, changed: Callable[[], None]) -> None:
        self.logic = logic
        self.changed = changed
        self.volume: Any = None
        self.preview: Preview | None = None
        self.segmenter: Segmenter | None = None
        self.given: Any = None
        self.message = ""
        self._options = Options()
        self._shown_options = Options()
        self._fitted_on: Prompts | None = None
        self._fitted_with: Any = None
        self._previewed: Prompts | None = None
        self._running: Task | None = None
        self._following: tuple | None = None
        self._skipped: list[np.ndarray] = []

    @property
    def features_changed(self) -> bool:
        """Whether the features of the volume have come, gone or changed since they were last used."""
        return self.volume is not None and self.logic.features.cached(self.volume) is not self._fitted_with

    def fit(self, prompts: Prompts) -> None:
        """Fit a probe on prompts and preview it; nothing happens if neither the prompts nor the features changed."""
        features, known = self.logic.features.cached(self.volume), prompts.same_as(self._fitted_on)
        if known and features is self._fitted_with:
            return
        changed, marked = self._fitted_on is not None and not known, bool((prompts.labels > 0).any())
        corrected = features is not None and self.given is not None and self.given.adapts_to(features)
        if marked and not known and not corrected:
            self.given = None
        if features is not self._fitted_with:
            self._previewed = None
        self._fitted_on, self._fitted_with = prompts, features
        if features is None:
            self._stop(_("Compute the features of this scan first (step 1)."))
        elif self.given is not None or marked:
            self._start(prompts, self.given)
        else:
            self._stop(_("Click on the structure to segment."))
        if changed:
            # A new prompt asks for the preview, whichever map is shown.
            self.logic.overlays.request(Owner.PREVIEW)

    def show_probe(self, probe: Any, prompts: Prompts) -> None:
        """Preview a probe that was made elsewhere; see `given`."""
        self.given = probe
        self._fitted_on, self._fitted_with = prompts, None
        self.fit(prompts)

    def forget(self) -> None:
        """Let go of the preview, as when the volume changes."""
        self.given = self._fitted_on = self._fitted_with = None
        self._skipped = []
        self._stop("", tell=False)

    def suggest_click(self, label: int, prompts: Prompts, found: Callable[[np.ndarray], None]) -> None:
        """Find the location where a click is expected to improve a structure most, of those not suggested yet.

        The message asks about the location, and `found` is called with it, RAS mm of the world.
        """
        if self.preview is None:
            raise CoralBayError(_("There is no preview yet. Mark a structure first."))
        preview, skipped, volume = self.preview, list(self._skipped), self.volume
        percent = {label: preview.percent[label]} if label in preview.percent else preview.percent

        def run(*_args: Any) -> Any:
            from CoralBayLib.fewshot.uncertainty import suggest_click

            return suggest_click(percent, preview.grid, prompts.points_ras, skipped)

        def finish(suggestion: Any) -> None:
            self._skipped.append(suggestion.ras)
            world = volumes.to_world(volume, suggestion.ras)[0]
            found(world)
            words = _("Does this belong to {name}? (axial slice S {mm} mm) Click here, or press 0 first if it is background.")
            self._say(words.format(name=prompts.name(suggestion.label), mm=round(world[2])))

        task = Task(run, finish, lane="place")
        task.on_failed = lambda error: None if isinstance(error, Cancelled) else self._say(describe_error(error))
        self.logic.worker.start(task)

    def show(self, structures: list[Structure], label: int, wanted: preview_display.DisplayOptions) -> None:
        """Show the preview in the slice views; the map is that of the structure of that label."""
        self._options = Options(wanted.threshold / 100, wanted.connected)
        self._follow_options()
        preview_display.show(self.logic.overlays, self.preview, self.volume, structures, label, wanted)

    # -- inner workings

    def _start(self, prompts: Prompts, probe: Any) -> None:
        """Compute a preview; if there are many structures, first of the one that was clicked."""
        before, segmenter = self.preview, self.segmenter
        label = clicked_structure(self._previewed, prompts, before) if probe is None else None
        options = self._shown_options
        if label is None or before is None or segmenter is None or options.connected != self._options.connected:
            self._start_whole(prompts, probe)
            return

        def finish(result: tuple[Segmenter, Preview]) -> None:
            if self.preview is before:
                self.segmenter, self.preview = result
                self._previewed = prompts

        def whole() -> None:
            if task is self._running:
                self._start_whole(prompts, probe)
                self.changed()

        task = self._launch(lambda _pyramid, cancel: segmenter.preview_of_one(label, prompts, before, options, cancel), finish)
        if task is not None:
            task.on_done = lambda _result: whole()
            task.on_failed = lambda error: self._on_failed(task, error) if isinstance(error, Cancelled) else whole()

    def _start_whole(self, prompts: Prompts, probe: Any) -> None:
        volume, options = self.volume, self._options

        def run(pyramid: Any, cancel: CancelToken) -> tuple[Segmenter, Preview]:
            from CoralBayLib.fewshot.segmenter import Segmenter

            segmenter = Segmenter(pyramid, probe).fit(prompts)
            cancel.raise_if_cancelled()
            return segmenter, segmenter.preview(options, cancel)

        def finish(result: tuple[Segmenter, Preview]) -> None:
            if self.volume is volume:
                self.segmenter, self.preview = result
                self._shown_options = options
                self._previewed = prompts if probe is None else None
                self.logic.probe, self._skipped = self.segmenter.probe_, []

        task = self._launch(run, finish)
        if task is not None:
            task.on_done = lambda _result: self._say(_missing(self.segmenter) if probe is not None else _hint(prompts))
            task.on_failed = lambda error: self._on_failed(task, error)

    def _launch(self, run: Callable[[Any, CancelToken], Any], finish: Callable[[Any], None]) -> Task | None:
        """Start to compute a preview, in place of any that is being computed; None, with a message, if that fails."""
        try:
            task = self.logic.start(self.volume, run, finish, lane="preview", title=_("Preview"))
        except CoralBayError as error:
            self._say(describe_error(error))
            return None
        ahead = self.logic.worker.blocked_by(task)
        if ahead is not None and ahead.title:
            self._say(_("The preview waits for another task: {title}").format(title=ahead.title))
            task.on_progress = lambda *_args: self._say("")
        self._running = task
        return task

    def _stop(self, message: str, tell: bool = True) -> None:
        if self._running is not None:
            self._running.cancel()
        self.preview = self.segmenter = self._previewed = self._running = None
        self.message = message
        if tell:
            self.changed()

    def _follow_options(self) -> None:
        """Have the labels made again if the options differ from those of the preview."""
        preview, segmenter, options = self.preview, self.segmenter, self._options
        if preview is None or segmenter is None or options == self._shown_options:
            return
        if (preview, options) == self._following or self.features_changed:
            return

        def finish(result: Preview) -> None:
            if self.preview is preview:
                self.preview, self._shown_options = result, options

        task = Task(lambda _progress, cancel: segmenter.preview(options, cancel), finish, lane="threshold")
        task.on_done = lambda _result: self.changed()
        self._following = (preview, options)
        self.logic.worker.start(task)

    def _on_failed(self, task: Task, error: Exception) -> None:
        # One that a newer one has stopped has nothing to say.
        if task is self._running:
            self._fitted_on = None if isinstance(error, Cancelled) else self._fitted_on
            self._say(describe_error(error))

    def _say(self, message: str) -> None:
        self.message = message
        self.changed()


def clicked_structure(before: Prompts | None, now: Prompts, preview: Preview | None) -> int | None:
    """The one structure that a change of prompts was for.

    It is the structure of the prompts that changed or, if they are background, the structure that was labeled there. None
    if the change was for several structures or for none, or if there are too few structures for it to matter.
    """
    if before is None or preview is None or len(preview.percent) < _MIN_STRUCTURES or len(before) + len(now) > _MAX_COMPARED:
        return None
    rows, counts = np.unique(np.concatenate([_rows(before), _rows(now)]), axis=0, return_counts=True)
    labels, points = rows[counts == 1, 0].astype(int), rows[counts == 1, 1:]
    structures = {*labels[labels > 0].tolist(), *preview.labelmap.nearest_values(points[labels == 0]).tolist()}
    label = structures.pop() if len(structures) == 1 else 0
    return label if label and (now.labels == label).any() else None


def _rows(prompts: Prompts) -> np.ndarray:
    """Labels and points to a micrometer, each once, for comparing."""
    return np.unique(np.column_stack([prompts.labels, np.round(prompts.points_ras, 3)]), axis=0)


def _missing(segmenter: Segmenter | None) -> str:
    """A message that names the structures of an adapted probe that were not found; "" if there are none."""
    probe = segmenter.probe_ if segmenter is not None else None
    # A probe that was not adapted, as from an early version's file, may have no prompts at all.
    if probe is None or probe.fitted_pyramid_ is None:
        return ""
    names = [name for label, name in probe.names_.items() if label not in probe.prompts_.labels]
    if not names:
        return ""
    return _("Not found in this scan: {names}. Click on them if they are present.").format(names=", ".join(names))


def _hint(prompts: Prompts) -> str:
    """A message that says how to improve the preview; "" if nothing is missing."""
    if len(np.unique(prompts.labels)) == 1:
        return _("To improve the preview, press 0 and click on a few locations outside of the structure.")
    return ""
