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
