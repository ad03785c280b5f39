"""A scripted module of the usual shape, on which the host itself is tested."""

import enum
import pathlib
from typing import Annotated, Any, Optional

import qt
import slicer
import vtk
from slicer.i18n import tr as _
from slicer.parameterNodeWrapper import Choice, Default, FloatRange, RangeBounds, WithinRange, parameterNodeWrapper
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin


class HostExample(ScriptedLoadableModule):
    def __init__(self, parent: Any) -> None:
        super().__init__(parent)
        parent.title = _("Host example")
        parent.categories = ["Testing"]
        parent.contributors = ["CoralBay"]
        parent.helpText = _("Threshold a volume.")


class Mode(enum.Enum):
    ABOVE = "above"
    BELOW = "below"


@parameterNodeWrapper
class HostExampleParameterNode:
    inputVolume: Optional[slicer.vtkMRMLScalarVolumeNode] = None  # noqa: UP045
    segmentation: slicer.vtkMRMLSegmentationNode
    threshold: Annotated[float, WithinRange(-1000, 3000), Default(100)]
    count: Annotated[int, WithinRange(0, 10)] = 3
    window: Annotated[FloatRange, RangeBounds(-1000, 1000), Default(FloatRange(-160, 240))]
    invert: bool = False
    mode: Mode
    device: Annotated[str, Choice(["cpu", "cuda"])] = "cpu"
    weights: pathlib.Path
    names: list[str]
    scores: dict[str, float]


class HostExampleWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    def __init__(self, parent: Any = None) -> None:
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.events = []
        self.tag = None

    def setup(self) -> None:
        ScriptedLoadableModuleWidget.setup(self)
        uiWidget = slicer.util.loadUI(self.resourcePath("UI/HostExample.ui"))
        self.layout.addWidget(uiWidget)
        self.ui = slicer.util.childWidgetVariables(uiWidget)
        uiWidget.setMRMLScene(slicer.mrmlScene)
        self.logic = HostExampleLogic()
        self.ui.applyButton.connect("clicked(bool)", self.onApply)
        self.ui.inputSelector.connect("currentNodeChanged(vtkMRMLNode*)", lambda node: self.events.append(node))
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndCloseEvent, self.onSceneClosed)
        shortcut = qt.QShortcut(qt.QKeySequence("Ctrl+G"), self.parent)
        shortcut.connect("activated()", self.onApply)
        self.connectParameterNode()
        self.events.append("setup")

    def connectParameterNode(self) -> None:
        self.disconnectParameterNode()
        self.parameters = HostExampleParameterNode(self.logic.getParameterNode())
        self.tag = self.parameters.connectGui(self.ui)

    def disconnectParameterNode(self) -> None:
        if self.tag is not None:
            self.parameters.disconnectGui(self.tag)
            self.tag = None

    def enter(self) -> None:
        self.events.append("enter")

    def exit(self) -> None:
        self.events.append("exit")

    def cleanup(self) -> None:
        self.removeObservers()
        self.disconnectParameterNode()
        self.events.append("cleanup")

    def onSceneClosed(self, caller: Any, event: str) -> None:
        self.connectParameterNode()

    def onApply(self) -> None:
        with slicer.util.tryWithErrorDisplay(_("Could not apply."), waitCursor=True):
            self.parameters.segmentation = self.logic.segment(self.parameters.inputVolume, self.parameters.threshold)


class HostExampleLogic(ScriptedLoadableModuleLogic):
    def segment(self, volume: Any, threshold: float) -> Any:
        if volume is None:
            raise ValueError("Choose a volume first.")
        segmentation = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Result")
        segmentation.CreateDefaultDisplayNodes()
        segmentation.SetReferenceImageGeometryParameterFromVolumeNode(volume)
        segment = segmentation.GetSegmentation().AddEmptySegment("result", "result", [1.0, 0.0, 0.0])
        mask = (slicer.util.arrayFromVolume(volume) > threshold).astype("uint8")
        slicer.util.updateSegmentBinaryLabelmapFromArray(mask, segmentation, segment, volume)
        return segmentation


class HostExampleTest(ScriptedLoadableModuleTest):
    ran = 0

    def test_counts(self) -> None:
        assert vtk.vtkVersion().GetVTKMajorVersion() >= 9
        HostExampleTest.ran += 1
