"""Section of step 3: a segment of its own for each similar region, and their table."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

import qt
import slicer
import vtk
from slicer.i18n import tr as _
from slicer.util import VTKObservationMixin

from CoralBaySlicerCore.panels.base import Panel, chosen_path
from CoralBaySlicerCore.panels.tables import columns
from CoralBaySlicerCore.panels.tables.region_table import format_position
from CoralBaySlicerCore.scene import volumes
from CoralBaySlicerCore.scene.regions import table
from CoralBaySlicerCore.scene.regions.table import Row
from CoralBaySlicerCore.scene.regions.undo import RowsUndo
from CoralBaySlicerCore.work.region_segments import RegionSegments, from_search

if TYPE_CHECKING:
    from CoralBaySlicerCore.work.worker import Task


class RegionSegmentsSection(VTKObservationMixin):
    """Makes the segments; shows, merges, deletes and saves the rows of their table.

    Args:
        panel: of step 3.

    Attributes:
        rows: in the order of the table.
    """

    def __init__(self, panel: Panel) -> None:
        VTKObservationMixin.__init__(self)
        self._panel = panel
        self._observed: tuple[object, ...] = ()
        self._filling = False
        self.rows: list[Row] = []
        self._undo = RowsUndo()
        ui, widget = panel.ui, panel.ui.regionSegmentsTable
        # Short, so that all columns are in sight at the width of Slicer's panel.
        position_tip = _("The most similar point: right or left, anterior or posterior, superior or inferior")
        columns.set_up(
            widget,
            (
                (_("Segment"), _("The segment of the region")),
                (_("ml"), _("Volume of the segment, milliliters")),
                (_("HU"), _("Mean CT value of the segment, Hounsfield units")),
                (_("Similarity"), _("Similarity at the most similar point; 1 is the query itself")),
                (_("Position (RAS, mm)"), position_tip),
            ),
        )
        widget.connect("itemSelectionChanged()", self._on_selection)
        widget.connect("cellClicked(int,int)", lambda row, _column: self.go_to(row))
        ui.allSegmentsButton.connect("clicked(bool)", lambda *_: self.make())
        ui.mergeRowsButton.connect("clicked(bool)", lambda *_: self.merge())
        ui.deleteRowsButton.connect("clicked(bool)", lambda *_: self.delete())
        ui.undoRowsButton.connect("clicked(bool)", lambda *_: self.undo())
        ui.saveTableButton.connect("clicked(bool)", lambda *_: self.save())

    def refresh(self, visible: bool, has_regions: bool) -> None:
        """Show the table of the scene.

        Args:
            visible: whether the scene is searched, not a library.
            has_regions: whether the last search found regions in this scan.
        """
        ui, node = self._panel.ui, self._panel.parameters.regionsTable
        segmentation = table.segmentation_of(node)
        ui.allSegmentsButton.visible = visible
        ui.allSegmentsButton.enabled = has_regions
        ui.regionSegmentsFrame.visible = visible and segmentation is not None
        self._watch((node, segmentation.GetSegmentation()) if segmentation is not None else ())
        self._fill(table.rows_of(node))

    def forget(self) -> None:
        """Discard what could be undone, as when the scene closes."""
        self._undo.clear()

    def close(self) -> None:
        """Stop watching the table and its segments."""
        self._watch(())

    # -- what the user does

    def make(self) -> None:
        """Make a segment of each region in the current scan."""
        panel, volume = self._panel, self._panel.volume
        if volume is None:
            return
        parameters = panel.parameters

        def start() -> Task:
            return from_search(panel.logic, volume)

        def done(result: RegionSegments) -> None:
            parameters.regionsTable = result.table

        panel.run(_("The segments could not be created."), start, done)

    def merge(self) -> None:
        """Merge the chosen rows."""
        self._change(_("The rows could not be merged."), table.merge)

    def delete(self) -> None:
        """Delete the chosen rows and their segments."""
        self._change(_("The rows could not be deleted."), table.remove)

    def undo(self) -> None:
        """Restore the rows and segments as they were before the last time that rows were merged or deleted."""
        node = self._panel.parameters.regionsTable
        self._panel.attempt(_("The rows could not be restored."), lambda: self._undo.restore(node))
        self._on_selection()

    def save(self) -> None:
        """Save the table as a CSV file."""
        node = self._panel.parameters.regionsTable
        answer = qt.QFileDialog.getSaveFileName(
            slicer.util.mainWindow(), _("Save table"), f"{node.GetName()}.csv", _("CSV files (*.csv)")
        )
        path = chosen_path(answer)
        if path:
            path = path if path.lower().endswith(".csv") else f"{path}.csv"
            self._panel.attempt(_("The table could not be saved."), lambda: table.save_csv(node, path))

    def go_to(self, row: int) -> None:
        """Center the views on a region."""
        if 0 <= row < len(self.rows):
            volumes.jump_to(self.rows[row].ras)

    # -- internal

    def _change(self, failure: str, action: Callable[[slicer.vtkMRMLTableNode, Collection[str]], object]) -> None:
        """Change the table and the segments of the chosen rows so that it can be undone."""
        node, chosen = self._panel.parameters.regionsTable, self._chosen()

        def change() -> None:
            self._undo.save(node, chosen)
            try:
                action(node, chosen)
            except Exception:
                self._undo.drop()
                raise

        self._panel.attempt(failure, change)
        self._on_selection()

    def _chosen(self) -> list[str]:
        """The IDs of the segments of the chosen rows."""
        indices = self._panel.ui.regionSegmentsTable.selectionModel().selectedRows()
        return [self.rows[index.row()].segment_id for index in indices]

    def _fill(self, rows: list[Row]) -> None:
        if rows == self.rows:
            self._on_selection()
            return
        widget, self.rows, self._filling = self._panel.ui.regionSegmentsTable, rows, True
        widget.setRowCount(len(rows))
        for index, row in enumerate(rows):
            columns.put_texts(widget, index, _texts(row))
        widget.resizeColumnsToContents()
        widget.clearSelection()
        self._filling = False
        self._on_selection()

    def _on_selection(self) -> None:
        if self._filling or not self._panel.is_shown:
            return
        ui, count = self._panel.ui, len(self._chosen())
        ui.mergeRowsButton.enabled = count > 1
        ui.deleteRowsButton.enabled = count > 0
        ui.undoRowsButton.enabled = self._undo.can_restore(self._panel.parameters.regionsTable)
        ui.saveTableButton.enabled = bool(self.rows)

    def _watch(self, observed: tuple[object, ...]) -> None:
        if observed == self._observed:
            return
        self.removeObservers()
        self._observed = observed
        if observed:
            node, segmentation = observed
            self.addObserver(node, vtk.vtkCommand.ModifiedEvent, self._on_changed)
            for event in (slicer.vtkSegmentation.SegmentRemoved, slicer.vtkSegmentation.SegmentModified):
                self.addObserver(segmentation, event, self._on_changed)

    def _on_changed(self, *_: object) -> None:
        if self._panel.is_shown:
            self._fill(table.rows_of(self._panel.parameters.regionsTable))


def _texts(row: Row) -> tuple[str, ...]:
    """The cells of a row."""
    return row.name, f"{row.volume_ml:.2f}", f"{row.mean_hu:.0f}", f"{row.similarity:.2f}", format_position(row)
