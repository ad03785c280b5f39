"""Steps 3 and 4: similar regions, colors and clusters of the features."""

from pathlib import Path
from typing import Any

import host
import numpy as np
import pytest
from host import mouse, pictures

from Testing.module.steps import color_at, oblique, show_at

pytestmark = pytest.mark.slow


@pytest.fixture
def ready(coralbay: Any, driver: Any, scan: Any) -> Any:
    node, place = scan()
    driver.embed(node)
    driver.open(coralbay.panel.similar)
    driver.open(coralbay.panel.feature_maps)
    return node, place, coralbay.panel.similar


def test_one_click_finds_the_like(ready: Any, driver: Any, coralbay: Any) -> None:
    import slicer

    _node, place, panel = ready
    twin = place - [32, 0, 0]
    show_at(place)
    mouse.press(panel.ui.placeQueryButton)
    mouse.click_view("Red", place)
    driver.settle()
    assert not panel.ui.placeQueryButton.checked
    assert panel.ui.showMapCheck.checked
    assert len(panel.regions) >= 2
    assert panel.regions[0].score > 0.9
    near = [np.linalg.norm(np.array(region.ras) - twin) for region in panel.regions[:4]]
    assert min(near) < 8
    shown = color_at("Red", place + [2, 2, 0])
    assert shown[1] > shown[2] + 40
    table = panel.ui.regionTable
    assert table.rowCount == len(panel.regions)
    assert table.item(0, 0).text() == "1"
    # The last column, the scan, is shown only where regions of several scans are listed.
    assert table.isColumnHidden(4)
    row = int(np.argmin(near))
    table.cellClicked.emit(row, 0)
    red = slicer.app.layoutManager().sliceWidget("Red").mrmlSliceNode()
    centre = slicer.util.arrayFromVTKMatrix(red.GetSliceToRAS())[:3, 3]
    assert centre == pytest.approx(np.array(panel.regions[row].ras), abs=1e-3)
    # A second click asks anew, in place of the first.
    mouse.press(panel.ui.placeQueryButton)
    mouse.click_view("Red", twin)
    driver.settle()
    assert len(panel.query_points()) == 1
    assert np.linalg.norm(panel.query_points()[0] - twin) < 2


def test_regions_become_points_and_a_segment(ready: Any, driver: Any, coralbay: Any) -> None:
    import slicer
    from CoralBaySlicerCore.scene import query_markups

    node, place, panel = ready
    assert not panel.ui.markupsButton.enabled
    query_markups.make(node).AddControlPointWorld(*place)
    mouse.press(panel.ui.searchButton)
    driver.settle()
    mouse.press(panel.ui.markupsButton)
    points = slicer.util.getNode("Similar regions")
    assert points.GetNumberOfControlPoints() == len(panel.regions)
    mouse.press(panel.ui.segmentButton)
    driver.settle()
    output = coralbay.panel.parameters.output
    mask = slicer.util.arrayFromSegmentBinaryLabelmap(output, output.GetSegmentation().GetNthSegmentID(0), node)
    ijk = np.linalg.inv(slicer.util.arrayFromVTKMatrix(matrix_of(node))) @ [*place, 1]
    assert mask[tuple(np.round(ijk[2::-1]).astype(int))]


def matrix_of(node: Any) -> Any:
    import vtk

    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return matrix


def test_a_segment_and_a_roi_as_query(ready: Any, driver: Any, coralbay: Any) -> None:
    import slicer
    from CoralBaySlicerCore.scene import segments

    from Testing.module.steps import points_of

    node, place, panel = ready
    panel.ui.querySelector.currentIndex = 1
    driver.settle()
    assert panel.ui.querySegmentSelector.visible
    assert not panel.ui.placeQueryButton.visible
    mouse.press(panel.ui.searchButton)
    driver.settle()
    assert "Choose a segment" in host.dialogs.texts("error")[0]
    segmentation = segments.new(node, "query")
    segment_id = segmentation.GetSegmentation().AddEmptySegment("", "ball", [1.0, 0, 0])
    panel.ui.querySegmentSelector.setCurrentNode(segmentation)
    driver.settle()
    mouse.press(panel.ui.searchButton)
    driver.settle()
    assert "empty" in host.dialogs.texts("error")[1]
    ball = np.linalg.norm(points_of(node) - place, axis=-1) < 6
    slicer.util.updateSegmentBinaryLabelmapFromArray(ball.astype(np.uint8), segmentation, segment_id, node)
    mouse.press(panel.ui.searchButton)
    driver.settle()
    # The twin is as good an answer. Features compared lie 16 mm apart, so a peak may lie a quarter of that beside a ball.
    balls, near = (place, place - [32, 0, 0]), 9 + 4
    assert min(np.linalg.norm(np.array(panel.regions[0].ras) - ball) for ball in balls) < near
    assert panel.regions[0].volume_ml > 0
    panel.ui.querySelector.currentIndex = 2
    roi = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode")
    roi.SetCenter(*(place - [32, 0, 0]))
    roi.SetSize(8, 8, 8)
    panel.ui.roiSelector.setCurrentNode(roi)
    driver.settle()
    mouse.press(panel.ui.searchButton)
    driver.settle()
    assert min(np.linalg.norm(np.array(panel.regions[0].ras) - ball) for ball in balls) < near
    roi.SetCenter(900, 0, 0)
    mouse.press(panel.ui.searchButton)
    driver.settle()
    assert "outside the volume" in host.dialogs.texts("error")[2]


def test_all_loaded_scans_are_searched(ready: Any, driver: Any, coralbay: Any, scan: Any) -> None:
    import slicer
    from CoralBaySlicerCore.scene import query_markups

    node, place, panel = ready
    other, there = scan(oblique(), "other", seed=4)
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    shift = np.eye(4)
    shift[:3, 3] = [30, -20, 10]
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(shift))
    other.SetAndObserveTransformNodeID(transform.GetID())
    query_markups.make(node).AddControlPointWorld(*place)
    panel.ui.allScansCheck.click()
    panel.ui.countSpin.value = 12
    mouse.press(panel.ui.searchButton)
    driver.settle()
    found = [region for region in panel.regions if region.node_id == other.GetID()]
    assert not panel.ui.regionTable.isColumnHidden(4)
    balls = [there + shift[:3, 3], there + shift[:3, 3] - [32, 0, 0]]
    assert min(np.linalg.norm(np.array(found[0].ras) - ball) for ball in balls) < 10
    panel.go_to(found[0])
    driver.settle()
    assert coralbay.panel.parameters.volume is other
    composite = slicer.app.layoutManager().sliceWidget("Red").mrmlSliceCompositeNode()
    assert composite.GetBackgroundVolumeID() == other.GetID()


def rows(panel: Any, column: int) -> list[str]:
    table = panel.ui.regionTable
    return [table.item(row, column).text() for row in range(table.rowCount)]


def centre_of_views() -> np.ndarray:
    import slicer

    red = slicer.app.layoutManager().sliceWidget("Red").mrmlSliceNode()
    return slicer.util.arrayFromVTKMatrix(red.GetSliceToRAS())[:3, 3]


def test_the_table_is_sorted_by_its_headers_and_walked_with_the_keys(ready: Any, driver: Any) -> None:
    from CoralBaySlicerCore.scene import query_markups

    node, place, panel = ready
    assert not panel.ui.showQueryButton.enabled
    query_markups.make(node).AddControlPointWorld(*place)
    mouse.press(panel.ui.searchButton)
    driver.settle()
    table, count = panel.ui.regionTable, len(panel.regions)
    assert rows(panel, 0) == [str(rank) for rank in range(1, count + 1)]
    first = panel.regions[0]
    sides = [("R", "L"), ("A", "P"), ("S", "I")]
    wanted = [f"{side[part < 0]} {abs(part):.0f}" for side, part in zip(sides, first.ras, strict=True)]
    assert rows(panel, 3)[0] == " ".join(wanted)
    header = table.horizontalHeader()
    for _ in range(2):
        header.sectionClicked.emit(1)
    assert rows(panel, 0) == [str(rank) for rank in range(count, 0, -1)]
    header.sectionClicked.emit(3)
    heights = [region.ras[2] for region in panel.regions]
    assert heights == sorted(heights, reverse=True)
    header.sectionClicked.emit(0)
    # A piece's volume is listed once.
    for region, text in zip(panel.regions, rows(panel, 2), strict=True):
        if region.within:
            assert text == f"part of {region.within}"
            assert panel.regions[region.within - 1].volume_ml == region.volume_ml
        else:
            assert text == f"{region.volume_ml:.1f} ml"
    table.setFocus()
    table.setCurrentCell(0, 0)
    assert centre_of_views() == pytest.approx(np.array(panel.regions[0].ras), abs=1e-3)
    mouse.key("Down", table)
    assert centre_of_views() == pytest.approx(np.array(panel.regions[1].ras), abs=1e-3)
    mouse.key("Down", table)
    mouse.key("Up", table)
    assert centre_of_views() == pytest.approx(np.array(panel.regions[1].ras), abs=1e-3)
    mouse.press(panel.ui.showQueryButton)
    assert centre_of_views() == pytest.approx(place, abs=1e-3)


def test_the_search_of_all_scans_says_what_it_needs_and_leaves_out(ready: Any, driver: Any, coralbay: Any, scan: Any) -> None:
    import slicer
    from CoralBaySlicerCore.scene import query_markups

    node, place, panel = ready
    panel.ui.allScansCheck.click()
    driver.settle()
    assert "no other scan" in panel.ui.otherScansLabel.text
    scan(name="other", seed=4)
    slicer.util.addVolumeFromArray(np.indices((30, 30, 30)).sum(axis=0).astype(np.uint8), name="MR")
    driver.settle()
    assert "Features to be computed first, which takes a while: other, MR" in panel.ui.otherScansLabel.text
    query_markups.make(node).AddControlPointWorld(*place)
    mouse.press(panel.ui.searchButton)
    driver.settle()
    assert host.dialogs.texts("error") == []
    assert {region.volume for region in panel.regions} == {"CT", "other"}
    assert "Features to be computed" not in panel.ui.otherScansLabel.text
    assert "Skipped: MR." in panel.ui.otherScansLabel.text
    assert "Hounsfield" in panel.ui.otherScansLabel.text
    assert coralbay.panel.parameters.volume is node


def test_the_map_is_shown_in_3d_and_hidden(ready: Any, driver: Any, coralbay: Any) -> None:
    import slicer
    from CoralBaySlicerCore.scene import query_markups

    node, place, panel = ready
    query_markups.make(node).AddControlPointWorld(*place)
    panel.search()
    driver.settle()
    slicer.util.resetThreeDViews()
    before = pictures.pixels("1")
    panel.ui.in3DCheck.click()
    driver.settle()
    assert (pictures.pixels("1") != before).any(axis=2).sum() > 50
    panel.ui.showMapCheck.click()
    driver.settle()
    composite = slicer.app.layoutManager().sliceWidget("Red").mrmlSliceCompositeNode()
    assert composite.GetForegroundVolumeID() is None
    display = slicer.modules.volumerendering.logic().GetFirstVolumeRenderingDisplayNode(
        coralbay.logic.overlays.node("similarity")
    )
    assert not display.GetVisibility()


def test_feature_colors_with_a_basis_that_is_shared(ready: Any, driver: Any, coralbay: Any, scan: Any, tmp_path: Path) -> None:
    import slicer

    _node, place, _similar = ready
    panel = coralbay.panel.feature_maps
    composite = slicer.app.layoutManager().sliceWidget("Red").mrmlSliceCompositeNode()
    mouse.press(panel.ui.colorsButton)
    driver.settle()
    assert host.dialogs.texts("error") == []
    shown = slicer.mrmlScene.GetNodeByID(composite.GetForegroundVolumeID())
    first = slicer.util.arrayFromVolume(shown).copy()
    assert first.shape[-1] == 3
    assert first.std() > 10
    show_at(place)
    assert np.ptp(color_at("Red", place)) > 5
    host.dialogs.answer(str(tmp_path / "basis.safetensors"))
    mouse.press(panel.ui.saveBasisButton)
    basis = panel.basis
    mouse.press(panel.ui.newBasisButton)
    assert panel.basis is None
    host.dialogs.answer(str(tmp_path / "basis.safetensors"))
    mouse.press(panel.ui.loadBasisButton)
    driver.settle()
    assert panel.basis.signature == basis.signature
    other, _there = scan(name="other", seed=5)
    driver.embed(other)
    mouse.press(panel.ui.colorsButton)
    driver.settle()
    second = slicer.util.arrayFromVolume(coralbay.logic.overlays.node("features"))
    # Nearly the same phantom, and the same basis: nearly the same colors.
    assert np.abs(second.astype(int) - first).mean() < 12
    mouse.press(panel.ui.hideColorsButton)
    driver.settle()
    assert composite.GetForegroundVolumeID() is None


def test_clusters_become_a_labelmap(ready: Any, driver: Any, coralbay: Any) -> None:
    import slicer

    _node, _place, _similar = ready
    panel = coralbay.panel.feature_maps
    panel.ui.clustersSpin.value = 4
    mouse.press(panel.ui.clustersButton)
    driver.settle()
    (labelmap,) = slicer.util.getNodesByClass("vtkMRMLLabelMapVolumeNode")
    assert set(np.unique(slicer.util.arrayFromVolume(labelmap))) == {0, 1, 2, 3, 4}
    composite = slicer.app.layoutManager().sliceWidget("Red").mrmlSliceCompositeNode()
    assert composite.GetLabelVolumeID() == labelmap.GetID()
