"""Table of skipped scans and errors, with the reasons."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import qt
from slicer.i18n import tr as _

_MOST_PIXELS = 220


class ReportTable:
    """Shows names and reasons in a QTableWidget, which is hidden while it is empty.

    Args:
        table: the widget.
        headers: of its two columns; "Scan" and "Reason" if None.
    """

    def __init__(self, table: qt.QTableWidget, headers: tuple[str, str] | None = None) -> None:
        self._table = table
        table.setColumnCount(2)
        table.setHorizontalHeaderLabels(headers or (_("Scan"), _("Reason")))
        table.horizontalHeader().setStretchLastSection(True)
        table.verticalHeader().visible = False
        table.setWordWrap(True)
        table.visible = False
        self._opened: Callable[[int], object] | None = None
        table.connect("cellDoubleClicked(int,int)", lambda row, _column: self._opened(row) if self._opened else None)

    def fill(
        self, rows: Sequence[tuple[str, str]], with_folder: bool = False, opened: Callable[[int], object] | None = None
    ) -> None:
        """Show rows; of a path only the file name.

        Args:
            rows: name or path, and reason.
            with_folder: show the folder of the files, too. It is always shown when two files have the same name.
            opened: called with the number of a row that is double-clicked.
        """
        self._opened = opened
        paths = [name.replace("\\", "/") for name, _reason in rows]
        distinct = {path.rsplit("/", 1)[-1] for path in paths}
        parts = 2 if with_folder or len(distinct) < len(set(paths)) else 1
        self._table.visible = bool(rows)
        self._table.setRowCount(len(rows))
        for row, texts in enumerate(rows):
            for column, text in enumerate(texts):
                cell = qt.QTableWidgetItem("/".join(paths[row].split("/")[-parts:]) if column == 0 else text)
                cell.setFlags(qt.Qt.ItemIsSelectable | qt.Qt.ItemIsEnabled)
                cell.setToolTip(text if opened is None else _("{text}\nDouble-click to open the scan").format(text=text))
                self._table.setItem(row, column, cell)
        self._table.resizeColumnToContents(0)
        # As high as its rows, up to a limit from which it scrolls. Rows are fitted again once the scroll bar takes its width.
        self._table.setVerticalScrollBarPolicy(qt.Qt.ScrollBarAlwaysOff)
        self._table.resizeRowsToContents()
        height = self._table.horizontalHeader().height + sum(self._table.rowHeight(row) for row in range(len(rows))) + 4
        self._table.setFixedHeight(min(height, _MOST_PIXELS))
        if height > _MOST_PIXELS:
            self._table.setVerticalScrollBarPolicy(qt.Qt.ScrollBarAlwaysOn)
            self._table.resizeRowsToContents()
