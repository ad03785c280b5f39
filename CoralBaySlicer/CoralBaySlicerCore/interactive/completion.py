"""Completes segments from what is painted of them, in the background, for the effect of the Segment Editor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from slicer.i18n import tr as _

from CoralBayLib.core.errors import Cancelled, CoralBayError
from CoralBayLib.core.progress import CancelToken
from CoralBayLib.fewshot.options import Options
from CoralBayLib.imaging.cropping import CroppedMask
from CoralBaySlicerCore.scene.editor.examples import Examples
from CoralBaySlicerCore.work.compute.completion import complete, fit
from CoralBaySlicerCore.work.logic import CoralBaySlicerLogic
from CoralBaySlicerCore.work.worker import Task, TaskProgress, describe_error

if TYPE_CHECKING:
    from CoralBayLib.features.pyramid import FeaturePyramid
    from CoralBayLib.fewshot.preview import Preview
    from CoralBayLib.fewshot.segmenter import Segmenter


@dataclass(frozen=True, eq=False)
class Completed:
    """Completed segments.

    Attributes:
        examples: what they were made from.
        options: what they were made with.
        segmenter: the library's `Segmenter` that was fitted on the examples.
        masks: voxels by the ID of the segment, on `examples.grid`.
    """

    examples: Examples
    options: Options
    segmenter: Segmenter
    masks: dict[str, CroppedMask]


class Completion:
    """Completes segments; a new request replaces one that is still computed.

    Args:
        logic: returns the logic of the module, which another one replaces when the module is reloaded.
        changed: called on the main thread when progress, message or result have changed.
        done: called on the main thread with a new result.

    Attributes:
        result: the last result, or None.
        message: for the user; "" if there is nothing to say.
        fraction: of the work that is done, from 0 to 1, while `is_running`.
    """

    def __init__(
        self, logic: Callable[[], CoralBaySlicerLogic], changed: Callable[[], None], done: Callable[[Completed], None]
    ) -> None:
        self._logic = logic
        self._changed = changed
        self._done = done
        self._task: Task | None = None
        self._map_task: Task | None = None
        self._requested: tuple[Examples, Options] | None = None
        self.result: Completed | None = None
        self.message = ""
        self.fraction = 0.0

    @property
    def is_running(self) -> bool:
        """Whether a result is computed."""
        return self._task is not None

    @property
    def last_examples(self) -> Examples | None:
        """The examples of the last request, whose copies of voxels can be used again."""
        return self._requested[0] if self._requested is not None else None

    def request(self, examples: Examples, options: Options) -> None:
        """Complete segments; nothing happens if these were requested last and the features are the same.

        Raises:
            CoralBayError: the task cannot be started.
        """
        known, logic = self.result, self._logic()
        if self._requested is not None and examples.same_as(self._requested[0]):
            # The copies of the first request are used again.
            examples = self._requested[0]
        features = logic.features.cached(examples.volume)
        if self._requested == (examples, options) and (
            self._task is not None or (known is not None and known.segmenter.pyramid is features)
        ):
            return
        fitted = known.segmenter if known is not None and known.examples is examples else None

        def run(pyramid: FeaturePyramid, cancel: CancelToken) -> Completed:
            segmenter = fitted if fitted is not None and fitted.pyramid is pyramid else fit(pyramid, examples)
            cancel.raise_if_cancelled()
            return Completed(examples, options, segmenter, complete(segmenter, examples, options, cancel))

        title = _("Completing segments")
        if features is None:
            # Which takes most of the time.
            title = _("Computing features of {name}").format(name=examples.volume.GetName())
        task = logic.start(examples.volume, run, lambda result: result, "effect", title)
        self._task, self._requested, self.fraction, self.message = task, (examples, options), 0.0, ""
        task.on_progress = lambda fraction, _message: self._on_progress(task, fraction)
        task.on_done = lambda result: self._on_done(task, result)
        task.on_failed = lambda error: self._on_failed(task, error)
        self._changed()

    @property
    def title(self) -> str:
        """What is done at the moment, for the user."""
        return self._task.title if self._task is not None else ""

    def compute_preview(self, done: Callable[[Preview], None]) -> None:
        """Compute the probabilities and the uncertainty of the last result, and call `done` with them.

        Raises:
            CoralBayError: there is no result, or another computation runs.
        """
        result = self.result
        if result is None or self.is_running:
            raise CoralBayError(_("There is no preview yet. Press Initialize, and wait until it is shown."))

        def run(_progress: TaskProgress, cancel: CancelToken) -> Preview:
            return result.segmenter.preview(result.options, cancel)

        task = Task(run, lane="map", title=_("Computing the map"))
        task.on_done = done
        task.on_failed = self._on_map_failed
        self._map_task = self._logic().worker.start(task)

    def cancel(self) -> None:
        """Stop what is computed. The last result stays."""
        if self._task is not None:
            task, self._task, self._requested = self._task, None, None
            task.cancel()

    def forget(self) -> None:
        """Stop, and discard the result."""
        self.cancel()
        if self._map_task is not None:
            self._map_task.cancel()
        self.result = self._requested = None
        self.message = ""

    def _on_progress(self, task: Task, fraction: float) -> None:
        if task is self._task:
            self.fraction = fraction
            self._changed()

    def _on_done(self, task: Task, result: Completed) -> None:
        if task is not self._task:
            return
        self._task, self.result, self.message = None, result, _hint(result.examples)
        self._done(result)
        self._changed()

    def _on_map_failed(self, error: Exception) -> None:
        if not isinstance(error, Cancelled):
            self.message = in_effect(error)
            self._changed()

    def _on_failed(self, task: Task, error: Any) -> None:
        if task is not self._task:
            return
        self._task = self._requested = None
        self.message = "" if isinstance(error, Cancelled) else in_effect(error)
        self._changed()


def in_effect(error: Exception) -> str:
    """An error as text for the user of the Segment Editor, where the steps of the module are not in sight."""
    text = describe_error(error)
    if isinstance(error, CoralBayError) and error.remedy is not None:
        text = _("{error} The steps are those of the module CoralBay, which the button Change... opens.").format(error=text)
    return text


def _hint(examples: Examples) -> str:
    """How to improve the result; "" if nothing is missing."""
    if len(np.unique(examples.prompts.labels)) == 1 and (examples.masks is None or not examples.masks.locked):
        return _("To improve the result, add a segment named Background, and paint a little of what does not belong.")
    return ""
