"""Boxes, segments that must not be touched, and segments to correct; and strokes on any plane."""

from typing import Any

import host
import numpy as np
import pytest
from host import mouse

pytestmark = pytest.mark.slow

TURN = np.array([[0, -1, 0, 12.0], [1, 0, 0, -7], [0, 0, 1, 20], [0, 0, 0, 1]])


def points_of(node: Any) -> np.ndarray:
    """(K, J, I, 3) RAS mm of a volume's voxels in its own space."""
    import slicer
    from CoralBaySlicerCore.scene import volumes

    k, j, i = np.indices(slicer.util.arrayFromVolume(node).shape)
    matrix = volumes.ijk_to_ras(node)
    return np.stack([i, j, k], -1) @ matrix[:3, :3].T + matrix[:3, 3]


def ball(node: Any, center: np.ndarray, radius_mm: float) -> np.ndarray:
    return (np.linalg.norm(points_of(node) - center, axis=-1) < radius_mm).astype(np.uint8)


def segmentation_of(node: Any, masks: dict[str, np.ndarray], name: str = "Organs") -> Any:
    """A segmentation with a segment for each mask on a volume's grid."""
    import slicer

    made = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
    made.CreateDefaultDisplayNodes()
    made.SetReferenceImageGeometryParameterFromVolumeNode(node)
    for title, mask in masks.items():
        segment_id = made.GetSegmentation().AddEmptySegment("", title)
        slicer.util.updateSegmentBinaryLabelmapFromArray(mask, made, segment_id, node)
    return made


def transform(matrix: np.ndarray) -> Any:
    import slicer

    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    node.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(matrix))
    return node


@pytest.fixture
def ready(coralbay: Any, driver: Any, scan: Any) -> Any:
    """The panel with an embedded scan, one structure, and all its sections open."""
    node, place = scan()
    driver.embed(node)
    panel = coralbay.panel.segment
    driver.open(panel)
    mouse.press(panel.ui.addStructureButton)
    mouse.key("Esc")
    return node, place, panel


def mark(panel: Any, place: np.ndarray) -> None:
    inside, outside = panel.few_shot.structures
    for offset in ([0, 0, 0], [4, 3, 0], [-3, 0, 4]):
        inside.node.AddControlPointWorld(*(place + offset))
    for offset in ([0, 0, 22], [0, 0, -22], [0, 20, 0], [0, -20, 0]):
        outside.node.AddControlPointWorld(*(place + offset))


def test_two_clicks_draw_a_box(ready: Any, driver: Any) -> None:
    from CoralBaySlicerCore.scene import boxes, place_mode
    from CoralBaySlicerCore.scene.volumes import jump_to

    _node, place, panel = ready
    few_shot, ui = panel.few_shot, panel.ui
    jump_to(place)
    host.process_events(0.02)
    mouse.press(ui.drawBoxButton)
    roi = boxes.node_of(few_shot.structures[0])
    assert roi.GetName() == "Structure 1" and place_mode.is_placing(roi) and ui.drawBoxButton.checked
    one = mouse.click_view("Red", place + [10, 11, 0])
    driver.settle()
    assert few_shot.prompts().boxes == () and few_shot.preview is None
    two = mouse.click_view("Red", place - [10, 11, 0])
    driver.settle()
    assert not place_mode.is_placing(roi) and not ui.drawBoxButton.checked
    (box,) = few_shot.prompts().boxes
    assert box.label == 1 and box.center_ras == pytest.approx((np.array(one) + two) / 2, abs=1e-6)
    assert sorted(box.size_mm.round(3)) == pytest.approx(sorted([*np.abs(np.subtract(one, two)[:2]), 20]), abs=1.1)
    assert ui.structureTable.item(0, 1).text() == "0 + box"
    first = few_shot.preview
    assert first is not None and first.labelmap.nearest_values([place])[0] == 1
    # A face that is dragged changes the box, and the preview follows.
    roi.SetSize(22, 22, 8)
    driver.settle()
    assert few_shot.preview is not first
    found = first.grid.to_ras(np.argwhere(few_shot.preview.labels > 0)[:, ::-1])
    assert len(found) and np.abs(found[:, 2] - place[2]).max() <= 4 + 2.01 + abs(roi.GetCenter()[2] - place[2])
    mouse.press(ui.removeBoxButton)
    driver.settle()
    assert boxes.node_of(few_shot.structures[0]) is None and few_shot.preview is None
    assert ui.structureTable.item(0, 1).text() == "0" and not ui.removeBoxButton.enabled


def test_a_box_goes_with_its_structure(ready: Any, driver: Any) -> None:
    import slicer

    _node, _place, panel = ready
    mouse.press(panel.ui.drawBoxButton)
    mouse.press(panel.ui.drawBoxButton)
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLMarkupsROINode") == 1
    mouse.press(panel.ui.removeStructureButton)
    driver.settle()
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLMarkupsROINode") == 0
    # The background has no box.
    assert panel.few_shot.active == 0 and not panel.ui.drawBoxButton.enabled


@pytest.mark.parametrize("scale", [1.0, 1.5])
def test_transforms_of_boxes_are_honored(scan: Any, coralbay: Any, scale: float) -> None:
    import slicer
    from CoralBaySlicerCore.scene import boxes, structures

    node, place = scan()
    structure = structures.add(node, "liver")
    roi = boxes.add(structure, node)
    roi.SetCenter(*place)
    roi.SetSize(10, 20, 30)
    plain = boxes.box_of(structure, node)
    assert plain.contains([place + [4.9, 9.9, 14.9], place + [5.1, 0, 0]]).tolist() == [True, False]
    # Of the volume: the same box in the volume's own space.
    turned = transform(TURN)
    for each in (node, roi):
        each.SetAndObserveTransformNodeID(turned.GetID())
    same = boxes.box_of(structure, node)
    assert same.center_ras == pytest.approx(plain.center_ras) and sorted(same.size_mm) == pytest.approx([10, 20, 30])
    # Of the box alone, with a scale.
    node.SetAndObserveTransformNodeID(None)
    turned.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(TURN @ np.diag([1, scale, 1, 1])))
    moved = boxes.box_of(structure, node)
    corners = np.array([[x, y, z] for x in (-5, 5) for y in (-10, 10) for z in (-15, 15)]) * 0.999 + place
    world = (corners * [1, scale, 1]) @ TURN[:3, :3].T + TURN[:3, 3]
    assert moved.contains(world).all()
    assert sorted(moved.size_mm) == pytest.approx(sorted([10, 20 * scale, 30]))


@pytest.mark.parametrize("transformed", [False, True])
def test_locked_segments_are_not_touched(ready: Any, driver: Any, coralbay: Any, transformed: bool) -> None:
    import slicer

    node, place, panel = ready
    mark(panel, place)
    driver.settle()
    few_shot = panel.few_shot
    part = place + [0, 5.5, 0]
    assert few_shot.preview.labelmap.nearest_values([part])[0] == 1
    organs = segmentation_of(node, {"Front": ball(node, part, 4), "Back": ball(node, place - [0, 30, 0], 4)})
    organs.GetSegmentation().AddEmptySegment("", "Empty")
    if transformed:
        # The segmentation is at the same place, although its own space is another.
        turned = transform(TURN)
        organs.ApplyTransformMatrix(slicer.util.vtkMatrixFromArray(np.linalg.inv(TURN)))
        organs.SetAndObserveTransformNodeID(turned.GetID())
    panel.ui.lockedSelector.setCurrentNode(organs)
    driver.settle()
    assert few_shot.message == ""
    held = few_shot.preview
    near = np.linalg.norm(held.grid.to_ras(np.argwhere(held.labels > 0)[:, ::-1]) - part, axis=1)
    assert near.min() > 2.5 and held.labelmap.nearest_values([place])[0] == 1
    mouse.press(panel.ui.applyButton)
    driver.settle()
    assert host.dialogs.texts("error") == []
    output = coralbay.panel.parameters.output
    inner = output.GetSegmentation()
    mask = slicer.util.arrayFromSegmentBinaryLabelmap(output, inner.GetNthSegmentID(0), node)
    segment_id = organs.GetSegmentation().GetSegmentIdBySegmentName("Front")
    front = slicer.util.arrayFromSegmentBinaryLabelmap(organs, segment_id, node)
    assert mask.any() and front.sum() > 20 and not (mask & front).any()
    # The segments are those of the preview, on the scan's grid.
    assert np.array_equal(few_shot.segmenter.labelmap(few_shot.segmenter.pyramid.source_grid).array == 1, mask > 0)
    # A hidden segment may be touched.
    organs.GetDisplayNode().SetSegmentVisibility(segment_id, False)
    driver.settle()
    assert few_shot.preview.labelmap.nearest_values([part])[0] == 1
    organs.GetDisplayNode().SetSegmentVisibility(segment_id, True)
    driver.settle()
    inside = few_shot.structures[0].node
    inside.AddControlPointWorld(*part)
    driver.settle()
    assert "A prompt of 'Structure 1' lies in a locked segment" in panel.ui.previewLabel.text
    panel.ui.lockedSelector.setCurrentNode(None)
    driver.settle()
    assert few_shot.message == "" and few_shot.preview.labelmap.nearest_values([part])[0] == 1


def test_other_segments_of_the_output_can_be_locked(ready: Any, driver: Any, coralbay: Any) -> None:
    node, place, panel = ready
    part = place + [0, 5.5, 0]
    coralbay.panel.parameters.output = segmentation_of(
        node, {"Structure 1": ball(node, place, 5), "Done before": ball(node, part, 4)}
    )
    mark(panel, place)
    driver.settle()
    assert panel.few_shot.preview.labelmap.nearest_values([part])[0] == 1, "the check box is off at first"
    panel.ui.lockOthersCheck.click()
    driver.settle()
    assert panel.few_shot.preview.labelmap.nearest_values([place, part]).tolist() == [1, 0]


def test_a_segment_is_corrected(ready: Any, driver: Any, coralbay: Any) -> None:
    import slicer

    node, place, panel = ready
    few_shot, ui, wrong = panel.few_shot, panel.ui, place - [0, 25, 0]
    draft = segmentation_of(node, {"Draft": ball(node, place, 7) | ball(node, wrong, 5)}, "Drafts")
    ui.startSelector.setCurrentNode(draft)
    ui.startSelector.setCurrentSegmentID(draft.GetSegmentation().GetNthSegmentID(0))
    mouse.press(ui.startButton)
    driver.settle()
    assert ui.startLabel.text.startswith("Structure 1 starts from the segment Draft.")
    assert ui.structureTable.item(0, 1).text() == "0 + segment" and ui.structureTable.item(0, 3).text() == ""
    assert few_shot.preview.labelmap.nearest_values([place, wrong]).tolist() == [1, 1]
    few_shot.structures[1].node.AddControlPointWorld(*wrong)
    driver.settle()
    assert few_shot.preview.labelmap.nearest_values([place, wrong]).tolist() == [1, 0]
    mouse.press(ui.applyButton)
    driver.settle()
    output = coralbay.panel.parameters.output
    mask = slicer.util.arrayFromSegmentBinaryLabelmap(output, output.GetSegmentation().GetNthSegmentID(0), node)
    assert np.array_equal(mask[ball(node, place, 16) > 0], ball(node, place, 7)[ball(node, place, 16) > 0])
    assert mask[ball(node, wrong, 2) > 0].sum() == 0
    mouse.press(ui.discardStartButton)
    driver.settle()
    assert few_shot.preview is None and not ui.startLabel.visible


def test_a_segment_that_a_structure_starts_from_is_not_locked(ready: Any, driver: Any, coralbay: Any) -> None:
    node, place, panel = ready
    part = place + [0, 9, 0]
    organs = segmentation_of(node, {"Front": ball(node, part, 5), "Draft": ball(node, place, 4)})
    coralbay.panel.parameters.locked = coralbay.panel.parameters.output = organs
    coralbay.panel.parameters.lockOthers = True
    structure = panel.few_shot.structures[0]
    panel.few_shot.start_from(structure, organs, organs.GetSegmentation().GetNthSegmentID(1))
    driver.settle()
    assert panel.few_shot.preview.labelmap.nearest_values([place, part]).tolist() == [1, 0]


def test_a_removed_segment_is_no_start(ready: Any, driver: Any) -> None:
    import slicer

    node, place, panel = ready
    draft = segmentation_of(node, {"Draft": ball(node, place, 7)}, "Drafts")
    panel.few_shot.start_from(panel.few_shot.structures[0], draft, draft.GetSegmentation().GetNthSegmentID(0))
    driver.settle()
    assert panel.few_shot.preview is not None
    slicer.mrmlScene.RemoveNode(draft)
    mark(panel, place)
    driver.settle()
    assert panel.few_shot.masks() is None and panel.few_shot.preview is not None


def test_segments_under_a_warp_are_refused_in_words(ready: Any, driver: Any) -> None:
    import slicer
    import vtk

    node, place, panel = ready
    mark(panel, place)
    driver.settle()
    organs = segmentation_of(node, {"Front": ball(node, place + [0, 9, 0], 5)})
    spline = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLBSplineTransformNode")
    spline.SetAndObserveTransformFromParent(vtk.vtkThinPlateSplineTransform())
    organs.SetAndObserveTransformNodeID(spline.GetID())
    panel.ui.lockedSelector.setCurrentNode(organs)
    driver.settle()
    assert "A non-linear transform lies between the volume and the segmentation 'Organs'" in panel.ui.previewLabel.text
    mouse.press(panel.ui.applyButton)
    driver.settle()
    assert any("non-linear" in text for text in host.dialogs.texts("error"))


def test_bounds_are_saved_with_the_scene(ready: Any, driver: Any, coralbay: Any, tmp_path: Any) -> None:
    import slicer
    from CoralBaySlicerCore.scene import boxes, masks

    node, place, panel = ready
    structure = panel.few_shot.structures[0]
    roi = panel.few_shot.add_box(structure)
    roi.SetCenter(*place)
    roi.SetSize(20, 24, 28)
    organs = segmentation_of(node, {"Front": ball(node, place + [0, 9, 0], 5), "Draft": ball(node, place, 5)})
    panel.few_shot.start_from(structure, organs, organs.GetSegmentation().GetNthSegmentID(1))
    coralbay.panel.parameters.locked = organs
    coralbay.panel.parameters.lockOthers = True
    box = boxes.box_of(structure, node)
    driver.settle()
    path = str(tmp_path / "scene.mrb")
    assert slicer.util.saveScene(path)
    slicer.mrmlScene.Clear()
    driver.settle()
    slicer.util.loadScene(path)
    driver.settle()
    parameters = coralbay.logic.getParameterNode()
    assert parameters.locked.GetName() == "Organs" and parameters.lockOthers
    structure = panel.few_shot.structures[0]
    assert boxes.box_of(structure, parameters.volume).center_ras == pytest.approx(box.center_ras)
    assert sorted(boxes.box_of(structure, parameters.volume).size_mm) == pytest.approx([20, 24, 28])
    segmentation, segment_id = masks.start_of(structure)
    assert segmentation.GetSegmentation().GetSegment(segment_id).GetName() == "Draft"


@pytest.mark.parametrize("plane", ["axial", "sagittal", "coronal", "oblique"])
def test_strokes_on_any_plane_are_prompts(ready: Any, driver: Any, coralbay: Any, plane: str) -> None:
    """A stroke is one voxel thick, in a segmentation with axes of its own."""
    import slicer
    import vtk
    from scipy.spatial.transform import Rotation
    from vtk.util.numpy_support import numpy_to_vtk

    node, place, panel = ready
    angles = {"axial": (0, 0), "sagittal": (0, 90), "coronal": (90, 0), "oblique": (35, 20)}[plane]
    axes = Rotation.from_euler("xy", angles, degrees=True).as_matrix() * 1.5
    matrix = np.eye(4)
    matrix[:3, :3] = axes
    matrix[:3, 3] = place - axes @ [20, 20, 0]
    made = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Strokes")
    made.CreateDefaultDisplayNodes()
    inner = made.GetSegmentation()
    j, i = np.indices((41, 41))
    away = np.hypot(i - 20, j - 20) * 1.5
    for name, mask in (("Structure 1", away < 6), ("Background", np.abs(away - 16) < 1)):
        image = slicer.vtkOrientedImageData()
        image.SetDimensions(41, 41, 1)
        image.SetImageToWorldMatrix(slicer.util.vtkMatrixFromArray(matrix))
        image.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 1)
        image.GetPointData().SetScalars(numpy_to_vtk(mask.astype(np.uint8).ravel(), deep=True))
        segment_id = inner.AddEmptySegment("", name)
        logic = slicer.vtkSlicerSegmentationsModuleLogic
        assert logic.SetBinaryLabelmapToSegment(image, made, segment_id, logic.MODE_REPLACE)
    coralbay.panel.parameters.painted = made
    driver.settle()
    prompts = panel.few_shot.prompts()
    assert (prompts.labels == 1).sum() == (away < 6).sum()
    normal = axes[:, 2] / 1.5
    assert np.abs((prompts.points_ras - place) @ normal).max() < 1e-3
    preview = panel.few_shot.preview
    assert panel.few_shot.message == "" and preview.labelmap.nearest_values([place])[0] == 1
    # The structure reaches out of the plane of the stroke.
    found = preview.grid.to_ras(np.argwhere(preview.labels > 0)[:, ::-1])
    assert np.abs((found - place) @ normal).max() > 4


def test_masks_from_the_console(scan: Any, coralbay: Any) -> None:
    import slicer

    node, place = scan()
    part, wrong = place + [0, 5.5, 0], place - [0, 25, 0]
    prompts = {"ball": [place, place + [4, 3, 0]], "background": [place + [0, 0, 22], place - [0, 20, 0], wrong]}
    organs = segmentation_of(node, {"Front": ball(node, part, 4), "Ball": ball(node, place, 4)})
    found = coralbay.logic.segment(node, prompts, locked=organs)
    mask = slicer.util.arrayFromSegmentBinaryLabelmap(found, "ball", node)
    assert mask.any() and not mask[ball(node, part, 4) > 0].any() and mask[ball(node, place, 2) > 0].all()
    drafts = segmentation_of(node, {"Ball": ball(node, place, 6) | ball(node, wrong, 4)}, "Drafts")
    found = coralbay.logic.segment(node, prompts, start=drafts)
    mask = slicer.util.arrayFromSegmentBinaryLabelmap(found, "ball", node)
    near = ball(node, place, 15) > 0
    assert np.array_equal(mask[near], ball(node, place, 6)[near]) and not mask[ball(node, wrong, 2) > 0].any()


@pytest.mark.parametrize("system", ["LPS", "RAS"])
def test_a_roi_that_slicer_saved_is_read_as_the_same_box(scan: Any, coralbay: Any, tmp_path: Any, system: str) -> None:
    import slicer
    from CoralBaySlicerCore.scene import boxes, structures

    import CoralBayLib as cb

    node, place = scan()
    structure = structures.add(node, "liver")
    roi = boxes.add(structure, node)
    roi.SetCenter(*place)
    roi.SetSize(10, 20, 30)
    roi.ApplyTransformMatrix(slicer.util.vtkMatrixFromArray(TURN))
    storage = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROIJsonStorageNode")
    storage.SetCoordinateSystem(getattr(storage, f"CoordinateSystem{system}"))
    storage.SetFileName(str(tmp_path / "liver.mrk.json"))
    assert storage.WriteData(roi)
    prompts = cb.read_prompts(tmp_path / "liver.mrk.json")
    (read,), drawn = prompts.boxes, boxes.box_of(structure, node)
    assert prompts.names == {1: "liver"}
    points = drawn.center_ras + np.random.default_rng(0).uniform(-20, 20, (2000, 3))
    assert np.array_equal(read.contains(points), drawn.contains(points)) and 0 < read.contains(points).mean() < 1
