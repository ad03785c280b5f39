"""A segment of its own for each similar region: in step 3 and in the effect, with the table of the segments."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import host
import numpy as np
import pytest
from host import mouse

from Testing.module.effect.session import EffectSession
from Testing.module.effect.test_effect import ASIDE, oblique, turned


@pytest.fixture(params=["axial", "oblique", "transformed"])
def found(request: pytest.FixtureRequest, coralbay: Any, driver: Any, scan: Any) -> Any:
    """A scan whose first ball was searched for; the node, the center of that ball, and the panel."""
    from CoralBaySlicerCore.scene import query_markups

    node, place = scan(oblique() if request.param == "oblique" else None)
    if request.param == "transformed":
        node.SetAndObserveTransformNodeID(turned("scan").GetID())
    driver.embed(node)
    driver.open(coralbay.panel.similar)
    panel = coralbay.panel.similar
    coralbay.panel.parameters.similarityThreshold = 90
    coralbay.panel.parameters.regionDistance = 12
    from CoralBaySlicerCore.scene import volumes

    query_markups.make(node).AddControlPointWorld(*volumes.to_world(node, place)[0])
    mouse.press(panel.ui.searchButton)
    driver.settle()
    return node, place, panel


def press(button: Any, driver: Any) -> None:
    """Click a button below the visible part of the panel."""
    assert button.enabled
    button.click()
    driver.settle()


def test_each_region_becomes_a_segment_with_a_row(found: Any, driver: Any, coralbay: Any) -> None:
    import slicer
    from CoralBaySlicerCore.scene import volumes
    from CoralBaySlicerCore.scene.regions import table

    node, place, panel = found
    assert not panel.ui.regionSegmentsFrame.visible
    press(panel.ui.allSegmentsButton, driver)
    assert host.dialogs.texts() == []
    assert panel.ui.regionSegmentsFrame.visible
    rows = panel.region_segments.rows
    segmentation = table.segmentation_of(coralbay.panel.parameters.regionsTable)
    own = [each for each in panel.regions if not each.within and each.volume_ml]
    assert len(rows) == len(own) == segmentation.GetSegmentation().GetNumberOfSegments() >= 2
    shown = panel.ui.regionSegmentsTable
    assert shown.rowCount == len(rows)
    assert [shown.item(0, column).text() for column in range(4)] == [
        rows[0].name,
        f"{rows[0].volume_ml:.2f}",
        f"{rows[0].mean_hu:.0f}",
        f"{rows[0].similarity:.2f}",
    ]
    # Nothing is cut at the width of Slicer's panel.
    assert sum(shown.columnWidth(column) for column in range(5)) <= shown.viewport().width
    hu = slicer.util.arrayFromVolume(node)
    voxel_ml = abs(np.linalg.det(volumes.ijk_to_ras(node)[:3, :3])) / 1000
    for row in rows:
        mask = slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, row.segment_id, node) > 0
        assert row.volume_ml == pytest.approx(mask.sum() * voxel_ml)
        assert row.mean_hu == pytest.approx(hu[mask].mean())
    assert [row.similarity for row in rows] == pytest.approx([each.score for each in own])
    np.testing.assert_allclose([row.ras for row in rows], [each.ras for each in own])
    # The first ball is among them, where it is in the world.
    ball = volumes.to_world(node, place)[0]
    assert min(np.linalg.norm(np.array(row.ras) - ball) for row in rows) < 9


@pytest.fixture
def made(coralbay: Any, driver: Any, scan: Any) -> Any:
    """The panel with the segments of three regions, their segmentation and their table."""
    from CoralBaySlicerCore.scene import segments
    from CoralBaySlicerCore.scene.regions import table
    from CoralBaySlicerCore.scene.regions.table import Row

    from CoralBayLib.imaging.cropping import CroppedMask

    node, _place = scan()
    driver.embed(node)
    driver.open(coralbay.panel.similar)
    segmentation, rows = segments.new(node, "Regions"), []
    from CoralBaySlicerCore.scene.volumes import ijk_to_ras

    for number, size in enumerate((2, 3, 4)):
        mask = CroppedMask((5 + 10 * number, 8, 9), np.ones((size,) * 3, np.uint8))
        name = f"Region {number + 1}"
        segment_id = segments.write(segmentation, name, (1, 0, 0), mask, ijk_to_ras(node))
        rows.append(Row(segment_id, name, size**3 / 100, 50.0 * number, (1.0 * number, 2, 3), 0.7 + 0.1 * number))
    coralbay.panel.parameters.regionsTable = table.add(segmentation, rows)
    driver.settle()
    return coralbay.panel.similar, segmentation, coralbay.panel.parameters.regionsTable, node


def choose(panel: Any, *rows: int) -> None:
    """Choose rows as with Ctrl."""
    import qt

    model = panel.ui.regionSegmentsTable.selectionModel()
    panel.ui.regionSegmentsTable.clearSelection()
    for row in rows:
        index = panel.ui.regionSegmentsTable.model().index(row, 0)
        model.select(index, qt.QItemSelectionModel.Select | qt.QItemSelectionModel.Rows)
    host.process_events()


def test_rows_are_merged(made: Any, driver: Any) -> None:
    import slicer

    panel, segmentation, _table, node = made
    choose(panel, 0)
    assert not panel.ui.mergeRowsButton.enabled
    choose(panel, 0, 2)
    press(panel.ui.mergeRowsButton, driver)
    first, second = panel.region_segments.rows
    assert (first.name, second.name) == ("Region 2", "Region 3")
    assert second.volume_ml == pytest.approx(0.72)
    assert second.mean_hu == pytest.approx(64 * 100 / 72)
    assert second.similarity == pytest.approx(0.9)
    assert segmentation.GetSegmentation().GetNumberOfSegments() == 2
    mask = slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, second.segment_id, node)
    assert mask.sum() == 8 + 64
    assert slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, first.segment_id, node).sum() == 27


def test_rows_are_deleted_here_and_in_the_segment_editor(made: Any, driver: Any) -> None:
    panel, segmentation, _table, _node = made
    assert not panel.ui.deleteRowsButton.enabled
    choose(panel, 1)
    press(panel.ui.deleteRowsButton, driver)
    assert [row.name for row in panel.region_segments.rows] == ["Region 1", "Region 3"]
    assert segmentation.GetSegmentation().GetNumberOfSegments() == 2
    segmentation.GetSegmentation().GetNthSegment(0).SetName("lesion")
    host.process_events()
    assert panel.ui.regionSegmentsTable.item(0, 0).text() == "lesion"
    segmentation.GetSegmentation().RemoveSegment(panel.region_segments.rows[0].segment_id)
    driver.settle()
    assert [row.name for row in panel.region_segments.rows] == ["Region 3"]


def state_of(segmentation: Any, node: Any) -> list[tuple]:
    """ID, name, color and voxels of each segment, in order."""
    import slicer

    inner, found = segmentation.GetSegmentation(), []
    for segment_id in inner.GetSegmentIDs():
        segment = inner.GetSegment(segment_id)
        mask = slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, segment_id, node)
        found.append((segment_id, segment.GetName(), segment.GetColor(), mask.tobytes()))
    return found


def test_merging_and_deleting_are_undone(made: Any, driver: Any) -> None:
    panel, segmentation, table, node = made
    inner, undo = segmentation.GetSegmentation(), panel.ui.undoRowsButton
    inner.GetNthSegment(0).SetColor(0, 0.25, 1)
    inner.GetNthSegment(0).SetTag("site", "liver")
    driver.settle()
    assert not undo.enabled
    states = [(state_of(segmentation, node), panel.region_segments.rows)]
    choose(panel, 0, 2)
    press(panel.ui.mergeRowsButton, driver)
    states.append((state_of(segmentation, node), panel.region_segments.rows))
    choose(panel, 0)
    press(panel.ui.deleteRowsButton, driver)
    assert inner.GetNumberOfSegments() == 1
    for voxels, rows in reversed(states):
        assert undo.enabled
        press(undo, driver)
        assert state_of(segmentation, node) == voxels
        assert panel.region_segments.rows == rows
        assert table.GetTable().GetNumberOfRows() == len(rows)
    assert not undo.enabled
    assert inner.GetNthSegment(0).HasTag("site")


def test_undo_leaves_other_segments_as_they_are_now(made: Any, driver: Any) -> None:
    """Also when a new segment has got the ID of a deleted one."""
    import slicer

    panel, segmentation, _table, node = made
    inner = segmentation.GetSegmentation()
    first, second, third = inner.GetSegmentIDs()
    choose(panel, 1)
    press(panel.ui.deleteRowsButton, driver)
    inner.AddEmptySegment(second, "newcomer")
    painted = np.zeros(slicer.util.arrayFromVolume(node).shape, np.uint8)
    painted[:3] = 1
    for segment_id in (second, third):
        slicer.util.updateSegmentBinaryLabelmapFromArray(painted, segmentation, segment_id, node)
    press(panel.ui.undoRowsButton, driver)
    assert [row.name for row in panel.region_segments.rows] == ["Region 1", "Region 2", "Region 3"]
    for segment_id in (second, third):
        assert (slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, segment_id, node) == painted).all()
    back = panel.region_segments.rows[1].segment_id
    assert back not in (first, second, third)
    assert slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, back, node).sum() == 27


def test_a_closed_scene_and_another_table_have_nothing_to_undo(made: Any, driver: Any, coralbay: Any) -> None:
    import slicer
    from CoralBaySlicerCore.scene.regions import table

    panel, segmentation, first, _node = made
    choose(panel, 1)
    press(panel.ui.deleteRowsButton, driver)
    coralbay.panel.parameters.regionsTable = table.add(segmentation, panel.region_segments.rows)
    driver.settle()
    assert not panel.ui.undoRowsButton.enabled
    coralbay.panel.parameters.regionsTable = first
    driver.settle()
    assert panel.ui.undoRowsButton.enabled
    undo = panel.region_segments._undo
    slicer.mrmlScene.Clear()
    driver.settle()
    assert not undo._states


def test_the_table_is_saved_as_csv_and_with_the_scene(made: Any, driver: Any, tmp_path: Path, coralbay: Any) -> None:
    import slicer

    panel, _segmentation, node, _volume = made
    host.dialogs.answer(str(tmp_path / "regions"))
    press(panel.ui.saveTableButton, driver)
    with (tmp_path / "regions.csv").open(encoding="utf-8", newline="") as file:
        lines = list(csv.reader(file))
    assert lines[0] == ["Segment", "Volume (ml)", "Mean (HU)", "R (mm)", "A (mm)", "S (mm)", "Similarity"]
    assert lines[2][0] == "Region 2"
    assert [float(each) for each in lines[2][1:]] == pytest.approx([0.27, 50, 1, 2, 3, 0.8])
    before = panel.region_segments.rows
    assert node.GetTable().GetNumberOfRows() == 3
    assert slicer.util.saveScene(str(tmp_path / "scene.mrb"))
    slicer.mrmlScene.Clear()
    driver.settle()
    assert not panel.ui.regionSegmentsFrame.visible
    slicer.util.loadScene(str(tmp_path / "scene.mrb"))
    driver.settle()
    assert panel.ui.regionSegmentsFrame.visible
    after = panel.region_segments.rows
    assert [(row.segment_id, row.name) for row in after] == [(row.segment_id, row.name) for row in before]
    assert [row.similarity for row in after] == pytest.approx([row.similarity for row in before])
    assert [row.ras for row in after] == [row.ras for row in before]


def test_the_console_makes_the_segments_too(coralbay: Any, scan: Any) -> None:
    from CoralBayLib.core.errors import QueryError

    node, place = scan()
    with pytest.raises(QueryError, match="Search for similar regions"):
        coralbay.logic.segmentRegions(node)
    regions = coralbay.logic.similar(node, [place], count=4, threshold=0.9)
    made = coralbay.logic.segmentRegions(node)
    assert made.count == made.segmentation.GetSegmentation().GetNumberOfSegments() == made.table.GetNumberOfRows()
    assert made.count == sum(not each.within and each.volume_ml > 0 for each in regions)


def test_another_table_is_not_taken_for_one_of_regions(made: Any, driver: Any, coralbay: Any) -> None:
    import slicer

    coralbay.panel.parameters.regionsTable = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableNode", "other")
    driver.settle()
    assert not made[0].ui.regionSegmentsFrame.visible


def test_the_effect_adds_all_that_look_like_the_selected_segment(coralbay: Any, scan: Any, driver: Any) -> None:
    import slicer

    coralbay.panel.parameters.similarityThreshold = 90
    coralbay.panel.parameters.regionDistance = 12
    session = EffectSession(*scan())
    ball = session.paint("ball", session.center, 5)
    before = session.voxels(ball)
    effect = session.activate()
    mouse.press(effect.options.othersButton)
    host.wait_for(lambda: effect.look_alikes.message)
    assert not effect.look_alikes.is_running
    assert host.dialogs.texts() == []
    inner = session.segmentation.GetSegmentation()
    names = [inner.GetNthSegment(number).GetName() for number in range(inner.GetNumberOfSegments())]
    assert names[:2] == ["ball", "ball 2"]
    assert (session.voxels(ball) == before).all()
    twin = session.ball(session.center - ASIDE, 9)
    others = [session.voxels(each) for each in inner.GetSegmentIDs() if each != ball]
    assert max((each & twin).sum() / twin.sum() for each in others) > 0.5
    assert not any((each & before).any() for each in others)
    assert f"Segments added: {len(others)}" in effect.options.messageLabel.text
    node = coralbay.logic.getParameterNode().regionsTable
    assert node.GetTable().GetNumberOfRows() == len(others)
    session.editor.undo()
    assert inner.GetNumberOfSegments() == 1
    slicer.util.selectModule("CoralBaySlicer")
    driver.settle()
    # Undone segments have no rows.
    assert coralbay.panel.similar.region_segments.rows == []


def test_the_effect_says_what_is_missing_for_a_search(coralbay: Any, scan: Any) -> None:
    session = EffectSession(*scan())
    effect = session.activate()
    effect.options.othersButton.click()
    session.segmentation.GetSegmentation().AddEmptySegment("", "ball")
    session.node.SetSelectedSegmentID(session.segmentation.GetSegmentation().GetNthSegmentID(0))
    effect.options.othersButton.click()
    first, second = host.dialogs.texts("error")
    assert "Select the segment to look for" in first
    assert "empty" in second
