"""qMRML's simple widgets, which know the scene."""

from typing import Any

from host.qt.pythonqt import shim
from host.qt.qtproperty import stored
from PySide6 import QtWidgets
from PySide6.QtCore import Property, Signal

from .ctk import ctkCollapsibleButton
from .ranges import ctkRangeWidget
from .values import ctkDoubleSpinBox, ctkSliderWidget


class _TakesScene:
    """A widget that is given the scene."""

    _scene: Any = None

    def setMRMLScene(self, scene: Any) -> None:
        if scene is self._scene:
            return
        self._scene = scene
        if hasattr(type(self), "mrmlSceneChanged"):
            self.mrmlSceneChanged.emit(scene)


class _WithScene(_TakesScene):
    """A widget that also tells which scene it was given."""

    def mrmlScene(self) -> Any:
        return self._scene


@shim
class qMRMLWidget(_WithScene, QtWidgets.QWidget):
    """Header: Slicer Libs/MRML/Widgets/qMRMLWidget.h."""

    mrmlSceneChanged = Signal(object)


@shim
class qSlicerWidget(_TakesScene, QtWidgets.QWidget):
    """Header: Slicer Base/QTGUI/qSlicerWidget.h."""

    mrmlSceneChanged = Signal(object)


@shim
class qMRMLCollapsibleButton(_TakesScene, ctkCollapsibleButton):
    """Header: Slicer Libs/MRML/Widgets/qMRMLCollapsibleButton.h."""

    mrmlSceneChanged = Signal(object)


@shim
class qMRMLSliderWidget(_WithScene, ctkSliderWidget):
    """Header: Slicer Libs/MRML/Widgets/qMRMLSliderWidget.h."""

    def setQuantity(self, quantity: str) -> None:
        self.quantity = quantity

    quantity = stored(str, "")


@shim
class qMRMLSpinBox(_WithScene, ctkDoubleSpinBox):
    """Header: Slicer Libs/MRML/Widgets/qMRMLSpinBox.h."""

    def setQuantity(self, quantity: str) -> None:
        self.quantity = quantity

    quantity = stored(str, "")


@shim
class qMRMLRangeWidget(_TakesScene, ctkRangeWidget):
    """Header: Slicer Libs/MRML/Widgets/qMRMLRangeWidget.h."""

    def setQuantity(self, quantity: str) -> None:
        self.quantity = quantity

    mrmlScene = Property(object, lambda self: self._scene)
    quantity = stored(str, "")
