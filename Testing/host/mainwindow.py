"""The main window: module panel on the left, views on the right, status bar below."""

from typing import Any

import slicer
from host.qt.pythonqt import shim
from host.qt.qtproperty import stored
from PySide6 import QtCore, QtWidgets
from PySide6.QtCore import Property, Signal

from .widgets.ctk import ctkCollapsibleButton

PANEL_WIDTH = 414
"""Width of the module panel of a new Slicer, in pixels."""
DATA_PROBE_HEIGHT = 140


def _panel_of(name: str) -> Any:
    """The panel of the module of that name; only scripted modules have one here."""
    module = slicer.app.moduleManager().module(name)
    return module.widgetRepresentation() if module is not None else None


@shim
class qSlicerModulePanel(QtWidgets.QWidget):
    """Header: Slicer Base/QTGUI/qSlicerModulePanel.h.

    As in Slicer, the module stands in a scroll area that scrolls vertically only, below the help. The panel is never
    narrower than the *size hint* of the module: the module's horizontal policy is set to Minimum. So a row that appears and
    asks for more width than there is widens the panel, and the views jump.
    """

    def __init__(self) -> None:
        super().__init__()
        self.setObjectName("ModulePanel")
        policy = QtWidgets.QSizePolicy.Policy
        self._area = QtWidgets.QScrollArea()
        self._area.setWidgetResizable(True)
        self._area.setFrameShape(QtWidgets.QFrame.Shape.NoFrame)
        self._area.setHorizontalScrollBarPolicy(QtCore.Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        contents = QtWidgets.QWidget()
        self._column = QtWidgets.QVBoxLayout(contents)
        self._column.setSizeConstraint(QtWidgets.QLayout.SizeConstraint.SetMinAndMaxSize)
        self._column.setContentsMargins(0, 0, 0, 0)
        self._help = ctkCollapsibleButton("Help && Acknowledgement")
        self._help.collapsed = True
        self._help.setSizePolicy(policy.Ignored, policy.Fixed)
        self._column.addWidget(self._help)
        self._column.addSpacerItem(QtWidgets.QSpacerItem(0, 0, policy.Minimum, policy.MinimumExpanding))
        self._area.setWidget(contents)
        layout = QtWidgets.QGridLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._area)
        self._module: QtWidgets.QWidget | None = None

    def setModule(self, name: str) -> None:
        self._take()
        panel = _panel_of(name)
        if panel is not None:
            self._put(panel)

    def _put(self, panel: QtWidgets.QWidget) -> None:
        self._module = panel
        panel.layout().setContentsMargins(0, 0, 0, 0)
        self._column.insertWidget(1, panel, 1)
        panel.setSizePolicy(QtWidgets.QSizePolicy.Policy.Minimum, panel.sizePolicy.verticalPolicy())
        # A widget that was hidden when it was taken out stays hidden.
        panel.setVisible(True)
        panel.installEventFilter(self)
        self.updateGeometry()

    def _take(self) -> None:
        panel, self._module = self._module, None
        if panel is not None:
            panel.removeEventFilter(self)
            self._column.removeWidget(panel)
            panel.setVisible(False)
            panel.setParent(None)

    def eventFilter(self, watched: QtCore.QObject, event: QtCore.QEvent) -> bool:
        if event.type() == QtCore.QEvent.Type.Resize:
            self.updateGeometry()
        return False

    def minimumSizeHint(self) -> QtCore.QSize:
        inner = self._area.widget().minimumSizeHint().width()
        bar = self._area.horizontalScrollBar().sizeHint().width()
        return QtCore.QSize(inner + bar, super().minimumSizeHint().height())

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
        self._panel._take()
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
        dock.setWidget(QtWidgets.QWidget())
        column = QtWidgets.QVBoxLayout(dock.widget())
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(panel, 1)
        # The Data Probe takes the lower end of what the module has elsewhere.
        probe = ctkCollapsibleButton("Data Probe")
        probe.setFixedHeight(DATA_PROBE_HEIGHT)
        column.addWidget(probe)
        self.addDockWidget(QtCore.Qt.DockWidgetArea.LeftDockWidgetArea, dock)
        self._dock = dock
        self._restore_width()
        self._selector = qSlicerModuleSelectorToolBar(panel)
        self.addToolBar(self._selector)
        self.setStatusBar(QtWidgets.QStatusBar())

    def moduleSelector(self) -> qSlicerModuleSelectorToolBar:
        return self._selector

    def _restore_width(self) -> None:
        """Make the module panel as wide as in a new Slicer; a module that needed more has widened it for good."""
        self.resizeDocks([self._dock], [PANEL_WIDTH], QtCore.Qt.Orientation.Horizontal)
