"""``SegmentEditorEffects``: the base classes of scripted effects, as far as an effect that previews its result needs them."""

from typing import Any

import ctk
import qt
import slicer

__all__ = ["AbstractScriptedSegmentEditorAutoCompleteEffect", "AbstractScriptedSegmentEditorEffect"]

_PREVIEW, _OWNER = "SegmentationResultPreview", "SegmentationResultPreviewOwnerEffect"
_DELAY_MS = 1000


class AbstractScriptedSegmentEditorEffect:
    """An effect; ``scriptedEffect`` is the application's object for it."""

    def __init__(self, scriptedEffect: Any) -> None:
        self.scriptedEffect = scriptedEffect

    def register(self) -> None:
        slicer.qSlicerSegmentEditorEffectFactory.instance().registerEffect(self.scriptedEffect)

    def cleanup(self) -> None:
        """Called before the application's object goes."""


class AbstractScriptedSegmentEditorAutoCompleteEffect(AbstractScriptedSegmentEditorEffect):
    """An effect that completes segments: it has a preview, which is updated when the segments change, and then applied."""

    def __init__(self, scriptedEffect: Any) -> None:
        scriptedEffect.perSegment = False
        super().__init__(scriptedEffect)
        self.minimumNumberOfSegments = 1
        self.minimumNumberOfSegmentsWithEditableArea = 1
        self.clippedMasterImageDataRequired = False
        self.clippedMaskImageDataRequired = False
        self.mergedLabelmapGeometryImage = None
        self.selectedSegmentIds: Any = None
        self.selectedSegmentModifiedTimes: dict[str, int] = {}
        self.clippedMasterImageData = None
        self.clippedMaskImageData = None
        self.observedSegmentation: Any = None
        self.segmentationNodeObserverTags: list[int] = []
        self.extentGrowthRatio = 0.1
        self.minimumExtentMargin = 3
        self.previewComputationInProgress = False
        timer = self.delayedAutoUpdateTimer = qt.QTimer()
        timer.setSingleShot(True)
        timer.interval = _DELAY_MS
        timer.connect("timeout()", self.onPreview)

    def cleanup(self) -> None:
        self.delayedAutoUpdateTimer.disconnect("timeout()", self.onPreview)

    def setupOptionsFrame(self) -> None:
        name = type(self).__name__
        self.autoUpdateCheckBox = qt.QCheckBox("Auto-update")
        self.autoUpdateCheckBox.setChecked(True)
        self.autoUpdateCheckBox.setEnabled(False)
        self.previewButton = qt.QPushButton("Initialize")
        self.previewButton.objectName = name + "Preview"
        self.scriptedEffect.addLabeledOptionsWidget("Preview:", _row(self.autoUpdateCheckBox, self.previewButton))
        slider = self.previewOpacitySlider = ctk.ctkSliderWidget()
        slider.minimum, slider.maximum, slider.singleStep, slider.pageStep = 0, 1.0, 0.05, 0.1
        slider.spinBoxVisible = False
        self.previewShow3DButton = qt.QPushButton("Show 3D")
        self.previewShow3DButton.setCheckable(True)
        shown = _row(qt.QLabel("inputs"), slider, qt.QLabel("results"), self.previewShow3DButton)
        self.scriptedEffect.addLabeledOptionsWidget("Display:", shown)
        self.cancelButton, self.applyButton = qt.QPushButton("Cancel"), qt.QPushButton("Apply")
        self.cancelButton.objectName, self.applyButton.objectName = name + "Cancel", name + "Apply"
        self.scriptedEffect.addOptionsWidget(_row(self.cancelButton, self.applyButton))
        self.previewButton.connect("clicked()", self.onPreview)
        self.cancelButton.connect("clicked()", self.onCancel)
        self.applyButton.connect("clicked()", self.onApply)
        slider.connect("valueChanged(double)", self.updateMRMLFromGUI)
        self.previewShow3DButton.connect("toggled(bool)", self.updateMRMLFromGUI)
        self.autoUpdateCheckBox.connect("stateChanged(int)", self.updateMRMLFromGUI)

    def setMRMLDefaults(self) -> None:
        self.scriptedEffect.setParameterDefault("AutoUpdate", "1")

    def updateGUIFromMRML(self) -> None:
        node = self.getPreviewNode()
        for widget in (self.cancelButton, self.applyButton, self.previewOpacitySlider, self.autoUpdateCheckBox):
            widget.setEnabled(node is not None)
        self.previewShow3DButton.setEnabled(node is not None)
        self.previewButton.text = "Initialize" if node is None else "Update"
        if node is None:
            self.delayedAutoUpdateTimer.stop()
        else:
            _quietly(self.previewOpacitySlider, "value", self.getPreviewOpacity())
            self.previewShow3DButton.setChecked(self.getPreviewShow3D())
        self.observeSegmentation(node is not None and self.autoUpdateCheckBox.isChecked())
        _quietly(self.autoUpdateCheckBox, "checked", self.scriptedEffect.integerParameter("AutoUpdate") != 0)

    def updateMRMLFromGUI(self, *_: Any) -> None:
        if self.getPreviewNode() is not None:
            self.setPreviewOpacity(self.previewOpacitySlider.value)
            self.setPreviewShow3D(self.previewShow3DButton.checked)
        self.scriptedEffect.setParameter("AutoUpdate", 1 if self.autoUpdateCheckBox.isChecked() else 0)

    def observeSegmentation(self, enabled: bool) -> None:
        node = self.scriptedEffect.parameterSetNode()
        segmentation = node.GetSegmentationNode().GetSegmentation() if node and node.GetSegmentationNode() else None
        if enabled and self.observedSegmentation is segmentation:
            return
        for tag in self.segmentationNodeObserverTags:
            self.observedSegmentation.RemoveObserver(tag)
        self.segmentationNodeObserverTags, self.observedSegmentation = [], None
        if enabled and segmentation is not None:
            self.observedSegmentation = segmentation
            events = ("SegmentAdded", "SegmentRemoved", "SegmentModified", "SourceRepresentationModified")
            self.segmentationNodeObserverTags = [
                segmentation.AddObserver(getattr(slicer.vtkSegmentation, event), self.onSegmentationModified)
                for event in events
            ]

    def onSegmentationModified(self, caller: Any, event: str) -> None:
        if not self.autoUpdateCheckBox.isChecked():
            return
        segmentation = self.scriptedEffect.parameterSetNode().GetSegmentationNode().GetSegmentation()
        name = slicer.vtkSegmentationConverter.GetSegmentationBinaryLabelmapRepresentationName()
        changed = False
        for index in range(self.selectedSegmentIds.GetNumberOfValues()):
            segment_id = self.selectedSegmentIds.GetValue(index)
            segment = segmentation.GetSegment(segment_id)
            if segment is None:
                self.onCancel()
                return
            labelmap = segment.GetRepresentation(name)
            time = labelmap.GetMTime() if labelmap is not None else None
            if time is None or self.selectedSegmentModifiedTimes.get(segment_id) != time:
                changed = True
            if time is not None:
                self.selectedSegmentModifiedTimes[segment_id] = time
        if changed and not self.previewComputationInProgress:
            self.delayedAutoUpdateTimer.start()

    def getPreviewNode(self) -> Any:
        node, effect = self.scriptedEffect.nodeReference(_PREVIEW), self.scriptedEffect
        if node is not None and effect.parameterDefined(_OWNER) and effect.parameter(_OWNER) != effect.name:
            return None
        return node

    def onPreview(self) -> None:
        if self.previewComputationInProgress:
            return
        self.previewComputationInProgress = True
        try:
            with slicer.util.tryWithErrorDisplay("Segmentation operation failed:", waitCursor=True):
                self.preview()
        finally:
            self.previewComputationInProgress = False

    def preview(self) -> None:
        """Slicer's own calls ``computePreviewLabelmap`` here and waits for it; the host has no effect that does."""
        raise NotImplementedError

    def reset(self) -> None:
        self.delayedAutoUpdateTimer.stop()
        self.observeSegmentation(False)
        node = self.scriptedEffect.nodeReference(_PREVIEW)
        if node is not None:
            self.scriptedEffect.setCommonNodeReference(_PREVIEW, None)
            slicer.mrmlScene.RemoveNode(node)
            self.scriptedEffect.setCommonParameter(_OWNER, "")
        self.scriptedEffect.parameterSetNode().GetSegmentationNode().GetDisplayNode().SetOpacity(1.0)
        self.selectedSegmentIds, self.selectedSegmentModifiedTimes = None, {}
        self.mergedLabelmapGeometryImage = None
        self.updateGUIFromMRML()

    def onCancel(self) -> None:
        self.reset()

    def onApply(self) -> None:
        """Slicer's own writes all previewed segments with ``modifySegmentByLabelmap``; the host has no effect that needs it."""
        raise NotImplementedError

    def setPreviewOpacity(self, opacity: float) -> None:
        self.scriptedEffect.parameterSetNode().GetSegmentationNode().GetDisplayNode().SetOpacity(1.0 - opacity)
        node = self.getPreviewNode()
        if node is not None:
            node.GetDisplayNode().SetOpacity(opacity)
            node.GetDisplayNode().SetOpacity3D(opacity)
        _quietly(self.previewOpacitySlider, "value", opacity)

    def getPreviewOpacity(self) -> float:
        node = self.getPreviewNode()
        return node.GetDisplayNode().GetOpacity() if node is not None else 0.6

    def setPreviewShow3D(self, show: bool) -> None:
        node = self.getPreviewNode()
        if node is not None:
            (node.CreateClosedSurfaceRepresentation if show else node.RemoveClosedSurfaceRepresentation)()
        _quietly(self.previewShow3DButton, "checked", bool(show))

    def getPreviewShow3D(self) -> bool:
        node = self.getPreviewNode()
        surface = slicer.vtkSegmentationConverter.GetSegmentationClosedSurfaceRepresentationName()
        return node is not None and node.GetSegmentation().ContainsRepresentation(surface)


def _row(*widgets: Any) -> Any:
    layout = qt.QHBoxLayout()
    for widget in widgets:
        layout.addWidget(widget)
    return layout


def _quietly(widget: Any, name: str, value: Any) -> None:
    blocked = widget.blockSignals(True)
    setattr(widget, name, value)
    widget.blockSignals(blocked)
