"""qMRML's selectors of nodes."""

from typing import Any, ClassVar

import slicer
import vtk
from host.observations import Observations
from host.qt.pythonqt import shim
from host.qt.qtproperty import row, stored
from PySide6 import QtCore, QtWidgets
from PySide6.QtCore import Property, Signal


@shim
class qMRMLNodeComboBox(QtWidgets.QWidget):
    """Header: Slicer Libs/MRML/Widgets/qMRMLNodeComboBox.h."""

    currentNodeChanged = Signal(object)
    _currentNodeChangedValid = Signal(bool)
    currentNodeIDChanged = Signal(str)
    nodeAdded = Signal(object)
    nodeAddedByUser = Signal(object)
    nodeAboutToBeRemoved = Signal(object)
    nodeActivated = Signal(object)
    currentNodeRenamed = Signal(str)
    _overloads: ClassVar = {"currentNodeChanged(bool)": "_currentNodeChangedValid"}

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._combo = QtWidgets.QComboBox(self)
        self._combo.setSizePolicy(QtWidgets.QSizePolicy.Policy.Expanding, QtWidgets.QSizePolicy.Policy.Fixed)
        self._combo.setSizeAdjustPolicy(self._combo.SizeAdjustPolicy.AdjustToContents)
        # Without a placeholder Qt would select the first node that comes, which Slicer's selector does not.
        self._combo.setPlaceholderText("Select a node")
        row(self, self._combo)
        self._scene: Any = None
        self._scene_observations = Observations(self)
        self._node_observations = Observations(self)
        self._attributes: dict[str, dict[str, Any]] = {}
        self._labels: dict[str, str] = {}
        self._requested = ""
        self._shown = ""
        self._filling = False
        self._combo.currentIndexChanged.connect(self._on_index)
        self._combo.activated.connect(lambda: self.nodeActivated.emit(self.currentNode()))
        self.setEnabled(False)

    # -- scene

    def mrmlScene(self) -> Any:
        return self._scene

    def setMRMLScene(self, scene: Any) -> None:
        if scene is self._scene:
            return
        current = self._requested or self.currentNodeID
        self._scene_observations.clear()
        self._scene = scene
        if scene is not None:
            events = slicer.vtkMRMLScene
            self._scene_observations.add(scene, events.NodeAddedEvent, self._on_added, with_node=True)
            self._scene_observations.add(scene, events.NodeRemovedEvent, self._on_removed, with_node=True)
            self._scene_observations.add(scene, events.EndCloseEvent, self._refill)
            self._scene_observations.add(scene, events.EndBatchProcessEvent, self._refill)
        self.setEnabled(scene is not None)
        self._refill(current)
        self._requested = ""

    def _wanted(self, node: Any) -> bool:
        kind = next((kind for kind in self.nodeTypes if node.IsA(kind)), None)
        if kind is None or (node.GetHideFromEditors() and not self.showHidden):
            return False
        if not self.showChildNodeTypes and node.GetClassName() not in self.nodeTypes:
            return False
        if any(node.IsA(hidden) for hidden in self.hideChildNodeTypes):
            return False
        for name, value in self._attributes.get(kind, {}).items():
            if node.GetAttribute(name) is None or (value is not None and node.GetAttribute(name) != str(value)):
                return False
        return True

    def _refill(self, wanted: str | None = None) -> None:
        wanted = self.currentNodeID if wanted is None else wanted
        self._filling = True
        self._combo.clear()
        self._node_observations.clear()
        self._combo.setPlaceholderText(f"Select a {self.nodeTypeLabel(self.nodeTypes[0]) if self.nodeTypes else 'node'}")
        if self.noneEnabled:
            self._combo.addItem(self.noneDisplay, "")
        for index in range(self._scene.GetNumberOfNodes() if self._scene is not None else 0):
            node = self._scene.GetNthNode(index)
            if self._wanted(node):
                self._append(node)
        index = self._combo.findData(wanted)
        if index < 0 and self.noneEnabled:
            index = 0
        self._combo.setCurrentIndex(index)
        self._filling = False
        self._on_index()

    def _append(self, node: Any) -> None:
        self._combo.addItem(node.GetName(), node.GetID())
        self._node_observations.add(node, vtk.vtkCommand.ModifiedEvent, self._on_node_modified)

    def _on_node_modified(self) -> None:
        for index in range(int(self.noneEnabled), self._combo.count):
            node = self._scene.GetNodeByID(self._combo.itemData(index))
            if node is not None and self._combo.itemText(index) != node.GetName():
                self._combo.setItemText(index, node.GetName())

    def _on_added(self, node: Any) -> None:
        if self._scene.IsBatchProcessing() or not self._wanted(node):
            return
        self._append(node)
        self.nodeAdded.emit(node)

    def _on_removed(self, node: Any) -> None:
        index = self._combo.findData(node.GetID())
        if index < 0 or self._scene.IsBatchProcessing():
            return
        self.nodeAboutToBeRemoved.emit(node)
        self._combo.removeItem(index)

    def _on_index(self, *_: Any) -> None:
        if self._filling or self.currentNodeID == self._shown:
            return
        self._shown = self.currentNodeID
        node = self.currentNode()
        self.currentNodeChanged.emit(node)
        self._currentNodeChangedValid.emit(node is not None)
        self.currentNodeIDChanged.emit(self._shown)

    # -- current node

    def currentNode(self) -> Any:
        node_id = self.currentNodeID
        return self._scene.GetNodeByID(node_id) if node_id and self._scene is not None else None

    def setCurrentNode(self, node: Any) -> None:
        self.setCurrentNodeID(node.GetID() if node is not None else "")

    def setCurrentNodeID(self, node_id: str | None) -> None:
        if self._scene is None:
            self._requested = node_id or ""
        index = self._combo.findData(node_id or "")
        self._combo.setCurrentIndex(0 if index < 0 and self.noneEnabled else index)

    def setCurrentNodeIndex(self, index: int) -> None:
        self._combo.setCurrentIndex(index + int(self.noneEnabled))

    def nodeCount(self) -> int:
        return self._combo.count - int(self.noneEnabled)

    def nodeFromIndex(self, index: int) -> Any:
        return self._scene.GetNodeByID(self._combo.itemData(index + int(self.noneEnabled)) or "")

    # -- editing

    def setNodeTypeLabel(self, label: str, kind: str) -> None:
        self._labels[kind] = label
        self._refill()

    def nodeTypeLabel(self, kind: str) -> str:
        return self._labels.get(kind) or getattr(slicer, kind)().GetTypeDisplayName()

    def addNode(self, kind: str = "") -> Any:
        kind = kind or self.nodeTypes[0]
        name = self.baseName or self._scene.CreateNodeByClass(kind).GetNodeTagName()
        node = self._scene.AddNewNodeByClass(kind, self._scene.GenerateUniqueName(name))
        for attribute, value in self._attributes.get(kind, {}).items():
            node.SetAttribute(attribute, "" if value is None else str(value))
        self._refill(node.GetID() if self.selectNodeUponCreation else None)
        self.nodeAddedByUser.emit(node)
        return node

    def removeCurrentNode(self) -> None:
        self._scene.RemoveNode(self.currentNode())

    def addAttribute(self, node_type: str, name: str, value: Any = None) -> None:
        self._attributes.setdefault(node_type, {})[name] = value
        self._refill()

    def removeAttribute(self, node_type: str, name: str) -> None:
        self._attributes.get(node_type, {}).pop(name, None)
        self._refill()

    nodeTypes = stored("QStringList", (), lambda self, value: self._refill())
    hideChildNodeTypes = stored("QStringList", (), lambda self, value: self._refill())
    showChildNodeTypes = stored(bool, True, lambda self, value: self._refill())
    showHidden = stored(bool, False, lambda self, value: self._refill())
    noneEnabled = stored(bool, False, lambda self, value: self._refill())
    noneDisplay = stored(str, "None", lambda self, value: self._refill())
    addEnabled = stored(bool, True)
    removeEnabled = stored(bool, True)
    renameEnabled = stored(bool, False)
    editEnabled = stored(bool, False)
    baseName = stored(str, "")
    selectNodeUponCreation = stored(bool, True)
    currentNodeID = Property(str, lambda self: self._combo.currentData or "", setCurrentNodeID)


@shim
class qMRMLColorTableComboBox(qMRMLNodeComboBox):
    """Header: Slicer Libs/MRML/Widgets/qMRMLColorTableComboBox.h."""

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self.nodeTypes = ["vtkMRMLColorNode"]
        self.showHidden = True
        self.addEnabled = self.removeEnabled = False


@shim
class qMRMLCheckableNodeComboBox(qMRMLNodeComboBox):
    """Header: Slicer Libs/MRML/Widgets/qMRMLCheckableNodeComboBox.h."""

    checkedNodesChanged = Signal()

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        self.__dict__["_checked"] = set()
        super().__init__(parent)

    def _append(self, node: Any) -> None:
        super()._append(node)
        self._show_check(node)

    def _show_check(self, node: Any) -> None:
        index = self._combo.findData(node.GetID())
        self._combo.setItemData(index, self.checkState(node), QtCore.Qt.ItemDataRole.CheckStateRole)

    def _nodes(self, checked: bool) -> tuple[Any, ...]:
        nodes = [self.nodeFromIndex(index) for index in range(self.nodeCount())]
        return tuple(node for node in nodes if (node.GetID() in self._checked) == checked)

    def checkedNodes(self) -> tuple[Any, ...]:
        return self._nodes(True)

    def uncheckedNodes(self) -> tuple[Any, ...]:
        return self._nodes(False)

    def allChecked(self) -> bool:
        return not self._nodes(False)

    def noneChecked(self) -> bool:
        return not self._nodes(True)

    def checkState(self, node: Any) -> QtCore.Qt.CheckState:
        states = QtCore.Qt.CheckState
        return states.Checked if node.GetID() in self._checked else states.Unchecked

    def setCheckState(self, node: Any, state: QtCore.Qt.CheckState) -> None:
        if state == self.checkState(node):
            return
        change = self._checked.add if state == QtCore.Qt.CheckState.Checked else self._checked.discard
        change(node.GetID())
        self._show_check(node)
        self.checkedNodesChanged.emit()
