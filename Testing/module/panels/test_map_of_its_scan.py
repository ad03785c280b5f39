"""A map is drawn over the scan that it was computed from, and over no other."""

from typing import Any

import host
import numpy as np
import pytest
from host import mouse, pictures

from Testing.module.panels.test_shown_map import shown

pytestmark = pytest.mark.slow


def layers(node: Any) -> list[bool]:
    """For each of the usual slice views with this background, at least one: whether it shows a map or labels of the module."""
    import slicer

    found = []
    for view in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"):
        if view.GetLayoutName() in ("Red", "Green", "Yellow") and view.GetBackgroundVolumeID() == node.GetID():
            shown_ids = [view.GetForegroundVolumeID(), view.GetLabelVolumeID()]
            nodes = [slicer.mrmlScene.GetNodeByID(each) for each in shown_ids if each]
            found.append(any(each.GetAttribute("CoralBaySlicer.Overlay") for each in nodes))
    assert found
    return found


def view_of(name: str) -> Any:
    import slicer

    return slicer.app.layoutManager().sliceWidget(name).mrmlSliceCompositeNode()


def settle(driver: Any) -> None:
    driver.settle()
    host.process_events(0.05)


@pytest.mark.parametrize("kind", ["probability", "similarity", "features", "saliency"])
def test_a_map_is_not_drawn_over_another_scan(coralbay: Any, driver: Any, maps: Any, scan: Any, kind: str) -> None:
    import slicer

    if kind != "probability":
        maps.show[kind]()
    overlays = coralbay.logic.overlays
    coralbay.panel.parameters.showIn3D = True
    settle(driver)
    # As the Data module or the views' own menus do it.
    other, _place = scan(name="other", seed=1)
    settle(driver)
    assert layers(other) == [False, False, False]
    assert overlays.shown is None
    legends = slicer.util.getNodesByClass("vtkMRMLColorLegendDisplayNode")
    renderings = slicer.util.getNodesByClass("vtkMRMLVolumeRenderingDisplayNode")
    assert not any(each.GetVisibility() for each in (*legends, *renderings))
    ui = coralbay.panel.ui
    assert ui.shownScanRow.visible and "'CT'" in ui.shownScanLabel.text
    # Back on its own scan, the map is there again.
    mouse.press(ui.showScanButton)
    settle(driver)
    assert not ui.shownScanRow.visible
    assert layers(maps.node) == [True, True, True]
    assert shown(coralbay) == kind


@pytest.mark.parametrize("kind", ["probability", "saliency"])
def test_scans_side_by_side(coralbay: Any, driver: Any, maps: Any, scan: Any, kind: str) -> None:
    """One view shows another scan: it shows no map, and the legend is beside a map."""
    import slicer

    if kind != "probability":
        maps.show[kind]()
    other, _place = scan(name="other", seed=1)
    slicer.util.setSliceViewerLayers(background=maps.node)
    settle(driver)
    view_of("Red").SetBackgroundVolumeID(other.GetID())
    settle(driver)
    assert layers(other) == [False]
    assert layers(maps.node) == [True, True]
    assert not coralbay.panel.ui.shownScanRow.visible
    legend = slicer.vtkSlicerColorLogic.GetColorLegendDisplayNode(coralbay.logic.overlays.node(kind))
    yellow = slicer.app.layoutManager().sliceWidget("Yellow").mrmlSliceNode()
    assert legend.GetVisibility() and legend.GetViewNodeIDs() == (yellow.GetID(),)
    # Not even by a single pixel.
    host.process_events(0.1)
    with_map = pictures.pixels("Red").astype(int)
    coralbay.logic.overlays.hide()
    host.process_events(0.1)
    assert np.array_equal(with_map, pictures.pixels("Red"))


def test_what_a_view_showed_before_comes_back_with_another_scan(coralbay: Any, driver: Any, maps: Any, scan: Any) -> None:
    import slicer

    slicer.util.selectModule("SegmentEditor")
    fusion, _place = scan(name="fusion", seed=1)
    other, _place = scan(name="other", seed=2)
    slicer.util.setSliceViewerLayers(background=maps.node, foreground=fusion, foregroundOpacity=0.3)
    slicer.util.selectModule("CoralBaySlicer")
    settle(driver)
    assert shown(coralbay) == "probability"
    slicer.util.setSliceViewerLayers(background=other)
    settle(driver)
    for name in ("Red", "Yellow", "Green"):
        assert view_of(name).GetForegroundVolumeID() == fusion.GetID()
        assert view_of(name).GetForegroundOpacity() == pytest.approx(0.3)


def test_a_map_that_is_asked_for_brings_its_scan(coralbay: Any, driver: Any, maps: Any, scan: Any) -> None:
    for kind in maps.show:
        other, _place = scan(name="other", seed=1)
        settle(driver)
        maps.show[kind]()
        assert layers(maps.node) == [True, True, True], kind
        assert shown(coralbay) == kind


def test_the_place_in_another_scan_is_shown_without_a_map(coralbay: Any, driver: Any, maps: Any, scan: Any) -> None:
    """Step 3 shows the other scan, while the first one stays the chosen scan."""
    import slicer

    maps.show["similarity"]()
    other, _place = scan(name="other", seed=1)
    slicer.util.setSliceViewerLayers(background=maps.node)
    settle(driver)
    panel = coralbay.panel.similar
    assert layers(maps.node) == [True, True, True]
    mouse.press(panel.ui.matchButton)
    settle(driver)
    assert host.dialogs.texts("error") == []
    assert panel.ui.matchLabel.text
    assert layers(other) == [False, False, False]
    assert coralbay.panel.parameters.volume is maps.node


def test_points_are_placed_on_their_own_scan(coralbay: Any, driver: Any, maps: Any, scan: Any) -> None:
    for button in (coralbay.panel.segment.ui.placeButton, coralbay.panel.similar.ui.placeQueryButton):
        scan(name="other", seed=1)
        settle(driver)
        assert view_of("Red").GetBackgroundVolumeID() != maps.node.GetID()
        mouse.press(button)
        settle(driver)
        assert button.checked
        assert view_of("Red").GetBackgroundVolumeID() == maps.node.GetID()
        mouse.press(button)


def test_choosing_a_scan_shows_it(coralbay: Any, driver: Any, maps: Any, scan: Any) -> None:
    """By hand only: entering the module with another scan in the views leaves them alone."""
    import slicer

    other, _place = scan(name="other", seed=1)
    slicer.util.setSliceViewerLayers(background=maps.node)
    settle(driver)
    selector = coralbay.panel.scan.ui.volumeSelector
    selector.setCurrentNode(other)
    selector.nodeActivated.emit(other)
    settle(driver)
    assert layers(other) == [False, False, False]
    slicer.util.selectModule("SegmentEditor")
    slicer.util.setSliceViewerLayers(background=maps.node)
    slicer.util.selectModule("CoralBaySlicer")
    settle(driver)
    assert coralbay.panel.parameters.volume is other
    assert view_of("Red").GetBackgroundVolumeID() == maps.node.GetID()
    assert coralbay.panel.ui.shownScanRow.visible


def test_a_scan_elsewhere_is_brought_into_sight(coralbay: Any, driver: Any, maps: Any, scan: Any) -> None:
    """The position stays where both scans lie, for comparing them, and changes where the scan would not be seen."""
    import slicer

    red = slicer.app.layoutManager().sliceWidget("Red").mrmlSliceNode()
    near, _place = scan(name="near", seed=1)
    moved = np.array([[1.0, 0, 0, 900], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    away, _place = scan(moved, name="away", seed=2)
    slicer.util.setSliceViewerLayers(background=maps.node, fit=True)
    before = slicer.util.arrayFromVTKMatrix(red.GetSliceToRAS()).copy()
    selector = coralbay.panel.scan.ui.volumeSelector
    selector.nodeActivated.emit(near)
    assert np.array_equal(slicer.util.arrayFromVTKMatrix(red.GetSliceToRAS()), before)
    selector.nodeActivated.emit(away)
    assert red.GetSliceToRAS().GetElement(0, 3) > 800
