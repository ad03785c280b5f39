"""The self-test's walk through the effect of the Segment Editor."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import slicer
from slicer.i18n import tr as _
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleTest

from CoralBaySlicerCore.scene import segments, volumes
from CoralBaySlicerCore.scene.volumes import KEPT_MAP

from .phantom import make_phantom
from .watch import LogWatch, error_dialogs

_TIMEOUT_S = 600


class EffectWalk:
    """Completes a segment with the effect, as a user of the Segment Editor does.

    Args:
        test: whose assertions are used.
        encoder: name of a registered encoder that is quick.
    """

    def __init__(self, test: ScriptedLoadableModuleTest, encoder: str) -> None:
        self._test, self._encoder = test, encoder
        self._volume, self._center = make_phantom()
        slicer.util.setSliceViewerLayers(background=self._volume, fit=True)
        slicer.util.selectModule("SegmentEditor")
        slicer.app.processEvents()
        self._editor = slicer.modules.SegmentEditorWidget.editor
        self._segmentation = segments.new(self._volume, "Self-test")
        self._editor.setSegmentationNode(self._segmentation)
        self._editor.setSourceVolumeNode(self._volume)

    @property
    def _effect(self) -> Any:
        effect = self._editor.effectByName("CoralBay")
        self._test.assertIsNotNone(effect, "The Segment Editor does not have the effect CoralBay.")
        return effect.self()

    def run(self) -> None:
        """Walk through all steps; each must leave Slicer's log without a fault."""
        slicer.util.getModuleLogic("CoralBaySlicer").getParameterNode().encoder = self._encoder
        log = LogWatch()
        with error_dialogs() as errors:
            for step in (self.preview, self.update, self.keep_map, self.apply, self.find_others, self.leave):
                self._test.delayDisplay(_("Self-test: {step}").format(step=step.__name__.replace("_", " ")))
                step()
                self._test.assertEqual(errors, [], f"{step.__name__}: an error was shown.")
                self._test.assertEqual(log.faults(), [], f"{step.__name__}: Slicer's log names a fault.")

    # -- the steps

    def preview(self) -> None:
        """Initialize shows completed segments; the segments themselves stay as they are."""
        self._paint("Ball", np.zeros(3), 4)
        self._paint("Background", np.array([-16.0, 20, 0]), 5)
        self._editor.setActiveEffectByName("CoralBay")
        slicer.app.processEvents()
        self._effect.previewButton.click()
        self._wait(lambda: not self._effect.completion.is_running)
        self._test.assertIsNotNone(self._effect.getPreviewNode(), self._effect.completion.message)
        self._test.assertGreater(self._count(self._effect.getPreviewNode()), self._count(self._segmentation))

    def update(self) -> None:
        """What is painted with another effect changes the preview."""
        before = self._effect.completion.result
        self._editor.setActiveEffectByName("Paint")
        self._paint("Ball", np.array([0.0, 0, 5]), 3)
        self._wait(lambda: self._effect.completion.result is not before and not self._effect.completion.is_running)
        self._editor.setActiveEffectByName("CoralBay")
        slicer.app.processEvents()
        self._test.assertTrue(self._effect.applyButton.enabled, "Apply is not enabled.")

    def keep_map(self) -> None:
        """The probability as a volume of its own."""
        self._editor.setCurrentSegmentID(segments.ids(self._segmentation)[0])
        self._effect.options.keepMapButton.click()
        self._wait(lambda: self._kept_maps() == 1)

    def apply(self) -> None:
        """Apply writes what was shown; undo and redo are those of the Segment Editor."""
        shown, before = self._count(self._effect.getPreviewNode()), self._count(self._segmentation)
        self._effect.applyButton.click()
        slicer.app.processEvents()
        self._test.assertEqual(self._count(self._segmentation), shown, "Apply wrote something else than the preview.")
        self._test.assertIsNone(self._effect.getPreviewNode(), "The preview stays after Apply.")
        self._editor.undo()
        self._test.assertEqual(self._count(self._segmentation), before, "Undo does not take Apply back.")
        self._editor.redo()
        self._test.assertEqual(self._count(self._segmentation), shown)

    def find_others(self) -> None:
        """All that look like the segment become segments with a table."""
        parameters = slicer.util.getModuleLogic("CoralBaySlicer").getParameterNode()
        parameters.similarityThreshold, parameters.regionDistance = 90, 12
        self._effect.options.othersButton.click()
        self._wait(lambda: not self._effect.look_alikes.is_running)
        added = self._segmentation.GetSegmentation().GetNumberOfSegments() - 2
        self._test.assertGreater(added, 0, self._effect.look_alikes.message)
        self._test.assertEqual(parameters.regionsTable.GetNumberOfRows(), added)

    def leave(self) -> None:
        """The module is left and the scene closes with a preview in it."""
        self._effect.previewButton.click()
        self._wait(lambda: not self._effect.completion.is_running)
        slicer.util.selectModule("CoralBaySlicer")
        slicer.mrmlScene.Clear()
        slicer.app.processEvents()
        self._test.assertFalse(self._effect.completion.is_running)

    # -- internal

    def _paint(self, name: str, offset: np.ndarray, radius_mm: float) -> None:
        """Add a ball to a segment, as with the brush; `offset` is from the center of the phantom's first ball, RAS mm."""
        inner = self._segmentation.GetSegmentation()
        segment_id = inner.GetSegmentIdBySegmentName(name) or inner.AddEmptySegment(name, name)
        matrix = volumes.ijk_to_ras(self._volume)
        k, j, i = np.indices(slicer.util.arrayFromVolume(self._volume).shape)
        ras = np.stack([i, j, k], axis=-1) @ matrix[:3, :3].T + matrix[:3, 3]
        ball = np.linalg.norm(ras - (self._center + offset), axis=-1) <= radius_mm
        if inner.GetSegment(segment_id).GetRepresentation(_voxels_name()) is not None:
            ball |= slicer.util.arrayFromSegmentBinaryLabelmap(self._segmentation, segment_id, self._volume) > 0
        slicer.util.updateSegmentBinaryLabelmapFromArray(ball.astype(np.uint8), self._segmentation, segment_id, self._volume)

    def _count(self, segmentation: Any) -> int:
        """The voxels of the first segment."""
        array = slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, segments.ids(segmentation)[0], self._volume)
        return int(np.count_nonzero(array))

    def _kept_maps(self) -> int:
        found = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
        return sum(node.GetAttribute(KEPT_MAP) is not None for node in found)

    def _wait(self, condition: Callable[[], bool]) -> None:
        end = time.monotonic() + _TIMEOUT_S
        while not condition():
            slicer.app.processEvents()
            self._test.assertLess(time.monotonic(), end, "CoralBay did not finish.")
            time.sleep(0.02)
        slicer.app.processEvents()


def _voxels_name() -> str:
    return slicer.vtkSegmentationConverter.GetSegmentationBinaryLabelmapRepresentationName()
