"""Step 2: `Tab` goes through the answers to a structure's first click."""

from typing import Any

import numpy as np
import pytest
from host import mouse, pictures

from Testing.module.steps import show_at

pytestmark = pytest.mark.slow


MOST_PROBABLE = "Showing the most probable region. Press Tab for a smaller one."


@pytest.fixture
def clicked(ready: Any, driver: Any) -> Any:
    """The panel with one click on one structure; its place and volume."""
    node, place, panel = ready
    show_at(place)
    mouse.click_view("Red", place)
    driver.settle()
    return node, place, panel


def tab(driver: Any) -> None:
    """Press Tab where a click in a view leaves the keyboard focus."""
    view = pictures.view("Red")
    view.setFocus()
    mouse.key("Tab", view)
    driver.settle()


def size(panel: Any) -> int:
    return int(np.count_nonzero(panel.few_shot.preview.labels == 1))


def told(panel: Any) -> str:
    return panel.ui.previewLabel.text


def test_tab_goes_through_part_larger_region_and_structure(clicked: Any, driver: Any, coralbay: Any) -> None:
    import slicer

    node, _place, panel = clicked
    assert told(panel).startswith(MOST_PROBABLE)
    structure = size(panel)
    found = []
    for _press in range(2):
        tab(driver)
        shown = panel.few_shot.preview.extents[1]
        found.append((panel.few_shot.extents()[1], shown, size(panel), told(panel)))
    (wanted, shown, part, text), (larger_wanted, larger_shown, larger, larger_text) = found
    assert (wanted, larger_wanted) == (-1, 1)
    assert part < structure if shown else part == structure
    assert larger > structure if larger_shown else larger == structure
    assert text.startswith("Showing a smaller region. Press Tab for a larger one." if shown else "There is no smaller region.")
    assert larger_text.startswith(
        "Showing a larger region. Press Tab for the most probable one." if larger_shown else "There is no larger region."
    )
    # On this phantom one of the two differs at least.
    assert shown or larger_shown
    mouse.press(panel.ui.applyButton)
    driver.settle()
    output = coralbay.panel.parameters.output
    mask = slicer.util.arrayFromSegmentBinaryLabelmap(output, output.GetSegmentation().GetNthSegmentID(0), node)
    labelmap = panel.few_shot.segmenter.labelmap(panel.few_shot.segmenter.pyramid.source_grid)
    assert mask.astype(bool).sum() == np.count_nonzero(labelmap.array == 1)
    mouse.press(panel.ui.sizeButton)
    driver.settle()
    assert panel.few_shot.extents() == {}
    assert size(panel) == structure
    assert told(panel).startswith(MOST_PROBABLE)


def test_further_points_keep_the_size_and_tab_says_so(clicked: Any, driver: Any) -> None:
    _node, place, panel = clicked
    tab(driver)
    mouse.key("0")
    # The background is selected now; Tab is about the structure before.
    tab(driver)
    assert panel.few_shot.extents() == {1: 1}
    mouse.click_view("Red", place + [0, 22, 0])
    driver.settle()
    assert MOST_PROBABLE not in told(panel)
    tab(driver)
    assert told(panel) == (
        "Structure 1 keeps its size, because there are more points than its first one. Click where it is wrong."
    )
    assert panel.few_shot.extents() == {1: 1}
    assert panel.few_shot.segmenter.is_fitted_on(panel.few_shot.prompts(), extents={1: 1})
    mouse.key("Z")
    driver.settle()
    assert panel.few_shot.extents() == {1: 1}
    mouse.key("Z")
    driver.settle()
    assert panel.few_shot.extents() == {}
    mouse.key("1")
    mouse.click_view("Red", place)
    driver.settle()
    assert panel.few_shot.extents() == {}
    assert told(panel).startswith(MOST_PROBABLE)


def test_removal_of_the_first_click_forgets_the_choice(clicked: Any, driver: Any) -> None:
    _node, place, panel = clicked
    tab(driver)
    node = panel.few_shot.structures[0].node
    node.AddControlPointWorld(*(place + [4, 3, 0]))
    driver.settle()
    assert panel.few_shot.extents() == {1: -1}
    node.RemoveNthControlPoint(0)
    driver.settle()
    assert panel.few_shot.extents() == {}


def test_tab_says_what_is_missing(ready: Any, driver: Any, coralbay: Any) -> None:
    _node, place, panel = ready
    driver.settle()
    tab(driver)
    assert told(panel) == "Click on Structure 1 first. Then Tab shows a smaller or larger region."
    show_at(place)
    mouse.click_view("Red", place)
    coralbay.panel.parameters.connected = False
    driver.settle()
    tab(driver)
    assert told(panel) == "To choose another size, check Keep prompted components only."
    coralbay.panel.parameters.connected = True
    structure = panel.few_shot.structures[0]
    panel.few_shot.add_box(structure)
    driver.settle()
    tab(driver)
    assert told(panel) == "The box of Structure 1 decides its size. Drag its faces, or remove it."
    assert panel.few_shot.extents() == {}


def test_tab_is_left_to_fields_and_tables(clicked: Any, driver: Any) -> None:
    import qt

    _node, _place, panel = clicked
    for field in (panel.ui.structureTable, panel.ui.thresholdSlider, panel.ui.addStructureButton):
        field.setFocus()
        before = qt.QApplication.focusWidget()
        mouse.key("Tab", before)
        driver.settle()
        assert panel.few_shot.extents() == {}


def test_the_choice_is_saved_with_the_scene(clicked: Any, driver: Any, tmp_path: Any) -> None:
    import slicer

    _node, _place, panel = clicked
    tab(driver)
    path = str(tmp_path / "scene.mrb")
    assert slicer.util.saveScene(path)
    slicer.mrmlScene.Clear(0)
    slicer.util.loadScene(path)
    driver.settle()
    assert panel.few_shot.extents() == {1: -1}


def test_the_place_button_follows_the_mouse_mode(clicked: Any) -> None:
    """Also after the prompts were watched anew."""
    from CoralBaySlicerCore.scene import place_mode

    _node, _place, panel = clicked
    assert panel.ui.placeButton.checked
    place_mode.stop()
    assert not panel.ui.placeButton.checked
