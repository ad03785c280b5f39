"""Step 3: the query point in another scan."""

from typing import Any

import host
import numpy as np
import pytest
from host import mouse

pytestmark = pytest.mark.slow


@pytest.fixture
def two(coralbay: Any, driver: Any, scan: Any) -> Any:
    from CoralBaySlicerCore.scene import query_markups

    other, _ = scan(name="follow-up")
    node, place = scan(name="first")
    driver.embed(node)
    driver.open(coralbay.panel.similar)
    query_markups.make(node).AddControlPointWorld(*place)
    driver.settle()
    coralbay.panel.similar.refresh()
    return node, other, place, coralbay.panel.similar


def center_of_red() -> np.ndarray:
    import slicer

    red = slicer.app.layoutManager().sliceWidget("Red").mrmlSliceNode()
    return slicer.util.arrayFromVTKMatrix(red.GetSliceToRAS())[:3, 3]


def background() -> str:
    import slicer

    return slicer.app.layoutManager().sliceWidget("Red").sliceLogic().GetSliceCompositeNode().GetBackgroundVolumeID()


def test_views_show_the_place_in_the_other_scan(two: Any, driver: Any) -> None:
    _node, other, place, panel = two
    assert panel.ui.matchSelector.itemText(0) == "follow-up"
    assert panel.ui.matchButton.enabled
    mouse.press(panel.ui.matchButton)
    driver.settle()
    assert background() == other.GetID()
    assert center_of_red() == pytest.approx(place, abs=3.0)
    assert "follow-up" in panel.ui.matchLabel.text
    assert "score" in panel.ui.matchLabel.text


def test_a_point_outside_the_scan_leaves_the_views_as_they_were(two: Any, driver: Any) -> None:
    from CoralBaySlicerCore.scene import query_markups

    node, _other, _place, panel = two
    query_markups.node(node).SetNthControlPointPositionWorld(0, 900, 0, 0)
    host.process_events()
    shown, where = background(), center_of_red()
    mouse.press(panel.ui.matchButton)
    driver.settle()
    assert background() == shown
    assert np.allclose(center_of_red(), where)
    assert panel.ui.matchLabel.text == ""


def test_a_cancelled_search_leaves_the_views_as_they_were(two: Any, driver: Any, coralbay: Any) -> None:
    _node, _other, _place, panel = two
    shown = background()
    panel.matching.find()
    coralbay.logic.worker.cancel_all()
    driver.settle()
    assert background() == shown
    assert panel.ui.matchLabel.text == ""


def test_without_another_scan_there_is_nothing_to_choose(coralbay: Any, driver: Any, scan: Any) -> None:
    node, _place = scan()
    driver.embed(node)
    driver.open(coralbay.panel.similar)
    coralbay.panel.similar.refresh()
    assert not coralbay.panel.similar.ui.matchRow.visible
