"""Section of step 5: which of two classes is the positive one."""

from __future__ import annotations

from CoralBayLib.scan_probes.tables.cells import class_names, likely_positive
from CoralBaySlicerCore.panels.base import Panel
from CoralBaySlicerCore.scene import scan_tables


class PositiveClass:
    """Lets the user choose the positive class where the target column has two.

    Args:
        panel: of step 5.
    """

    def __init__(self, panel: Panel) -> None:
        self._panel = panel
        self._read: tuple | None = None
        self._classes: list[str] = []
        self._updating = False
        panel.ui.positiveSelector.connect("currentIndexChanged(int)", lambda *_: self._on_chosen())

    @property
    def chosen(self) -> str:
        """The positive class; "" if there are not two classes."""
        given = self._panel.parameters.positiveClass
        return given if len(self._classes) == 2 and given in self._classes else likely_positive(self._classes)

    def refresh(self) -> None:
        """Offer the classes of the target column."""
        ui, parameters = self._panel.ui, self._panel.parameters
        table = parameters.scansTable
        column = parameters.targetColumn if parameters.scansTask == "classify" else ""
        # A table may have many rows: they are read when they have changed.
        now = (table, table.GetMTime() if table is not None else 0, column)
        if now != self._read:
            self._read, self._classes = now, class_names(scan_tables.cells_of(table, column) if column else [])
        two, selector = len(self._classes) == 2, ui.positiveSelector
        self._updating = True
        if [selector.itemText(n) for n in range(selector.count)] != (self._classes if two else []):
            selector.clear()
            for name in self._classes if two else ():
                selector.addItem(name, name)
        selector.currentIndex = selector.findData(self.chosen)
        self._updating = False
        selector.visible = ui.positiveSelectorLabel.visible = two

    def _on_chosen(self) -> None:
        selector = self._panel.ui.positiveSelector
        if not self._updating and self._panel.is_shown and selector.currentIndex >= 0:
            self._panel.parameters.positiveClass = str(selector.currentData)
