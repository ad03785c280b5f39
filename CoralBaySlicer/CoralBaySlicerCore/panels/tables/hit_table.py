"""Table of the results of a library search, with thumbnails."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeGuard

import numpy as np
import qt
from numpy.typing import NDArray
from slicer.i18n import tr as _

from CoralBaySlicerCore.work.library.thumbnails import PIXELS, Position, ppm

from .columns import put_texts, set_up
from .region_table import format_position

if TYPE_CHECKING:
    from CoralBayLib.library.search import RegionHit, ScanHit

_PICTURE, _SCORE, _POSITION, _SCAN = range(4)


class HitTable:
    """Shows the results of a library search in a QTableWidget, the best first.

    Args:
        table: the widget.
        opened: called with a hit when its row is double-clicked.

    Attributes:
        hits: the library's `RegionHit` or `ScanHit`, row by row.
    """

    def __init__(self, table: qt.QTableWidget, opened: Callable[[RegionHit | ScanHit], None]) -> None:
        self.hits: list[RegionHit | ScanHit] = []
        self._table, self._opened = table, opened
        position_tip = _("Right or left, anterior or posterior, superior or inferior, in the coordinates of the scan")
        set_up(
            table,
            (
                (_("Picture"), _("Axial slice around the region, or through the middle of the scan")),
                (_("Score"), _("Similarity to the query; 1 is the query itself")),
                (_("Position (RAS, mm)"), position_tip),
                (_("Scan"), _("The file or folder of the scan")),
            ),
        )
        table.resizeColumnsToContents()
        table.verticalHeader().setDefaultSectionSize(PIXELS + 4)
        table.setIconSize(qt.QSize(PIXELS, PIXELS))
        table.connect("cellDoubleClicked(int,int)", lambda row, _column: self._open(row))

    def fill(self, hits: Sequence[RegionHit | ScanHit]) -> None:
        """Show hits, at first without thumbnails."""
        self.hits = list(hits)
        self._table.setRowCount(len(self.hits))
        for row, hit in enumerate(self.hits):
            texts = ("", f"{hit.score:.2f}", format_position(hit) if is_region(hit) else "", scan_name(hit))
            put_texts(self._table, row, texts, _tip(hit))
        self._table.resizeColumnsToContents()
        self._table.setColumnWidth(_PICTURE, PIXELS + 8)
        self._table.setColumnHidden(_POSITION, bool(self.hits) and not is_region(self.hits[0]))

    def show_picture(self, scan: str, where: Position, picture: NDArray[np.uint8]) -> None:
        """Show a thumbnail in the rows of its scan and position."""
        pixmap = qt.QPixmap()
        pixmap.loadFromData(ppm(picture))
        for row, hit in enumerate(self.hits):
            if hit.scan == scan and getattr(hit, "ras", None) == where:
                self._table.item(row, _PICTURE).setIcon(qt.QIcon(pixmap))

    def _open(self, row: int) -> None:
        if 0 <= row < len(self.hits):
            self._opened(self.hits[row])


def is_region(hit: RegionHit | ScanHit) -> TypeGuard[RegionHit]:
    """Whether a hit is a region of a scan, rather than a whole scan."""
    return getattr(hit, "ras", None) is not None


def scan_name(hit: RegionHit | ScanHit) -> str:
    """The name of a scan: the end of its path, with a note if the file is missing."""
    # File names alone are often the same in many folders.
    name = "/".join(Path(hit.path.replace("\\", "/") if hit.file_exists is None else hit.path).parts[-2:])
    if hit.is_query_scan:
        return _("{name} (this scan)").format(name=name) if hit.path else _("This scan")
    if not hit.path:
        return _("Scan {digits}, not from a file").format(digits=hit.scan[:8])
    if hit.file_exists is None:
        return _("{name} (on a network share)").format(name=name)
    return name if hit.file_exists else _("{name} (moved or deleted)").format(name=name)


def _tip(hit: RegionHit | ScanHit) -> str:
    if hit.file_exists is None and not hit.is_query_scan:
        return _("{path}\nDouble-click to connect to the network share and open the scan").format(path=hit.path)
    if hit.file_exists or hit.is_query_scan:
        return _("{path}\nDouble-click to open the scan at this region").format(path=hit.path).strip()
    return missing_message(hit.path)


def missing_message(path: str) -> str:
    """A message that says why a scan cannot be opened, and what to do."""
    if not path:
        return _("This scan was not added from a file, so it cannot be opened from here.")
    return _(
        "The scan is no longer at\n{path}\n\nConnect its drive. If the scan was moved, add its new folder under 'Library': "
        "the scan is recognized, and its features are not computed again."
    ).format(path=path)
