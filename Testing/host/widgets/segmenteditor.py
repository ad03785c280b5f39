"""The Segment Editor, as far as a module that embeds it can tell without painting."""

from typing import Any

import slicer
import vtk
from host.observations import Observations
from host.qt.pythonqt import shim
from host.qt.qtproperty import stored
from PySide6 import QtWidgets
from PySide6.QtCore import Signal

from .qmrml import qMRMLWidget
from .segments import qMRMLSegmentsTableView


@shim
class qMRMLSegmentEditorWidget(qMRMLWidget):
    """Header: Slicer Modules/Loadable/Segmentations/Widgets/qMRMLSegmentEditorWidget.h.

    State only: which nodes, which segment, which effect. Painting itself cannot be done here; a test writes voxels
    into the segment instead, which reaches the module through the same MRML events.
    """

    segmentationNodeChanged = Signal(object)
    sourceVolumeNodeChanged = Signal(object)
    masterVolumeNodeChanged = Signal(object)
    currentSegmentIDChanged = Signal(str)

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._editor: Any = None
        self._observations = Observations(self)
        self._mouse_mode = Observations(self)
        interaction = slicer.app.applicationLogic().GetInteractionNode()
        self._mouse_mode.add(interaction, vtk.vtkCommand.ModifiedEvent, self._on_interaction)
        self._history = slicer.vtkSegmentationHistory()
        self._effects = ("Paint", "Draw", "Erase", "Threshold", "Islands", "Smoothing", "Scissors")
        self._label = QtWidgets.QLabel(" ".join(self._effects), self)
        self._label.setWordWrap(True)
        self._table = qMRMLSegmentsTableView(self)
        layout = QtWidgets.QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._table)
        layout.addWidget(self._label)

    def mrmlSegmentEditorNode(self) -> Any:
        return self._editor

    def setMRMLSegmentEditorNode(self, node: Any) -> None:
        self._editor = node
        self._observations.clear()
        if node is not None:
            self._observations.add(node, vtk.vtkCommand.ModifiedEvent, self.updateWidgetFromMRML)
        self.updateWidgetFromMRML()

    def updateWidgetFromMRML(self) -> None:
        self._table.setSegmentationNode(self.segmentationNode())

    def segmentationNode(self) -> Any:
        return self._editor.GetSegmentationNode() if self._editor is not None else None

    def setSegmentationNode(self, node: Any) -> None:
        if self._editor is not None and node is not self.segmentationNode():
            self._editor.SetAndObserveSegmentationNode(node)
            self.segmentationNodeChanged.emit(node)

    def sourceVolumeNode(self) -> Any:
        return self._editor.GetSourceVolumeNode() if self._editor is not None else None

    def setSourceVolumeNode(self, node: Any) -> None:
        if self._editor is not None and node is not self.sourceVolumeNode():
            self._editor.SetAndObserveSourceVolumeNode(node)
            self.sourceVolumeNodeChanged.emit(node)
            self.masterVolumeNodeChanged.emit(node)

    def currentSegmentID(self) -> str:
        return (self._editor.GetSelectedSegmentID() or "") if self._editor is not None else ""

    def setCurrentSegmentID(self, segment_id: str) -> None:
        self._editor.SetSelectedSegmentID(segment_id)
        self.currentSegmentIDChanged.emit(segment_id)

    def availableEffectNames(self) -> tuple[str, ...]:
        return self._effects

    def effectNameOrder(self) -> tuple[str, ...]:
        return self._effects

    def setEffectNameOrder(self, names: Any) -> None:
        self._effects = tuple(names)
        self._label.setText(" ".join(names))

    def setActiveEffectByName(self, name: str) -> None:
        if name not in self._effects:
            name = ""
        self._editor.SetActiveEffectName(name)
        if name:
            # An effect and the placing of markups exclude each other.
            interaction = slicer.app.applicationLogic().GetInteractionNode()
            interaction.SetCurrentInteractionMode(interaction.ViewTransform)

    def _on_interaction(self) -> None:
        interaction = slicer.app.applicationLogic().GetInteractionNode()
        if self._editor is not None and interaction.GetCurrentInteractionMode() != interaction.ViewTransform:
            self._editor.SetActiveEffectName("")

    def activeEffect(self) -> None:
        return None

    def saveStateForUndo(self) -> None:
        self._history.SetSegmentation(self.segmentationNode().GetSegmentation())
        self._history.SaveState()

    def undo(self) -> None:
        self._history.RestorePreviousState()

    def redo(self) -> None:
        self._history.RestoreNextState()

    def setMaximumNumberOfUndoStates(self, count: int) -> None:
        self.maximumNumberOfUndoStates = count

    def installKeyboardShortcuts(self, parent: Any = None) -> None:
        """The host has none of the editor's shortcuts."""

    def uninstallKeyboardShortcuts(self) -> None:
        """The host has none of the editor's shortcuts."""

    def setupViewObservations(self) -> None:
        """Effects are not there to observe the views."""

    def removeViewObservations(self) -> None:
        """Effects are not there to observe the views."""

    segmentationNodeSelectorVisible = stored(bool, True)
    sourceVolumeNodeSelectorVisible = stored(bool, True)
    switchToSegmentationsButtonVisible = stored(bool, True)
    addRemoveSegmentButtonsVisible = stored(bool, True)
    show3DButtonVisible = stored(bool, True)
    unorderedEffectsVisible = stored(bool, True)
    maskingSectionVisible = stored(bool, True)
    maximumNumberOfUndoStates = stored(int, 10)
    readOnly = stored(bool, False)
