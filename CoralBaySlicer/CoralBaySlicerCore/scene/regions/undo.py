"""Undo for the table of regions: the rows and segments as they were before rows were merged or deleted."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, replace

import slicer

from CoralBaySlicerCore.scene import segments

from . import table
from .table import Row

_MAX_STATES = 20
"""Most states that are kept; each holds copies of the segments that a change concerns."""


@dataclass(frozen=True, eq=False)
class _Copy:
    """A segment as it was: what is known of it, its own voxels, and the segment behind it in the list ("" for none)."""

    segment_id: str
    facts: slicer.vtkSegment
    image: slicer.vtkOrientedImageData
    behind: str


@dataclass(frozen=True, eq=False)
class _State:
    table_id: str
    rows: list[Row]
    copies: list[_Copy]


class RowsUndo:
    """States of tables of regions before each time that rows were merged or deleted.

    Only the segments of these rows are restored; all others stay as they are, with what the user has changed since.
    """

    def __init__(self) -> None:
        self._states: deque[_State] = deque(maxlen=_MAX_STATES)

    def save(self, node: slicer.vtkMRMLTableNode, chosen: Collection[str]) -> None:
        """Save the rows of a table, and the segments with these IDs."""
        segmentation = table.segmentation_of(node)
        known = segments.ids(segmentation) if segmentation is not None else []
        copies = []
        # From the end: a segment is put back in front of the one behind it, which must be there already.
        for position in reversed(range(len(known))):
            if known[position] in chosen:
                behind = known[position + 1] if position + 1 < len(known) else ""
                copies.append(_copy(segmentation, known[position], behind))
        self._states.append(_State(node.GetID(), table.rows_of(node), copies))

    def drop(self) -> None:
        """Discard the last state, as when nothing was changed after all."""
        if self._states:
            self._states.pop()

    def can_restore(self, node: slicer.vtkMRMLTableNode | None) -> bool:
        """Whether the last state is one of this table."""
        return (
            bool(self._states)
            and table.segmentation_of(node) is not None
            and node is not None
            and self._states[-1].table_id == node.GetID()
        )

    def restore(self, node: slicer.vtkMRMLTableNode | None) -> None:
        """Restore the last state of this table; nothing happens without one."""
        segmentation = table.segmentation_of(node)
        if node is None or segmentation is None or not self.can_restore(node):
            return
        state = self._states.pop()
        remaining = {row.segment_id for row in table.rows_of(node)}
        names: dict[str, str] = {}
        with slicer.util.NodeModify(segmentation):
            for copy in state.copies:
                names[copy.segment_id] = _put_back(segmentation, copy, copy.segment_id in remaining)
        table.put(node, [replace(row, segment_id=names.get(row.segment_id, row.segment_id)) for row in state.rows])

    def clear(self) -> None:
        """Discard all states, as when the scene closes."""
        self._states.clear()


def _copy(segmentation: slicer.vtkMRMLSegmentationNode, segment_id: str, behind: str) -> _Copy:
    facts, image = slicer.vtkSegment(), slicer.vtkOrientedImageData()
    facts.DeepCopyMetadata(segmentation.GetSegmentation().GetSegment(segment_id))
    # Its own voxels: segments may share an image.
    segmentation.GetBinaryLabelmapRepresentation(segment_id, image)
    return _Copy(segment_id, facts, image, behind)


def _put_back(segmentation: slicer.vtkMRMLSegmentationNode, copy: _Copy, remains: bool) -> str:
    """Restore a segment; returns its ID.

    Args:
        segmentation: the node.
        copy: of the segment.
        remains: whether the table still has this segment, so that only its voxels are restored.
    """
    inner, logic = segmentation.GetSegmentation(), slicer.vtkSlicerSegmentationsModuleLogic
    if remains:
        logic.SetBinaryLabelmapToSegment(copy.image, segmentation, copy.segment_id, logic.MODE_REPLACE)
        return copy.segment_id
    segment, name = slicer.vtkSegment(), slicer.vtkSegmentationConverter.GetSegmentationBinaryLabelmapRepresentationName()
    segment.DeepCopyMetadata(copy.facts)
    segment.SetLabelValue(1)
    segment.AddRepresentation(name, copy.image)
    # Meanwhile another segment may have got the ID.
    segment_id = inner.GenerateUniqueSegmentID(copy.segment_id)
    behind = copy.behind if inner.GetSegment(copy.behind) is not None else ""
    inner.AddSegment(segment, segment_id, behind)
    return segment_id
