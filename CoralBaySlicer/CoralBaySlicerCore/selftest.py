"""The self-test of the module, on generated data with a small untrained network; it needs no internet."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import slicer
from slicer.i18n import tr as _
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleTest

from .setup import packages, settings


class CoralBaySlicerTest(ScriptedLoadableModuleTest):
    """Runs embed, segment and similar on a phantom, as a script does."""

    def setUp(self) -> None:
        """Clear the scene."""
        slicer.mrmlScene.Clear()

    def runTest(self, **_options: object) -> None:
        """Run all tests."""
        self.setUp()
        self.test_workflows()

    def test_workflows(self) -> None:
        """Test that a segment and the best region lie in the right places."""
        from .work.logic import CoralBaySlicerLogic

        if packages.missing():
            self.delayDisplay(_("Skipped: PyTorch and the other packages are not installed."))
            return
        cache, file = os.environ.get("CORALBAY_CACHE"), settings.weights_file("coralbay")
        logic = CoralBaySlicerLogic()
        with tempfile.TemporaryDirectory() as folder:
            os.environ["CORALBAY_CACHE"] = folder
            logic.worker.wait(logic.workTask(lambda *_args: write_random_checkpoint(Path(folder) / "small.safetensors"), ""))
            settings.set_weights_file("coralbay", str(Path(folder) / "small.safetensors"))
            try:
                self._check(logic)
            finally:
                logic.close()
                settings.set_weights_file("coralbay", file)
                if cache is None:
                    del os.environ["CORALBAY_CACHE"]
                else:
                    os.environ["CORALBAY_CACHE"] = cache
        self.delayDisplay(_("CoralBay passed its self-test."))

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


def make_phantom(
    ijk_to_ras: np.ndarray | None = None, name: str = "Phantom", seed: int = 0
) -> tuple[slicer.vtkMRMLScalarVolumeNode, np.ndarray]:
    """A volume node with a body of soft tissue and two bright balls in air, and the center of the first ball, (3,) RAS mm."""
    if ijk_to_ras is None:
        ijk_to_ras = np.array([[-2.0, 0, 0, 48.0], [0, -2.0, 0, 48], [0, 0, 2.5, -50], [0, 0, 0, 1]])
    shape = (40, 48, 48)
    k, j, i = np.indices(shape)
    ras = np.stack([i, j, k], axis=-1) @ ijk_to_ras[:3, :3].T + ijk_to_ras[:3, 3]
    middle = ijk_to_ras[:3, :3] @ (np.array(shape[::-1]) - 1) / 2 + ijk_to_ras[:3, 3]
    aside = np.array([16.0, 0, 0])
    center = middle + aside
    hu = np.where(np.linalg.norm(ras - middle, axis=-1) < 40, 40.0, -1000.0)
    for ball in (center, middle - aside):
        hu[np.linalg.norm(ras - ball, axis=-1) < 9] = 300
    hu += np.random.default_rng(seed).normal(0, 8, shape)
    node = slicer.util.addVolumeFromArray(np.round(hu).astype(np.int16), ijkToRAS=ijk_to_ras, name=name)
    node.CreateDefaultDisplayNodes()
    node.GetDisplayNode().SetAutoWindowLevel(False)
    node.GetDisplayNode().SetWindowLevelMinMax(-160, 400)
    return node, center


def write_random_checkpoint(path: Path) -> None:
    """Write an untrained CoralBay network of a quarter of the width, for tests that do not depend on its features."""
    import torch
    from safetensors.torch import save_file

    from CoralBayLib.encoders.coralbay import CoralBayNetwork

    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = CoralBayNetwork(feature_size=12)
    save_file({name: tensor.contiguous() for name, tensor in network.state_dict().items()}, path)
