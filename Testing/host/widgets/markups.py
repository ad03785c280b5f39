"""Widgets for placing markups."""

from typing import Any

import slicer
import vtk
from host.observations import Observations
from host.qt.pythonqt import shim
from host.qt.qtproperty import row, stored
from PySide6 import QtGui, QtWidgets
from PySide6.QtCore import Property, Signal

from .nodes import qMRMLNodeComboBox
from .qmrml import qSlicerWidget


@shim
class qSlicerMarkupsPlaceWidget(qSlicerWidget):
    """Header: Slicer Modules/Loadable/Markups/Widgets/qSlicerMarkupsPlaceWidget.h."""

    HidePlaceMultipleMarkupsOption, ShowPlaceMultipleMarkupsOption = 0, 1
    ForcePlaceSingleMarkup, ForcePlaceMultipleMarkups = 2, 3

    activeMarkupsPlaceModeChanged = Signal(bool)
    activeMarkupsFiducialPlaceModeChanged = Signal(bool)

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._node: Any = None
        self._announced = False
        self._updating = False
        self._observations = Observations(self)
        self._place = QtWidgets.QToolButton(self)
        self._place.setCheckable(True)
        self._place.setText("Place")
        self._delete = QtWidgets.QToolButton(self)
        self._delete.setText("Delete")
        row(self, self._place, self._delete)
        self._place.toggled.connect(self.setPlaceModeEnabled)
        self._delete.clicked.connect(self.deleteLastPoint)
        self._update()

    def setMRMLScene(self, scene: Any) -> None:
        super().setMRMLScene(scene)
        self._observe()

    def _observe(self) -> None:
        self._observations.clear()
        modified, added = vtk.vtkCommand.ModifiedEvent, slicer.vtkMRMLMarkupsNode.PointPositionDefinedEvent
        targets = [(self.interactionNode(), modified), (self.selectionNode(), modified)]
        targets += [(self._node, modified), (self._node, added)]
        for target, event in targets:
            if target is not None:
                self._observations.add(target, event, self._update)
        self._update()

    def interactionNode(self) -> Any:
        return slicer.app.applicationLogic().GetInteractionNode() if self._scene is not None else None

    def selectionNode(self) -> Any:
        return slicer.app.applicationLogic().GetSelectionNode() if self._scene is not None else None

    def currentNode(self) -> Any:
        return self._node

    def currentMarkupsNode(self) -> Any:
        return self._node

    def setCurrentNode(self, node: Any) -> None:
        if node is not self._node:
            self._node = node
            self._observe()

    def _active(self) -> bool:
        selection = self.selectionNode()
        if self._node is None or selection is None or self._node.GetScene() is None:
            return False
        return selection.GetActivePlaceNodeID() == self._node.GetID()

    def setCurrentNodeActive(self, active: bool) -> None:
        if active != self._active():
            slicer.modules.markups.logic().SetActiveList(self._node if active else None)
            if not active:
                interaction = self.interactionNode()
                interaction.SetCurrentInteractionMode(interaction.ViewTransform)

    def _placing(self) -> bool:
        interaction = self.interactionNode()
        return self._active() and interaction.GetCurrentInteractionMode() == interaction.Place

    def setPlaceModeEnabled(self, enabled: bool) -> None:
        interaction = self.interactionNode()
        if self._updating or interaction is None or self._node is None:
            return
        if not enabled:
            interaction.SetCurrentInteractionMode(interaction.ViewTransform)
            return
        slicer.modules.markups.logic().SetActiveList(self._node)
        if self.placeMultipleMarkups == self.ForcePlaceSingleMarkup:
            self.setPlaceModePersistency(False)
        elif self.placeMultipleMarkups == self.ForcePlaceMultipleMarkups:
            self.setPlaceModePersistency(True)
        interaction.SetCurrentInteractionMode(interaction.Place)

    def setPlaceModePersistency(self, persistent: bool) -> None:
        if self.interactionNode() is not None:
            self.interactionNode().SetPlaceModePersistence(int(persistent))

    def setPlaceMultipleMarkups(self, mode: int) -> None:
        self.placeMultipleMarkups = mode

    def _update(self) -> None:
        self._updating = True
        placing = self._placing()
        self._place.setEnabled(self._node is not None and self._scene is not None)
        self._delete.setEnabled(self._node is not None and self._node.GetNumberOfControlPoints() > 0)
        self._place.setChecked(placing)
        self._updating = False
        if placing != self._announced:
            self._announced = placing
            self.activeMarkupsFiducialPlaceModeChanged.emit(placing)
            self.activeMarkupsPlaceModeChanged.emit(placing)

    def deleteLastPoint(self) -> None:
        if self._node is not None and self._node.GetNumberOfControlPoints():
            self._node.RemoveNthControlPoint(self._node.GetNumberOfControlPoints() - 1)

    def deleteAllPoints(self) -> None:
        if self._node is not None:
            self._node.RemoveAllControlPoints()

    def placeButton(self) -> QtWidgets.QToolButton:
        return self._place

    def deleteButton(self) -> QtWidgets.QToolButton:
        return self._delete

    def setButtonsVisible(self, visible: bool) -> None:
        self._place.setVisible(visible)
        self._delete.setVisible(visible)

    placeModeEnabled = Property(bool, lambda self: self._placing(), setPlaceModeEnabled)
    placeModePersistency = Property(
        bool,
        lambda self: bool(self.interactionNode() is not None and self.interactionNode().GetPlaceModePersistence()),
        setPlaceModePersistency,
    )
    currentNodeActive = Property(bool, lambda self: self._active(), setCurrentNodeActive)
    placeMultipleMarkups = stored(int, ShowPlaceMultipleMarkupsOption)
    buttonsVisible = stored(bool, True, setButtonsVisible)
    defaultNodeColor = stored(QtGui.QColor, None)


@shim
class qSlicerSimpleMarkupsWidget(qSlicerWidget):
    """Header: Slicer Modules/Loadable/Markups/Widgets/qSlicerSimpleMarkupsWidget.h."""

    markupsNodeChanged = Signal()
    markupsFiducialNodeChanged = Signal()
    updateFinished = Signal()

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._selector = qMRMLNodeComboBox(self)
        self._selector.nodeTypes = ["vtkMRMLMarkupsFiducialNode"]
        self._selector.noneEnabled = True
        self._placer = qSlicerMarkupsPlaceWidget(self)
        self._table = QtWidgets.QTableWidget(0, 4, self)
        self._table.setHorizontalHeaderLabels(["Label", "R", "A", "S"])
        self._observations = Observations(self)
        top = QtWidgets.QHBoxLayout()
        top.addWidget(self._selector)
        top.addWidget(self._placer)
        layout = QtWidgets.QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(top)
        layout.addWidget(self._table)
        self._selector.currentNodeChanged.connect(self._on_node)

    def setMRMLScene(self, scene: Any) -> None:
        super().setMRMLScene(scene)
        self._selector.setMRMLScene(scene)
        self._placer.setMRMLScene(scene)

    def _on_node(self, node: Any) -> None:
        self._observations.clear()
        if node is not None:
            self._observations.add(node, vtk.vtkCommand.ModifiedEvent, self._fill)
        self._placer.setCurrentNode(node)
        self._fill()
        self.markupsNodeChanged.emit()
        self.markupsFiducialNodeChanged.emit()

    def _fill(self) -> None:
        node = self.currentNode()
        count = node.GetNumberOfControlPoints() if node is not None else 0
        self._table.setRowCount(count)
        for index in range(count):
            texts = [node.GetNthControlPointLabel(index)]
            texts += [f"{part:.1f}" for part in node.GetNthControlPointPositionWorld(index)]
            for column, text in enumerate(texts):
                self._table.setItem(index, column, QtWidgets.QTableWidgetItem(text))
        self.updateFinished.emit()

    def currentNode(self) -> Any:
        return self._selector.currentNode()

    def setCurrentNode(self, node: Any) -> None:
        self._selector.setCurrentNode(node)

    def markupsPlaceWidget(self) -> qSlicerMarkupsPlaceWidget:
        return self._placer

    def markupsSelectorComboBox(self) -> qMRMLNodeComboBox:
        return self._selector

    def tableWidget(self) -> QtWidgets.QTableWidget:
        return self._table

    def setNodeSelectorVisible(self, visible: bool) -> None:
        self._selector.setVisible(visible)

    defaultNodeColor = stored(QtGui.QColor, None)
    nodeSelectorVisible = stored(bool, True, setNodeSelectorVisible)
    optionsVisible = stored(bool, True)
    jumpToSliceEnabled = stored(bool, False)
    enterPlaceModeOnNodeChange = stored(bool, True)
