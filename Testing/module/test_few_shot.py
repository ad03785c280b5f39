"""Step 2: click, look, click; undo; apply; on volumes of every orientation."""

from pathlib import Path
from typing import Any

import host
import numpy as np
import pytest
from host import mouse, pictures

AXIAL = np.array([[-2.5, 0, 0, 60.0], [0, -2.5, 0, 60], [0, 0, 3, -60], [0, 0, 0, 1]])


def oblique() -> np.ndarray:
    from scipy.spatial.transform import Rotation

    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", [14, -9, 25], degrees=True).as_matrix() @ np.diag([-2.5, -2.5, 3])
    matrix[:3, 3] = [40, 70, -50]
    return matrix


def show_at(place: Any) -> None:
    from CoralBaySlicerCore.volumes import jump_to

    jump_to(place)
    host.process_events(0.02)


def colour_at(view: str, place: Any) -> np.ndarray:
    shown = pictures.view(view)
    column, row, _ = shown.convertRASToXYZ(list(place))
    return pictures.pixels(view)[shown.height - 1 - round(row), round(column)].astype(int)


@pytest.fixture
def ready(coralbay: Any, driver: Any, scan: Any) -> Any:
    """The panel with an embedded axial scan and one structure, in place mode."""
    node, place = scan()
    driver.embed(node)
    mouse.press(coralbay.panel.segment.ui.addStructureButton)
    return node, place, coralbay.panel.segment


def click_all(panel: Any, driver: Any, place: np.ndarray, view: str = "Red") -> None:
    """Two clicks in the first ball and three beside it, with the mouse in a view."""
    show_at(place)
    for offset in ([0, 0, 0], [4, 3, 0]):
        mouse.click_view(view, place + offset)
    mouse.key("0")
    for offset in ([-18, 0, 0], [0, 25, 0], [0, -25, 0]):
        mouse.click_view(view, place + offset)
    mouse.key("Esc")
    driver.settle()


def test_a_click_places_a_prompt_and_the_overlay_follows(ready: Any, driver: Any) -> None:
    node, place, panel = ready
    show_at(place)
    grey = colour_at("Red", place)
    clicked = mouse.click_view("Red", place)
    structure = panel.few_shot.structures[0]
    assert structure.world_points()[0] == pytest.approx(np.array(clicked), abs=1e-6)
    driver.settle()
    assert "background" in panel.ui.previewLabel.text
    mouse.key("0")
    mouse.click_view("Red", place + [0, 25, 0])
    driver.settle()
    assert not panel.ui.previewLabel.visible, panel.ui.previewLabel.text
    assert panel.few_shot.preview is not None
    mouse.key("Esc")
    beside = place + [3, -3, 0]
    shown = colour_at("Red", beside)
    # The structure's orange over the ball's grey.
    assert shown[0] > shown[2] + 40
    assert abs(grey[0] - grey[2]) < 5
    assert panel.few_shot.preview.percents[1].max() > 80
    assert panel.ui.applyButton.enabled


def test_undo_redo_and_clear_by_button_and_key(ready: Any, driver: Any) -> None:
    _node, place, panel = ready
    click_all(panel, driver, place)

    def counts() -> list[int]:
        return [len(each.world_points()) for each in panel.few_shot.structures]

    assert counts() == [2, 3]
    before = panel.few_shot.points().points
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
    assert panel.few_shot.points().points == pytest.approx(before)
    mouse.press(panel.ui.clearButton)
    driver.settle()
    assert counts() == [0, 0]
    mouse.press(panel.ui.undoButton)
    driver.settle()
    assert counts() == [2, 3]


@pytest.mark.parametrize("kind", ["axial", "oblique", "transformed"])
def test_apply_writes_segments_where_the_structure_is(coralbay: Any, driver: Any, scan: Any, kind: str) -> None:
    import slicer

    node, place = scan(oblique() if kind == "oblique" else AXIAL)
    if kind == "transformed":
        transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
        matrix = np.array([[0, -1, 0, 12.0], [1, 0, 0, -7], [0, 0, 1, 20], [0, 0, 0, 1]])
        transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(matrix))
        node.SetAndObserveTransformNodeID(transform.GetID())
        place = matrix[:3, :3] @ place + matrix[:3, 3]
        slicer.util.setSliceViewerLayers(background=node, fit=True)
    panel = coralbay.panel.segment
    driver.embed(node)
    mouse.press(panel.ui.addStructureButton)
    show_at(place)
    inside, outside = panel.few_shot.structures
    for offset in ([0, 0, 0], [4, 3, 0], [-3, 0, 4]):
        inside.node.AddControlPointWorld(*(place + offset))
    for offset in ([0, 0, 25], [0, 0, -25], [22, 0, 0], [0, 22, 0], [0, -22, 0], [-22, 0, 0]):
        outside.node.AddControlPointWorld(*(place + offset))
    driver.settle()
    assert panel.few_shot.message == ""
    mouse.press(panel.ui.applyButton)
    driver.settle()
    assert host.dialogs.texts("error") == []
    segmentation = coralbay.panel.parameters.output
    assert segmentation.GetTransformNodeID() == node.GetTransformNodeID()
    segment_id = segmentation.GetSegmentation().GetNthSegmentID(0)
    mask = slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, segment_id, node)
    assert mask.shape == slicer.util.arrayFromVolume(node).shape
    bright = slicer.util.arrayFromVolume(node) > 180
    kji = np.argwhere(mask)
    centre = np.append(kji[:, ::-1].mean(axis=0), 1)
    from CoralBaySlicerCore import volumes

    world = volumes.to_world(node, (volumes.ijk_to_ras(node) @ centre)[:3])[0]
    assert np.linalg.norm(world - place) < 6
    # The other ball counts as bright as well.
    assert (mask.astype(bool) & bright).sum() > 0.5 * mask.sum()
    assert (mask.astype(bool) & bright).sum() > 0.15 * bright.sum()
    mouse.press(panel.ui.undoApplyButton)
    driver.settle()
    assert segmentation.GetSegmentation().GetNumberOfSegments() == 0
