"""The test that Slicer runs for the module."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import slicer
from slicer.i18n import tr as _
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleTest

from .phantom import make_phantom, write_random_checkpoint

MODULE = "CoralBaySlicer"


class CoralBaySlicerTest(ScriptedLoadableModuleTest):
    """Runs the methods for scripts on a phantom, walks through the panel and the effect, and reloads the module."""

    def setUp(self) -> None:
        """Clear the scene."""
        slicer.mrmlScene.Clear()

    def runTest(self, **_options: object) -> None:
        """Run all tests."""
        for test in (self.test_workflows, self.test_panels, self.test_effect, self.test_reload):
            self.setUp()
            test()
        if not self._lacks_packages():
            self.delayDisplay(_("CoralBay passed its self-test."))

    def test_workflows(self) -> None:
        """Test that a segment and the best region lie in the right places."""
        from CoralBaySlicerCore.setup import settings
        from CoralBaySlicerCore.work.logic import CoralBaySlicerLogic

        if self._lacks_packages():
            return
        file = settings.weights_file("coralbay")
        logic = CoralBaySlicerLogic()
        with _own_cache() as folder:
            logic.worker.wait(logic.workTask(lambda *_args: write_random_checkpoint(folder / "small.safetensors"), ""))
            settings.set_weights_file("coralbay", str(folder / "small.safetensors"))
            try:
                self._check(logic)
            finally:
                logic.close()
                settings.set_weights_file("coralbay", file)

    def test_panels(self) -> None:
        """Test every step of the panel as a user works with it."""
        from CoralBaySlicerCore.selftest import quick_encoder
        from CoralBaySlicerCore.selftest.walk import Walk

        if self._lacks_packages():
            return
        with _own_cache() as folder, quick_encoder.registered() as encoder:
            Walk(self, self._open().panel, folder, encoder).run()

    def test_effect(self) -> None:
        """Test the effect of the Segment Editor as a user works with it."""
        from CoralBaySlicerCore.selftest import quick_encoder
        from CoralBaySlicerCore.selftest.effect_walk import EffectWalk

        if self._lacks_packages():
            return
        self._open()
        with _own_cache(), quick_encoder.registered() as encoder:
            EffectWalk(self, encoder).run()

    def test_reload(self) -> None:
        """Test that the panel is alive after the module was reloaded while it is shown."""
        widget = self._open()
        widget.onReload()
        renewed = getattr(slicer.modules, f"{MODULE}Widget")
        self.assertIsNot(renewed, widget)
        self.assertIsNotNone(renewed.panel.parameters, "After Reload, the panel is not connected to the scene.")
        renewed.panel.segment.ui.thresholdSlider.value = 35
        slicer.app.processEvents()
        self.assertEqual(renewed.logic.getParameterNode().threshold, 35)

    def _open(self) -> Any:
        slicer.util.selectModule(MODULE)
        slicer.app.processEvents()
        return getattr(slicer.modules, f"{MODULE}Widget")

    def _lacks_packages(self) -> bool:
        from CoralBaySlicerCore.setup import packages

        if packages.missing():
            self.delayDisplay(_("Skipped: PyTorch and the other packages are not installed."))
            return True
        return False

    def _check(self, logic: Any) -> None:
        volume, center = make_phantom()
        self.delayDisplay(_("Computing features of a phantom"))
        logic.getParameterNode().setting = "whole"
        logic.embed(volume)
        background = [center + offset for offset in ([-16, 0, 0], [0, 24, 0], [0, 0, -24])]
        inside = [center + offset for offset in ([0, 0, 0], [4, 0, 0], [0, -4, 3])]
        segmentation = logic.segment(volume, {"Ball": inside, "Background": background})
        self.assertEqual(segmentation.GetSegmentation().GetNumberOfSegments(), 1)
        segment_id = segmentation.GetSegmentation().GetSegmentIdBySegmentName("Ball")
        mask = slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, segment_id, volume)
        self.assertEqual(mask.shape, slicer.util.arrayFromVolume(volume).shape)
        self.assertGreater(mask.sum(), 0)
        regions = logic.similar(volume, [center], count=3)
        self.assertGreater(len(regions), 0)
        self.assertGreater(regions[0].score, 0.9)


@contextmanager
def _own_cache() -> Iterator[Path]:
    """A folder for features and weights that is removed afterwards; those of the user are left alone."""
    cache = os.environ.get("CORALBAY_CACHE")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["CORALBAY_CACHE"] = folder
        try:
            yield Path(folder)
        finally:
            if cache is None:
                del os.environ["CORALBAY_CACHE"]
            else:
                os.environ["CORALBAY_CACHE"] = cache
