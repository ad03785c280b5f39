"""The table of regions that were found: read, sorted, and walked through with mouse or keys."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import qt
from slicer.i18n import tr as _

from CoralBaySlicerCore.work.tasks import FoundRegion

_RANK, _SCORE, _VOLUME, _PLACE, _SCAN = range(5)
_KEYS: dict[int, Callable[[FoundRegion], Any]] = {
    _RANK: lambda region: region.rank,
    # The first click on a header asks for the best, or the largest.
    _SCORE: lambda region: -region.score,
    _VOLUME: lambda region: -region.volume_ml,
    # From the head downwards.
    _PLACE: lambda region: -region.ras[2],
    _SCAN: lambda region: (region.volume.casefold(), region.rank),
}


class RegionTable:
    """Shows regions in a QTableWidget.

    Args:
        table: the widget.
        chosen: called with a region when its row is clicked or reached with the keys.

    Attributes:
        regions: as the table shows them, row by row.
    """

    def __init__(self, table: Any, chosen: Callable[[FoundRegion], None]) -> None:
        self.regions: list[FoundRegion] = []
        self._table, self._chosen = table, chosen
        self._filling = False
        self._sorted_by, self._falling = _RANK, False
        headers = (_("Rank"), _("Score"), _("Volume"), _("Place (mm)"), _("Scan"))
        table.setColumnCount(len(headers))
        table.setHorizontalHeaderLabels(headers)
        tips = (
            _("By similarity, over all scans that were searched; click a header to sort by its column"),
            _("Similarity at the best place of the region; 1 is the query itself"),
            _("Millilitres of the connected piece that is at least as similar as the threshold asks"),
            _("The best place of the region: right or left, anterior or posterior, superior or inferior"),
            _("The scan the region lies in"),
        )
        for column, tip in enumerate(tips):
            table.horizontalHeaderItem(column).setToolTip(tip)
        table.resizeColumnsToContents()
        header = table.horizontalHeader()
        header.setStretchLastSection(True)
        header.setSortIndicatorShown(True)
        header.setSortIndicator(_RANK, qt.Qt.AscendingOrder)
        header.connect("sectionClicked(int)", self._on_header)
        table.verticalHeader().visible = False
        table.verticalHeader().setDefaultSectionSize(22)
        table.connect("cellClicked(int,int)", lambda row, _column: self._choose(row))
        table.connect("currentCellChanged(int,int,int,int)", lambda row, *_: self._choose(row))

    def fill(self, regions: Sequence[FoundRegion]) -> None:
        """Show other regions, sorted as before."""
        self.regions = sorted(regions, key=_KEYS[self._sorted_by], reverse=self._falling)
        self._filling = True
        self._table.setRowCount(len(self.regions))
        for row, region in enumerate(self.regions):
            for column, text in enumerate(
                (str(region.rank), f"{region.score:.2f}", _size(region), place(region), region.volume)
            ):
                cell = qt.QTableWidgetItem(text)
                cell.setFlags(qt.Qt.ItemIsSelectable | qt.Qt.ItemIsEnabled)
                cell.setToolTip(_("Click to go there; the up and down keys go on from here"))
                self._table.setItem(row, column, cell)
        self._table.resizeColumnsToContents()
        self._table.clearSelection()
        self._table.setCurrentCell(-1, -1)
        self._filling = False

    def _choose(self, row: int) -> None:
        if not self._filling and 0 <= row < len(self.regions):
            self._chosen(self.regions[row])

    def _on_header(self, column: int) -> None:
        self._falling = not self._falling if column == self._sorted_by else False
        self._sorted_by = column
        order = qt.Qt.DescendingOrder if self._falling else qt.Qt.AscendingOrder
        self._table.horizontalHeader().setSortIndicator(column, order)
        self.fill(self.regions)


def place(region: FoundRegion) -> str:
    """Where a region is, as radiologists say it: "R 55 A 72 I 226", in mm from the middle of the world."""
    sides = ((_("R"), _("L")), (_("A"), _("P")), (_("S"), _("I")))
    return " ".join(f"{side[part < 0]} {abs(part):.0f}" for side, part in zip(sides, region.ras, strict=True))


def _size(region: FoundRegion) -> str:
    if region.within:
        return _("part of {rank}").format(rank=region.within)
    return _("{volume} ml").format(volume=f"{region.volume_ml:.1f}")
