"""Columns and cells of the tables that are shown, not edited."""

from __future__ import annotations

from collections.abc import Sequence

import qt

ROW_PIXELS = 22
"""Height of a row with one line of text."""


def set_up(table: qt.QTableWidget, columns: Sequence[tuple[str, str]]) -> None:
    """Give a table its columns; the last one takes the width that is left, and rows have no numbers.

    Args:
        table: the widget.
        columns: title and tooltip of each; "" for no tooltip.
    """
    table.setColumnCount(len(columns))
    table.setHorizontalHeaderLabels([title for title, _tip in columns])
    for column, (_title, tip) in enumerate(columns):
        table.horizontalHeaderItem(column).setToolTip(tip)
    table.horizontalHeader().setStretchLastSection(True)
    table.verticalHeader().visible = False
    table.verticalHeader().setDefaultSectionSize(ROW_PIXELS)


def put_texts(table: qt.QTableWidget, row: int, texts: Sequence[str], tip: str = "") -> None:
    """Fill a row with cells that can be selected, but not edited."""
    for column, text in enumerate(texts):
        cell = qt.QTableWidgetItem(text)
        cell.setFlags(qt.Qt.ItemIsSelectable | qt.Qt.ItemIsEnabled)
        cell.setToolTip(tip)
        table.setItem(row, column, cell)
