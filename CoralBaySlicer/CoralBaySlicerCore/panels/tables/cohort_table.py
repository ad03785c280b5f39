"""Table of the scans of a cohort."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import qt
from slicer.i18n import tr as _

from CoralBayLib.cohort.status import State

from .columns import put_texts, set_up

if TYPE_CHECKING:
    from CoralBayLib.cohort import ScanStatus

_NOTE = 3


def state_name(state: State) -> str:
    """The word for a state, in the user's language."""
    words = {
        State.TO_DO: _("to do"),
        State.SUGGESTED: _("suggested"),
        State.CORRECTED: _("corrected, not accepted"),
        State.ACCEPTED: _("accepted"),
    }
    return words[state]


class CohortTable:
    """Shows scans in a QTableWidget.

    Args:
        table: the widget.
        opened: called with the name of a scan when its row is double-clicked.

    Attributes:
        scans: row by row.
    """

    def __init__(self, table: qt.QTableWidget, opened: Callable[[str], None]) -> None:
        self.scans: list[ScanStatus] = []
        self._table, self._opened = table, opened
        dice_tip = _("Dice coefficient that the suggestion is expected to have, averaged over the structures (1 is perfect)")
        set_up(
            table,
            (
                (_("Scan"), _("Double-click to open the scan with its segmentation or a suggestion")),
                (_("State"), _("To do, suggested by the probe, corrected but not accepted yet, or accepted")),
                (_("Estimate"), dice_tip),
                (_("Note"), _("Differences from the other scans, and problems with the files")),
            ),
        )
        table.connect("cellDoubleClicked(int,int)", lambda row, _column: self._open(row))

    def fill(self, scans: Sequence[ScanStatus], current: str = "") -> None:
        """Show scans.

        Args:
            scans: to show.
            current: the name of the one that is open, which is marked.
        """
        self.scans = list(scans)
        self._table.setRowCount(len(self.scans))
        for row, scan in enumerate(self.scans):
            dice = "" if scan.estimated_dice is None else f"{scan.estimated_dice:.2f}"
            name = _("{scan} (open)").format(scan=scan.name) if scan.name == current else scan.name
            note = " ".join(scan.flags)
            put_texts(self._table, row, (name, state_name(scan.state), dice, note), note or scan.path)
        for column in range(_NOTE):
            self._table.resizeColumnToContents(column)

    def _open(self, row: int) -> None:
        if 0 <= row < len(self.scans):
            self._opened(self.scans[row].name)
