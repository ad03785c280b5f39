"""Computes the preview of prompts, or of a loaded probe."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from slicer.i18n import tr as _

from CoralBayLib.core.errors import Cancelled, CoralBayError
from CoralBayLib.core.progress import CancelToken
from CoralBayLib.fewshot.options import Options
from CoralBayLib.fewshot.prompts import Prompts
from CoralBaySlicerCore.scene import volumes
from CoralBaySlicerCore.scene.masks import Masks
from CoralBaySlicerCore.scene.overlays import Owner
from CoralBaySlicerCore.scene.structures import Structure
from CoralBaySlicerCore.work.compute.masks import masks_on
from CoralBaySlicerCore.work.logic import CoralBaySlicerLogic
from CoralBaySlicerCore.work.remedies import describe_error
from CoralBaySlicerCore.work.worker import Task

from . import preview_display

if TYPE_CHECKING:
    import slicer

    from CoralBayLib.features.pyramid import FeaturePyramid
    from CoralBayLib.fewshot.preview import Preview
    from CoralBayLib.fewshot.probe import Probe
    from CoralBayLib.fewshot.segmenter import Segmenter
    from CoralBayLib.fewshot.uncertainty import Suggestion

_MIN_STRUCTURES = 3
"""Least number of structures for a quick preview of the clicked one; fewer are fitted as fast as one."""
_MAX_COMPARED = 20_000
"""Most prompts that are compared on the main thread; large painted segments have more."""


class Previewer:
    """Keeps a preview up to date; new prompts replace a preview that is still computed.

    `changed` is called on the main thread when there is something new to show.

    Attributes:
        volume: the scan, or None.
        preview: the library's `Preview`, or None.
        segmenter: the library's `Segmenter` that made it, or None.
        given: a loaded probe, or None. On its own scan it is shown until the prompts change; on another scan, prompts
            correct it.
        message: the text below the preview.
    """

    def __init__(self, logic: CoralBaySlicerLogic, changed: Callable[[], None]) -> None:
        self.logic = logic
        self.changed = changed
        self.volume: slicer.vtkMRMLScalarVolumeNode | None = None
        self.preview: Preview | None = None
        self.segmenter: Segmenter | None = None
        self.given: Probe | None = None
        self.message = ""
        self._options = Options()
        self._shown_options = Options()
        self._fitted_on: Prompts | None = None
        self._fitted_masks: Masks | None = None
        self._fitted_extents: dict[int, int] = {}
        self._fitted_with: FeaturePyramid | None = None
        self._previewed: Prompts | None = None
        self._running: Task | None = None
        self._requested: tuple | None = None
        self._skipped: list[np.ndarray] = []

    @property
    def features_changed(self) -> bool:
        """Whether the features of the volume were computed, removed or changed since they were last used."""
        return self.volume is not None and self.logic.features.cached(self.volume) is not self._fitted_with

    def fit(self, prompts: Prompts, masks: Masks | None = None, extents: Mapping[int, int] | None = None) -> None:
        """Fit a probe on prompts and preview it; nothing happens if neither these arguments nor the features changed.

        Args:
            prompts: in the volume's own space.
            masks: what is locked, and what structures start from.
            extents: by label, which answers to first clicks are wanted; see the library's `Segmenter.fit`.
        """
        extents = dict(extents or {})
        features = self.logic.features.cached(self.volume)
        known = prompts.same_as(self._fitted_on) and masks is self._fitted_masks and extents == self._fitted_extents
        if known and features is self._fitted_with:
            return
        changed, has_structures = self._fitted_on is not None and not known, bool(prompts.structures)
        has_structures |= masks is not None and bool(masks.start)
        corrected = features is not None and self.given is not None and self.given.adapts_to(features)
        if has_structures and not known and not corrected:
            self.given = None
        if features is not self._fitted_with or masks is not self._fitted_masks:
            self._previewed = None
        self._fitted_on, self._fitted_with, self._fitted_masks = prompts, features, masks
        self._fitted_extents = extents
        if features is None:
            self._stop(_("Compute the features of this scan first (step 1)."))
        elif self.given is not None or has_structures:
            self._start(prompts, masks, self.given)
        else:
            self._stop(_("Click on the structure to segment."))
        if changed:
            # After a new prompt the preview is shown in place of any other map.
            self.logic.overlays.request(Owner.PREVIEW)

    def show_probe(
        self, probe: Probe, prompts: Prompts, masks: Masks | None = None, extents: Mapping[int, int] | None = None
    ) -> None:
        """Preview a loaded probe; see `given` and `fit`."""
        self.given = probe
        self._fitted_on, self._fitted_masks, self._fitted_with = prompts, masks, None
        self._fitted_extents = dict(extents or {})
        self.fit(prompts, masks, extents)

    def forget(self) -> None:
        """Discard the preview, as when the volume changes."""
        self.given = self._fitted_on = self._fitted_with = self._fitted_masks = None
        self._skipped = []
        self._stop("", notify=False)

    def suggest_click(self, label: int, prompts: Prompts, on_found: Callable[[np.ndarray], None]) -> None:
        """Find the location where a click is expected to improve a structure most; locations are not suggested twice.

        The message asks about the location, and `on_found` is called with it, (3,) RAS mm of the world.

        Raises:
            CoralBayError: there is no preview.
        """
        if self.preview is None:
            raise CoralBayError(_("There is no preview yet. Mark a structure first."))
        preview, skipped, volume = self.preview, list(self._skipped), self.volume
        percent = {label: preview.percent[label]} if label in preview.percent else preview.percent

        def run(*_args: object) -> Suggestion:
            from CoralBayLib.fewshot.uncertainty import suggest_click

            return suggest_click(percent, preview.grid, prompts.points_ras, skipped)

        def finish(suggestion: Suggestion) -> None:
            if self.volume is not volume:
                return
            self._skipped.append(suggestion.ras)
            world = volumes.to_world(volume, suggestion.ras)[0]
            on_found(world)
            text = _("Does this belong to {name}? (axial slice S {mm} mm) Click here, or press 0 first if it is background.")
            self._set_message(text.format(name=prompts.name(suggestion.label), mm=round(world[2])))

        task = Task(run, finish, lane="place")
        task.on_failed = lambda error: None if isinstance(error, Cancelled) else self._set_message(describe_error(error))
        self.logic.worker.start(task)

    def show(self, structures: list[Structure], label: int, options: preview_display.DisplayOptions) -> None:
        """Show the preview in the slice views; the probability map is that of the structure with this label."""
        self._options = Options(options.threshold / 100, options.connected)
        self._update_labels()
        preview_display.show(self.logic.overlays, self.preview, self.volume, structures, label, options)

    # -- internal

    def _start(self, prompts: Prompts, masks: Masks | None, probe: Probe | None) -> None:
        """Compute a preview; if there are many structures, first that of the clicked structure."""
        before, segmenter = self.preview, self.segmenter
        label = clicked_structure(self._previewed, prompts, before) if probe is None else None
        options = self._shown_options
        if label is None or before is None or segmenter is None or options.connected != self._options.connected:
            self._start_whole(prompts, masks, probe)
            return

        def finish(result: tuple[Segmenter, Preview]) -> None:
            if self.preview is before:
                self.segmenter, self.preview = result
                self._previewed = prompts

        def whole() -> None:
            if task is self._running:
                self._start_whole(prompts, masks, probe)
                self.changed()

        task = self._launch(lambda _pyramid, cancel: segmenter.preview_of_one(label, prompts, before, options, cancel), finish)
        if task is not None:
            task.on_done = lambda _result: whole()
            task.on_failed = lambda error: self._on_failed(task, error) if isinstance(error, Cancelled) else whole()

    def _start_whole(self, prompts: Prompts, masks: Masks | None, probe: Probe | None) -> None:
        volume, options, extents = self.volume, self._options, self._fitted_extents

        def run(pyramid: FeaturePyramid, cancel: CancelToken) -> tuple[Segmenter, Preview]:
            from CoralBayLib.fewshot.segmenter import Segmenter

            locked, start = masks_on(masks, pyramid.source_grid)
            cancel.raise_if_cancelled()
            segmenter = Segmenter(pyramid, probe).fit(prompts, locked=locked, start=start, extents=extents)
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
            task.on_done = lambda _result: self._set_message(_missing(self.segmenter) if probe is not None else hint(prompts))
            task.on_failed = lambda error: self._on_failed(task, error)

    def _launch(self, run: Callable[[FeaturePyramid, CancelToken], Any], finish: Callable[[Any], None]) -> Task | None:
        """Start to compute a preview, which cancels one in progress; returns None and sets the message if that fails."""
        try:
            task = self.logic.start(self.volume, run, finish, lane="preview", title=_("Preview"))
        except CoralBayError as error:
            self._set_message(describe_error(error))
            return None
        ahead = self.logic.worker.blocked_by(task)
        if ahead is not None and ahead.title:
            self._set_message(_("The preview waits for another task: {title}").format(title=ahead.title))
            task.on_progress = lambda *_args: self._set_message("")
        self._running = task
        return task

    def _stop(self, message: str, notify: bool = True) -> None:
        if self._running is not None:
            self._running.cancel()
        self.preview = self.segmenter = self._previewed = self._running = None
        self.message = message
        if notify:
            self.changed()

    def _update_labels(self) -> None:
        """Compute the labels again if the options differ from those of the preview."""
        preview, segmenter, options = self.preview, self.segmenter, self._options
        if preview is None or segmenter is None or options == self._shown_options:
            return
        if (preview, options) == self._requested or self.features_changed:
            return

        def finish(result: Preview) -> None:
            if self.preview is preview:
                self.preview, self._shown_options = result, options

        task = Task(lambda _progress, cancel: segmenter.preview(options, cancel), finish, lane="threshold")
        task.on_done = lambda _result: self.changed()
        self._requested = (preview, options)
        self.logic.worker.start(task)

    def _on_failed(self, task: Task, error: Exception) -> None:
        # The error of a task that a newer one has cancelled is not shown.
        if task is self._running:
            self._fitted_on = None if isinstance(error, Cancelled) else self._fitted_on
            self._set_message(describe_error(error))

    def _set_message(self, message: str) -> None:
        self.message = message
        self.changed()


def clicked_structure(before: Prompts | None, now: Prompts, preview: Preview | None) -> int | None:
    """The structure that a change of prompts affects most.

    It is the structure of the changed prompts or, if they are background, the structure that the preview has there. None if
    several structures or none are affected, or if there are fewer than `_MIN_STRUCTURES`.
    """
    if before is None or preview is None or len(preview.percent) < _MIN_STRUCTURES or len(before) + len(now) > _MAX_COMPARED:
        return None
    rows, counts = np.unique(np.concatenate([_rows(before), _rows(now)]), axis=0, return_counts=True)
    labels, points = rows[counts == 1, 0].astype(int), rows[counts == 1, 1:]
    structures = {*labels[labels > 0].tolist(), *preview.labelmap.nearest_values(points[labels == 0]).tolist()}
    label = structures.pop() if len(structures) == 1 else 0
    return label if label and (now.labels == label).any() else None


def _rows(prompts: Prompts) -> np.ndarray:
    """Unique (N, 4) rows of label and position, rounded to a micrometer, for comparison."""
    return np.unique(np.column_stack([prompts.labels, np.round(prompts.points_ras, 3)]), axis=0)


def _missing(segmenter: Segmenter | None) -> str:
    """A message that names the structures of an adapted probe that were not found; "" if there are none."""
    probe = segmenter.probe_ if segmenter is not None else None
    # A probe from a file of an early version is not adapted and may have no prompts.
    if probe is None or probe.fitted_pyramid_ is None:
        return ""
    names = [name for label, name in probe.names_.items() if label not in probe.prompts_.labels]
    if not names:
        return ""
    return _("Not found in this scan: {names}. Click on them if they are present.").format(names=", ".join(names))


def hint(prompts: Prompts) -> str:
    """A message that says how to improve the preview; "" if nothing is missing."""
    if len(np.unique(prompts.labels)) == 1:
        return _("To improve the preview, press 0 and click on a few locations outside of the structure.")
    return ""
