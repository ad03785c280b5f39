"""CTK's buttons, boxes and choosers."""

from pathlib import Path
from typing import Any

from host.qt.pythonqt import shim
from host.qt.qtproperty import forwarded, row, stored
from PySide6 import QtCore, QtGui, QtWidgets
from PySide6.QtCore import Property, Signal


@shim
class ctkCollapsibleButton(QtWidgets.QAbstractButton):
    """Header: CTK Libs/Widgets/ctkCollapsibleButton.h."""

    contentsCollapsed = Signal(bool)
    _HEADER = 24

    def __init__(self, *arguments: Any) -> None:
        parent = next((part for part in arguments if isinstance(part, QtWidgets.QWidget)), None)
        super().__init__(parent)
        self.setText(next((part for part in arguments if isinstance(part, str)), ""))
        self.setCheckable(True)
        self.setChecked(True)
        self.setContentsMargins(0, self._HEADER, 0, 0)
        self.setSizePolicy(QtWidgets.QSizePolicy.Policy.Preferred, QtWidgets.QSizePolicy.Policy.Preferred)
        self.toggled.connect(self._on_toggled)

    def _on_toggled(self, opened: bool) -> None:
        for child in self.findChildren(QtWidgets.QWidget, options=QtCore.Qt.FindChildOption.FindDirectChildrenOnly):
            child.setVisible(opened)
        self.setMaximumHeight(16777215 if opened else self._HEADER)
        self.updateGeometry()
        self.contentsCollapsed.emit(not opened)

    def childEvent(self, event: QtCore.QChildEvent) -> None:
        # A page that is filled while it is closed stays closed.
        if event.added() and event.child().isWidgetType() and not self.isChecked():
            event.child().setVisible(False)

    def minimumSizeHint(self) -> QtCore.QSize:
        layout = self.layout()
        inner = layout.minimumSize() if layout is not None and self.isChecked() else QtCore.QSize(0, 0)
        title = self.fontMetrics().horizontalAdvance(self.text) + 40
        return QtCore.QSize(max(inner.width(), title), inner.height() + self._HEADER)

    def sizeHint(self) -> QtCore.QSize:
        layout = self.layout()
        inner = layout.sizeHint() if layout is not None and self.isChecked() else QtCore.QSize(0, 0)
        return inner.expandedTo(self.minimumSizeHint())

    def hitButton(self, position: QtCore.QPoint) -> bool:
        return position.y() < self._HEADER

    def paintEvent(self, event: QtGui.QPaintEvent) -> None:
        painter = QtWidgets.QStylePainter(self)
        header = QtCore.QRect(0, 0, self.width, self._HEADER)
        button = QtWidgets.QStyleOptionButton()
        button.initFrom(self)
        button.rect = header
        painter.drawControl(QtWidgets.QStyle.ControlElement.CE_PushButtonBevel, button)
        arrow = QtWidgets.QStyleOption()
        arrow.initFrom(self)
        arrow.rect = QtCore.QRect(8, self._HEADER // 2 - 5, 10, 10)
        kind = QtWidgets.QStyle.PrimitiveElement
        painter.drawPrimitive(kind.PE_IndicatorArrowDown if self.isChecked() else kind.PE_IndicatorArrowRight, arrow)
        painter.drawText(
            header.adjusted(26, 0, -4, 0),
            QtCore.Qt.AlignmentFlag.AlignVCenter | QtCore.Qt.TextFlag.TextShowMnemonic,
            self.text,
        )

    collapsed = Property(bool, lambda self: not self.isChecked(), lambda self, value: self.setChecked(not value))
    collapsedHeight = stored(int, 0)
    flat = stored(bool, False)
    contentsFrameShape = stored(int, 0)
    contentsFrameShadow = stored(int, 0)
    contentsLineWidth = stored(int, 1)
    contentsMidLineWidth = stored(int, 0)


@shim
class ctkCollapsibleGroupBox(QtWidgets.QGroupBox):
    """Header: CTK Libs/Widgets/ctkCollapsibleGroupBox.h."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.setCheckable(True)
        self.toggled.connect(self._on_toggled)

    def _on_toggled(self, opened: bool) -> None:
        for child in self.findChildren(QtWidgets.QWidget, options=QtCore.Qt.FindChildOption.FindDirectChildrenOnly):
            child.setVisible(opened)

    collapsed = Property(bool, lambda self: not self.isChecked(), lambda self, value: self.setChecked(not value))
    collapsedHeight = stored(int, 14)


@shim
class ctkComboBox(QtWidgets.QComboBox):
    """Header: CTK Libs/Widgets/ctkComboBox.h."""

    defaultText = stored(str, "", lambda self, value: self.setPlaceholderText(value))
    forceDefault = stored(bool, False)
    elideMode = stored(QtCore.Qt.TextElideMode, QtCore.Qt.TextElideMode.ElideNone)

    def setCurrentUserDataAsString(self, data: str) -> None:
        self.setCurrentIndex(next((i for i in range(self.count) if str(self.itemData(i)) == data), -1))

    currentUserDataAsString = Property(str, lambda self: str(self.currentData or ""), setCurrentUserDataAsString)


@shim
class ctkCheckBox(QtWidgets.QCheckBox):
    """Header: CTK Libs/Widgets/ctkCheckBox.h."""


@shim
class ctkPushButton(QtWidgets.QPushButton):
    """Header: CTK Libs/Widgets/ctkPushButton.h."""


@shim
class ctkCheckablePushButton(ctkPushButton):
    """Header: CTK Libs/Widgets/ctkCheckablePushButton.h."""

    checkBoxToggled = Signal(bool)

    def _set_check_state(self, state: QtCore.Qt.CheckState) -> None:
        self.__dict__["_state"] = QtCore.Qt.CheckState(state)
        on = self._state == QtCore.Qt.CheckState.Checked
        if self.checkBoxControlsButtonToggleState:
            self.setCheckable(on)
            self.setChecked(on)
        self.checkBoxToggled.emit(on)

    checkBoxControlsButton = stored(bool, False)
    checkBoxControlsButtonToggleState = stored(bool, True)
    checkBoxUserCheckable = stored(bool, True)
    checkState = Property(
        QtCore.Qt.CheckState,
        lambda self: self.__dict__.get("_state", QtCore.Qt.CheckState.Unchecked),
        _set_check_state,
    )


@shim
class ctkPathLineEdit(QtWidgets.QWidget):
    """Header: CTK Libs/Widgets/ctkPathLineEdit.h."""

    Dirs, Files, Drives, NoSymLinks, AllEntries = 0x1, 0x2, 0x4, 0x8, 0x7
    Readable, Writable, Executable, Hidden, System = 0x10, 0x20, 0x40, 0x100, 0x200
    AdjustToContents, AdjustToContentsOnFirstShow, AdjustToMinimumContentsLength = 0, 1, 2

    currentPathChanged = Signal(str)
    validInputChanged = Signal(bool)

    def __init__(self, *arguments: Any) -> None:
        super().__init__(next((part for part in arguments if isinstance(part, QtWidgets.QWidget)), None))
        self._combo = QtWidgets.QComboBox(self)
        self._combo.setEditable(True)
        self._browse = QtWidgets.QToolButton(self)
        self._browse.setText("...")
        self._path = ""
        row(self, self._combo, self._browse).setStretch(0, 1)
        self._combo.editTextChanged.connect(self._on_text)
        self._browse.clicked.connect(self.browse)

    def _on_text(self, text: str) -> None:
        if text != self._path:
            self._path = text
            self.currentPathChanged.emit(text)
            self.validInputChanged.emit(Path(text).exists())

    def setCurrentPath(self, path: str) -> None:
        self._combo.setEditText(path)

    def browse(self) -> None:
        if self.filters & self.Dirs and not self.filters & self.Files:
            path = QtWidgets.QFileDialog.getExistingDirectory(self, self.label, self._path)
        elif self.filters & self.Writable:
            path, _ = QtWidgets.QFileDialog.getSaveFileName(self, self.label, self._path, ";;".join(self.nameFilters))
        else:
            path, _ = QtWidgets.QFileDialog.getOpenFileName(self, self.label, self._path, ";;".join(self.nameFilters))
        if path:
            self.setCurrentPath(path)

    def addCurrentPathToHistory(self) -> None:
        if self._path and self._combo.findText(self._path) < 0:
            self._combo.blockSignals(True)
            self._combo.insertItem(0, self._path)
            self._combo.blockSignals(False)

    def retrieveHistory(self) -> None:
        """There is no earlier history here."""

    def comboBox(self) -> QtWidgets.QComboBox:
        return self._combo

    currentPath = Property(str, lambda self: self._path, setCurrentPath)
    filters = stored(int, AllEntries)
    nameFilters = stored("QStringList", ())
    label = stored(str, "")
    options = stored(int, 0)
    settingKey = stored(str, "")
    showBrowseButton = Property(
        bool, lambda self: not self._browse.isHidden(), lambda self, value: self._browse.setVisible(value)
    )
    showHistoryButton = stored(bool, True)
    sizeAdjustPolicy = stored(int, AdjustToContentsOnFirstShow)
    minimumContentsLength = forwarded(int, "_combo", "minimumContentsLength")


@shim
class ctkDirectoryButton(QtWidgets.QWidget):
    """Header: CTK Libs/Widgets/ctkDirectoryButton.h."""

    directoryChanged = Signal(str)
    directorySelected = Signal(str)

    def __init__(self, *arguments: Any) -> None:
        super().__init__(next((part for part in arguments if isinstance(part, QtWidgets.QWidget)), None))
        self._button = QtWidgets.QPushButton(self)
        self._directory = next((part for part in arguments if isinstance(part, str)), ".")
        row(self, self._button)
        self._button.clicked.connect(self.browse)
        self._show()

    def _show(self) -> None:
        self._button.setText(self.text or self._directory)

    def _set_directory(self, directory: str) -> None:
        # As CTK: the same folder in other words is no change, and another is made absolute.
        if Path(directory).resolve() != Path(self._directory).resolve():
            self._directory = directory = str(Path(directory).resolve())
            self._show()
            self.directoryChanged.emit(directory)

    def browse(self) -> None:
        directory = QtWidgets.QFileDialog.getExistingDirectory(self, self.caption, self._directory)
        if directory:
            self._set_directory(directory)
            self.directorySelected.emit(directory)

    directory = Property(str, lambda self: self._directory, _set_directory)
    caption = stored(str, "")
    text = stored(str, "", lambda self, value: self._show())


@shim
class ctkColorPickerButton(QtWidgets.QPushButton):
    """Header: CTK Libs/Widgets/ctkColorPickerButton.h."""

    colorChanged = Signal(QtGui.QColor)

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._color = QtGui.QColor("black")
        self.setColor(QtGui.QColor("black"))
        self.clicked.connect(self.changeColor)

    def setColor(self, color: QtGui.QColor) -> None:
        changed = color != self._color
        self._color = color
        swatch = QtGui.QPixmap(16, 16)
        swatch.fill(color)
        self.setIcon(QtGui.QIcon(swatch))
        self._show()
        if changed:
            self.colorChanged.emit(color)

    def _show(self) -> None:
        self.setText(self._color.name() if self.displayColorName else "")

    def changeColor(self) -> None:
        color = QtWidgets.QColorDialog.getColor(self._color, self)
        if color.isValid():
            self.setColor(color)

    color = Property(QtGui.QColor, lambda self: self._color, setColor)
    displayColorName = stored(bool, True, lambda self, value: self._show())


@shim
class ctkMessageBox(QtWidgets.QMessageBox):
    """Header: CTK Libs/Widgets/ctkMessageBox.h."""

    dontShowAgain = stored(bool, False)
    dontShowAgainVisible = stored(bool, False)
    dontShowAgainSettingsKey = stored(str, "")
