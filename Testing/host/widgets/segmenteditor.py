"""The Segment Editor's widget: nodes, segments, scripted effects, masking and undo. It cannot paint."""

from typing import Any

import slicer
import vtk
from host.observations import Observations
from host.qt.pythonqt import shim
from host.qt.qtproperty import stored
from host.segmenteditor.effects import qSlicerSegmentEditorEffectFactory
from PySide6 import QtCore, QtWidgets
from PySide6.QtCore import Signal

from .qmrml import qMRMLWidget
from .segments import qMRMLSegmentsTableView

_NATIVE = ("Paint", "Draw", "Erase", "Threshold", "Islands", "Smoothing", "Scissors")
"""Effects of Slicer that are only names here."""
EDITOR_SIZE = (480, 420)
"""The least width and height of Slicer's editor with a brush selected, in pixels, about."""


@shim
class qMRMLSegmentEditorWidget(qMRMLWidget):
    """Header: Slicer Modules/Loadable/Segmentations/Widgets/qMRMLSegmentEditorWidget.h.

    Slicer's own effects are names. A test writes voxels into the segment instead of painting, which reaches the module
    through the same MRML events. Scripted effects are cloned, set up, activated and cleaned up as in Slicer.
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
        self._logic = slicer.vtkSlicerSegmentEditorLogic()
        self._logic.SetMRMLApplicationLogic(slicer.app.applicationLogic())
        self._effects: list[Any] = []
        self._order: tuple[str, ...] = _NATIVE
        self._active: Any = None
        self._buttons: dict[str, QtWidgets.QToolButton] = {}
        self._label = QtWidgets.QLabel(" ".join(self._order), self)
        self._label.setWordWrap(True)
        self._table = qMRMLSegmentsTableView(self)
        self._table.selectionChanged.connect(self._on_selection)
        # Slicer's own asks for more than a module panel has.
        self.setMinimumSize(*EDITOR_SIZE)
        layout = QtWidgets.QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._table)
        layout.addWidget(self._label)
        self._button_row, self._options = QtWidgets.QHBoxLayout(), QtWidgets.QVBoxLayout()
        layout.addLayout(self._button_row)
        layout.addLayout(self._options)
        layout.addStretch(1)
        self.updateEffectList()
        # Slicer's destructor does it.
        self.destroyed.connect(lambda *_, effects=self._effects: _clean_up(effects))

    def setMRMLScene(self, scene: Any) -> None:
        super().setMRMLScene(scene)
        self._logic.SetMRMLScene(scene)
        self._logic.SetVerbose(True)
        self.updateWidgetFromMRML()

    # -- nodes

    def mrmlSegmentEditorNode(self) -> Any:
        return self._editor

    def setMRMLSegmentEditorNode(self, node: Any) -> None:
        if node is self._editor:
            return
        self._editor = node
        self._logic.SetSegmentEditorNode(node)
        self._observations.clear()
        if node is None:
            return
        self._observations.add(node, vtk.vtkCommand.ModifiedEvent, self.updateWidgetFromMRML)
        self._observations.add(node, node.EffectParameterModified, self._on_parameter)
        scene = slicer.mrmlScene
        self._observations.add(scene, scene.EndCloseEvent, self._on_scene_closed)
        self._observations.add(scene, scene.NodeAboutToBeRemovedEvent, self._on_removal, with_node=True)
        self._observations.add(scene, scene.EndBatchProcessEvent, self.updateWidgetFromMRML)
        self._initialize_node()
        self.updateWidgetFromMRML()

    def updateWidgetFromMRML(self) -> None:
        if slicer.mrmlScene.IsClosing() or slicer.mrmlScene.IsBatchProcessing():
            return
        node = self.segmentationNode()
        if node is not self._table.segmentationNode():
            if node is not None:
                node.CreateDefaultDisplayNodes()
            self._table.setSegmentationNode(node)
            if self._editor is not None and node is not None and node.GetSegmentation().GetNumberOfSegments():
                self._table.setSelectedSegmentIDs([node.GetSegmentation().GetNthSegmentID(0)])
        elif self.currentSegmentID():
            self._table.setSelectedSegmentIDs([self.currentSegmentID()])
        self._update_effects()

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
            segmentation = self.segmentationNode()
            if segmentation is not None and node is not None and not segmentation.GetSegmentation().GetNumberOfSegments():
                segmentation.SetReferenceImageGeometryParameterFromVolumeNode(node)
            for effect in self._effects:
                effect._call("sourceVolumeNodeChanged")
                effect._call("masterVolumeNodeChanged")
            self.sourceVolumeNodeChanged.emit(node)
            self.masterVolumeNodeChanged.emit(node)

    def currentSegmentID(self) -> str:
        return (self._editor.GetSelectedSegmentID() or "") if self._editor is not None else ""

    def setCurrentSegmentID(self, segment_id: str) -> None:
        self._editor.SetSelectedSegmentID(segment_id)
        self.currentSegmentIDChanged.emit(segment_id)

    # -- effects

    def updateEffectList(self) -> None:
        for effect in qSlicerSegmentEditorEffectFactory.instance().copyEffects(self._effects):
            effect._widget, effect._logic = self, self._logic
            if self._editor is not None:
                effect.setParameterSetNode(self._editor)
                effect._call("setMRMLDefaults")
            effect._call("setupOptionsFrame")
            effect.optionsFrame().setVisible(False)
            self._options.addWidget(effect.optionsFrame())
            button = self._buttons[effect.name] = QtWidgets.QToolButton(self)
            button.setCheckable(True)
            button.setText(effect.title)
            button.setIcon(effect._call("icon"))
            button.setToolButtonStyle(QtCore.Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
            button.clicked.connect(lambda checked, name=effect.name: self.setActiveEffectByName(name if checked else ""))
            self._button_row.addWidget(button)
        self._show_buttons()

    def availableEffectNames(self) -> tuple[str, ...]:
        return (*_NATIVE, *(each.name for each in self._effects))

    def effectNameOrder(self) -> tuple[str, ...]:
        return self._order

    def setEffectNameOrder(self, names: Any) -> None:
        self._order = tuple(names)
        self._label.setText(" ".join(names))
        self._show_buttons()

    def effectByName(self, name: str) -> Any:
        return next((each for each in self._effects if each.name == name), None)

    def setActiveEffectByName(self, name: str) -> None:
        if name not in self.availableEffectNames():
            name = ""
        self._editor.SetActiveEffectName(name)
        if name:
            # An effect and the placing of markups exclude each other.
            interaction = slicer.app.applicationLogic().GetInteractionNode()
            interaction.SetCurrentInteractionMode(interaction.ViewTransform)

    def setActiveEffect(self, effect: Any) -> None:
        self.setActiveEffectByName(effect.name if effect is not None else "")

    def activeEffect(self) -> Any:
        return self._active

    def _show_buttons(self, *_: Any) -> None:
        for name, button in self._buttons.items():
            button.setVisible(self.unorderedEffectsVisible or name in self._order)

    def _initialize_node(self) -> None:
        with slicer.util.NodeModify(self._editor):
            for effect in self._effects:
                effect.setParameterSetNode(self._editor)
                effect._call("setMRMLDefaults")

    def _update_effects(self) -> None:
        if self._editor is None:
            return
        chosen = self.effectByName(self._editor.GetActiveEffectName() or "")
        if chosen is not self._active:
            if self._active is not None:
                self._active.deactivate()
            if chosen is not None:
                interaction = slicer.app.applicationLogic().GetInteractionNode()
                interaction.SetCurrentInteractionMode(interaction.ViewTransform)
                chosen.activate()
                chosen.helpText()
            self._active = chosen
        for name, button in self._buttons.items():
            button.setChecked(chosen is not None and name == chosen.name)
            effect, node = self.effectByName(name), self.segmentationNode()
            filled = node is not None and node.GetSegmentation().GetNumberOfSegments() > 0
            suits = filled and (bool(self.currentSegmentID()) or not effect.perSegment)
            button.setEnabled(self.sourceVolumeNode() is not None and (suits or not effect.requireSegments))

    def _on_parameter(self) -> None:
        for effect in self._effects:
            effect.updateGUIFromMRML()

    def _on_selection(self, *_: Any) -> None:
        selected = self._table.selectedSegmentIDs()
        if self._editor is not None and selected and selected[0] != self.currentSegmentID():
            self._editor.SetSelectedSegmentID(selected[0])
            self.currentSegmentIDChanged.emit(selected[0])

    def _on_interaction(self) -> None:
        interaction = slicer.app.applicationLogic().GetInteractionNode()
        if self._active is not None:
            self._active._interaction_changed(interaction)
        elif self._editor is not None and interaction.GetCurrentInteractionMode() != interaction.ViewTransform:
            self._editor.SetActiveEffectName("")

    def _on_removal(self, node: Any) -> None:
        # An editor that was not told of the end of the scene goes on updating what it shows.
        if slicer.mrmlScene.IsClosing() and node is self.segmentationNode() and node.GetDisplayNode() is not None:
            node.GetDisplayNode().Modified()

    def _on_scene_closed(self) -> None:
        self._initialize_node()
        self.updateWidgetFromMRML()

    # -- undo

    def saveStateForUndo(self) -> None:
        self._logic.SaveStateForUndo()

    def undo(self) -> None:
        self._logic.Undo()

    def redo(self) -> None:
        self._logic.Redo()

    def setMaximumNumberOfUndoStates(self, count: int) -> None:
        self._logic.SetMaximumNumberOfUndoStates(count)

    def installKeyboardShortcuts(self, parent: Any = None) -> None:
        """The host has none of the editor's shortcuts."""

    def uninstallKeyboardShortcuts(self) -> None:
        """The host has none of the editor's shortcuts."""

    def setupViewObservations(self) -> None:
        """No effect here observes the views."""

    def removeViewObservations(self) -> None:
        """No effect here observes the views."""

    segmentationNodeSelectorVisible = stored(bool, True)
    sourceVolumeNodeSelectorVisible = stored(bool, True)
    switchToSegmentationsButtonVisible = stored(bool, True)
    addRemoveSegmentButtonsVisible = stored(bool, True)
    show3DButtonVisible = stored(bool, True)
    unorderedEffectsVisible = stored(bool, True, _show_buttons)
    maskingSectionVisible = stored(bool, True)
    maximumNumberOfUndoStates = stored(int, 10, setMaximumNumberOfUndoStates)
    readOnly = stored(bool, False)


def _clean_up(effects: list[Any]) -> None:
    while effects:
        effects.pop().cleanup()
