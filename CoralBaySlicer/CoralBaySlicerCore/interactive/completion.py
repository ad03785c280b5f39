"""Completes segments from what is painted of them, in the background, for the effect of the Segment Editor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from slicer.i18n import tr as _

from CoralBayLib.core.errors import Cancelled, CoralBayError
from CoralBayLib.core.progress import CancelToken
from CoralBayLib.fewshot.options import Options
from CoralBayLib.imaging.cropping import CroppedMask
from CoralBaySlicerCore.scene.editor.examples import Examples
from CoralBaySlicerCore.work.compute.completion import complete, fit
from CoralBaySlicerCore.work.logic import CoralBaySlicerLogic
from CoralBaySlicerCore.work.worker import Task, TaskProgress

from .effect_task import EffectTask, in_effect

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


class Completion(EffectTask):
    """Completes segments; a new request replaces one that is still computed.

    Args:
        logic, changed: see `EffectTask`.
        done: called on the main thread with a new result.

    Attributes:
        result: the last result, or None.
    """

    def __init__(
        self, logic: Callable[[], CoralBaySlicerLogic], changed: Callable[[], None], done: Callable[[Completed], None]
    ) -> None:
        super().__init__(logic, changed)
        self._done = done
        self._map_task: Task | None = None
        self._requested: tuple[Examples, Options] | None = None
        self.result: Completed | None = None

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
            self.is_running or (known is not None and known.segmenter.pyramid is features)
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
        self._requested = (examples, options)
        self._follow(task)

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
        if self.is_running:
            self._requested = None
        super().cancel()

    def forget(self) -> None:
        """Stop, and discard the result."""
        self.cancel()
        if self._map_task is not None:
            self._map_task.cancel()
        self.result = self._requested = None
        self.message = ""

    def _finish(self, result: Completed) -> None:
        self.result, self.message = result, _hint(result.examples)
        self._done(result)

    def _on_map_failed(self, error: Exception) -> None:
        if not isinstance(error, Cancelled):
            self.message = in_effect(error)
            self._changed()

    def _on_failed(self, task: Task, error: Exception) -> None:
        if task is self._task:
            self._requested = None
        super()._on_failed(task, error)


def _hint(examples: Examples) -> str:
    """How to improve the result; "" if nothing is missing."""
    if len(np.unique(examples.prompts.labels)) == 1 and (examples.masks is None or not examples.masks.locked):
        return _("To improve the result, add a segment named Background, and paint voxels that belong to no other segment.")
    return ""
