"""The main window: module panel on the left, views on the right, status bar below."""

from typing import Any

import slicer
from host.qt.pythonqt import shim
from host.qt.qtproperty import stored
from PySide6 import QtCore, QtWidgets
from PySide6.QtCore import Property, Signal


def _panel_of(name: str) -> Any:
    """The panel of the module of that name; only scripted modules have one here."""
    module = slicer.app.moduleManager().module(name)
    return module.widgetRepresentation() if module is not None else None


@shim
class qSlicerModulePanel(QtWidgets.QWidget):
    """Header: Slicer Base/QTGUI/qSlicerModulePanel.h."""

    def __init__(self) -> None:
        super().__init__()
        self.setObjectName("ModulePanel")
        self._area = QtWidgets.QScrollArea()
        self._area.setWidgetResizable(True)
        self._area.setFrameShape(QtWidgets.QFrame.Shape.NoFrame)
        self._area.setHorizontalScrollBarPolicy(QtCore.Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        layout = QtWidgets.QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._area)

    def setModule(self, name: str) -> None:
        self._area.takeWidget()
        panel = _panel_of(name)
        if panel is not None:
            self._area.setWidget(panel)
            # A widget that was hidden when it was taken out stays hidden.
            panel.show()

    helpAndAcknowledgmentVisible = stored(bool, True)


@shim
class qSlicerModuleSelectorToolBar(QtWidgets.QToolBar):
    """Header: Slicer Base/QTGUI/qSlicerModuleSelectorToolBar.h."""

    moduleSelected = Signal(str)

    def __init__(self, panel: qSlicerModulePanel) -> None:
        super().__init__("Modules")
        self._panel = panel
        self._selected = ""
        self._label = QtWidgets.QLabel("Modules: ")
        self._name = QtWidgets.QComboBox()
        self._name.setMinimumWidth(220)
        self.addWidget(self._label)
        self.addWidget(self._name)

    def selectModule(self, name: str) -> None:
        if name == self._selected:
            return
        left, module = _panel_of(self._selected), slicer.app.moduleManager().module(name)
        if left is not None:
            left.exit()
        # Nothing is selected while a panel is built: that may fail.
        self._selected = ""
        self._panel.setModule(name)
        self._selected = name if module is not None else ""
        self._name.clear()
        if module is not None:
            self._name.addItem(module.title)
        if _panel_of(name) is not None:
            _panel_of(name).enter()
        self.moduleSelected.emit(self._selected)

    def _forget_selection(self) -> None:
        """Take the panel out without telling its module, as at the application's end."""
        self._panel._area.takeWidget()
        self._selected = ""
        self._name.clear()

    selectedModule = Property(str, lambda self: self._selected)


@shim
class qSlicerMainWindow(QtWidgets.QMainWindow):
    """Header: Slicer Base/QTApp/qSlicerMainWindow.h."""

    initialWindowShown = Signal()

    def __init__(self, layout_manager: Any) -> None:
        super().__init__()
        self.setObjectName("qSlicerMainWindow")
        self.setWindowTitle("CoralBay test host")
        self.setCentralWidget(layout_manager.viewport())
        panel = qSlicerModulePanel()
        dock = QtWidgets.QDockWidget()
        dock.setObjectName("PanelDockWidget")
        dock.setTitleBarWidget(QtWidgets.QWidget(dock))
        dock.setWidget(panel)
        self.addDockWidget(QtCore.Qt.DockWidgetArea.LeftDockWidgetArea, dock)
        self.resizeDocks([dock], [480], QtCore.Qt.Orientation.Horizontal)
        self._selector = qSlicerModuleSelectorToolBar(panel)
        self.addToolBar(self._selector)
        self.setStatusBar(QtWidgets.QStatusBar())

    def moduleSelector(self) -> qSlicerModuleSelectorToolBar:
        return self._selector
