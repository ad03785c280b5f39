"""The table node of regions: one row for each region, which has a segment of its own."""

from __future__ import annotations

import csv
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import slicer
import vtk
from slicer.i18n import tr as _

from CoralBayLib.core.errors import CoralBayError
from CoralBayLib.core.paths import atomic_write
from CoralBaySlicerCore.scene import segments

_ROLE = "CoralBaySlicer.Segmentation"
"""Reference of such a table to its segmentation."""
_ID = "SegmentID"
"""Name of the last column, which is found by its name."""


@dataclass(frozen=True)
class Row:
    """A region and its segment.

    Attributes:
        segment_id: of the segment.
        name: of the segment.
        volume_ml: of its voxels.
        mean_hu: of its voxels.
        ras: the most similar point, RAS mm of the world.
        similarity: at that point, at most 1.
    """

    segment_id: str
    name: str
    volume_ml: float
    mean_hu: float
    ras: tuple[float, float, float]
    similarity: float


def headers() -> tuple[str, ...]:
    """Titles of the columns, without that of the segment's ID."""
    return (_("Segment"), _("Volume (ml)"), _("Mean (HU)"), _("R (mm)"), _("A (mm)"), _("S (mm)"), _("Similarity"))


def add(segmentation: slicer.vtkMRMLSegmentationNode, rows: Sequence[Row]) -> slicer.vtkMRMLTableNode:
    """Add a table node for the segments of a segmentation."""
    name = _("{segmentation} table").format(segmentation=segmentation.GetName())
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableNode", slicer.mrmlScene.GenerateUniqueName(name))
    node.SetNodeReferenceID(_ROLE, segmentation.GetID())
    put(node, rows)
    return node


def segmentation_of(node: slicer.vtkMRMLTableNode | None) -> slicer.vtkMRMLSegmentationNode | None:
    """The segmentation of a table of regions; None for other tables, and when it was removed."""
    found = node.GetNodeReference(_ROLE) if node is not None else None
    return found if isinstance(found, slicer.vtkMRMLSegmentationNode) else None


def rows_of(node: slicer.vtkMRMLTableNode | None) -> list[Row]:
    """The rows whose segments still exist, with the segments' names of now."""
    segmentation = segmentation_of(node)
    if node is None or segmentation is None or node.GetTable().GetColumnByName(_ID) is None:
        return []
    table, found = node.GetTable(), []
    for row in range(table.GetNumberOfRows()):
        segment_id = table.GetValueByName(row, _ID).ToString()
        segment = segmentation.GetSegmentation().GetSegment(segment_id)
        if segment is None:
            continue
        volume, mean, r, a, s, similarity = (table.GetValue(row, column).ToDouble() for column in range(1, 7))
        found.append(Row(segment_id, segment.GetName(), volume, mean, (r, a, s), similarity))
    return found


def put(node: slicer.vtkMRMLTableNode, rows: Sequence[Row]) -> None:
    """Set the rows of a table node."""
    table = vtk.vtkTable()
    texts = [[row.name for row in rows], [row.segment_id for row in rows]]
    numbers = [(row.volume_ml, row.mean_hu, *row.ras, row.similarity) for row in rows]
    titles = headers()
    _add_texts(table, titles[0], texts[0])
    for column, title in enumerate(titles[1:]):
        array = vtk.vtkDoubleArray()
        array.SetName(title)
        for each in numbers:
            array.InsertNextValue(each[column])
        table.AddColumn(array)
    _add_texts(table, _ID, texts[1])
    node.SetAndObserveTable(table)


def merge(node: slicer.vtkMRMLTableNode, chosen: Collection[str]) -> str:
    """Merge regions into the most similar of them; the segments of the others are removed.

    Args:
        node: a table of regions.
        chosen: IDs of two or more segments.

    Returns:
        The ID of the segment that remains.

    Raises:
        CoralBayError: fewer than two segments of the table are chosen.
    """
    segmentation, rows = segmentation_of(node), rows_of(node)
    merged = sorted((row for row in rows if row.segment_id in chosen), key=lambda row: -row.similarity)
    if segmentation is None or len(merged) < 2:
        raise CoralBayError(_("Choose two or more rows to merge."))
    first, others = merged[0], merged[1:]
    logic, inner = slicer.vtkSlicerSegmentationsModuleLogic, segmentation.GetSegmentation()
    with slicer.util.NodeModify(segmentation):
        for row in others:
            image = slicer.vtkOrientedImageData()
            segmentation.GetBinaryLabelmapRepresentation(row.segment_id, image)
            if not image.IsEmpty():
                logic.SetBinaryLabelmapToSegment(image, segmentation, first.segment_id, logic.MODE_MERGE_MASK)
            inner.RemoveSegment(row.segment_id)
    volume = sum(row.volume_ml for row in merged)
    # Regions do not overlap.
    mean = sum(row.volume_ml * row.mean_hu for row in merged) / volume if volume else first.mean_hu
    gone = {row.segment_id for row in others}
    kept = [row for row in rows if row.segment_id not in gone]
    put(node, [replace(row, volume_ml=volume, mean_hu=mean) if row is first else row for row in kept])
    return first.segment_id


def remove(node: slicer.vtkMRMLTableNode, chosen: Collection[str]) -> None:
    """Remove regions and their segments.

    Args:
        node: a table of regions.
        chosen: IDs of segments.
    """
    segmentation, rows = segmentation_of(node), rows_of(node)
    if segmentation is not None:
        with slicer.util.NodeModify(segmentation):
            for segment_id in set(chosen) & set(segments.ids(segmentation)):
                segmentation.GetSegmentation().RemoveSegment(segment_id)
    put(node, [row for row in rows if row.segment_id not in chosen])


def save_csv(node: slicer.vtkMRMLTableNode, path: str | Path) -> None:
    """Write a table as CSV (UTF-8, commas), with full precision."""
    with atomic_write(Path(path)) as file, file.open("w", encoding="utf-8", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(headers())
        for row in rows_of(node):
            writer.writerow([row.name, row.volume_ml, row.mean_hu, *row.ras, row.similarity])


def _add_texts(table: vtk.vtkTable, title: str, texts: Sequence[str]) -> None:
    array = vtk.vtkStringArray()
    array.SetName(title)
    for text in texts:
        array.InsertNextValue(text)
    table.AddColumn(array)
