"""Step 2: prompts, preview, undo and apply, on volumes of every orientation."""

from typing import Any

import host
import numpy as np
import pytest
from host import mouse, pictures

pytestmark = pytest.mark.slow

AXIAL = np.array([[-2.0, 0, 0, 48.0], [0, -2.0, 0, 48], [0, 0, 2.5, -50], [0, 0, 0, 1]])


def oblique() -> np.ndarray:
    from scipy.spatial.transform import Rotation

    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", [14, -9, 25], degrees=True).as_matrix() @ np.diag([-2.0, -2.0, 2.5])
    matrix[:3, 3] = [30, 60, -40]
    return matrix


def show_at(place: Any) -> None:
    from CoralBaySlicerCore.scene.volumes import jump_to

    jump_to(place)
    host.process_events(0.02)


def color_at(view: str, place: Any) -> np.ndarray:
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
    for offset in ([-16, 0, 0], [0, 22, 0], [0, -22, 0]):
        mouse.click_view(view, place + offset)
    mouse.key("Esc")
    driver.settle()


def test_a_click_places_a_prompt_and_the_overlay_follows(ready: Any, driver: Any) -> None:
    _node, place, panel = ready
    show_at(place)
    grey = color_at("Red", place)
    clicked = mouse.click_view("Red", place)
    structure = panel.few_shot.structures[0]
    assert structure.world_points()[0] == pytest.approx(np.array(clicked), abs=1e-6)
    driver.settle()
    # The rest of the body stands for the background until there are prompts for it.
    assert panel.few_shot.preview is not None
    assert "press 0" in panel.ui.previewLabel.text
    mouse.key("0")
    mouse.click_view("Red", place + [0, 22, 0])
    driver.settle()
    assert not panel.ui.previewLabel.visible, panel.ui.previewLabel.text
    assert panel.few_shot.preview is not None
    mouse.key("Esc")
    beside = place + [3, -3, 0]
    shown = color_at("Red", beside)
    # The structure's orange over the ball's grey.
    assert shown[0] > shown[2] + 40
    assert abs(grey[0] - grey[2]) < 5
    assert panel.few_shot.preview.percent[1].max() > 80
    assert panel.ui.applyButton.enabled


def test_undo_redo_and_clear_by_button_and_key(ready: Any, driver: Any) -> None:
    _node, place, panel = ready
    click_all(panel, driver, place)

    def counts() -> list[int]:
        return [len(each.world_points()) for each in panel.few_shot.structures]

    assert counts() == [2, 3]
    before = panel.few_shot.prompts().points_ras
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
    assert panel.few_shot.prompts().points_ras == pytest.approx(before)
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
    for offset in ([0, 0, 22], [0, 0, -22], [16, 0, 0], [0, 20, 0], [0, -20, 0], [-17, 0, 0]):
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
    from CoralBaySlicerCore.scene import volumes

    world = volumes.to_world(node, (volumes.ijk_to_ras(node) @ centre)[:3])[0]
    assert np.linalg.norm(world - place) < 6
    # The other ball counts as bright as well.
    assert (mask.astype(bool) & bright).sum() > 0.5 * mask.sum()
    assert (mask.astype(bool) & bright).sum() > 0.15 * bright.sum()
    mouse.press(panel.ui.undoApplyButton)
    driver.settle()
    assert segmentation.GetSegmentation().GetNumberOfSegments() == 0


def test_several_structures_become_a_segment_each(ready: Any, driver: Any, coralbay: Any) -> None:
    import slicer

    _node, place, panel = ready
    click_all(panel, driver, place)
    mouse.press(panel.ui.addStructureButton)
    mouse.click_view("Red", place - [32, 0, 0])
    mouse.click_view("Red", place - [29, 3, 0])
    mouse.press(panel.ui.placeButton)
    driver.settle()
    table = panel.ui.structureTable
    texts = [[table.item(row, column).text() for column in range(3)] for row in range(table.rowCount)]
    assert texts == [["Structure 1", "2", "1"], ["Structure 2", "2", "2"], ["Background", "3", "0"]]
    table.item(1, 0).setText("Right ball")
    driver.settle()
    assert panel.few_shot.structures[1].name == "Right ball"
    assert set(panel.few_shot.preview.percent) == {1, 2}
    # The second is shown in its own color where it is.
    assert color_at("Red", place - [34, 3, 0])[2] > color_at("Red", place - [34, 3, 0])[0] + 30
    mouse.press(panel.ui.applyButton)
    driver.settle()
    inner = coralbay.panel.parameters.output.GetSegmentation()
    assert [inner.GetNthSegment(i).GetName() for i in range(2)] == ["Structure 1", "Right ball"]
    assert inner.GetNthSegment(1).GetColor() == pytest.approx(panel.few_shot.structures[1].color)
    table.selectRow(0)
    assert panel.few_shot.active == 1
    mouse.press(panel.ui.removeStructureButton)
    driver.settle()
    assert [each.label for each in panel.few_shot.structures] == [2, 0]
    assert len(slicer.util.getNodesByClass("vtkMRMLMarkupsFiducialNode")) == 2


def test_overlays_threshold_and_opacity(ready: Any, driver: Any, coralbay: Any) -> None:
    import slicer

    _node, place, panel = ready
    click_all(panel, driver, place)
    composite = slicer.app.layoutManager().sliceWidget("Green").mrmlSliceCompositeNode()

    def shown() -> Any:
        return slicer.mrmlScene.GetNodeByID(composite.GetForegroundVolumeID() or "")

    assert shown().GetName() == "CoralBay: Probability (%)"
    panel.ui.opacitySlider.value = 80
    panel.ui.thresholdSlider.value = 70
    driver.settle()
    assert composite.GetForegroundOpacity() == pytest.approx(0.8)
    assert shown().GetDisplayNode().GetLowerThreshold() == 70
    legend = slicer.vtkSlicerColorLogic.GetColorLegendDisplayNode(shown())
    assert legend.GetVisibility()
    # In one view, and in a corner of it.
    assert list(legend.GetViewNodeIDs()) == ["vtkMRMLSliceNodeRed"]
    covered = legend.GetSize()
    assert covered[0] * covered[1] < 0.01
    layout = slicer.app.layoutManager()
    before, red = layout.layout, layout.sliceWidget("Red")
    # The host does not lay out anew itself.
    red.visible = False
    layout.setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutTwoOverTwoView)
    driver.settle()
    assert list(legend.GetViewNodeIDs()) == ["vtkMRMLSliceNodeYellow"]
    red.visible = True
    layout.setLayout(before)
    panel.ui.overlaySelector.currentIndex = 1
    driver.settle()
    assert shown().GetName() == "CoralBay: Uncertainty (%)"
    assert not legend.GetVisibility()
    doubt = slicer.util.arrayFromVolume(shown())
    assert 0 < doubt.max() <= 100
    panel.ui.overlaySelector.currentIndex = 2
    driver.settle()
    assert shown() is None
    # Overlays are not scans.
    assert coralbay.panel.scan.ui.volumeSelector.nodeCount() == 1


def test_suggested_clicks_are_shown_one_after_another(ready: Any, driver: Any) -> None:
    import slicer

    _node, place, panel = ready
    click_all(panel, driver, place)
    red = slicer.app.layoutManager().sliceWidget("Red").mrmlSliceNode()
    places = []
    for press in (lambda: mouse.press(panel.ui.suggestButton), lambda: mouse.key("U")):
        press()
        driver.settle()
        matrix = slicer.util.arrayFromVTKMatrix(red.GetSliceToRAS())
        places.append(matrix[:3, 3])
        asked = f"Does this belong to Structure 1? (axial slice S {round(matrix[2, 3])} mm)"
        assert panel.ui.previewLabel.visible and panel.ui.previewLabel.text.startswith(asked)
    assert np.linalg.norm(places[0] - places[1]) > 9
    prompts = np.concatenate([each.world_points() for each in panel.few_shot.structures])
    for each in places:
        assert np.linalg.norm(prompts - each, axis=1).min() > 5
    # It asks about the structure that is selected.
    mouse.press(panel.ui.addStructureButton)
    panel.few_shot.active_structure.node.AddControlPointWorld(*(place + [0, 22, 0]))
    driver.settle()
    mouse.key("U")
    driver.settle()
    assert panel.ui.previewLabel.text.startswith("Does this belong to Structure 2?")


def test_the_table_words_the_estimated_dice_of_the_preview(ready: Any, driver: Any) -> None:
    _node, place, panel = ready
    from CoralBayLib.fewshot.wording import brief_dice

    table = panel.ui.structureTable
    assert table.item(0, 3).text() == ""
    click_all(panel, driver, place)

    def told() -> tuple[float, float]:
        title, perfect = table.item(0, 3).toolTip().split("; ")
        assert perfect == "1 is perfect"
        estimate, error = title.removeprefix("Estimated Dice ").split(" ± ")
        return float(estimate), float(error)

    estimate, error = told()
    assert 0 < estimate < 1
    assert 0 < error < 1
    exact = panel.few_shot.preview.dice_estimate[1]
    assert (estimate, error) == pytest.approx(exact, abs=0.006)
    assert table.item(0, 3).text() == brief_dice(exact[0])
    # Nothing is told of the background.
    assert table.item(1, 3).text() == table.item(1, 3).toolTip() == ""
    # More points than a session of clicks has: the estimate comes from the probabilities, and follows the threshold.
    for x, y, z in np.ndindex(4, 3, 3):
        panel.few_shot.structures[0].node.AddControlPointWorld(*(place + [x, y, z]))
    driver.settle()
    estimate = told()[0]
    panel.ui.thresholdSlider.value = 99
    driver.settle()
    assert told()[0] < estimate


def test_painted_segments_are_prompts_and_the_preview_follows(ready: Any, driver: Any, coralbay: Any) -> None:
    import slicer

    node, place, panel = ready
    mouse.key("Esc")
    driver.open(panel)
    mouse.press(panel.ui.paintButton)
    driver.settle()
    painted = coralbay.panel.parameters.painted
    inner = painted.GetSegmentation()
    assert [inner.GetNthSegment(i).GetName() for i in range(2)] == ["Structure 1", "Background"]
    assert panel._painting._editor.currentSegmentID() == inner.GetNthSegmentID(0)
    ras = points_of(node)
    for index, centre in enumerate((place, place - [0, 25, 0])):
        stroke = np.linalg.norm(ras - centre, axis=-1) < 5
        slicer.util.updateSegmentBinaryLabelmapFromArray(stroke.astype(np.uint8), painted, inner.GetNthSegmentID(index), node)
    driver.settle()
    assert panel.few_shot.message == ""
    points = panel.few_shot.prompts()
    assert (points.labels == 1).sum() == (np.linalg.norm(ras - place, axis=-1) < 5).sum()
    assert np.abs(points.points_ras[points.labels == 1] - place).max() < 5
    first = panel.few_shot.preview
    assert first is not None
    # A segment of a new name is a new structure.
    third = inner.AddEmptySegment("", "Rim", [1.0, 0.0, 0.0])
    stroke = np.abs(np.linalg.norm(ras - place, axis=-1) - 12) < 1.5
    slicer.util.updateSegmentBinaryLabelmapFromArray(stroke.astype(np.uint8), painted, third, node)
    driver.settle()
    assert [each.name for each in panel.few_shot.structures] == ["Structure 1", "Rim", "Background"]
    assert set(panel.few_shot.preview.percent) == {1, 2}


def test_the_scene_closes_while_prompts_are_painted(ready: Any, driver: Any, coralbay: Any, scan: Any) -> None:
    """Slicer's subject hierarchy complains of a segmentation that is touched while the scene closes."""
    import slicer

    node, place, panel = ready
    driver.open(panel)
    mouse.press(panel.ui.paintButton)
    painted = coralbay.panel.parameters.painted
    stroke = (np.linalg.norm(points_of(node) - place, axis=-1) < 5).astype(np.uint8)
    first = painted.GetSegmentation().GetNthSegmentID(0)
    slicer.util.updateSegmentBinaryLabelmapFromArray(stroke, painted, first, node)
    driver.settle()
    del painted
    slicer.mrmlScene.Clear()
    driver.settle()
    assert host.unhandled == []
    assert panel._painting._editor.segmentationNode() is None
    # It can be opened again.
    coralbay.panel.parameters.encoder = "pooling"
    again, _place = scan()
    driver.embed(again)
    driver.open(panel)
    mouse.press(panel.ui.paintButton)
    assert panel._painting._editor.segmentationNode() is coralbay.panel.parameters.painted is not None
    assert panel._painting._area.visible


def test_esc_puts_the_brush_down(ready: Any, driver: Any) -> None:
    _node, _place, panel = ready
    driver.open(panel)
    mouse.press(panel.ui.paintButton)
    driver.settle()
    node = panel._painting._editor.mrmlSegmentEditorNode()
    assert node.GetActiveEffectName() == "Paint"
    mouse.key("Esc")
    assert not node.GetActiveEffectName()
    # Placing points and painting exclude each other.
    mouse.press(panel.ui.paintButton)
    assert node.GetActiveEffectName() == "Paint"
    mouse.key("1")
    assert not node.GetActiveEffectName() and panel.ui.placeButton.checked
    mouse.press(panel.ui.paintButton)
    assert node.GetActiveEffectName() == "Paint" and not panel.ui.placeButton.checked


@pytest.mark.parametrize("end", ["Esc", "arrow"])
def test_place_mode_that_slicer_ends_is_seen_on_the_button(ready: Any, driver: Any, end: str) -> None:
    """The panel follows the mouse mode also after the observed points have changed."""
    import slicer

    _node, place, panel = ready
    click_all(panel, driver, place)
    mouse.key("1")
    panel.few_shot.add_structure()
    panel.few_shot.watch()
    driver.settle()
    mouse.key("1")
    assert panel.ui.placeButton.checked
    if end == "Esc":
        mouse.key("Esc")
    else:
        slicer.app.applicationLogic().GetInteractionNode().SwitchToViewTransformMode()
    assert not panel.ui.placeButton.checked


def test_the_preview_can_be_paused(ready: Any, driver: Any) -> None:
    _node, place, panel = ready
    panel.ui.livePreviewCheck.click()
    driver.settle()
    click_all(panel, driver, place)
    assert panel.few_shot.preview is None
    driver.open(panel)
    mouse.press(panel.ui.updateButton)
    driver.settle()
    assert panel.few_shot.preview is not None


def test_prompts_outside_the_volume_are_refused_with_a_message(ready: Any, driver: Any) -> None:
    _node, place, panel = ready
    click_all(panel, driver, place)
    panel.few_shot.structures[0].node.AddControlPointWorld(900, 0, 0)
    driver.settle()
    assert "outside the volume" in panel.ui.previewLabel.text
    assert panel.ui.previewLabel.visible
    mouse.key("Z")
    driver.settle()
    assert not panel.ui.previewLabel.visible


def test_the_newest_prompts_determine_the_preview(ready: Any, driver: Any) -> None:
    _node, place, panel = ready
    click_all(panel, driver, place)
    structure = panel.few_shot.structures[0]
    for step in range(8):
        structure.node.SetNthControlPointPositionWorld(0, *(place + [step / 2, 0, 0]))
        host.process_events(0.03)
    driver.settle()
    assert panel.few_shot._fitted_on.same_as(panel.few_shot.prompts())
    assert panel.few_shot.segmenter.probe_ is panel.logic.probe


def test_a_failed_apply_changes_neither_segments_nor_prompts(
    ready: Any, driver: Any, coralbay: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import slicer

    from CoralBayLib.fewshot.prediction import predictor

    _node, place, panel = ready
    click_all(panel, driver, place)
    mouse.press(panel.ui.applyButton)
    driver.settle()
    output = coralbay.panel.parameters.output
    before = slicer.util.arrayFromSegmentBinaryLabelmap(output, output.GetSegmentation().GetNthSegmentID(0)).sum()

    def fail(*_args: Any, **_options: Any) -> Any:
        raise MemoryError

    monkeypatch.setattr(predictor, "predict_labels", fail)
    nodes = slicer.mrmlScene.GetNumberOfNodes()
    mouse.press(panel.ui.applyButton)
    driver.settle()
    assert "not enough memory" in host.dialogs.texts("error")[0]
    assert slicer.mrmlScene.GetNumberOfNodes() == nodes
    assert len(panel.few_shot.prompts().labels) == 5
    after = slicer.util.arrayFromSegmentBinaryLabelmap(output, output.GetSegmentation().GetNthSegmentID(0)).sum()
    assert after == before


def points_of(node: Any) -> np.ndarray:
    """RAS mm of every voxel centre, [k, j, i, 3]."""
    import slicer
    from CoralBaySlicerCore.scene.volumes import ijk_to_ras

    k, j, i = np.indices(slicer.util.arrayFromVolume(node).shape)
    matrix = ijk_to_ras(node)
    return np.stack([i, j, k], axis=-1) @ matrix[:3, :3].T + matrix[:3, 3]


def test_prompts_are_in_the_order_of_the_clicks(ready: Any, driver: Any) -> None:
    _node, place, panel = ready
    show_at(place)
    offsets = [[0, 0, 0], [0, 22, 0], [4, 3, 0]]
    for key, offset in zip("101", offsets, strict=True):
        mouse.key(key)
        mouse.click_view("Red", place + offset)
    driver.settle()
    prompts = panel.few_shot.prompts()
    assert prompts.labels.tolist() == [1, 0, 1]
    # To a pixel.
    assert prompts.points_ras == pytest.approx(place + offsets, abs=1)
    assert panel.few_shot.segmenter.prompts_.same_as(prompts)
    mouse.key("Z")
    mouse.key("0")
    mouse.click_view("Red", place - [0, 22, 0])
    driver.settle()
    assert panel.few_shot.prompts().labels.tolist() == [1, 0, 0]


def test_the_output_of_another_scan_is_not_written_over(ready: Any, driver: Any, coralbay: Any, scan: Any) -> None:
    """A segment of the same name would be replaced by that of another patient."""
    _node, place, panel = ready
    click_all(panel, driver, place)
    mouse.press(panel.ui.applyButton)
    driver.settle()
    parameters = coralbay.panel.parameters
    first = parameters.output
    assert first is not None
    other, _place = scan(np.diag([-3.0, -3.0, 4.0, 1.0]), "other")
    parameters.volume = other
    driver.settle()
    assert parameters.output is None
    # Who chooses it afterwards means it.
    parameters.output = first
    driver.settle()
    assert parameters.output is first


def test_an_output_of_a_finer_scan_is_saved_without_a_warning(ready: Any, driver: Any, coralbay: Any, scan: Any) -> None:
    """Slicer compares the voxels of the segments with those of the reference geometry when it saves."""
    import slicer

    _node, place, panel = ready
    click_all(panel, driver, place)
    mouse.press(panel.ui.applyButton)
    driver.settle()
    output = coralbay.panel.parameters.output
    matrix = np.diag([-6.0, -6.0, 7.0, 1.0])
    coarse, middle = scan(matrix, "coarse")
    segmentation = coralbay.logic.segment(
        coarse, {"Structure 1": [middle], "background": [middle + [0, 60, 0]]}, segmentation=output
    )
    assert segmentation is output
    folder = slicer.app.temporaryPath
    assert slicer.util.saveNode(output, f"{folder}/coarse.seg.nrrd")
    assert [each for each in host.vtk_warnings if "versampling" in each] == []
