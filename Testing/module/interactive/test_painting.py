"""Step 2: painted prompts."""

from typing import Any

import host
import numpy as np
import pytest
from host import mouse

from Testing.module.steps import points_of

pytestmark = pytest.mark.slow


def test_painted_segments_are_prompts_and_the_preview_follows(ready: Any, driver: Any, coralbay: Any) -> None:
    import slicer

    node, place, panel = ready
    mouse.key("Esc")
    driver.open(panel)
    mouse.press(panel.ui.paintButton)
    driver.settle()
    painted = coralbay.panel.parameters.painted
    inner = painted.GetSegmentation()
    assert [inner.GetNthSegment(i).GetName() for i in range(2)] == ["Structure 1", "Background"]
    assert panel._painting._editor.currentSegmentID() == inner.GetNthSegmentID(0)
    ras = points_of(node)
    for index, centre in enumerate((place, place - [0, 25, 0])):
        stroke = np.linalg.norm(ras - centre, axis=-1) < 5
        slicer.util.updateSegmentBinaryLabelmapFromArray(stroke.astype(np.uint8), painted, inner.GetNthSegmentID(index), node)
    driver.settle()
    assert panel.few_shot.message == ""
    points = panel.few_shot.prompts()
    assert (points.labels == 1).sum() == (np.linalg.norm(ras - place, axis=-1) < 5).sum()
    assert np.abs(points.points_ras[points.labels == 1] - place).max() < 5
    first = panel.few_shot.preview
    assert first is not None
    # A segment of a new name is a new structure.
    third = inner.AddEmptySegment("", "Rim", [1.0, 0.0, 0.0])
    stroke = np.abs(np.linalg.norm(ras - place, axis=-1) - 12) < 1.5
    slicer.util.updateSegmentBinaryLabelmapFromArray(stroke.astype(np.uint8), painted, third, node)
    driver.settle()
    assert [each.name for each in panel.few_shot.structures] == ["Structure 1", "Rim", "Background"]
    assert set(panel.few_shot.preview.percent) == {1, 2}


def test_the_scene_closes_while_prompts_are_painted(ready: Any, driver: Any, coralbay: Any, scan: Any) -> None:
    """Slicer's subject hierarchy complains of a segmentation that is touched while the scene closes."""
    import slicer

    node, place, panel = ready
    driver.open(panel)
    mouse.press(panel.ui.paintButton)
    painted = coralbay.panel.parameters.painted
    stroke = (np.linalg.norm(points_of(node) - place, axis=-1) < 5).astype(np.uint8)
    first = painted.GetSegmentation().GetNthSegmentID(0)
    slicer.util.updateSegmentBinaryLabelmapFromArray(stroke, painted, first, node)
    driver.settle()
    del painted
    slicer.mrmlScene.Clear()
    driver.settle()
    assert host.unhandled == []
    assert panel._painting._editor.segmentationNode() is None
    # It can be opened again.
    coralbay.panel.parameters.encoder = "pooling"
    again, _place = scan()
    driver.embed(again)
    driver.open(panel)
    mouse.press(panel.ui.paintButton)
    assert panel._painting._editor.segmentationNode() is coralbay.panel.parameters.painted is not None
    assert panel._painting._area.visible


def test_esc_puts_the_brush_down(ready: Any, driver: Any) -> None:
    _node, _place, panel = ready
    driver.open(panel)
    mouse.press(panel.ui.paintButton)
    driver.settle()
    node = panel._painting._editor.mrmlSegmentEditorNode()
    assert node.GetActiveEffectName() == "Paint"
    mouse.key("Esc")
    assert not node.GetActiveEffectName()
    # Placing points and painting exclude each other.
    mouse.press(panel.ui.paintButton)
    assert node.GetActiveEffectName() == "Paint"
    mouse.key("1")
    assert not node.GetActiveEffectName() and panel.ui.placeButton.checked
    mouse.press(panel.ui.paintButton)
    assert node.GetActiveEffectName() == "Paint" and not panel.ui.placeButton.checked
