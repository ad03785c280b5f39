"""Adds a segment for each region that looks like a segment, in the background, for the effect of the Segment Editor."""

from __future__ import annotations

from collections.abc import Callable

import slicer
from slicer.i18n import tr as _

from CoralBayLib.core.errors import QueryError
from CoralBaySlicerCore.scene import segments, volumes
from CoralBaySlicerCore.work.logic import CoralBaySlicerLogic
from CoralBaySlicerCore.work.region_segments import RegionSegments, from_query
from CoralBaySlicerCore.work.worker import Task

from .completion import in_effect


class LookAlikes:
    """Searches a scan with the module's settings for similar regions.

    Args:
        logic: returns the logic of the module.
        changed: called on the main thread when progress or message have changed.

    Attributes:
        message: for the user; "" if there is nothing to say.
        fraction: of the work that is done, from 0 to 1, while `is_running`.
    """

    def __init__(self, logic: Callable[[], CoralBaySlicerLogic], changed: Callable[[], None]) -> None:
        self._logic = logic
        self._changed = changed
        self._task: Task | None = None
        self.message = ""
        self.fraction = 0.0

    @property
    def is_running(self) -> bool:
        """Whether a search runs."""
        return self._task is not None

    @property
    def title(self) -> str:
        """What is done at the moment, for the user."""
        return self._task.title if self._task is not None else ""

    def start(self, editor: slicer.vtkMRMLSegmentEditorNode, save_state: Callable[[], object]) -> None:
        """Search for all that looks like the selected segment.

        Args:
            editor: the parameters of the Segment Editor.
            save_state: called before segments are added.

        Raises:
            CoralBayError: no segment is selected, it is empty, or the search cannot be started.
        """
        segmentation, volume, segment_id = (
            editor.GetSegmentationNode(),
            editor.GetSourceVolumeNode(),
            editor.GetSelectedSegmentID(),
        )
        segment = segmentation.GetSegmentation().GetSegment(segment_id) if segmentation is not None and segment_id else None
        if segment is None or not volumes.is_scan(volume):
            raise QueryError(_("Select the segment to look for, and a CT as the source volume."))
        points = segments.points(segmentation, segment_id, volume)
        if not len(points):
            raise QueryError(_("The selected segment is empty. Paint a part of what to look for."))
        logic = self._logic()
        parameters = logic.getParameterNode()
        task = from_query(
            logic,
            volume,
            volumes.to_world(volume, points),
            segmentation,
            segment.GetName(),
            save_state,
            parameters.regionCount,
            parameters.regionDistance,
            parameters.similarityThreshold / 100,
        )
        self._task, self.message, self.fraction = task, "", 0.0
        task.on_progress = lambda fraction, _message: self._on_progress(task, fraction)
        task.on_done = lambda result: self._on_done(task, result)
        task.on_failed = lambda error: self._on_failed(task, error)
        self._changed()

    def cancel(self) -> None:
        """Stop the search."""
        if self._task is not None:
            task, self._task = self._task, None
            task.cancel()
        self.message = ""

    def _on_progress(self, task: Task, fraction: float) -> None:
        if task is self._task:
            self.fraction = fraction
            self._changed()

    def _on_done(self, task: Task, result: RegionSegments) -> None:
        # Step 3 of the module shows it.
        self._logic().getParameterNode().regionsTable = result.table
        if task is self._task:
            self._task = None
            self.message = _(
                "Segments added: {count}. Their table is '{table}'; step 3 of the module CoralBay merges and deletes its rows."
            ).format(count=result.count, table=result.table.GetName())
            self._changed()

    def _on_failed(self, task: Task, error: Exception) -> None:
        if task is self._task:
            self._task = None
            self.message = in_effect(error)
            self._changed()
