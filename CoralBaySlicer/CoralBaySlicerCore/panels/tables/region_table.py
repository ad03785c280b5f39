"""Table of similar regions, sorted by its headers and browsed with mouse or keys."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import qt
from slicer.i18n import tr as _

from CoralBaySlicerCore.scene.regions.table import Row
from CoralBaySlicerCore.work.tasks import FoundRegion

from .columns import put_texts, set_up

if TYPE_CHECKING:
    from CoralBayLib.library.search import RegionHit

_RANK, _SCORE, _VOLUME, _POSITION, _SCAN = range(5)
_KEYS: dict[int, Callable[[FoundRegion], Any]] = {
    _RANK: lambda region: region.rank,
    # The first click on a header shows the best, or the largest, first.
    _SCORE: lambda region: -region.score,
    _VOLUME: lambda region: -region.volume_ml,
    # From superior to inferior.
    _POSITION: lambda region: -region.ras[2],
    _SCAN: lambda region: (region.volume.casefold(), region.rank),
}


class RegionTable:
    """Shows regions in a QTableWidget.

    Args:
        table: the widget.
        chosen: called with a region when its row is clicked or reached with the keys.

    Attributes:
        regions: in the order of the rows.
    """

    def __init__(self, table: qt.QTableWidget, chosen: Callable[[FoundRegion], None]) -> None:
        self.regions: list[FoundRegion] = []
        self._table, self._chosen = table, chosen
        self._filling = False
        self._sorted_by, self._falling = _RANK, False
        rank_tip = _("Rank by similarity over all scans that were searched. Click a header to sort by its column.")
        position_tip = _("The most similar point of the region: right or left, anterior or posterior, superior or inferior")
        set_up(
            table,
            (
                (_("Rank"), rank_tip),
                (_("Score"), _("Similarity at the most similar point of the region; 1 is the query itself")),
                (_("Volume"), _("Volume of the connected region above the similarity threshold, in milliliters")),
                (_("Position (RAS, mm)"), position_tip),
                (_("Scan"), _("The scan that contains the region")),
            ),
        )
        table.resizeColumnsToContents()
        header = table.horizontalHeader()
        header.setSortIndicatorShown(True)
        header.setSortIndicator(_RANK, qt.Qt.AscendingOrder)
        header.connect("sectionClicked(int)", self._on_header)
        table.connect("cellClicked(int,int)", lambda row, _column: self._choose(row))
        table.connect("currentCellChanged(int,int,int,int)", lambda row, *_: self._choose(row))

    def fill(self, regions: Sequence[FoundRegion]) -> None:
        """Show regions, sorted as before."""
        self.regions = sorted(regions, key=_KEYS[self._sorted_by], reverse=self._falling)
        self._filling = True
        self._table.setRowCount(len(self.regions))
        for row, region in enumerate(self.regions):
            texts = (str(region.rank), f"{region.score:.2f}", _size(region), format_position(region), region.volume)
            put_texts(self._table, row, texts, _("Click to go to this region. The up and down keys go to the next ones."))
        # Of one scan, the column says nothing, and the panel is narrow.
        self._table.setColumnHidden(_SCAN, len({region.node_id for region in self.regions}) < 2)
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


def format_position(region: FoundRegion | RegionHit | Row) -> str:
    """A position in RAS mm as text, such as "R 55 A 72 I 226"."""
    sides = ((_("R"), _("L")), (_("A"), _("P")), (_("S"), _("I")))
    return " ".join(f"{side[part < 0]} {abs(part):.0f}" for side, part in zip(sides, region.ras, strict=True))


def _size(region: FoundRegion) -> str:
    if region.within:
        return _("part of {rank}").format(rank=region.within)
    return _("{volume} ml").format(volume=f"{region.volume_ml:.1f}")
