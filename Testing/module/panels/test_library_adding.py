"""Step 3 with a library: scans added from memory, folders and the DICOM database; cancelled, damaged, repaired."""

import logging
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import host
import numpy as np
import pytest
from host import mouse

from Testing.lib.imaging.test_dicom import SECRET, UID
from Testing.lib.imaging.test_dicom import write as write_dicom
from Testing.module.panels.test_library_panel import (
    add_folder,
    archive,
    filled,
    open_row,
    ready,
    search,
    texts,
    volumes_in_scene,
)
from Testing.module.panels.test_scan_panel import slow
from Testing.module.panels.test_similar_panel import centre_of_views

pytestmark = pytest.mark.slow

pytest.importorskip("lancedb", reason="a library of scans needs LanceDB")

__all__ = ["archive", "filled", "ready", "slow"]


def test_this_scan_is_added_from_memory_and_marked_as_its_own(filled: Any, driver: Any, coralbay: Any) -> None:
    ready = filled
    ready.node.SetName(SECRET)
    mouse.press(ready.ui.addScanButton)
    driver.settle()
    assert "Added to the library: 1." in host.dialogs.texts("info")[0]
    assert all(not hit.is_query_scan for hit in search(ready, driver))
    ready.ui.excludeQueryScanCheck.click()
    hits = search(ready, driver)
    own = next(row for row, hit in enumerate(hits) if hit.is_query_scan)
    assert hits[own].score > 0.9
    assert np.linalg.norm(np.array(hits[own].ras) - ready.place) < 9 + 8
    assert texts(ready.table, 3)[own] == "This scan"
    before = len(volumes_in_scene())
    open_row(ready, driver, own)
    assert len(volumes_in_scene()) == before
    assert coralbay.panel.parameters.volume is ready.node
    # A name that a user gave may be a patient's.
    kept = [path for path in Path(library_folder()).rglob("*") if path.is_file()]
    assert kept and not any(SECRET.encode() in path.read_bytes() for path in kept)
    mouse.press(ready.ui.addScanButton)
    driver.settle()
    assert "Already in the library: 1." in host.dialogs.texts("info")[-1]


def library_folder() -> str:
    from CoralBayLib.library import Library

    return str(Library().storage.root)


def test_a_scan_that_was_read_from_a_file_is_added_by_its_file(filled: Any, driver: Any, archive: Any, coralbay: Any) -> None:
    import slicer
    from CoralBaySlicerCore.work.library import scans as library_scans

    node = slicer.util.loadVolume(str(archive.folder / "oblique.nrrd"))
    assert library_scans.source_of(node) == str(archive.folder / "oblique.nrrd")
    coralbay.panel.parameters.volume = node
    driver.settle()
    mouse.press(filled.ui.addScanButton)
    driver.settle()
    assert "Already in the library: 1." in host.dialogs.texts("info")[-1]
    slicer.util.arrayFromVolume(node)[:] += 1
    slicer.util.arrayFromVolumeModified(node)
    assert library_scans.source_of(node) == ""


class Database:
    """As much of Slicer's DICOM database as is asked: three series, one of them no CT."""

    def __init__(self, files: dict[str, tuple[str, list[str]]]) -> None:
        self.isOpen = True
        self._files = files

    def patients(self) -> list[str]:
        return ["1", "2"]

    def studiesForPatient(self, patient: str) -> list[str]:
        return ["study"] if patient == "1" else []

    def seriesForStudy(self, study: str) -> list[str]:
        return list(self._files)

    def fieldForSeries(self, field: str, series: str) -> str:
        assert field == "Modality"
        return self._files[series][0]

    def filesForSeries(self, series: str) -> list[str]:
        return self._files[series][1]


@pytest.fixture
def database(tmp_path: Path, scan: Any, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Two CT series in folders of their own, one of which is no CT in HU, and an MR."""
    import slicer

    node, _place = scan()
    array = slicer.util.arrayFromVolume(node).copy()
    slicer.mrmlScene.RemoveNode(node)
    folders = [
        write_dicom(tmp_path / "good", np.repeat(np.repeat(array, 2, 1), 2, 2), series=1),
        write_dicom(tmp_path / "bad", np.full((12, 40, 40), 7, np.int16), series=2),
        write_dicom(tmp_path / "mr", np.repeat(np.repeat(array, 2, 1), 2, 2), series=3, modality="MR"),
    ]
    files = {
        f"{UID}.{n}": (modality, sorted(map(str, folder.iterdir())))
        for n, (folder, modality) in enumerate(zip(folders, ("CT", "CT", "MR"), strict=True), 1)
    }
    monkeypatch.setattr(slicer, "dicomDatabase", Database(files), raising=False)
    return SimpleNamespace(good=folders[0], bad=folders[1], files=files)


def test_the_cts_of_the_dicom_database_are_added_after_a_word(
    ready: Any, driver: Any, database: Any, coralbay: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    host.dialogs.answer(False)
    mouse.press(ready.ui.addDatabaseButton)
    driver.settle()
    question = host.dialogs.texts("confirm")[0]
    assert "Scans found: 2." in question and "take long" in question and "cancel" in question
    assert not Path(library_folder()).exists()
    mouse.press(ready.ui.addDatabaseButton)
    driver.settle()
    assert "Added to the library: 1." in host.dialogs.texts("warning")[0], host.dialogs.texts()
    assert "Skipped: 1" in host.dialogs.texts("warning")[0]
    assert ready.ui.libraryReport.visible
    assert texts(ready.ui.libraryReport, 0) == ["bad"]
    assert "same value" in texts(ready.ui.libraryReport, 1)[0]
    hits = search(ready, driver)
    assert {hit.path for hit in hits} == {str(database.good)}
    open_row(ready, driver, 0)
    assert host.dialogs.texts("error") == []
    node = coralbay.panel.parameters.volume
    assert node is not ready.node
    assert node.GetSpacing() == pytest.approx((0.7, 0.8, 2.5))
    assert centre_of_views() == pytest.approx(np.array(hits[0].ras), abs=1e-3)
    before = len(volumes_in_scene())
    open_row(ready, driver, 1)
    assert len(volumes_in_scene()) == before
    # Nothing of the patient, neither in the library, nor in the scene, nor in the log.
    kept = [path for path in Path(library_folder()).rglob("*") if path.is_file()]
    assert kept and not any(word.encode() in path.read_bytes() for path in kept for word in (SECRET, UID))
    assert SECRET not in caplog.text and SECRET not in node.GetName() and UID not in node.GetName()


def test_two_series_in_one_folder_and_no_database(
    ready: Any, driver: Any, database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import slicer
    from CoralBaySlicerCore.work.dicom.database import series_path

    (_, good), (_, bad), _mr = database.files.values()
    assert series_path(good) == str(database.good)
    for file in bad:
        shutil.copy(file, database.good / f"other-{Path(file).name}")
    assert series_path(good[::-1]) == good[0]
    monkeypatch.setattr(slicer, "dicomDatabase", None)
    mouse.press(ready.ui.addDatabaseButton)
    driver.settle()
    assert "No DICOM database is open" in host.dialogs.texts("error")[0]


@pytest.mark.usefixtures("slow")
def test_cancel_loses_nothing_that_is_done(ready: Any, driver: Any, archive: Any, coralbay: Any, scan: Any) -> None:
    import slicer

    top = coralbay.panel.ui
    # The first eight scans decide the basis together and are written then.
    for number in range(9):
        node, _place = scan(seed=20 + number)
        assert slicer.util.saveNode(node, str(archive.folder / f"more{number}.nrrd"))
        slicer.mrmlScene.RemoveNode(node)
    host.dialogs.answer(str(archive.folder))
    mouse.press(ready.ui.addFolderButton)
    host.wait_for(lambda: "scan 2 of 11" in top.activityLabel.text, 120)
    mouse.press(top.cancelButton)
    driver.settle()
    assert "Features that were computed are kept" in host.dialogs.texts("info")[-1]
    host.process_events(0.05)
    host.dialogs.answer(str(archive.folder))
    mouse.press(ready.ui.addFolderButton)
    host.wait_for(lambda: "scan 9 of 11" in top.activityLabel.text or "scan 10 of 11" in top.activityLabel.text, 120)
    assert "left" in top.activityLabel.text
    mouse.press(top.cancelButton)
    driver.settle()
    assert host.dialogs.texts("error") == []
    said = host.dialogs.texts("info")[-1]
    assert said.startswith("Cancelled.\nAdded to the library: ")
    done = int(said.rsplit(" ", 1)[1].strip("."))
    assert 8 <= done < 11
    assert f"{done} with pooling" in ready.ui.libraryLabel.text
    host.dialogs.clear()
    add_folder(ready, driver, archive.folder)
    said = host.dialogs.texts("info")[-1]
    assert f"Added to the library: {11 - done}.\nAlready in the library: {done}." in said


def test_what_is_missing_is_asked_for(ready: Any, driver: Any, archive: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from CoralBaySlicerCore.setup import packages

    real, installed = packages._is_met, []
    monkeypatch.setattr(packages, "_is_met", lambda each: bool(installed) if "lancedb" in each else real(each))
    monkeypatch.setattr(packages, "_met", set())
    monkeypatch.setattr(packages, "_install", installed.extend)
    assert packages.missing() == []
    ready.panel.library.section.forget()
    ready.panel.refresh()
    driver.open(ready.panel)
    assert "LanceDB" in ready.ui.libraryLabel.text
    host.dialogs.answer(str(archive.folder), False)
    mouse.press(ready.ui.addFolderButton)
    driver.settle()
    question = host.dialogs.texts("confirm")[0]
    assert "lancedb" in question and "pypi.org" in question and "135 MB" in question and "PyTorch" not in question
    assert "Nothing was changed" in host.dialogs.texts("error")[0]
    assert installed == []
    add_folder(ready, driver, archive.folder)
    assert installed == [packages.LIBRARY]
    assert "Added to the library: 2." in host.dialogs.texts("info")[-1]


def test_a_damaged_library_says_so_and_is_repaired(filled: Any, driver: Any, archive: Any) -> None:
    for file in Path(library_folder()).glob("regions_*.lance/data/*"):
        file.write_bytes(b"no table")
    assert search(filled, driver) == []
    error = host.dialogs.texts("error")[0]
    assert "cannot be read" in error and "'Check library' under 'Library'" in error and "coralbay library" not in error
    mouse.press(filled.ui.checkLibraryButton)
    driver.settle()
    assert "Repair it?" in host.dialogs.texts("confirm")[-1]
    assert filled.ui.libraryReport.visible
    assert "repaired" in host.dialogs.texts("info")[-1]
    add_folder(filled, driver, archive.folder)
    assert "Added to the library: 2." in host.dialogs.texts("info")[-1]
    assert search(filled, driver)
    mouse.press(filled.ui.checkLibraryButton)
    driver.settle()
    assert "No errors were found" in host.dialogs.texts("info")[-1]
    assert not filled.ui.libraryReport.visible


@pytest.mark.usefixtures("slow")
def test_the_scene_may_be_closed_and_the_module_left_while_scans_are_added(
    ready: Any, driver: Any, archive: Any, coralbay: Any
) -> None:
    import slicer

    host.dialogs.answer(str(archive.folder))
    mouse.press(ready.ui.addFolderButton)
    host.wait_for(lambda: "scan 1 of 2" in coralbay.panel.ui.activityLabel.text)
    slicer.mrmlScene.Clear()
    slicer.util.selectModule("SegmentEditor")
    driver.settle()
    assert host.dialogs.texts("error") == []
    assert "Added to the library: 2." in host.dialogs.texts("info")[-1]
    slicer.util.selectModule("CoralBaySlicer")
    driver.settle()
    coralbay.panel.parameters.scope = "library"
    driver.settle()
    assert "2 with pooling" in ready.ui.libraryLabel.text


@pytest.mark.usefixtures("slow")
def test_other_work_is_done_between_two_scans(ready: Any, driver: Any, archive: Any, coralbay: Any, scan: Any) -> None:
    import slicer
    from CoralBaySlicerCore.work.library import tasks as scan_library

    for number in range(2):
        node, _place = scan(seed=20 + number)
        assert slicer.util.saveNode(node, str(archive.folder / f"more{number}.nrrd"))
        slicer.mrmlScene.RemoveNode(node)
    coralbay.panel.scan.ui.volumeSelector.setCurrentNode(ready.node)
    driver.settle()
    top, segment = coralbay.panel.ui, coralbay.panel.segment
    host.dialogs.answer(str(archive.folder))
    mouse.press(ready.ui.addFolderButton)
    host.wait_for(lambda: "scan 1 of 4" in top.activityLabel.text)
    adding = coralbay.panel.activity.task
    again = scan_library.addTask(coralbay.logic, "", lambda *_args: [str(archive.folder)], [])
    segment.few_shot.add_structure()
    for structure, offset in zip(segment.few_shot.structures, ([0, 0, 0], [0, 22, 0]), strict=True):
        structure.node.AddControlPointWorld(*(ready.place + offset))
    host.wait_for(lambda: segment.few_shot.preview is not None)
    assert not adding.done
    ready.ui.scopeSelector.currentIndex = 0
    ready.panel.search()
    assert "Waiting: Looking for similar regions" in top.activityLabel.text
    host.wait_for(lambda: bool(ready.panel.regions))
    assert not adding.done
    driver.settle(60)
    assert "Added to the library: 4." in host.dialogs.texts("info")[-1]
    # Work of the same kind waits for all of it.
    assert [outcome.state for outcome in again.result] == ["known"] * 4
