"""All structures of a preview at once, in the label layer of the slice views."""

from typing import Any

import host
import numpy as np
import pytest
from host import mouse

from Testing.module.test_few_shot import click_all, colour_at, ready, show_at

__all__ = ["ready"]


@pytest.fixture
def two(ready: Any, driver: Any) -> Any:
    """The panel with a preview of two structures, the second selected; the centres of both."""
    _node, place, panel = ready
    click_all(panel, driver, place)
    mouse.press(panel.ui.addStructureButton)
    for offset in ([-32, 0, 0], [-29, 3, 0]):
        mouse.click_view("Red", place + offset)
    mouse.key("Esc")
    driver.settle()
    return panel, place, place - [32, 0, 0]


def layer_of(view: str = "Red") -> tuple[Any, Any, Any]:
    """The labelmap in a view, and the view's composite and slice nodes."""
    import slicer

    widget = slicer.app.layoutManager().sliceWidget(view)
    composite = widget.mrmlSliceCompositeNode()
    return slicer.mrmlScene.GetNodeByID(composite.GetLabelVolumeID() or ""), composite, widget.mrmlSliceNode()


def test_every_structure_is_seen_in_its_colour(two: Any, driver: Any) -> None:
    import slicer

    panel, first, second = two
    panel.ui.overlaySelector.currentIndex = 2
    panel.ui.outlinesCheck.click()
    driver.settle()
    labelmap, composite, view = layer_of()
    assert not view.GetUseLabelOutline()
    assert composite.GetLabelOpacity() == pytest.approx(0.5)
    percents = panel.few_shot.preview.percents
    assert np.array_equal(slicer.util.arrayFromVolume(labelmap), panel.few_shot.preview.labels)
    assert set(np.unique(panel.few_shot.preview.labels)) == {0, 1, 2}
    both = (percents[1] >= 50) & (percents[2] >= 50)
    likelier = np.where(percents[2] > percents[1], 2, 1)
    assert np.array_equal(panel.few_shot.preview.labels[both], likelier[both])
    show_at(first)
    orange, blue = colour_at("Red", first + [2, -2, 0]), colour_at("Red", second + [2, -2, 0])
    assert orange[0] > orange[2] + 40
    assert blue[2] > blue[0] + 30
    structure = panel.few_shot.structures[0].node.GetDisplayNode()
    structure.SetSelectedColor(0.0, 1.0, 0.0)
    panel.refresh()
    assert colour_at("Red", first + [2, -2, 0])[1] > orange[1] + 40


def test_the_layer_follows_the_threshold_and_the_next_prompt(two: Any, driver: Any) -> None:
    import slicer

    panel, first, _second = two
    before = (slicer.util.arrayFromVolume(layer_of()[0]) > 0).sum()
    panel.ui.thresholdSlider.value = 90
    driver.settle()
    labels = slicer.util.arrayFromVolume(layer_of()[0])
    percents = panel.few_shot.preview.percents
    assert np.array_equal(labels > 0, (percents[1] >= 90) | (percents[2] >= 90))
    assert (labels > 0).sum() < before
    panel.few_shot.structures[0].node.AddControlPointWorld(*(first + [0, 0, 6]))
    driver.settle()
    assert panel.few_shot.preview.threshold == 90
    assert not np.array_equal(labels, panel.few_shot.preview.labels)
    assert np.array_equal(slicer.util.arrayFromVolume(layer_of()[0]), panel.few_shot.preview.labels)


def test_the_users_own_labelmap_comes_back(two: Any, driver: Any, coralbay: Any) -> None:
    import slicer

    panel, first, _second = two
    panel.ui.togetherCheck.click()
    driver.settle()
    assert layer_of()[0] is None
    own = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "own")
    slicer.util.updateVolumeFromArray(own, np.ones((4, 4, 4), np.uint8))
    own.CreateDefaultDisplayNodes()
    slicer.util.setSliceViewerLayers(label=own, labelOpacity=0.3)
    panel.ui.togetherCheck.click()
    driver.settle()
    shown, composite, view = layer_of()
    assert shown is not own
    assert view.GetUseLabelOutline()
    # Another map than the preview's wants the views for itself.
    coralbay.panel.inside.show_colours()
    driver.settle()
    assert layer_of()[0] is own
    coralbay.panel.inside.hide_colours()
    driver.settle()
    assert layer_of()[0] is shown
    slicer.util.selectModule("SegmentEditor")
    assert layer_of()[0] is own
    assert composite.GetLabelOpacity() == pytest.approx(0.3)
    assert not view.GetUseLabelOutline()
    slicer.util.selectModule("CoralBaySlicer")
    driver.settle()
    assert layer_of()[0] is shown
    # What the user puts there while the preview is shown stays, in that view.
    composite.SetLabelVolumeID(own.GetID())
    panel.few_shot.structures[0].node.AddControlPointWorld(*first)
    driver.settle()
    assert layer_of()[0] is own
    assert layer_of("Green")[0] is shown
    mouse.press(panel.ui.clearButton)
    driver.settle()
    assert panel.few_shot.preview is None
    assert layer_of("Green")[0] is own


def test_closing_the_scene_leaves_nothing_behind(two: Any, driver: Any) -> None:
    import slicer

    slicer.mrmlScene.Clear()
    driver.settle()
    assert layer_of()[0] is None
    assert host.dialogs.texts("error") == []
