"""CTK's widgets for one number: sliders and spin boxes."""

from math import isfinite
from typing import ClassVar

from host.qt.pythonqt import shim
from host.qt.qtproperty import forwarded, row, stored
from PySide6 import QtCore, QtWidgets
from PySide6.QtCore import Property, Signal

_STEPS = 10000


@shim
class ctkDoubleSlider(QtWidgets.QWidget):
    """Header: CTK Libs/Widgets/ctkDoubleSlider.h."""

    valueChanged = Signal(float)
    sliderMoved = Signal(float)
    sliderPressed = Signal()
    sliderReleased = Signal()
    rangeChanged = Signal(float, float)

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._slider = QtWidgets.QSlider(QtCore.Qt.Orientation.Horizontal, self)
        self._slider.setRange(0, _STEPS)
        self._range = [0.0, 99.0]
        self._value = 0.0
        row(self, self._slider)
        self._slider.valueChanged.connect(self._on_slider)
        self._slider.sliderPressed.connect(self.sliderPressed)
        self._slider.sliderReleased.connect(self.sliderReleased)

    def _on_slider(self, step: int) -> None:
        low, high = self._range
        value = low + (high - low) * step / _STEPS
        if self._slider.isSliderDown():
            self.sliderMoved.emit(value)
        self._take(value)

    def _take(self, value: float) -> None:
        low, high = self._range
        value = min(max(float(value), low), high)
        if value == self._value:
            return
        self._value = value
        self._show()
        self.valueChanged.emit(value)

    def _show(self) -> None:
        low, high = self._range
        self._slider.blockSignals(True)
        # An unbounded slider has no place for its handle.
        drawable = high > low and isfinite(high - low)
        self._slider.setValue(round((self._value - low) / (high - low) * _STEPS) if drawable else 0)
        self._slider.blockSignals(False)

    def setValue(self, value: float) -> None:
        self._take(value)

    def setOrientation(self, orientation: QtCore.Qt.Orientation) -> None:
        self._slider.setOrientation(orientation)

    def _set_bound(self, index: int, value: float) -> None:
        self._range[index] = float(value)
        # CTK drags the other end along rather than refuse.
        if self._range[0] > self._range[1]:
            self._range[1 - index] = float(value)
        self.rangeChanged.emit(*self._range)
        self._take(self._value)
        self._show()

    value = Property(float, lambda self: self._value, setValue)
    sliderPosition = Property(float, lambda self: self._value, setValue)
    minimum = Property(float, lambda self: self._range[0], lambda self, value: self._set_bound(0, value))
    maximum = Property(float, lambda self: self._range[1], lambda self, value: self._set_bound(1, value))
    singleStep = stored(float, 1.0)
    pageStep = stored(float, 10.0)
    tickInterval = stored(float, 0.0)
    tracking = forwarded(bool, "_slider", "tracking")
    orientation = forwarded(QtCore.Qt.Orientation, "_slider", "orientation")


@shim
class ctkDoubleSpinBox(QtWidgets.QWidget):
    """Header: CTK Libs/Widgets/ctkDoubleSpinBox.h."""

    valueChanged = Signal(float)
    _valueChangedText = Signal(str)
    decimalsChanged = Signal(int)
    editingFinished = Signal()
    _overloads: ClassVar = {"valueChanged(QString)": "_valueChangedText"}

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._box = QtWidgets.QDoubleSpinBox(self)
        row(self, self._box)
        self._box.valueChanged.connect(self.valueChanged)
        self._box.textChanged.connect(self._valueChangedText)
        self._box.editingFinished.connect(self.editingFinished)

    def setValue(self, value: float) -> None:
        self._box.setValue(value)

    def setValueIfDifferent(self, value: float) -> None:
        self._box.setValue(value)

    def setDecimals(self, decimals: int) -> None:
        self._box.setDecimals(decimals)
        self.decimalsChanged.emit(decimals)

    def setReadOnly(self, read_only: bool) -> None:
        self._box.setReadOnly(read_only)

    def stepUp(self) -> None:
        self._box.stepUp()

    def stepDown(self) -> None:
        self._box.stepDown()

    value = forwarded(float, "_box", "value")
    minimum = Property(float, lambda self: self._box.minimum, lambda self, value: self._box.setMinimum(value))
    maximum = Property(float, lambda self: self._box.maximum, lambda self, value: self._box.setMaximum(value))
    singleStep = forwarded(float, "_box", "singleStep")
    decimals = Property(int, lambda self: self._box.decimals, setDecimals)
    prefix = forwarded(str, "_box", "prefix")
    suffix = forwarded(str, "_box", "suffix")
    cleanText = Property(str, lambda self: self._box.cleanText)
    readOnly = forwarded(bool, "_box", "readOnly")
    frame = forwarded(bool, "_box", "frame")
    alignment = forwarded(QtCore.Qt.AlignmentFlag, "_box", "alignment")


@shim
class ctkSliderWidget(QtWidgets.QWidget):
    """Header: CTK Libs/Widgets/ctkSliderWidget.h."""

    valueChanged = Signal(float)
    valueIsChanging = Signal(float)
    decimalsChanged = Signal(int)

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._slider = ctkDoubleSlider(self)
        self._box = QtWidgets.QDoubleSpinBox(self)
        self._box.setRange(0, 99)
        self._pending = False
        row(self, self._slider, self._box).setStretch(0, 1)
        self._slider.valueChanged.connect(self._on_part)
        self._box.valueChanged.connect(self._on_part)
        self._slider.sliderReleased.connect(self._on_released)

    def _on_part(self, value: float) -> None:
        value = round(value, self._box.decimals)
        for part in (self._slider, self._box):
            part.blockSignals(True)
            part.setValue(value)
            part.blockSignals(False)
        if self._slider._slider.isSliderDown() and not self.tracking:
            self._pending = True
            self.valueIsChanging.emit(value)
        else:
            self.valueChanged.emit(value)

    def _on_released(self) -> None:
        if self._pending:
            self._pending = False
            self.valueChanged.emit(self._box.value)

    def setValue(self, value: float) -> None:
        self._box.setValue(value)

    def setDecimals(self, decimals: int) -> None:
        self._box.setDecimals(decimals)
        self.decimalsChanged.emit(decimals)

    def setSpinBoxVisible(self, visible: bool) -> None:
        self._box.setVisible(visible)

    def reset(self) -> None:
        self.setValue(0.0)

    def _set_minimum(self, value: float) -> None:
        self._slider.minimum = value
        self._box.setMinimum(value)
        self._align()

    def _set_maximum(self, value: float) -> None:
        self._slider.maximum = value
        self._box.setMaximum(value)
        self._align()

    def _align(self) -> None:
        # As CTK's default: the boxes of sliders below one another are equally wide.
        siblings = self.parent().findChildren(ctkSliderWidget) if self.parent() is not None else [self]
        width = max(each._box.sizeHint().width() for each in siblings)
        for each in siblings:
            each._box.setMinimumWidth(width)

    value = forwarded(float, "_box", "value")
    minimum = Property(float, lambda self: self._box.minimum, _set_minimum)
    maximum = Property(float, lambda self: self._box.maximum, _set_maximum)
    singleStep = forwarded(float, "_box", "singleStep")
    pageStep = stored(float, 10.0)
    decimals = Property(int, lambda self: self._box.decimals, setDecimals)
    prefix = forwarded(str, "_box", "prefix")
    suffix = forwarded(str, "_box", "suffix")
    tracking = stored(bool, True)
    tickInterval = stored(float, 0.0)
    spinBoxVisible = Property(bool, lambda self: not self._box.isHidden(), setSpinBoxVisible)
