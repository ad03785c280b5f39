"""Step 2: prompts, preview and undo."""

from typing import Any

import host
import numpy as np
import pytest
from host import mouse

from Testing.module.steps import click_all, color_at, show_at

pytestmark = pytest.mark.slow


def test_a_click_places_a_prompt_and_the_overlay_follows(ready: Any, driver: Any) -> None:
    _node, place, panel = ready
    show_at(place)
    grey = color_at("Red", place)
    clicked = mouse.click_view("Red", place)
    structure = panel.few_shot.structures[0]
    assert structure.world_points()[0] == pytest.approx(np.array(clicked), abs=1e-6)
    driver.settle()
    # The rest of the body stands for the background until there are prompts for it.
    assert panel.few_shot.preview is not None
    assert "press 0" in panel.ui.previewLabel.text
    mouse.key("0")
    mouse.click_view("Red", place + [0, 22, 0])
    driver.settle()
    assert not panel.ui.previewLabel.visible, panel.ui.previewLabel.text
    assert panel.few_shot.preview is not None
    mouse.key("Esc")
    beside = place + [3, -3, 0]
    shown = color_at("Red", beside)
    # The structure's orange over the ball's grey.
    assert shown[0] > shown[2] + 40
    assert abs(grey[0] - grey[2]) < 5
    assert panel.few_shot.preview.percent[1].max() > 80
    assert panel.ui.applyButton.enabled


def test_undo_redo_and_clear_by_button_and_key(ready: Any, driver: Any) -> None:
    _node, place, panel = ready
    click_all(panel, driver, place)

    def counts() -> list[int]:
        return [len(each.world_points()) for each in panel.few_shot.structures]

    assert counts() == [2, 3]
    before = panel.few_shot.prompts().points_ras
    mouse.press(panel.ui.undoButton)
    driver.settle()
    assert counts() == [2, 2]
    mouse.key("Z")
    driver.settle()
    assert counts() == [2, 1]
    mouse.press(panel.ui.redoButton)
    mouse.key("Y")
    driver.settle()
    assert counts() == [2, 3]
    assert panel.few_shot.prompts().points_ras == pytest.approx(before)
    mouse.press(panel.ui.clearButton)
    driver.settle()
    assert counts() == [0, 0]
    mouse.press(panel.ui.undoButton)
    driver.settle()
    assert counts() == [2, 3]


def test_overlays_threshold_and_opacity(ready: Any, driver: Any, coralbay: Any) -> None:
    import slicer

    _node, place, panel = ready
    click_all(panel, driver, place)
    composite = slicer.app.layoutManager().sliceWidget("Green").mrmlSliceCompositeNode()

    def shown() -> Any:
        return slicer.mrmlScene.GetNodeByID(composite.GetForegroundVolumeID() or "")

    assert shown().GetName() == "CoralBay: Probability (%)"
    panel.ui.opacitySlider.value = 80
    panel.ui.thresholdSlider.value = 70
    driver.settle()
    assert composite.GetForegroundOpacity() == pytest.approx(0.8)
    assert shown().GetDisplayNode().GetLowerThreshold() == 70
    legend = slicer.vtkSlicerColorLogic.GetColorLegendDisplayNode(shown())
    assert legend.GetVisibility()
    # In one view, and in a corner of it.
    assert list(legend.GetViewNodeIDs()) == ["vtkMRMLSliceNodeRed"]
    covered = legend.GetSize()
    assert covered[0] * covered[1] < 0.01
    layout = slicer.app.layoutManager()
    before, red = layout.layout, layout.sliceWidget("Red")
    # The host does not lay out anew itself.
    red.visible = False
    layout.setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutTwoOverTwoView)
    driver.settle()
    assert list(legend.GetViewNodeIDs()) == ["vtkMRMLSliceNodeYellow"]
    red.visible = True
    layout.setLayout(before)
    panel.ui.overlaySelector.currentIndex = 1
    driver.settle()
    assert shown().GetName() == "CoralBay: Uncertainty (%)"
    assert not legend.GetVisibility()
    doubt = slicer.util.arrayFromVolume(shown())
    assert 0 < doubt.max() <= 100
    panel.ui.overlaySelector.currentIndex = 2
    driver.settle()
    assert shown() is None
    # Overlays are not scans.
    assert coralbay.panel.scan.ui.volumeSelector.nodeCount() == 1


def test_suggested_clicks_are_shown_one_after_another(ready: Any, driver: Any) -> None:
    import slicer

    _node, place, panel = ready
    click_all(panel, driver, place)
    red = slicer.app.layoutManager().sliceWidget("Red").mrmlSliceNode()
    places = []
    for press in (lambda: mouse.press(panel.ui.suggestButton), lambda: mouse.key("U")):
        press()
        driver.settle()
        matrix = slicer.util.arrayFromVTKMatrix(red.GetSliceToRAS())
        places.append(matrix[:3, 3])
        asked = f"Does this belong to Structure 1? (axial slice S {round(matrix[2, 3])} mm)"
        assert panel.ui.previewLabel.visible and panel.ui.previewLabel.text.startswith(asked)
    assert np.linalg.norm(places[0] - places[1]) > 9
    prompts = np.concatenate([each.world_points() for each in panel.few_shot.structures])
    for each in places:
        assert np.linalg.norm(prompts - each, axis=1).min() > 5
    # It asks about the structure that is selected.
    mouse.press(panel.ui.addStructureButton)
    panel.few_shot.active_structure.node.AddControlPointWorld(*(place + [0, 22, 0]))
    driver.settle()
    mouse.key("U")
    driver.settle()
    assert panel.ui.previewLabel.text.startswith("Does this belong to Structure 2?")


def test_the_table_words_the_estimated_dice_of_the_preview(ready: Any, driver: Any) -> None:
    _node, place, panel = ready
    from CoralBayLib.fewshot.wording import brief_dice

    table = panel.ui.structureTable
    assert table.item(0, 3).text() == ""
    click_all(panel, driver, place)

    def told() -> tuple[float, float]:
        title, perfect = table.item(0, 3).toolTip().split("; ")
        assert perfect == "1 is perfect"
        estimate, error = title.removeprefix("Estimated Dice ").split(" ± ")
        return float(estimate), float(error)

    estimate, error = told()
    assert 0 < estimate < 1
    assert 0 < error < 1
    exact = panel.few_shot.preview.dice_estimate[1]
    assert (estimate, error) == pytest.approx(exact, abs=0.006)
    assert table.item(0, 3).text() == brief_dice(exact[0])
    # Nothing is told of the background.
    assert table.item(1, 3).text() == table.item(1, 3).toolTip() == ""
    # More points than a session of clicks has: the estimate comes from the probabilities, and follows the threshold.
    for x, y, z in np.ndindex(4, 3, 3):
        panel.few_shot.structures[0].node.AddControlPointWorld(*(place + [x, y, z]))
    driver.settle()
    estimate = told()[0]
    panel.ui.thresholdSlider.value = 99
    driver.settle()
    assert told()[0] < estimate


@pytest.mark.parametrize("end", ["Esc", "arrow"])
def test_place_mode_that_slicer_ends_is_seen_on_the_button(ready: Any, driver: Any, end: str) -> None:
    """The panel follows the mouse mode also after the observed points have changed."""
    import slicer

    _node, place, panel = ready
    click_all(panel, driver, place)
    mouse.key("1")
    panel.few_shot.add_structure()
    panel.few_shot.watch()
    driver.settle()
    mouse.key("1")
    assert panel.ui.placeButton.checked
    if end == "Esc":
        mouse.key("Esc")
    else:
        slicer.app.applicationLogic().GetInteractionNode().SwitchToViewTransformMode()
    assert not panel.ui.placeButton.checked


def test_the_preview_can_be_paused(ready: Any, driver: Any) -> None:
    _node, place, panel = ready
    panel.ui.livePreviewCheck.click()
    driver.settle()
    click_all(panel, driver, place)
    assert panel.few_shot.preview is None
    driver.open(panel)
    mouse.press(panel.ui.updateButton)
    driver.settle()
    assert panel.few_shot.preview is not None


def test_prompts_outside_the_volume_are_refused_with_a_message(ready: Any, driver: Any) -> None:
    _node, place, panel = ready
    click_all(panel, driver, place)
    panel.few_shot.structures[0].node.AddControlPointWorld(900, 0, 0)
    driver.settle()
    assert "outside the volume" in panel.ui.previewLabel.text
    assert panel.ui.previewLabel.visible
    mouse.key("Z")
    driver.settle()
    assert not panel.ui.previewLabel.visible


def test_the_newest_prompts_determine_the_preview(ready: Any, driver: Any) -> None:
    _node, place, panel = ready
    click_all(panel, driver, place)
    structure = panel.few_shot.structures[0]
    for step in range(8):
        structure.node.SetNthControlPointPositionWorld(0, *(place + [step / 2, 0, 0]))
        host.process_events(0.03)
    driver.settle()
    assert panel.few_shot._fitted_on.same_as(panel.few_shot.prompts())
    assert panel.few_shot.segmenter.probe_ is panel.logic.probe


def test_prompts_are_in_the_order_of_the_clicks(ready: Any, driver: Any) -> None:
    _node, place, panel = ready
    show_at(place)
    offsets = [[0, 0, 0], [0, 22, 0], [4, 3, 0]]
    for key, offset in zip("101", offsets, strict=True):
        mouse.key(key)
        mouse.click_view("Red", place + offset)
    driver.settle()
    prompts = panel.few_shot.prompts()
    assert prompts.labels.tolist() == [1, 0, 1]
    # To a pixel.
    assert prompts.points_ras == pytest.approx(place + offsets, abs=1)
    assert panel.few_shot.segmenter.prompts_.same_as(prompts)
    mouse.key("Z")
    mouse.key("0")
    mouse.click_view("Red", place - [0, 22, 0])
    driver.settle()
    assert panel.few_shot.prompts().labels.tolist() == [1, 0, 0]
