"""Which map is over the scan: the one asked for last; when it is hidden, the one before."""

from itertools import permutations
from pathlib import Path
from typing import Any

import host
import numpy as np
import pytest
from host import mouse

from Testing.module.steps import show_at

pytestmark = pytest.mark.slow


def shown(coralbay: Any) -> str | None:
    """The kind of the map in the views; all views agree with what the overlays say, and only a preview has structures."""
    import slicer

    overlays = coralbay.logic.overlays
    node = overlays.node(overlays.shown) if overlays.shown else None
    for view in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"):
        assert view.GetForegroundVolumeID() == (node.GetID() if node else None)
        assert (view.GetLabelVolumeID() is not None) == (overlays.shown == "probability")
    legends = [
        each.GetPrimaryDisplayNode().GetDisplayableNode()
        for each in slicer.util.getNodesByClass("vtkMRMLColorLegendDisplayNode")
        if each.GetVisibility()
    ]
    assert legends == ([] if overlays.shown in (None, "features") else [node])
    return overlays.shown


def test_a_map_that_is_asked_for_takes_the_place_of_the_preview(coralbay: Any, maps: Any) -> None:
    assert shown(coralbay) == "probability"
    for kind in maps.show:
        maps.show[kind]()
        assert shown(coralbay) == kind
        # Whatever refreshes the panel changes nothing.
        coralbay.panel.refresh()
        host.process_events(0.05)
        assert shown(coralbay) == kind
        maps.hide[kind]()
        assert shown(coralbay) == "probability", kind


def test_hiding_a_map_shows_the_one_before(coralbay: Any, maps: Any) -> None:
    panel = maps.panel
    for first, second in permutations(maps.show, 2):
        maps.show[first]()
        maps.show[second]()
        assert shown(coralbay) == second, (first, second)
        assert panel.similar.ui.showMapCheck.checked == (second == "similarity")
        assert panel.feature_maps.ui.hideColorsButton.enabled == (second == "features")
        assert panel.scans.ui.saliencyButton.checked == (second == "saliency")
        maps.hide[second]()
        assert shown(coralbay) == first, (first, second)
        assert panel.similar.ui.showMapCheck.checked == (first == "similarity")
        maps.hide[first]()
        assert shown(coralbay) == "probability", (first, second)


@pytest.mark.parametrize("kind", ["similarity", "features", "saliency"])
def test_work_in_step_2_shows_the_preview_again(coralbay: Any, driver: Any, maps: Any, kind: str) -> None:
    ui = maps.panel.segment.ui

    def click() -> None:
        mouse.click_view("Red", maps.place + [2, 0, 0])
        driver.settle()

    def key() -> None:
        mouse.key("1")
        driver.settle()

    def threshold() -> None:
        ui.thresholdSlider.value += 10
        driver.settle()

    # The key lets clicks place points, until Esc.
    buttons = (ui.undoButton, ui.updateButton, ui.outlinesCheck)
    for action in (key, click, threshold, *(maps.pressed(button) for button in buttons)):
        maps.show[kind]()
        assert shown(coralbay) == kind
        show_at(maps.place)
        action()
        assert shown(coralbay) == "probability", action
    # Work in step 2 ends all other requests.
    assert not maps.panel.scans.ui.saliencyButton.checked


def test_a_preview_that_is_renewed_in_the_background_changes_nothing(coralbay: Any, driver: Any, maps: Any) -> None:
    import slicer

    maps.show["saliency"]()
    composite = slicer.app.layoutManager().sliceWidget("Red").mrmlSliceCompositeNode()
    changes: list[str] = []
    tag = composite.AddObserver("ModifiedEvent", lambda *_: changes.append(composite.GetForegroundVolumeID()))
    few_shot, before = maps.panel.segment.few_shot, maps.panel.segment.few_shot.preview
    few_shot.show_probe(coralbay.logic.probe, few_shot.prompts())
    driver.settle()
    assert few_shot.preview is not before
    assert shown(coralbay) == "saliency" and changes == []
    composite.RemoveObserver(tag)
    maps.hide["saliency"]()
    assert shown(coralbay) == "probability"
    assert np.array_equal(slicer.util.arrayFromVolume(coralbay.logic.overlays.node("probability")), few_shot.preview.percent[1])


def test_the_users_own_views_come_back_in_the_end(coralbay: Any, driver: Any, maps: Any, scan: Any) -> None:
    import slicer

    slicer.util.selectModule("SegmentEditor")
    other, _place = scan(name="fusion", seed=1)
    slicer.util.setSliceViewerLayers(background=maps.node, foreground=other, foregroundOpacity=0.3)
    slicer.util.selectModule("CoralBaySlicer")
    driver.settle()
    for kind in maps.show:
        maps.show[kind]()
    # Left and entered again, the module shows what it showed.
    for _ in range(2):
        slicer.util.selectModule("SegmentEditor")
        driver.settle()
        composite = slicer.app.layoutManager().sliceWidget("Red").mrmlSliceCompositeNode()
        assert composite.GetForegroundVolumeID() == other.GetID()
        assert composite.GetForegroundOpacity() == pytest.approx(0.3)
        slicer.util.selectModule("CoralBaySlicer")
        driver.settle()
        assert shown(coralbay) == "saliency"


def test_a_map_goes_with_its_scan(coralbay: Any, driver: Any, maps: Any, scan: Any) -> None:
    other, _place = scan(name="other", seed=1)
    for kind in maps.show:
        maps.show[kind]()
        coralbay.panel.parameters.volume = other
        driver.settle()
        assert coralbay.logic.overlays.shown is None, kind
        coralbay.panel.parameters.volume = maps.node
        driver.settle()
        assert shown(coralbay) == "probability", kind


def test_a_closed_scene_is_forgotten(coralbay: Any, driver: Any, maps: Any, tmp_path: Path) -> None:
    import slicer

    for kind in maps.show:
        maps.show[kind]()
    slicer.mrmlScene.Clear()
    driver.settle()
    assert coralbay.logic.overlays.shown is None
    assert not maps.panel.scans.ui.saliencyButton.checked
