"""Table of the structures of a scan, with their colors, points, keys and how good the preview is expected to be."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import qt
from slicer.i18n import tr as _

from CoralBayLib.fewshot.wording import brief_dice, explain_dice
from CoralBaySlicerCore.scene import boxes, masks
from CoralBaySlicerCore.scene.structures import Structure

_NAME, _COUNT, _KEY, _DICE = range(4)


class StructureTable:
    """Shows structures in a QTableWidget.

    Args:
        table: the widget.
        selected: called with a structure when the user selects its row.
        renamed: called with a structure and the text when the user has edited its name.
    """

    def __init__(
        self, table: qt.QTableWidget, selected: Callable[[Structure], None], renamed: Callable[[Structure, str], None]
    ) -> None:
        self._table, self._selected, self._renamed = table, selected, renamed
        self._structures: list[Structure] = []
        self._filling = False
        table.setColumnCount(4)
        table.setHorizontalHeaderLabels([_("Structure"), _("Points"), _("Key"), _("Estimate")])
        table.horizontalHeader().setSectionResizeMode(_NAME, qt.QHeaderView.Stretch)
        for column in (_COUNT, _KEY, _DICE):
            table.horizontalHeader().setSectionResizeMode(column, qt.QHeaderView.ResizeToContents)
        table.verticalHeader().visible = False
        table.verticalHeader().setDefaultSectionSize(22)
        table.connect("itemSelectionChanged()", self._on_selected)
        table.connect("itemChanged(QTableWidgetItem*)", self._on_changed)

    def fill(self, structures: Sequence[Structure], active: int, estimates: Mapping[int, tuple[float, float]]) -> None:
        """Show structures.

        Args:
            structures: in the order of the rows.
            active: label of the structure whose row is selected.
            estimates: estimated Dice and its standard deviation, by label.
        """
        self._structures, table = list(structures), self._table
        self._filling = True
        table.setRowCount(len(self._structures))
        for row, structure in enumerate(self._structures):
            name = qt.QTableWidgetItem(structure.name)
            name.setData(qt.Qt.DecorationRole, qt.QColor(*(round(255 * part) for part in structure.color)))
            name.setToolTip(_("Double-click to rename. Select to place points and to see the probability."))
            estimate = estimates.get(structure.label)
            texts = (_prompts(structure), str(structure.label), "" if estimate is None else brief_dice(estimate[0]))
            cells = (name, *(qt.QTableWidgetItem(text) for text in texts))
            if estimate is not None:
                cells[_DICE].setToolTip(explain_dice(*estimate))
            for column, cell in enumerate(cells):
                if column != _NAME or structure.label == 0:
                    cell.setFlags(qt.Qt.ItemIsSelectable | qt.Qt.ItemIsEnabled)
                table.setItem(row, column, cell)
            if structure.label == active:
                table.selectRow(row)
        self._filling = False

    def _on_selected(self) -> None:
        row = self._table.currentRow()
        if not self._filling and 0 <= row < len(self._structures):
            self._selected(self._structures[row])

    def _on_changed(self, item: qt.QTableWidgetItem) -> None:
        if not self._filling and item.column() == _NAME and 0 <= item.row() < len(self._structures):
            self._renamed(self._structures[item.row()], item.text().strip())


def _prompts(structure: Structure) -> str:
    """How many points a structure has, and what else."""
    parts = [str(len(structure.world_points()))]
    if boxes.node_of(structure) is not None:
        parts.append(_("box"))
    if masks.start_of(structure) is not None:
        parts.append(_("segment"))
    return " + ".join(parts)
