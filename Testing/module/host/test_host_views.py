"""The views render what the scene holds, and a click in them lands where it should."""

from pathlib import Path
from typing import Any

import host
import numpy as np
import pytest
from host import mouse, pictures

pytestmark = pytest.mark.slow


def rotation(degrees: float, axis: int) -> np.ndarray:
    """A homogeneous rotation about one axis."""
    matrix = np.eye(4)
    first, second = [index for index in range(3) if index != axis]
    angle = np.radians(degrees)
    matrix[first, first] = matrix[second, second] = np.cos(angle)
    matrix[first, second], matrix[second, first] = -np.sin(angle), np.sin(angle)
    return matrix


def oblique() -> np.ndarray:
    """An IJK-to-RAS matrix along no axis, with a flip and unequal spacing."""
    matrix = rotation(25, 0) @ rotation(-15, 2) @ np.diag([-1.5, 2.0, 2.5, 1.0])
    matrix[:3, 3] = [50, -60, -40]
    return matrix


def show(volume: Any) -> None:
    import slicer

    slicer.util.setSliceViewerLayers(background=volume, foreground=None, label=None, fit=True)
    host.process_events(0.05)


def center_ras(volume: Any) -> np.ndarray:
    """Where the volume's middle voxel lies in the world, through its parent transform."""
    import slicer
    import vtk

    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    point = np.array(matrix.MultiplyPoint([32, 28, 24, 1])[:3])
    world = [0.0, 0.0, 0.0]
    transform = vtk.vtkGeneralTransform()
    slicer.vtkMRMLTransformNode.GetTransformBetweenNodes(volume.GetParentTransformNode(), None, transform)
    transform.TransformPoint(point, world)
    return np.array(world)


@pytest.fixture
def markups(app: Any) -> Any:
    """A point list in place mode, as after a click on a place button."""
    import slicer

    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "Prompts")
    node.CreateDefaultDisplayNodes()
    slicer.modules.markups.logic().SetActiveList(node)
    interaction = app.applicationLogic().GetInteractionNode()
    interaction.SetPlaceModePersistence(1)
    interaction.SetCurrentInteractionMode(interaction.Place)
    return node


def test_a_volume_is_rendered_with_its_window_and_level(make_volume: Any) -> None:
    volume = make_volume()
    show(volume)
    image = pictures.pixels("Red")
    view = pictures.view("Red")
    column, row, _ = view.convertRASToXYZ([0, 0, 0])
    assert image[view.height - 1 - round(row), round(column)].tolist() == pytest.approx([106] * 3, abs=2)
    assert image[5, view.width // 2].tolist() == [0, 0, 0]
    assert image.max() < 120


def test_closing_the_scene_turns_the_views_back(app: Any) -> None:
    import slicer

    def orientations() -> dict[str, str]:
        layout = app.layoutManager()
        return {name: layout.sliceWidget(name).mrmlSliceNode().GetOrientation() for name in layout.sliceViewNames()}

    expected = {"Red": "Axial", "Yellow": "Sagittal", "Green": "Coronal"}
    assert orientations() == expected
    for name in expected:
        app.layoutManager().sliceWidget(name).mrmlSliceNode().SetSliceToRASByNTP(0, 0.6, 0.8, 1, 0, 0, 5, 6, 7, 0)
    assert set(orientations().values()) == {"Reformat"}
    slicer.mrmlScene.Clear()
    assert orientations() == expected


def test_a_test_leaves_nothing_in_the_host(make_volume: Any, markups: Any) -> None:
    import slicer

    make_volume()
    layout, window = slicer.app.layoutManager(), slicer.util.mainWindow()
    size = window.size
    window.resize(900, 700)
    layout.setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpTableView)
    slicer.util.infoDisplay("seen")
    host.reset()
    assert slicer.util.getNodesByClass("vtkMRMLVolumeNode") == []
    assert markups.GetScene() is None
    interaction = slicer.app.applicationLogic().GetInteractionNode()
    assert (interaction.GetCurrentInteractionMode(), interaction.GetPlaceModePersistence()) == (interaction.ViewTransform, 0)
    assert layout.layout == slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView
    assert window.size == size
    assert host.dialogs.texts() == []


def test_a_segment_is_outlined_in_its_color(make_volume: Any) -> None:
    import slicer

    volume = make_volume()
    show(volume)
    segmentation = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    segmentation.CreateDefaultDisplayNodes()
    segmentation.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    segment = segmentation.GetSegmentation().AddEmptySegment("a", "a", [0.0, 1.0, 0.0])
    mask = (slicer.util.arrayFromVolume(volume) > 0).astype(np.uint8)
    slicer.util.updateSegmentBinaryLabelmapFromArray(mask, segmentation, segment, volume)
    segmentation.GetDisplayNode().SetVisibility2DFill(False)
    image = pictures.pixels("Red").astype(int)
    green = (image[..., 1] > 200) & (image[..., 0] < 80) & (image[..., 2] < 80)
    rows, columns = np.nonzero(green)
    assert green.sum() > 200
    # An outline of the box: its edges are green and its middle is not.
    assert not green[(rows.min() + rows.max()) // 2, (columns.min() + columns.max()) // 2]
    box = pictures.view("Red")
    left, top, _ = box.convertRASToXYZ([64 - 2 * 15.5, 56 - 2 * 13.5, 0])
    assert columns.min() == pytest.approx(left, abs=3)
    assert rows.min() == pytest.approx(box.height - 1 - top, abs=3)


def test_a_foreground_overlay_is_color_mapped_and_blended(make_volume: Any) -> None:
    import slicer

    volume = make_volume()
    probability = slicer.util.addVolumeFromArray(
        (slicer.util.arrayFromVolume(volume) > 0).astype(np.float32), name="probability"
    )
    probability.CopyOrientation(volume)
    probability.CreateDefaultDisplayNodes()
    display = probability.GetDisplayNode()
    display.SetAndObserveColorNodeID("vtkMRMLColorTableNodeRed")
    display.SetAutoWindowLevel(False)
    display.SetWindowLevelMinMax(0, 1)
    display.SetLowerThreshold(0.5)
    display.ApplyThresholdOn()
    show(volume)
    view = pictures.view("Red")
    column, row, _ = view.convertRASToXYZ([0, 0, 0])
    place = (view.height - 1 - round(row), round(column))
    grey = pictures.pixels("Red")[place].astype(int)
    slicer.util.setSliceViewerLayers(foreground=probability, foregroundOpacity=0.5)
    red = pictures.pixels("Red")[place].astype(int)
    assert red[0] == pytest.approx((grey[0] + 255) / 2, abs=3)
    assert red[1] == pytest.approx(grey[1] / 2, abs=3)


def test_a_color_legend_is_drawn_in_the_slice_view(make_volume: Any) -> None:
    import slicer

    volume = make_volume()
    show(volume)
    before = pictures.pixels("Red")
    legend = slicer.modules.colors.logic().AddDefaultColorLegendDisplayNode(volume)
    legend.SetVisibility(True)
    after = pictures.pixels("Red")
    changed = np.nonzero((before != after).any(axis=2))[1]
    assert changed.size > 500
    assert changed.min() > before.shape[1] / 2


def test_the_three_views_and_the_3d_view_show_something(make_volume: Any, tmp_path: Path) -> None:
    import slicer

    volume = make_volume()
    show(volume)
    logic = slicer.modules.volumerendering.logic()
    display = logic.CreateDefaultVolumeRenderingNodes(volume)
    display.SetVisibility(True)
    slicer.util.resetThreeDViews()
    for name in ("Red", "Yellow", "Green", "1"):
        assert pictures.pixels(name).std() > 5
        pictures.save_view(name, tmp_path / f"{name}.png")
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("kind", ["axial", "oblique", "transformed", "oblique and transformed"])
def test_a_click_places_a_point_at_the_exact_ras(make_volume: Any, markups: Any, kind: str) -> None:
    import slicer

    volume = make_volume(oblique() if "oblique" in kind else None)
    if "transformed" in kind:
        transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
        matrix = rotation(20, 1)
        matrix[:3, 3] = [7, -11, 13]
        transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(matrix))
        volume.SetAndObserveTransformNodeID(transform.GetID())
    show(volume)
    target = center_ras(volume)
    slicer.modules.markups.logic().JumpSlicesToLocation(*target, False)
    view = pictures.view("Red")
    column, row, _ = view.convertRASToXYZ(list(target))
    # The middle of the volume is bright, so it is drawn where it belongs.
    assert pictures.pixels("Red")[view.height - 1 - round(row), round(column), 0] == pytest.approx(106, abs=2)
    clicked = mouse.click_view("Red", target)
    assert markups.GetNumberOfDefinedControlPoints() == 1
    placed = np.array(markups.GetNthControlPointPositionWorld(0))
    assert placed == pytest.approx(np.array(clicked), abs=1e-6)
    # The nearest pixel is at most half a pixel diagonal away.
    pixel = slicer.app.layoutManager().sliceWidget("Red").mrmlSliceNode().GetFieldOfView()[0] / pictures.view("Red").width
    assert np.linalg.norm(placed - target) < 0.75 * pixel


def test_a_click_in_a_slice_rotated_to_the_volume_plane(make_volume: Any, markups: Any) -> None:
    import slicer

    volume = make_volume(oblique())
    slicer.util.setSliceViewerLayers(background=volume, fit=True, rotateToVolumePlane=True)
    target = center_ras(volume)
    slicer.modules.markups.logic().JumpSlicesToLocation(*target, False)
    clicked = mouse.click_view("Yellow", target)
    assert np.array(markups.GetNthControlPointPositionWorld(0)) == pytest.approx(np.array(clicked), abs=1e-6)


def test_points_under_a_transform_keep_their_world_position(make_volume: Any, markups: Any) -> None:
    import slicer

    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(rotation(30, 2)))
    markups.SetAndObserveTransformNodeID(transform.GetID())
    show(make_volume())
    clicked = mouse.click_view("Red", (10, -5, 0))
    assert np.array(markups.GetNthControlPointPositionWorld(0)) == pytest.approx(np.array(clicked), abs=1e-6)
    assert np.array(markups.GetNthControlPointPosition(0)) != pytest.approx(np.array(clicked), abs=0.1)


def test_several_clicks_and_leaving_place_mode(app: Any, make_volume: Any, markups: Any) -> None:
    show(make_volume())
    for x in (-20, 0, 20):
        mouse.click_view("Red", (x, 0, 0))
    assert markups.GetNumberOfDefinedControlPoints() == 3
    interaction = app.applicationLogic().GetInteractionNode()
    interaction.SetCurrentInteractionMode(interaction.ViewTransform)
    mouse.click_view("Red", (0, 20, 0))
    assert markups.GetNumberOfDefinedControlPoints() == 3


def test_a_click_outside_the_view_is_refused(make_volume: Any) -> None:
    show(make_volume())
    with pytest.raises(AssertionError, match="outside"):
        mouse.click_view("Red", (5000, 0, 0))


def test_screenshots_of_panel_and_window(example: Any, make_volume: Any, tmp_path: Path) -> None:
    from PIL import Image

    volume = make_volume()
    show(volume)
    example.ui.inputSelector.setCurrentNode(volume)
    pictures.save_panel("HostExample", tmp_path / "panel.png", width=420)
    pictures.save_window(tmp_path / "window.png", 1200, 800)
    with Image.open(tmp_path / "panel.png") as panel, Image.open(tmp_path / "window.png") as window:
        assert panel.width == 420
        assert np.asarray(panel.convert("RGB")).std() > 10
        assert window.size == (1200, 800)
        assert np.asarray(window.convert("RGB")).std() > 30
    assert pictures.clipped("HostExample") == []


def test_an_empty_scene_renders_without_complaint(app: Any, capfd: pytest.CaptureFixture) -> None:
    import slicer

    slicer.mrmlScene.Clear()
    for name in ("Red", "Yellow", "Green", "1"):
        pictures.pixels(name)
    assert "ERR" not in capfd.readouterr().err


def test_the_names_of_slice_views_have_no_order(app: Any) -> None:
    layout = app.layoutManager()
    orders = {layout.sliceViewNames() for _ in range(6)}
    assert len(orders) > 1
    assert {frozenset(order) for order in orders} == {frozenset(("Red", "Yellow", "Green"))}
