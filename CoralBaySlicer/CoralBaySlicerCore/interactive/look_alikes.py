"""Adds a segment for each region that looks like a segment, in the background, for the effect of the Segment Editor."""

from __future__ import annotations

from collections.abc import Callable

import slicer
from slicer.i18n import tr as _

from CoralBayLib.core.errors import QueryError
from CoralBaySlicerCore.scene import segments, volumes
from CoralBaySlicerCore.work.region_segments import RegionSegments, from_query
from CoralBaySlicerCore.work.worker import Task

from .effect_task import EffectTask


class LookAlikes(EffectTask):
    """Searches a scan with the module's settings for similar regions."""

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
            raise QueryError(_("The selected segment is empty. Paint a part of the structure to look for."))
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
        self._follow(task)

    def cancel(self) -> None:
        """Stop the search."""
        super().cancel()
        self.message = ""

    def _on_done(self, task: Task, result: RegionSegments) -> None:
        # Step 3 of the module shows it.
        self._logic().getParameterNode().regionsTable = result.table
        super()._on_done(task, result)

    def _finish(self, result: RegionSegments) -> None:
        self.message = _(
            "Segments added: {count}. They are listed in the table '{table}'. To merge or delete rows, open step 3 of the "
            "module CoralBay."
        ).format(count=result.count, table=result.table.GetName())
