"""A scene that was saved with version 0.1.0 opens with all that was in it, and its settings count; see `Testing/compat`."""

import json
from pathlib import Path
from typing import Any

import host
import numpy as np
import pytest

from Testing.compat import homes
from Testing.compat.results import DATA, about_segmentation, ct

pytestmark = pytest.mark.slow


@pytest.fixture
def then() -> dict[str, Any]:
    """What was in the scene."""
    return json.loads((DATA / "scene.json").read_text(encoding="utf-8"))


@pytest.fixture
def opened(coralbay: Any, driver: Any, tmp_path: Path) -> Any:
    """The module with the scene opened, from where nothing else lies."""
    import slicer

    copy = tmp_path / "of a colleague.mrb"
    copy.write_bytes((DATA / "scene.mrb").read_bytes())
    slicer.util.loadScene(str(copy))
    driver.settle()
    assert host.dialogs.texts("error") == []
    return coralbay


def close_to(value: Any) -> Any:
    return pytest.approx(value, abs=1e-5)


def test_an_old_scene_opens_with_all_that_was_in_it(opened: Any, then: dict[str, Any]) -> None:
    import slicer

    parameters = opened.logic.getParameterNode()
    assert {name: getattr(parameters, name) for name in then["plain"]} == then["plain"]
    nodes = {name: getattr(parameters, name) for name in then["nodes"]}
    assert {name: [node.GetClassName(), node.GetName()] for name, node in nodes.items()} == then["nodes"]
    # What the panel shows is what the scene says.
    assert opened.panel.parameters.volume is nodes["volume"]
    volume = ct("a")
    assert np.array_equal(slicer.util.arrayFromVolume(nodes["volume"]), volume.array)
    found = [[s.label, s.name, s.color, s.world_points()] for s in homes.structures_of(nodes["volume"])]
    assert [each[:2] for each in found] == [each[:2] for each in then["structures"]]
    for now, before in zip(found, then["structures"], strict=True):
        assert now[2] == close_to(tuple(before[2]))
        assert now[3] == close_to(np.array(before[3]))
    for name, segments in then["segments"].items():
        now = about_segmentation(nodes[name], nodes["volume"])
        assert now.keys() == segments.keys()
        for each, before in segments.items():
            assert [now[each][0], *now[each][2:]] == [before[0], *before[2:]]
            assert now[each][1] == close_to(before[1])
    assert [list(nodes["queryRoi"].GetCenter()), list(nodes["queryRoi"].GetSize())] == then["roi"]
    assert nodes["scansTable"].GetNumberOfRows() == 3


def test_an_old_scene_is_worked_on(opened: Any, driver: Any) -> None:
    """The prompts still lie in the volume, and make segments of their names and colors."""
    import slicer

    parameters = opened.logic.getParameterNode()
    parameters.encoder, parameters.setting = "pooling", ""
    volume = parameters.volume
    prompts = {each.name: each.world_points() for each in homes.structures_of(volume)}
    made = opened.logic.segment(volume, prompts)
    driver.settle()
    inner = made.GetSegmentation()
    names = [inner.GetNthSegment(n).GetName() for n in range(inner.GetNumberOfSegments())]
    assert names == [name for name in prompts if name != "Background"]
    voxels = slicer.util.arrayFromSegmentBinaryLabelmap(made, inner.GetNthSegmentID(0), volume)
    assert 0 < voxels.sum() < voxels.size / 10


def test_old_settings_of_the_computer_count(coralbay: Any) -> None:
    """Keys and values as version 0.1.0 wrote them."""
    import qt

    path = str(DATA / "own_encoder.py")
    file = {"path": path, "sha256": "0" * 64, "name": "own-texture", "title": "Own texture", "summary": "Of my own."}
    settings = qt.QSettings()
    settings.setValue("CoralBaySlicer/EncoderFiles", json.dumps([file]))
    settings.setValue("CoralBaySlicer/Weights/own-texture", "/archive/own.safetensors")
    settings.setValue("CoralBaySlicer/Device", "cpu")
    settings.setValue("CoralBaySlicer/Library", "/archive/library")
    # They are there before the module starts.
    homes.read_settings_again()
    try:
        coralbay.logic.getParameterNode().encoder = "own-texture"
        config = coralbay.logic.encoder_config()
        assert (config.encoder, config.weights, config.device) == ("own-texture", "/archive/own.safetensors", "cpu")
        assert vars(config.file) == file
        assert homes.library_folder() == "/archive/library"
    finally:
        settings.remove("CoralBaySlicer")
