"""CTK's widgets for a range of numbers.

Headers: CTK Libs/Widgets/ctkDoubleRangeSlider.h and ctkRangeWidget.h.
"""

from typing import Any

from host.qt.pythonqt import shim
from host.qt.qtproperty import row, stored
from PySide6 import QtGui, QtWidgets
from PySide6.QtCore import Property, Signal


class _RangeBar(QtWidgets.QWidget):
    """The picture of a range slider; it cannot be dragged."""

    def __init__(self, owner: Any) -> None:
        super().__init__(owner)
        self._owner = owner
        self.setMinimumSize(60, 22)

    def paintEvent(self, event: QtGui.QPaintEvent) -> None:
        low, high = self._owner._bounds
        span = (high - low) or 1.0
        width, middle = self.width - 12, self.height // 2
        ends = [6 + round((value - low) / span * width) for value in self._owner._values]
        painter = QtGui.QPainter(self)
        painter.fillRect(6, middle - 2, width, 4, self.palette.mid())
        painter.fillRect(ends[0], middle - 2, ends[1] - ends[0], 4, self.palette.highlight())
        painter.setBrush(self.palette.button())
        for end in ends:
            painter.drawRoundedRect(end - 4, middle - 8, 8, 16, 2, 2)


class _Range(QtWidgets.QWidget):
    """What CTK's two range widgets share."""

    valuesChanged = Signal(float, float)
    minimumValueChanged = Signal(float)
    maximumValueChanged = Signal(float)
    rangeChanged = Signal(float, float)

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._bounds = [0.0, 99.0]
        self._values = [0.0, 99.0]
        self._bar = _RangeBar(self)

    def setValues(self, minimum: float, maximum: float) -> None:
        low, high = self._bounds
        taken = sorted(min(max(float(value), low), high) for value in (minimum, maximum))
        changed = [taken[0] != self._values[0], taken[1] != self._values[1]]
        self._values = taken
        self._refresh()
        if changed[0]:
            self.minimumValueChanged.emit(taken[0])
        if changed[1]:
            self.maximumValueChanged.emit(taken[1])
        if any(changed):
            self.valuesChanged.emit(*taken)

    def setRange(self, minimum: float, maximum: float) -> None:
        self._bounds = [minimum, maximum]
        self.rangeChanged.emit(*self._bounds)
        self.setValues(*self._values)

    def setMinimumValue(self, value: float) -> None:
        self.setValues(value, max(value, self._values[1]))

    def setMaximumValue(self, value: float) -> None:
        self.setValues(min(value, self._values[0]), value)

    def _refresh(self) -> None:
        self._bar.update()

    minimum = Property(
        float, lambda self: self._bounds[0], lambda self, value: self.setRange(value, max(value, self._bounds[1]))
    )
    maximum = Property(
        float, lambda self: self._bounds[1], lambda self, value: self.setRange(min(value, self._bounds[0]), value)
    )
    minimumValue = Property(float, lambda self: self._values[0], setMinimumValue)
    maximumValue = Property(float, lambda self: self._values[1], setMaximumValue)
    singleStep = stored(float, 1.0)
    tickInterval = stored(float, 0.0)
    tracking = stored(bool, True)
    symmetricMoves = stored(bool, False)


@shim
class ctkDoubleRangeSlider(_Range):
    """Header: CTK Libs/Widgets/ctkDoubleRangeSlider.h."""

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        row(self, self._bar)


@shim
class ctkRangeWidget(_Range):
    """Header: CTK Libs/Widgets/ctkRangeWidget.h."""

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._boxes = [QtWidgets.QDoubleSpinBox(self), QtWidgets.QDoubleSpinBox(self)]
        row(self, self._boxes[0], self._bar, self._boxes[1]).setStretch(1, 1)
        self._refresh()
        for box in self._boxes:
            box.valueChanged.connect(lambda: self.setValues(*(part.value for part in self._boxes)))

    def _refresh(self) -> None:
        for box, value in zip(self._boxes, self._values, strict=True):
            box.blockSignals(True)
            box.setRange(*self._bounds)
            box.setValue(value)
            box.blockSignals(False)
        super()._refresh()

    def setDecimals(self, decimals: int) -> None:
        for box in self._boxes:
            box.setDecimals(decimals)

    def reset(self) -> None:
        self.setValues(*self._bounds)

    def _set_text(self, name: str, value: str) -> None:
        for box in self._boxes:
            setattr(box, name, value)

    decimals = Property(int, lambda self: self._boxes[0].decimals, setDecimals)
    prefix = Property(str, lambda self: self._boxes[0].prefix, lambda self, value: self._set_text("prefix", value))
    suffix = Property(str, lambda self: self._boxes[0].suffix, lambda self, value: self._set_text("suffix", value))
