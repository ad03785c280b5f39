"""Step 2: *Apply*, on volumes of every orientation."""

from typing import Any

import host
import numpy as np
import pytest
from host import mouse

from Testing.module.steps import AXIAL, click_all, color_at, oblique, show_at

pytestmark = pytest.mark.slow


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
