"""Widgets for segmentations."""

from collections.abc import Callable
from typing import Any, ClassVar

import slicer
from host.observations import Observations
from host.qt.pythonqt import shim
from host.qt.qtproperty import row, stored
from PySide6 import QtCore, QtGui, QtWidgets
from PySide6.QtCore import Property, Signal

from .nodes import qMRMLNodeComboBox
from .qmrml import qMRMLWidget


def _segment_ids(node: Any) -> list[str]:
    return list(node.GetSegmentation().GetSegmentIDs()) if node is not None else []


def _observe_segments(observations: Observations, node: Any, changed: Callable[[], None]) -> None:
    """Call ``changed`` after anything about the node's segments changed, and forget the node before."""
    observations.clear()
    if node is None:
        return
    segmentation = node.GetSegmentation()
    for event in (
        slicer.vtkSegmentation.SegmentAdded,
        slicer.vtkSegmentation.SegmentRemoved,
        slicer.vtkSegmentation.SegmentModified,
        slicer.vtkSegmentation.SegmentsOrderModified,
    ):
        observations.add(segmentation, event, changed)
    observations.add(node, slicer.vtkMRMLDisplayableNode.DisplayModifiedEvent, changed)


@shim
class qMRMLSegmentsTableView(qMRMLWidget):
    """Header: Slicer Modules/Loadable/Segmentations/Widgets/qMRMLSegmentsTableView.h."""

    selectionChanged = Signal(QtCore.QItemSelection, QtCore.QItemSelection)
    segmentAboutToBeModified = Signal(str)

    _VISIBLE, _COLOR, _NAME = range(3)

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._node: Any = None
        self._ids: list[str] = []
        self._filling = False
        self._observations = Observations(self)
        table = self._table = QtWidgets.QTableWidget(0, 3, self)
        table.setHorizontalHeaderLabels(["", "", "Name"])
        table.verticalHeader().setVisible(False)
        table.horizontalHeader().setStretchLastSection(True)
        table.setColumnWidth(self._VISIBLE, 28)
        table.setColumnWidth(self._COLOR, 28)
        table.setSelectionBehavior(QtWidgets.QAbstractItemView.SelectionBehavior.SelectRows)
        row(self, table)
        table.itemChanged.connect(self._on_item_changed)
        table.selectionModel().selectionChanged.connect(self.selectionChanged)

    def segmentationNode(self) -> Any:
        return self._node

    def setSegmentationNode(self, node: Any) -> None:
        self._node = node
        _observe_segments(self._observations, node, self._refill)
        self._refill()

    def _refill(self) -> None:
        selected = self.selectedSegmentIDs()
        self._filling = True
        self._ids = _segment_ids(self._node)
        self._table.setRowCount(len(self._ids))
        display = self._node.GetDisplayNode() if self._node is not None else None
        for index, segment_id in enumerate(self._ids):
            segment = self._node.GetSegmentation().GetSegment(segment_id)
            visible = QtWidgets.QTableWidgetItem()
            shown = display is None or display.GetSegmentVisibility(segment_id)
            state = QtCore.Qt.CheckState
            visible.setCheckState(state.Checked if shown else state.Unchecked)
            color = QtWidgets.QTableWidgetItem()
            color.setBackground(QtGui.QColor.fromRgbF(*segment.GetColor()))
            for column, item in enumerate((visible, color, QtWidgets.QTableWidgetItem(segment.GetName()))):
                self._table.setItem(index, column, item)
        self._filling = False
        self.setSelectedSegmentIDs(selected)

    def _on_item_changed(self, item: QtWidgets.QTableWidgetItem) -> None:
        if self._filling:
            return
        segment_id = self._ids[item.row()]
        if item.column() == self._NAME:
            self._node.GetSegmentation().GetSegment(segment_id).SetName(item.text())
        elif item.column() == self._VISIBLE and self._node.GetDisplayNode() is not None:
            checked = item.checkState() == QtCore.Qt.CheckState.Checked
            self._node.GetDisplayNode().SetSegmentVisibility(segment_id, checked)

    def selectedSegmentIDs(self) -> tuple[str, ...]:
        rows = sorted({index.row() for index in self._table.selectedIndexes()})
        return tuple(self._ids[index] for index in rows if index < len(self._ids))

    def setSelectedSegmentIDs(self, segment_ids: Any) -> None:
        self._table.clearSelection()
        for segment_id in segment_ids:
            if segment_id in self._ids:
                self._table.selectRow(self._ids.index(segment_id))

    def clearSelection(self) -> None:
        self._table.clearSelection()

    def segmentIDForRow(self, index: int) -> str:
        return self._ids[index]

    def rowForSegmentID(self, segment_id: str) -> int:
        return self._ids.index(segment_id) if segment_id in self._ids else -1

    def displayedSegmentIDs(self) -> tuple[str, ...]:
        return tuple(self._ids)

    def tableWidget(self) -> QtWidgets.QTableView:
        return self._table

    def setSelectionMode(self, mode: int) -> None:
        self._table.setSelectionMode(QtWidgets.QAbstractItemView.SelectionMode(mode))

    def setHeaderVisible(self, visible: bool) -> None:
        self._table.horizontalHeader().setVisible(visible)

    def setVisibilityColumnVisible(self, visible: bool) -> None:
        self._table.setColumnHidden(self._VISIBLE, not visible)

    def setColorColumnVisible(self, visible: bool) -> None:
        self._table.setColumnHidden(self._COLOR, not visible)

    def setOpacityColumnVisible(self, visible: bool) -> None:
        """This stand-in shows no such column."""

    def setStatusColumnVisible(self, visible: bool) -> None:
        """This stand-in shows no such column."""

    def setReadOnly(self, read_only: bool) -> None:
        triggers = QtWidgets.QAbstractItemView.EditTrigger
        self._table.setEditTriggers(triggers.NoEditTriggers if read_only else triggers.DoubleClicked)

    segmentCount = Property(int, lambda self: len(self._ids))
    selectionMode = Property(int, lambda self: self._table.selectionMode.value, setSelectionMode)
    headerVisible = stored(bool, True, setHeaderVisible)
    visibilityColumnVisible = stored(bool, True, setVisibilityColumnVisible)
    colorColumnVisible = stored(bool, True, setColorColumnVisible)
    opacityColumnVisible = stored(bool, True)
    statusColumnVisible = stored(bool, False)
    readOnly = stored(bool, False, setReadOnly)


@shim
class qMRMLSegmentSelectorWidget(qMRMLWidget):
    """Header: Slicer Libs/MRML/Widgets/qMRMLSegmentSelectorWidget.h."""

    currentNodeChanged = Signal(object)
    _currentNodeChangedValid = Signal(bool)
    currentSegmentChanged = Signal(str)
    _overloads: ClassVar = {"currentNodeChanged(bool)": "_currentNodeChangedValid"}

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._nodes = qMRMLNodeComboBox(self)
        self._nodes.nodeTypes = ["vtkMRMLSegmentationNode"]
        self._segments = QtWidgets.QComboBox(self)
        row(self, self._nodes, self._segments)
        self._filling = False
        self._observations = Observations(self)
        self._nodes.currentNodeChanged.connect(self._on_node)
        self._segments.currentIndexChanged.connect(self._on_index)

    def setMRMLScene(self, scene: Any) -> None:
        super().setMRMLScene(scene)
        self._nodes.setMRMLScene(scene)

    def _on_node(self, node: Any) -> None:
        _observe_segments(self._observations, node, self._refill)
        self._refill()
        self.currentNodeChanged.emit(node)
        self._currentNodeChangedValid.emit(node is not None)

    def _refill(self) -> None:
        current = self.currentSegmentID()
        node = self.currentNode()
        self._filling = True
        self._segments.clear()
        if self.noneEnabled:
            self._segments.addItem("None", "")
        for segment_id in _segment_ids(node):
            self._segments.addItem(node.GetSegmentation().GetSegment(segment_id).GetName(), segment_id)
        self._segments.setCurrentIndex(max(self._segments.findData(current), 0 if self._segments.count else -1))
        self._filling = False
        if self.currentSegmentID() != current:
            self._on_index()

    def _on_index(self, *_: Any) -> None:
        if not self._filling:
            self.currentSegmentChanged.emit(self.currentSegmentID())

    def currentNode(self) -> Any:
        return self._nodes.currentNode()

    def currentNodeID(self) -> str:
        return self._nodes.currentNodeID

    def setCurrentNode(self, node: Any) -> None:
        self._nodes.setCurrentNode(node)

    def setCurrentNodeID(self, node_id: str) -> None:
        self._nodes.setCurrentNodeID(node_id)

    def currentSegmentID(self) -> str:
        return self._segments.currentData or ""

    def setCurrentSegmentID(self, segment_id: str) -> None:
        self._segments.setCurrentIndex(self._segments.findData(segment_id))

    def segmentIDs(self) -> tuple[str, ...]:
        return tuple(_segment_ids(self.currentNode()))

    noneEnabled = stored(bool, False, lambda self, value: (setattr(self._nodes, "noneEnabled", value), self._refill()))
    segmentationNodeSelectorVisible = stored(bool, True, lambda self, value: self._nodes.setVisible(value))
    editEnabled = stored(bool, False)
    multiSelection = stored(bool, False)
