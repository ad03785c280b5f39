"""The slice views: what new ones show, and whether points are seen on a preview."""

from typing import Any

import host
import numpy as np
import pytest
from host import mouse, pictures

from Testing.module.steps import click_all

pytestmark = pytest.mark.slow


def test_a_view_that_a_layout_adds_shows_the_scan(coralbay: Any, driver: Any, scan: Any) -> None:
    import slicer

    node, place = scan()
    driver.embed(node)
    mouse.press(coralbay.panel.segment.ui.addStructureButton)
    click_all(coralbay.panel.segment, driver, place)
    layout = slicer.app.layoutManager()
    layout.setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutTwoOverTwoView)
    new = layout.sliceWidget("Slice4")
    # As Slicer makes it.
    assert new.mrmlSliceCompositeNode().GetBackgroundVolumeID() is None
    before = layout.sliceWidget("Red").mrmlSliceNode().GetFieldOfView()
    driver.settle()
    composite = new.mrmlSliceCompositeNode()
    assert composite.GetBackgroundVolumeID() == node.GetID()
    assert composite.GetForegroundVolumeID() == layout.sliceWidget("Red").mrmlSliceCompositeNode().GetForegroundVolumeID()
    # The whole scan is seen, and the other views are left as they were.
    assert new.mrmlSliceNode().GetFieldOfView()[0] >= 96
    assert layout.sliceWidget("Red").mrmlSliceNode().GetFieldOfView() == before
    # Who empties a view does not find it filled again.
    composite.SetBackgroundVolumeID(None)
    coralbay.panel.refresh()
    driver.settle()
    assert composite.GetBackgroundVolumeID() is None


def test_new_views_stay_empty_while_something_else_is_looked_at(coralbay: Any, driver: Any, scan: Any) -> None:
    import slicer

    node, _place = scan()
    driver.embed(node)
    other, _place = scan(name="other", seed=2)
    slicer.util.setSliceViewerLayers(background=other)
    slicer.app.layoutManager().setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutTwoOverTwoView)
    driver.settle()
    new = slicer.app.layoutManager().sliceWidget("Slice4").mrmlSliceCompositeNode()
    assert new.GetBackgroundVolumeID() != node.GetID()


def test_points_are_seen_on_a_preview(coralbay: Any, driver: Any, scan: Any) -> None:
    """Each point covers many pixels that are clearly different without it, on the structure and on soft tissue."""
    node, place = scan()
    driver.embed(node)
    panel = coralbay.panel.segment
    mouse.press(panel.ui.addStructureButton)
    click_all(panel, driver, place)
    assert panel.few_shot.preview is not None
    displays = [each.node.GetDisplayNode() for each in panel.few_shot.structures]

    def picture(visible: bool) -> np.ndarray:
        for display in displays:
            display.SetVisibility(visible)
        host.process_events(0.1)
        return pictures.pixels("Red").astype(int)

    changed = np.abs(picture(True) - picture(False)).max(axis=2)
    view = pictures.view("Red")
    for point in (place, place + [0, 22, 0]):
        column, row, _ = view.convertRASToXYZ(list(point))
        row = view.height - 1 - round(row)
        around = changed[row - 12 : row + 13, round(column) - 12 : round(column) + 13]
        assert (around > 60).sum() > 200
