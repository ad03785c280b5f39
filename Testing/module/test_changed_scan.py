"""The scan is changed by other modules after its features were computed: voxels, name, transform."""

from typing import Any

import host
import numpy as np
import pytest

from Testing.module.steps import click_all

SHIFT = np.array([5.0, 3.0, -2.0])


@pytest.fixture
def marked(ready: Any, driver: Any) -> Any:
    """The panel with a preview; the scan's node and the controller of the prompts."""
    node, place, panel = ready
    click_all(panel, driver, place)
    assert panel.few_shot.preview is not None
    return node, panel.few_shot


def shift(name: str = "shift") -> Any:
    import slicer

    matrix = np.eye(4)
    matrix[:3, 3] = SHIFT
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", name)
    slicer.util.updateTransformMatrixFromArray(transform, matrix)
    return transform


def world_points(few_shot: Any) -> np.ndarray:
    return np.concatenate([each.world_points() for each in few_shot.structures])


def settle(driver: Any) -> None:
    host.process_events(0.2)
    driver.settle()


def test_changed_voxels_are_noticed(coralbay: Any, driver: Any, marked: Any) -> None:
    import slicer

    node, few_shot = marked
    slicer.util.arrayFromVolume(node)[:] += 50
    slicer.util.arrayFromVolumeModified(node)
    settle(driver)
    assert few_shot.preview is None
    assert "step 1" in few_shot.message
    assert coralbay.logic.overlays.shown is None
    assert coralbay.panel.scan.ui.computeButton.enabled
    assert not coralbay.panel.segment.ui.applyButton.enabled


def test_a_new_name_is_shown(coralbay: Any, driver: Any, marked: Any) -> None:
    node, _few_shot = marked
    node.SetName("follow-up")
    settle(driver)
    assert "follow-up" in coralbay.panel.scan.header.text


def test_a_scan_that_is_not_chosen_any_more_is_not_followed(coralbay: Any, driver: Any, marked: Any, scan: Any) -> None:
    node, _few_shot = marked
    other, _place = scan(name="other", seed=2)
    coralbay.panel.scan.ui.volumeSelector.setCurrentNode(other)
    settle(driver)
    followed = [each for each in coralbay.panel.Observations if each[0] in (node, other)]
    assert all(each[0] is other for each in followed) and followed


@pytest.mark.parametrize("while_away", [False, True])
def test_prompts_and_maps_follow_the_transform(coralbay: Any, driver: Any, marked: Any, while_away: bool) -> None:
    """Also when it is hardened: what was clicked stays clicked, and features that are still valid are used."""
    import slicer

    node, few_shot = marked
    before, own = world_points(few_shot), few_shot.prompts().points_ras
    transform = shift()

    def change(action: Any) -> None:
        if while_away:
            slicer.util.selectModule("SegmentEditor")
        action()
        settle(driver)
        if while_away:
            slicer.util.selectModule("CoralBaySlicer")
            settle(driver)

    change(lambda: node.SetAndObserveTransformNodeID(transform.GetID()))
    np.testing.assert_allclose(world_points(few_shot), before + SHIFT, atol=1e-6)
    np.testing.assert_allclose(few_shot.prompts().points_ras, own, atol=1e-6)
    overlays = coralbay.logic.overlays
    for shown in (overlays.node("probability"), overlays.structures.node):
        assert shown.GetTransformNodeID() == transform.GetID()
    change(node.HardenTransform)
    np.testing.assert_allclose(world_points(few_shot), before + SHIFT, atol=1e-6)
    assert not few_shot.history.can_undo
    few_shot.add_structure()
    np.testing.assert_allclose(world_points(few_shot), before + SHIFT, atol=1e-6)


def test_a_suggested_click_is_not_shown_on_another_scan(coralbay: Any, driver: Any, marked: Any, scan: Any) -> None:
    _node, few_shot = marked
    other, _place = scan(name="other", seed=2)
    found: list = []
    few_shot.suggest_click(few_shot.shown, few_shot.prompts(), found.append)
    coralbay.panel.parameters.volume = other
    coralbay.panel.refresh()
    driver.settle()
    assert found == []
    assert "Does this belong" not in few_shot.message


def test_a_query_point_is_left_alone_in_other_modules(coralbay: Any, driver: Any, marked: Any) -> None:
    import slicer
    from CoralBaySlicerCore.scene import query_markups

    node, _few_shot = marked
    query = query_markups.make(node)
    query.AddControlPointWorld(0, 0, 0)
    settle(driver)
    slicer.util.selectModule("SegmentEditor")
    query.AddControlPointWorld(1, 2, 3)
    settle(driver)
    assert query.GetNumberOfControlPoints() == 2
    assert host.dialogs.texts("error") == []


def test_leaving_right_after_the_query_was_placed_starts_no_search(coralbay: Any, driver: Any, marked: Any) -> None:
    import slicer
    from CoralBaySlicerCore.scene import query_markups

    node, _few_shot = marked
    query = query_markups.make(node)
    coralbay.panel.refresh()
    query.AddControlPointWorld(0, 0, 0)
    slicer.util.selectModule("SegmentEditor")
    settle(driver)
    assert coralbay.panel.similar.regions == []


def test_a_volume_with_several_values_per_voxel_is_refused(coralbay: Any, driver: Any) -> None:
    import slicer
    import vtk

    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "pairs")
    image = vtk.vtkImageData()
    image.SetDimensions(8, 8, 8)
    image.AllocateScalars(vtk.VTK_SHORT, 2)
    node.SetAndObserveImageData(image)
    coralbay.panel.scan.ui.volumeSelector.setCurrentNode(node)
    driver.settle()
    coralbay.panel.scan.compute()
    driver.settle()
    assert "several values per voxel" in host.dialogs.texts("error")[-1]
