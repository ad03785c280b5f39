"""The effect CoralBay of the Segment Editor: completes segments of which a part is painted.

Slicer imports this file by its path, as a module with the name of its folder. The effect connects Slicer's calls with
CoralBaySlicerCore; nothing is computed here.
"""

from pathlib import Path
from typing import Any

import qt
import slicer
from CoralBaySlicerCore.interactive.completion import Completed, Completion
from CoralBaySlicerCore.interactive.effect_task import in_effect
from CoralBaySlicerCore.interactive.look_alikes import LookAlikes
from CoralBaySlicerCore.panels.effect.options import EffectOptions
from CoralBaySlicerCore.scene.editor import examples, maps, preview_node
from CoralBaySlicerCore.work.logic import CoralBaySlicerLogic
from CoralBaySlicerCore.work.remedies import show_error
from SegmentEditorEffects import AbstractScriptedSegmentEditorAutoCompleteEffect
from slicer.i18n import tr as _

from CoralBayLib.core.errors import CoralBayError

_UPDATE_MS = 200
"""Time after the last change of a segment until the preview is updated."""
_OPACITY = 0.6


class SegmentEditorEffect(AbstractScriptedSegmentEditorAutoCompleteEffect):
    """Shows a preview of completed segments, updates it while the user paints, and writes it on Apply.

    Slicer's base class has the buttons, the observer of the segments and the node of the preview. It computes the preview on
    the main thread, while Slicer waits. Here `preview` starts a task instead, and the preview is shown when its result comes.
    """

    def __init__(self, scriptedEffect: Any) -> None:
        AbstractScriptedSegmentEditorAutoCompleteEffect.__init__(self, scriptedEffect)
        scriptedEffect.name = "CoralBay"  # not translated: modules find effects by their names
        scriptedEffect.title = _("CoralBay")
        self.delayedAutoUpdateTimer.interval = _UPDATE_MS
        self.completion = Completion(_logic, self._show_state, self._show_result)
        self.look_alikes = LookAlikes(_logic, self._show_state)
        self.options = EffectOptions(scriptedEffect, self._on_option, self.look_for_others, self.keep_map)

    # -- called by Slicer

    def clone(self) -> Any:
        """A new effect for another Segment Editor."""
        import qSlicerSegmentationsEditorEffectsPythonQt as effects

        cloned = effects.qSlicerSegmentEditorScriptedEffect(None)
        cloned.setPythonSource(Path(__file__).as_posix())
        return cloned

    def icon(self) -> qt.QIcon:
        """The icon of the effect's button."""
        path = Path(__file__).resolve().parents[1] / "Resources" / "Icons" / "SegmentEditorCoralBay.png"
        return qt.QIcon(str(path)) if path.is_file() else qt.QIcon()

    def helpText(self) -> str:
        """How to use the effect."""
        steps = (
            _("Add a segment for each structure, and paint a part of each: a few strokes in one or more slices are enough."),
            _("Add a segment named Background, and paint some voxels that belong to no structure."),
            _("Click Initialize. The first time for a scan, features are computed, which may take minutes."),
            _("Where the preview is wrong, paint with another effect. The preview is updated."),
            _("Click Apply to replace the segments by the preview."),
        )
        text = "".join(f"<li>{step}</li>" for step in steps)
        return "<html>{about}<br><ol>{steps}</ol>{notes}</html>".format(
            about=_("Complete partly painted segments in CT, with features of pretrained networks."),
            steps=text,
            notes=_(
                "Painted voxels keep their segments. Hidden segments are not used as examples. The settings under Masking "
                "apply: editable area, intensity range, and overwriting of other segments. For research use; not a medical "
                "device."
            ),
        )

    def setupOptionsFrame(self) -> None:
        """Add the widgets."""
        AbstractScriptedSegmentEditorAutoCompleteEffect.setupOptionsFrame(self)
        self.options.set_up()

    def setMRMLDefaults(self) -> None:
        """Set the parameters that the scene does not have."""
        AbstractScriptedSegmentEditorAutoCompleteEffect.setMRMLDefaults(self)
        self.options.set_defaults()

    def updateGUIFromMRML(self) -> None:
        """Show the parameters and the state of the preview."""
        AbstractScriptedSegmentEditorAutoCompleteEffect.updateGUIFromMRML(self)
        self.options.show(_logic().getParameterNode().encoder)
        self._show_state()

    def sourceVolumeNodeChanged(self) -> None:
        """The scan was changed; its preview is not of this one."""
        self.completion.forget()
        self.look_alikes.cancel()

    def cleanup(self) -> None:
        """Stop all work and disconnect, so that the effect can be deleted."""
        self.completion.forget()
        self.look_alikes.cancel()
        self.delayedAutoUpdateTimer.stop()
        self.observeSegmentation(False)
        self.options.close()
        AbstractScriptedSegmentEditorAutoCompleteEffect.cleanup(self)

    # -- what the user does

    def onPreview(self) -> None:
        """Compute the preview, after Initialize, Update or a change of a segment."""
        self.look_alikes.message = ""
        self.preview()

    def preview(self) -> None:
        """Start to compute the preview of what is painted now; nothing happens if it is shown already."""
        try:
            self.completion.request(self._examples(), self.options.options)
        except CoralBayError as error:
            self.completion.cancel()
            self.completion.message = in_effect(error)
            if self.getPreviewNode() is None:
                show_error(_("The segments cannot be completed."), error)
            self._show_state()

    def onSegmentationModified(self, caller: Any, event: str) -> None:
        """Update the preview soon after a segment was painted, added, renamed or removed."""
        if self.autoUpdateCheckBox.isChecked():
            self.delayedAutoUpdateTimer.start()

    def onCancel(self) -> None:
        """Stop what is computed, or discard the preview."""
        if self.look_alikes.is_running:
            self.look_alikes.cancel()
            self._show_state()
            return
        if self.completion.is_running and self.getPreviewNode() is not None:
            self.completion.cancel()
            self._show_state()
            return
        self.completion.forget()
        if self.scriptedEffect.parameterSetNode().GetSegmentationNode() is not None:
            self.reset()

    def onApply(self) -> None:
        """Write the preview into the segments, as Masking allows it; Undo of the Segment Editor takes it back."""
        preview, node = self.getPreviewNode(), self.scriptedEffect.parameterSetNode()
        if preview is None or node.GetSegmentationNode() is None:
            return
        self.completion.forget()
        self.delayedAutoUpdateTimer.stop()
        self.observeSegmentation(False)
        segmentation, selected, shown = node.GetSegmentationNode(), node.GetSelectedSegmentID(), self.getPreviewShow3D()
        self.scriptedEffect.saveStateForUndo()
        inner = segmentation.GetSegmentation()
        mode = slicer.qSlicerSegmentEditorAbstractEffect.ModificationModeSet
        # The editor shows the selection that remains, not each on the way.
        with slicer.util.NodeModify(node):
            for segment_id in filter(inner.GetSegment, examples.segments.ids(preview)):
                image = slicer.vtkOrientedImageData()
                preview.GetBinaryLabelmapRepresentation(segment_id, image)
                # The selected segment is the one that "outside of other segments" is about.
                node.SetSelectedSegmentID(segment_id)
                self.scriptedEffect.modifySelectedSegmentByLabelmap(image, mode)
            node.SetSelectedSegmentID(selected)
        if shown:
            segmentation.CreateClosedSurfaceRepresentation()
        self.reset()

    def look_for_others(self) -> None:
        """Add a segment for each region that looks like the selected segment; Undo of the Segment Editor takes it back."""
        try:
            self.look_alikes.start(self.scriptedEffect.parameterSetNode(), self.scriptedEffect.saveStateForUndo)
        except CoralBayError as error:
            show_error(_("The search failed."), error)

    def keep_map(self, kind: str) -> None:
        """Keep a map of the preview as a volume of its own: the probability of the selected segment, or the uncertainty."""
        node, result = self.scriptedEffect.parameterSetNode(), self.completion.result
        selected, segmentation = node.GetSelectedSegmentID(), node.GetSegmentationNode()

        def done(preview: Any) -> None:
            volume = self.scriptedEffect.parameterSetNode().GetSourceVolumeNode()
            if result is None or volume is None or volume is not result.examples.volume:
                return
            kept_node = maps.keep_of_segment(preview, result.examples, segmentation, selected, kind)
            slicer.util.showStatusMessage(_("Kept as volume: {name}").format(name=kept_node.GetName()), 5000)

        try:
            self.completion.compute_preview(done)
        except CoralBayError as error:
            show_error(_("The map could not be kept."), error)

    # -- internal

    def _examples(self) -> examples.Examples:
        node = self.scriptedEffect.parameterSetNode()
        # Slicer resamples the scan for it, so it is not asked for without need.
        source = self.scriptedEffect.sourceVolumeImageData() if node.GetSourceVolumeIntensityMask() else None
        reference = self.scriptedEffect.referenceGeometryImage()
        return examples.read(node, reference, source, self.options.selected_only, self.completion.last_examples)

    def _on_option(self) -> None:
        if self.getPreviewNode() is not None or self.completion.is_running:
            self.delayedAutoUpdateTimer.start()

    def _show_result(self, result: Completed) -> None:
        """Show completed segments in the node of the preview."""
        node = self.scriptedEffect.parameterSetNode()
        segmentation = node.GetSegmentationNode() if node is not None else None
        if segmentation is None or node.GetSourceVolumeNode() is not result.examples.volume:
            return
        preview, in_3d = self.getPreviewNode(), self.getPreviewShow3D()
        if preview is None:
            # Of another effect, or of none.
            self.reset()
            preview = preview_node.make(segmentation)
            self.scriptedEffect.setCommonNodeReference(preview_node.ROLE, preview)
            self.scriptedEffect.setCommonParameter(preview_node.OWNER, self.scriptedEffect.name)
            self.setPreviewOpacity(_OPACITY)
            surface = slicer.vtkSegmentationConverter.GetSegmentationClosedSurfaceRepresentationName()
            in_3d = segmentation.GetSegmentation().ContainsRepresentation(surface)
        preview_node.fill(preview, segmentation, result.masks, result.examples.geometry)
        self.setPreviewShow3D(in_3d)
        self.updateGUIFromMRML()
        # What was painted while the first preview was computed was not observed.
        self.preview()

    def _show_state(self) -> None:
        if self.scriptedEffect.parameterSetNode() is None:
            return
        running = self.look_alikes if self.look_alikes.is_running else self.completion
        self.options.show_progress(running.title, running.fraction, self.look_alikes.message or self.completion.message)
        self.cancelButton.setEnabled(running.is_running or self.getPreviewNode() is not None)


def _logic() -> CoralBaySlicerLogic:
    """The logic of the module, which has the features of the scans."""
    return slicer.util.getModuleLogic("CoralBaySlicer")
