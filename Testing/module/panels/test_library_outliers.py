"""*Find unusual scans* of a library, in step 3."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import host
import numpy as np
import pytest

from Testing.module.panels.test_library_panel import add_folder, archive, ready, texts

__all__ = ["archive", "ready"]  # fixtures


def find(panel: Any, driver: Any) -> None:
    """Press the button, which may be below the visible part of the panel."""
    panel.ui.outliersButton.click()
    driver.settle()


@pytest.mark.slow
def test_a_scan_of_other_values_is_listed_with_its_reason(ready: Any, driver: Any, scan: Any, tmp_path: Path) -> None:
    import slicer

    folder = tmp_path / "cohort"
    folder.mkdir()
    for number in range(6):
        node, _place = scan(seed=40 + number)
        if number == 5:
            array = slicer.util.arrayFromVolume(node)
            array[:] = np.where(array > -500, array + 120, array)
            slicer.util.arrayFromVolumeModified(node)
        assert slicer.util.saveNode(node, str(folder / f"scan{number}.nrrd"))
        slicer.mrmlScene.RemoveNode(node)
    find(ready, driver)
    assert host.dialogs.texts("error"), "there is no library yet"
    host.dialogs.clear()
    add_folder(ready, driver, folder)
    host.dialogs.clear()
    find(ready, driver)
    assert host.dialogs.texts("error") == []
    rows = dict(zip(texts(ready.ui.libraryReport, 0), texts(ready.ui.libraryReport, 1), strict=True))
    assert "scan5.nrrd" in rows and "HU (others: about" in rows["scan5.nrrd"]
    assert ready.ui.libraryReport.visible and not ready.ui.libraryBox.collapsed
    row = texts(ready.ui.libraryReport, 0).index("scan5.nrrd")
    assert "Double-click to open the scan" in ready.ui.libraryReport.item(row, 0).toolTip()
    ready.ui.libraryReport.cellDoubleClicked.emit(row, 0)
    driver.settle()
    opened = ready.panel.parameters.volume
    assert opened is not None and opened.GetStorageNode().GetFileName() == str(folder / "scan5.nrrd")
    count = slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode")
    ready.ui.libraryReport.cellDoubleClicked.emit(row, 1)
    driver.settle()
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode") == count, "it is loaded once"
    slicer.mrmlScene.RemoveNode(opened)
    (folder / "scan5.nrrd").unlink()
    ready.ui.libraryReport.cellDoubleClicked.emit(row, 0)
    assert "The scan is no longer at" in host.dialogs.texts("warning")[-1]


@pytest.mark.slow
def test_a_larger_segment_is_listed_with_its_folder(ready: Any, driver: Any, scan: Any, tmp_path: Path) -> None:
    import slicer

    import CoralBayLib as cb

    patients = tmp_path / "patients"
    for number in range(6):
        node, place = scan(seed=60 + number)
        path = patients / f"p{number}" / "ct.nrrd"
        path.parent.mkdir(parents=True)
        assert slicer.util.saveNode(node, str(path))
        slicer.mrmlScene.RemoveNode(node)
        grid = cb.read_volume(path).grid
        points = grid.to_ras(np.argwhere(np.ones(grid.shape, bool))[:, ::-1])
        near = np.linalg.norm(points - place, axis=1) < (20 if number == 2 else 8)
        labels = cb.Volume(near.reshape(grid.shape).astype(np.uint8), grid)
        cb.write_segmentation(labels, [cb.Segment(1, "node", (1, 0, 0))], path.with_name("labels.seg.nrrd"))
    add_folder(ready, driver, patients)
    host.dialogs.clear()
    assert "p0/labels.seg.nrrd" in (skipped := texts(ready.ui.libraryReport, 0))
    host.dialogs.answer("", str(patients))
    ready.ui.segmentOutliersButton.click()
    driver.settle()
    assert texts(ready.ui.libraryReport, 0) == skipped, "no folder was chosen"
    ready.ui.segmentOutliersButton.click()
    driver.settle()
    assert host.dialogs.texts("error") == []
    rows = list(zip(texts(ready.ui.libraryReport, 0), texts(ready.ui.libraryReport, 1), strict=True))
    found = [reason for name, reason in rows if name == "p2/ct.nrrd" and reason.startswith("Segment node: ")]
    assert len(found) == 1 and "volume is" in found[0] and found[0].endswith(".")


def test_long_reasons_are_shown_whole(ready: Any) -> None:
    from CoralBaySlicerCore.panels.tables.report_table import ReportTable

    table = ready.ui.libraryReport
    ready.ui.libraryBox.collapsed = False
    rows = [("/data/anna/ct.nii.gz", "too long for a line " * 12), ("/data/bert/ct.nii.gz", "too long for a line " * 12)]
    ReportTable(table).fill([*rows, ("C:\\scans\\other.nrrd", "short"), rows[0]])
    host.process_events(0.1)
    assert texts(table, 0) == ["anna/ct.nii.gz", "bert/ct.nii.gz", "scans/other.nrrd", "anna/ct.nii.gz"]
    heights = [table.rowHeight(row) for row in range(4)]
    table.resizeRowsToContents()
    assert heights == [table.rowHeight(row) for row in range(4)] and heights[0] > 2 * heights[2]
