"""The scene is closed while files are written that do not depend on it: they are written all the same."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import host
import pytest
from host import mouse

from Testing.module.panels.test_dicom_export import exported
from Testing.module.steps import click_all

pytestmark = pytest.mark.slow

__all__ = ["exported"]


@pytest.fixture
def close_scene(coralbay: Any, driver: Any) -> Any:
    """Runs an action while the worker is busy, and closes the scene before the worker goes on."""
    import slicer
    from CoralBaySlicerCore.work.worker import Task

    def run(action: Any) -> None:
        released = threading.Event()
        coralbay.logic.worker.start(Task(lambda *_: released.wait(60), outlives_scene=True))
        action()
        slicer.mrmlScene.Clear()
        released.set()
        driver.settle()
        assert host.dialogs.texts("error") == []

    return run


def test_a_probe_is_saved(ready: Any, driver: Any, close_scene: Any, tmp_path: Path) -> None:
    _node, place, panel = ready
    click_all(panel, driver, place)
    driver.open(panel)
    host.dialogs.answer(str(tmp_path / "probe.safetensors"))
    close_scene(panel.ui.saveProbeButton.click)
    assert (tmp_path / "probe.safetensors").is_file()


def test_a_folder_is_segmented(ready: Any, driver: Any, close_scene: Any, tmp_path: Path) -> None:
    import slicer

    node, place, panel = ready
    click_all(panel, driver, place)
    driver.open(panel)
    (tmp_path / "scans").mkdir()
    assert slicer.util.saveNode(node, str(tmp_path / "scans" / "one.nrrd"))
    host.dialogs.answer(str(tmp_path / "scans"))
    close_scene(lambda: mouse.press(panel.ui.applyFolderButton))
    assert (tmp_path / "scans" / "one.seg.nrrd").is_file()


def test_a_dicom_segmentation_is_written(exported: Any, coralbay: Any, close_scene: Any, tmp_path: Path) -> None:
    host.dialogs.answer(str(tmp_path / "out"))
    close_scene(coralbay.panel.segment.ui.exportDicomButton.click)
    assert (tmp_path / "out.dcm").is_file()
