"""Step 3 with a library: scans added, searched, opened where a place was found; what goes wrong, in words."""

import logging
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import host
import numpy as np
import pytest
from host import mouse

from Testing.lib.test_dicom import SECRET, UID
from Testing.lib.test_dicom import write as write_dicom
from Testing.module.test_few_shot import AXIAL, oblique
from Testing.module.test_scan_panel import slow
from Testing.module.test_similar_panel import centre_of_views

pytest.importorskip("lancedb", reason="a library of scans needs LanceDB")

__all__ = ["slow"]


@pytest.fixture
def archive(app: Any, scan: Any, tmp_path: Path) -> SimpleNamespace:
    """A folder with two scans; where their balls are, by name."""
    import slicer

    folder = tmp_path / "archive"
    folder.mkdir()
    balls = {}
    for number, (name, matrix) in enumerate((("straight.nii.gz", AXIAL), ("oblique.nrrd", oblique()))):
        node, place = scan(matrix, seed=number + 5)
        assert slicer.util.saveNode(node, str(folder / name))
        balls[name] = (place, place - [32, 0, 0])
        slicer.mrmlScene.RemoveNode(node)
    return SimpleNamespace(folder=folder, balls=balls)


@pytest.fixture
def ready(coralbay: Any, driver: Any, archive: Any, scan: Any) -> SimpleNamespace:
    """An embedded scan with a query in its ball, and the panel turned to the library."""
    from CoralBaySlicerCore import queries

    node, place = scan()
    driver.embed(node)
    panel = coralbay.panel.similar
    queries.make(node).AddControlPointWorld(*place)
    coralbay.panel.parameters.scope = "library"
    driver.settle()
    driver.open(panel)
    return SimpleNamespace(node=node, place=place, panel=panel, ui=panel.ui, table=panel.ui.hitTable)


@pytest.fixture
def filled(ready: Any, driver: Any, archive: Any) -> SimpleNamespace:
    """The same with a library of the folder."""
    add_folder(ready, driver, archive.folder)
    assert "Added to the library: 2." in host.dialogs.texts("info")[-1], host.dialogs.texts()
    host.dialogs.clear()
    return ready


def add_folder(ready: Any, driver: Any, folder: Path, *answers: Any) -> None:
    host.dialogs.answer(str(folder), *answers)
    mouse.press(ready.ui.addFolderButton)
    driver.settle()


def search(ready: Any, driver: Any) -> list[Any]:
    mouse.press(ready.ui.searchButton)
    driver.settle()
    return ready.panel.library.table.hits


def open_row(ready: Any, driver: Any, row: int) -> None:
    ready.table.cellDoubleClicked.emit(row, 0)
    driver.settle()


def texts(table: Any, column: int) -> list[str]:
    return [table.item(row, column).text() for row in range(table.rowCount)]


def volumes_in_scene() -> list[Any]:
    import slicer

    return list(slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode"))


def mark() -> Any:
    from CoralBaySlicerCore import opening

    node = opening._mark()
    return np.array(node.GetNthControlPointPositionWorld(0)) if node is not None else None


def test_the_panel_shows_what_belongs_to_the_scope(coralbay: Any, driver: Any) -> None:
    ui = coralbay.panel.similar.ui
    driver.open(coralbay.panel.similar)
    assert not any(each.visible for each in (ui.libraryBox, ui.libraryLabel, ui.hitTable, ui.othersOnlyCheck))
    assert ui.regionTable.visible
    ui.scopeSelector.currentIndex = 1
    driver.settle()
    assert ui.libraryBox.visible and ui.hitTable.visible and not ui.regionTable.visible and not ui.mapForm.visible
    assert "nothing in the library yet" in ui.libraryLabel.text
    assert not ui.libraryBox.collapsed
    ui.querySelector.currentIndex = ui.querySelector.findData("whole")
    driver.settle()
    assert not ui.placeQueryButton.visible
    ui.scopeSelector.currentIndex = 0
    driver.settle()
    assert ui.querySelector.findData("whole") == -1
    assert coralbay.panel.parameters.queryKind == "point"
    assert ui.placeQueryButton.visible


def test_a_place_is_found_in_other_scans_and_opened_there(filled: Any, driver: Any, archive: Any, coralbay: Any) -> None:
    ready = filled
    assert "2 of pooling" in ready.ui.libraryLabel.text
    hits = search(ready, driver)
    assert host.dialogs.texts("error") == []
    assert {Path(hit.path).name for hit in hits} == set(archive.balls)
    assert texts(ready.table, 1)[0] == f"{hits[0].score:.2f}"
    for name, balls in archive.balls.items():
        row = next(row for row, hit in enumerate(hits) if hit.path.endswith(name))
        assert texts(ready.table, 3)[row] == f"archive/{name}"
        # Features compared lie 12 to 24 mm apart, so the nearest may lie beside the ball, 9 mm in radius.
        assert min(np.linalg.norm(np.array(hits[row].ras) - ball) for ball in balls) < 9 + 8
        before = len(volumes_in_scene())
        open_row(ready, driver, row)
        assert host.dialogs.texts("error") == []
        node = coralbay.panel.parameters.volume
        assert len(volumes_in_scene()) == before + 1
        assert centre_of_views() == pytest.approx(np.array(hits[row].ras), abs=1e-3)
        assert mark() == pytest.approx(np.array(hits[row].ras), abs=1e-3)
        # What the library calls this place is there in the scene, too.
        assert bright_near(node, hits[row].ras)
        # Again, and the scan that is loaded is shown, wherever it has been moved to.
        move(node, [30, -20, 10])
        open_row(ready, driver, row)
        assert len(volumes_in_scene()) == before + 1
        assert centre_of_views() == pytest.approx(np.array(hits[row].ras) + [30, -20, 10], abs=1e-3)
        assert len(ready.panel.library.table.hits) == len(hits)
        mouse.press(ready.ui.showQueryButton)
        driver.settle()
        assert coralbay.panel.parameters.volume is ready.node
        assert centre_of_views() == pytest.approx(ready.place, abs=1e-3)


def bright_near(node: Any, ras: Any) -> bool:
    import slicer

    from Testing.module.test_few_shot import points_of

    near = np.linalg.norm(points_of(node) - ras, axis=-1) < 9 + 8
    return slicer.util.arrayFromVolume(node)[near].max() > 250


def move(node: Any, shift: list[float]) -> None:
    import slicer

    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    matrix = np.eye(4)
    matrix[:3, 3] = shift
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(matrix))
    node.SetAndObserveTransformNodeID(transform.GetID())


def test_this_scan_is_added_from_memory_and_marked_as_its_own(filled: Any, driver: Any, coralbay: Any) -> None:
    ready = filled
    ready.node.SetName(SECRET)
    mouse.press(ready.ui.addScanButton)
    driver.settle()
    assert "Added to the library: 1." in host.dialogs.texts("info")[0]
    assert all(not hit.own for hit in search(ready, driver))
    ready.ui.othersOnlyCheck.click()
    hits = search(ready, driver)
    own = next(row for row, hit in enumerate(hits) if hit.own)
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
    assert "There already: 1." in host.dialogs.texts("info")[-1]


def library_folder() -> str:
    from CoralBayLib.library import Library

    return str(Library().folder.root)


def test_a_scan_that_was_read_from_a_file_is_added_by_its_file(filled: Any, driver: Any, archive: Any, coralbay: Any) -> None:
    import slicer
    from CoralBaySlicerCore import opening

    node = slicer.util.loadVolume(str(archive.folder / "oblique.nrrd"))
    assert opening.source_of(node) == str(archive.folder / "oblique.nrrd")
    coralbay.panel.parameters.volume = node
    driver.settle()
    mouse.press(filled.ui.addScanButton)
    driver.settle()
    assert "There already: 1." in host.dialogs.texts("info")[-1]
    slicer.util.arrayFromVolume(node)[:] += 1
    slicer.util.arrayFromVolumeModified(node)
    assert opening.source_of(node) == ""


def test_a_segment_and_the_whole_scan_as_query(filled: Any, driver: Any, coralbay: Any) -> None:
    import slicer
    from CoralBaySlicerCore import segments

    from Testing.module.test_few_shot import points_of

    ready = filled
    segmentation = segments.new(ready.node, "query")
    segment = segmentation.GetSegmentation().AddEmptySegment("", "ball", [1.0, 0, 0])
    ball = np.linalg.norm(points_of(ready.node) - ready.place, axis=-1) < 6
    slicer.util.updateSegmentBinaryLabelmapFromArray(ball.astype(np.uint8), segmentation, segment, ready.node)
    ready.ui.querySelector.currentIndex = ready.ui.querySelector.findData("segment")
    ready.ui.querySegmentSelector.setCurrentNode(segmentation)
    driver.settle()
    assert search(ready, driver)[0].score > 0.8
    ready.ui.querySelector.currentIndex = ready.ui.querySelector.findData("whole")
    driver.settle()
    hits = search(ready, driver)
    assert len(hits) == 2
    assert ready.table.isColumnHidden(2)
    open_row(ready, driver, 0)
    assert host.dialogs.texts("error") == []
    composite = slicer.app.layoutManager().sliceWidget("Red").mrmlSliceCompositeNode()
    shown = slicer.mrmlScene.GetNodeByID(composite.GetBackgroundVolumeID())
    assert shown is coralbay.panel.parameters.volume and shown is not ready.node


def test_rows_have_pictures_of_their_places(filled: Any, driver: Any, archive: Any) -> None:
    import qt

    hits = search(filled, driver)
    for row, hit in enumerate(hits):
        icon = filled.table.item(row, 0).icon()
        image = icon.pixmap(qt.QSize(72, 72)).toImage()
        assert (image.width(), image.height()) == (72, 72)
        greys = [qt.QColor(image.pixel(x, y)).red() for x in range(30, 42) for y in range(30, 42)]
        near = min(np.linalg.norm(np.array(hit.ras) - ball) for ball in archive.balls[Path(hit.path).name])
        if near < 8:
            assert max(greys) == 255


def test_a_cut_is_seen_from_the_feet(app: Any) -> None:
    from CoralBaySlicerCore.thumbnails import cut

    from CoralBayLib.geometry import Grid, Volume

    grid = Grid((40, 50, 60), oblique())
    centre = grid.centre_ras
    k, j, i = np.indices(grid.shape)
    ras = grid.to_ras(np.stack([i, j, k], -1).reshape(-1, 3))
    array = np.full(grid.shape, -1000, np.int16)
    for offset, value in (((32, 0, 0), 240), ((0, 24, 0), 40)):
        array[(np.linalg.norm(ras - centre - offset, axis=1) < 5).reshape(grid.shape)] = value
    picture = cut(Volume(array, grid), centre)
    # 160 mm on 72 pixels: 32 mm to the right of the patient are 14 pixels to the left of the picture.
    assert picture[36, 21].tolist() == [255, 255, 255]
    assert picture[25, 36].tolist() == [128, 128, 128]
    assert picture[36, 50].tolist() == picture[47, 36].tolist() == [0, 0, 0]
    assert picture[36, 42].tolist() == picture[30, 36].tolist() == [51, 230, 255]
    whole = cut(Volume(array, grid), None)
    assert whole.max() == 255 and not (whole == (51, 230, 255)).all(axis=2).any()


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
    assert "Left out: 1" in host.dialogs.texts("warning")[0]
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
    from CoralBaySlicerCore.dicomdatabase import place_of

    (_, good), (_, bad), _mr = database.files.values()
    assert place_of(good) == str(database.good)
    for file in bad:
        shutil.copy(file, database.good / f"other-{Path(file).name}")
    assert place_of(good[::-1]) == good[0]
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
    host.wait_for(lambda: "scan 9 of 11" in top.activityLabel.text or "scan 10 of 11" in top.activityLabel.text, 120)
    assert "left" in top.activityLabel.text
    mouse.press(top.cancelButton)
    driver.settle()
    assert host.dialogs.texts("error") == []
    said = host.dialogs.texts("info")[-1]
    assert said.startswith("Cancelled.\nAdded to the library: ")
    done = int(said.rsplit(" ", 1)[1].strip("."))
    assert 8 <= done < 11
    assert f"{done} of pooling" in ready.ui.libraryLabel.text
    host.dialogs.clear()
    add_folder(ready, driver, archive.folder)
    said = host.dialogs.texts("info")[-1]
    assert f"Added to the library: {11 - done}.\nThere already: {done}." in said


def test_what_is_missing_is_asked_for(ready: Any, driver: Any, archive: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from CoralBaySlicerCore import install

    real, installed = install._is_met, []
    monkeypatch.setattr(install, "_is_met", lambda each: bool(installed) if "lancedb" in each else real(each))
    monkeypatch.setattr(install, "_install", installed.extend)
    assert install.missing() == []
    ready.panel.library.box.forget()
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
    assert installed == [install.LIBRARY]
    assert "Added to the library: 2." in host.dialogs.texts("info")[-1]


def test_a_damaged_library_says_so_and_is_repaired(filled: Any, driver: Any, archive: Any) -> None:
    for file in Path(library_folder()).glob("regions_*.lance/data/*"):
        file.write_bytes(b"no table")
    assert search(filled, driver) == []
    error = host.dialogs.texts("error")[0]
    assert "cannot be read" in error and "'Check' under 'Library'" in error and "coralbay library" not in error
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
    assert "All is well" in host.dialogs.texts("info")[-1]
    assert not filled.ui.libraryReport.visible


def test_no_library_and_one_of_another_encoder(ready: Any, driver: Any, tmp_path: Path) -> None:
    from CoralBaySlicerCore import scanlibrary

    search(ready, driver)
    assert "There is no library in" in host.dialogs.texts("error")[0]
    assert "coralbay library" not in host.dialogs.texts("error")[0]
    other = tmp_path / "other"
    (other / "regions_astra.lance").mkdir(parents=True)
    (other / "library.json").write_text('{"format": 1}')
    ready.ui.libraryPath.setCurrentPath(str(other))
    driver.settle()
    assert scanlibrary.folder() == str(other)
    search(ready, driver)
    assert "holds features of astra, none of pooling" in host.dialogs.texts("error")[1]


def test_a_scan_that_was_moved_says_so_and_is_known_again(filled: Any, driver: Any, archive: Any, tmp_path: Path) -> None:
    archive.folder.rename(tmp_path / "elsewhere")
    hits = search(filled, driver)
    assert all("(moved or deleted)" in text for text in texts(filled.table, 3))
    assert filled.table.item(0, 0).icon().isNull()
    before = len(volumes_in_scene())
    open_row(filled, driver, 0)
    assert str(archive.folder) in host.dialogs.texts("warning")[0]
    assert "add its new folder" in host.dialogs.texts("warning")[0]
    assert len(volumes_in_scene()) == before
    add_folder(filled, driver, tmp_path / "elsewhere")
    assert "There already: 2." in host.dialogs.texts("info")[-1]
    search(filled, driver)
    open_row(filled, driver, 0)
    assert len(volumes_in_scene()) == before + 1
    assert len(hits) == len(filled.panel.library.table.hits)


def test_a_file_that_cannot_be_read_any_more(filled: Any, driver: Any, archive: Any) -> None:
    hits = search(filled, driver)
    Path(hits[0].path).write_text("no image")
    before = len(volumes_in_scene())
    open_row(filled, driver, 0)
    assert "could not be loaded" in host.dialogs.texts("error")[0]
    assert len(volumes_in_scene()) == before


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
    assert "2 of pooling" in ready.ui.libraryLabel.text


def test_the_scope_is_saved_with_the_scene(filled: Any, driver: Any, coralbay: Any, tmp_path: Path) -> None:
    import slicer

    search(filled, driver)
    open_row(filled, driver, 0)
    assert slicer.util.saveScene(str(tmp_path / "scene.mrb"))
    slicer.mrmlScene.Clear()
    driver.settle()
    assert coralbay.panel.parameters.scope == "scan"
    assert filled.table.rowCount == 0
    assert mark() is None
    slicer.util.loadScene(str(tmp_path / "scene.mrb"))
    driver.settle()
    assert coralbay.panel.parameters.scope == "library"
    assert filled.ui.hitTable.visible
    # The mark is not kept.
    assert mark() is None


def test_from_the_console(filled: Any, driver: Any, archive: Any, coralbay: Any) -> None:
    logic: Any = coralbay.logic
    outcomes = logic.addToLibrary([archive.folder / "oblique.nrrd"])
    assert [each.state for each in outcomes] == ["known"]
    hits = logic.searchLibrary(filled.node, [filled.place], count=3)
    assert [hit.rank for hit in hits] == [1, 2, 3]
    scans = logic.searchLibrary(filled.node, None)
    assert {Path(hit.path).name for hit in scans} == set(archive.balls)
