"""The module Segment Editor, as another module meets it: an editor on the scene's own parameter node."""

from typing import Any

import slicer
from slicer.ScriptedLoadableModule import ScriptedLoadableModule, ScriptedLoadableModuleWidget
from slicer.util import VTKObservationMixin


class SegmentEditor(ScriptedLoadableModule):
    """Names the module."""

    def __init__(self, parent: Any) -> None:
        super().__init__(parent)
        parent.title = "Segment Editor"


class SegmentEditorWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The panel: one editor."""

    def __init__(self, parent: Any) -> None:
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.parameterSetNode: Any = None
        self.editor: Any = None

    def setup(self) -> None:
        ScriptedLoadableModuleWidget.setup(self)
        self.editor = slicer.qMRMLSegmentEditorWidget()
        self.editor.setMaximumNumberOfUndoStates(10)
        self.selectParameterNode()
        self.editor.setMRMLScene(slicer.mrmlScene)
        self.layout.addWidget(self.editor)
        self.effectFactorySingleton = slicer.qSlicerSegmentEditorEffectFactory.instance()
        self.effectFactorySingleton.connect("effectRegistered(QString)", self.editorEffectRegistered)
        scene = slicer.mrmlScene
        self.addObserver(scene, scene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(scene, scene.EndCloseEvent, self.onSceneChanged)
        self.addObserver(scene, scene.EndImportEvent, self.onSceneChanged)

    def editorEffectRegistered(self, *_: Any) -> None:
        self.editor.updateEffectList()

    def selectParameterNode(self) -> None:
        tag, kind = "SegmentEditor", "vtkMRMLSegmentEditorNode"
        node = slicer.mrmlScene.GetSingletonNode(tag, kind)
        if node is None:
            node = slicer.mrmlScene.CreateNodeByClass(kind)
            node.UnRegister(None)
            node.SetSingletonTag(tag)
            node = slicer.mrmlScene.AddNode(node)
        if node is not self.parameterSetNode:
            self.parameterSetNode = node
            self.editor.setMRMLSegmentEditorNode(node)

    def enter(self) -> None:
        self.selectParameterNode()
        self.editor.updateWidgetFromMRML()
        if self.editor.segmentationNode() is None:
            node = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLSegmentationNode")
            self.editor.setSegmentationNode(node or slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode"))
            if self.editor.sourceVolumeNode() is None:
                self.editor.setSourceVolumeNode(_shown_volume())

    def exit(self) -> None:
        self.editor.setActiveEffectByName("")
        self.editor.removeViewObservations()

    def onSceneStartClose(self, *_: Any) -> None:
        self.parameterSetNode = None
        self.editor.setSegmentationNode(None)
        self.editor.removeViewObservations()

    def onSceneChanged(self, *_: Any) -> None:
        if self.parent.isEntered:
            self.selectParameterNode()
            self.editor.updateWidgetFromMRML()

    def cleanup(self) -> None:
        self.removeObservers()
        self.effectFactorySingleton.disconnect("effectRegistered(QString)", self.editorEffectRegistered)


def _shown_volume() -> Any:
    layout = slicer.app.layoutManager()
    for name in layout.sliceViewNames():
        shown = layout.sliceWidget(name).mrmlSliceCompositeNode().GetBackgroundVolumeID()
        if shown:
            return slicer.mrmlScene.GetNodeByID(shown)
    return None
