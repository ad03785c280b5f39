"""Step 3 with a library: searched, and scans opened where a place was found; what goes wrong, in words."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import host
import numpy as np
import pytest
from host import mouse

from Testing.module.panels.test_similar_panel import centre_of_views
from Testing.module.steps import AXIAL, oblique

pytestmark = pytest.mark.slow

pytest.importorskip("lancedb", reason="a library of scans needs LanceDB")


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
    from CoralBaySlicerCore.scene import query_markups

    node, place = scan()
    driver.embed(node)
    panel = coralbay.panel.similar
    query_markups.make(node).AddControlPointWorld(*place)
    coralbay.panel.parameters.scope = "library"
    driver.settle()
    driver.open(panel)
    return SimpleNamespace(node=node, place=place, panel=panel, ui=panel.ui, table=panel.ui.hitTable)


@pytest.fixture
def filled(ready: Any, driver: Any, archive: Any) -> SimpleNamespace:
    """The same with a library of the folder."""
    add_folder(ready, driver, archive.folder)
    assert "Added to the library: 2." in "\n".join(host.dialogs.texts("info")), host.dialogs.texts()
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
    from CoralBaySlicerCore.work.library import scans as library_scans

    node = library_scans._mark()
    return np.array(node.GetNthControlPointPositionWorld(0)) if node is not None else None


def test_the_panel_shows_what_belongs_to_the_scope(coralbay: Any, driver: Any) -> None:
    ui = coralbay.panel.similar.ui
    driver.open(coralbay.panel.similar)
    assert not any(each.visible for each in (ui.libraryBox, ui.libraryLabel, ui.hitTable, ui.excludeQueryScanCheck))
    assert ui.regionTable.visible
    ui.scopeSelector.currentIndex = 1
    driver.settle()
    assert ui.libraryBox.visible and ui.hitTable.visible and not ui.regionTable.visible and not ui.mapForm.visible
    assert "library is empty" in ui.libraryLabel.text
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
    assert "2 with pooling" in ready.ui.libraryLabel.text
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

    from Testing.module.steps import points_of

    near = np.linalg.norm(points_of(node) - ras, axis=-1) < 9 + 8
    return slicer.util.arrayFromVolume(node)[near].max() > 250


def move(node: Any, shift: list[float]) -> None:
    import slicer

    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    matrix = np.eye(4)
    matrix[:3, 3] = shift
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(matrix))
    node.SetAndObserveTransformNodeID(transform.GetID())


def test_a_segment_a_roi_and_the_whole_scan_as_query(filled: Any, driver: Any, coralbay: Any) -> None:
    import slicer
    from CoralBaySlicerCore.scene import segments

    from Testing.module.steps import points_of

    ready = filled
    segmentation = segments.new(ready.node, "query")
    segment = segmentation.GetSegmentation().AddEmptySegment("", "ball", [1.0, 0, 0])
    ball = np.linalg.norm(points_of(ready.node) - ready.place, axis=-1) < 6
    slicer.util.updateSegmentBinaryLabelmapFromArray(ball.astype(np.uint8), segmentation, segment, ready.node)
    ready.ui.querySelector.currentIndex = ready.ui.querySelector.findData("segment")
    ready.ui.querySegmentSelector.setCurrentNode(segmentation)
    driver.settle()
    assert search(ready, driver)[0].score > 0.8
    ready.ui.querySelector.currentIndex = ready.ui.querySelector.findData("roi")
    roi = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode")
    roi.SetCenter(*ready.place)
    roi.SetSize(8, 8, 8)
    ready.ui.roiSelector.setCurrentNode(roi)
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


def test_rows_of_loaded_scans_have_pictures_too(filled: Any, driver: Any, archive: Any) -> None:
    import slicer

    for name in archive.balls:
        slicer.util.loadVolume(str(archive.folder / name), {"show": False})
    hits = search(filled, driver)
    assert {Path(hit.path).name for hit in hits} == set(archive.balls)
    assert not any(filled.table.item(row, 0).icon().isNull() for row in range(len(hits)))


def test_a_cut_is_seen_from_the_feet(app: Any) -> None:
    from CoralBaySlicerCore.work.library.thumbnails import render

    from CoralBayLib.imaging.grid import Grid, Volume

    grid = Grid((40, 50, 60), oblique())
    centre = grid.center_ras
    k, j, i = np.indices(grid.shape)
    ras = grid.to_ras(np.stack([i, j, k], -1).reshape(-1, 3))
    array = np.full(grid.shape, -1000, np.int16)
    for offset, value in (((32, 0, 0), 240), ((0, 24, 0), 40)):
        array[(np.linalg.norm(ras - centre - offset, axis=1) < 5).reshape(grid.shape)] = value
    picture = render(Volume(array, grid), centre)
    # 160 mm on 72 pixels: 32 mm to the right of the patient are 14 pixels to the left of the picture.
    assert picture[36, 21].tolist() == [255, 255, 255]
    assert picture[25, 36].tolist() == [128, 128, 128]
    assert picture[36, 50].tolist() == picture[47, 36].tolist() == [0, 0, 0]
    assert picture[36, 42].tolist() == picture[30, 36].tolist() == [51, 230, 255]
    whole = render(Volume(array, grid), None)
    assert whole.max() == 255 and not (whole == (51, 230, 255)).all(axis=2).any()


def test_no_library_and_one_of_another_encoder(ready: Any, driver: Any, tmp_path: Path) -> None:
    from CoralBaySlicerCore.work.library import tasks as scan_library

    search(ready, driver)
    assert "There is no library of scans in" in host.dialogs.texts("error")[0]
    assert "coralbay library" not in host.dialogs.texts("error")[0]
    other = tmp_path / "other"
    (other / "regions_astra.lance").mkdir(parents=True)
    (other / "library.json").write_text('{"format": 1}')
    ready.ui.libraryPath.setCurrentPath(str(other))
    driver.settle()
    assert scan_library.folder() == str(other)
    search(ready, driver)
    assert "holds features of astra, but none of 'pooling'" in host.dialogs.texts("error")[1]


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
    assert "Already in the library: 2." in host.dialogs.texts("info")[-1]
    search(filled, driver)
    open_row(filled, driver, 0)
    assert len(volumes_in_scene()) == before + 1
    assert len(hits) == len(filled.panel.library.table.hits)


def test_a_network_share_is_asked_about_before_it_is_looked_at(filled: Any, driver: Any, monkeypatch: Any) -> None:
    """The library came from elsewhere, with paths on a server that nobody here has named."""
    from CoralBayLib.library import locations

    shares: list[Any] = []
    monkeypatch.setattr(locations, "share_of", lambda path: r"\\evil\share" if str(path).endswith("oblique.nrrd") else "")
    monkeypatch.setattr(locations, "remember", shares.append)
    hits = search(filled, driver)
    shares.clear()
    row = next(number for number, hit in enumerate(hits) if hit.file_exists is None)
    assert "(on a network share)" in texts(filled.table, 3)[row]
    assert filled.table.item(row, 0).icon().isNull()
    assert not filled.table.item([hit.file_exists for hit in hits].index(True), 0).icon().isNull()
    before = len(volumes_in_scene())
    host.dialogs.answer(False)
    open_row(filled, driver, row)
    assert r"\\evil\share" in host.dialogs.texts("confirm")[-1], host.dialogs.texts()
    assert (shares, len(volumes_in_scene())) == ([], before)
    host.dialogs.answer(True)
    open_row(filled, driver, row)
    assert (shares, len(volumes_in_scene())) == ([[hits[row].path]], before + 1)


def test_nothing_is_asked_while_another_scan_is_loaded(ready: Any, driver: Any, tmp_path: Path, monkeypatch: Any) -> None:
    """An agreement would connect to nothing: the scan is not opened."""
    from CoralBaySlicerCore.panels.sections.scan_opener import ScanOpener

    from CoralBayLib.library import locations

    monkeypatch.setattr(locations, "share_of", lambda path: r"\\evil\share" if "evil" in str(path) else "")
    shown: list[Any] = []
    damaged = tmp_path / "damaged.nrrd"
    damaged.write_text("NRRD0004\n")
    opener = ScanOpener(ready.panel)
    opener.open(str(damaged), shown.append)
    asked = len(host.dialogs.texts("confirm"))
    opener.open(r"\\evil\share\ct.nrrd", shown.append)
    assert len(host.dialogs.texts("confirm")) == asked
    driver.settle()
    assert shown == [] and "could not be loaded" in host.dialogs.texts("error")[-1]
    # The next scan is asked about again, also after a failure.
    host.dialogs.clear()
    host.dialogs.answer(False)
    opener.open(r"\\evil\share\ct.nrrd", shown.append)
    assert len(host.dialogs.texts("confirm")) == 1
    host.dialogs.clear()
    opener.open("", shown.append)
    assert shown == [] and host.dialogs.texts("warning") != []


def test_a_file_that_cannot_be_read_any_more(filled: Any, driver: Any, archive: Any) -> None:
    hits = search(filled, driver)
    Path(hits[0].path).write_text("no image")
    before = len(volumes_in_scene())
    open_row(filled, driver, 0)
    assert "could not be loaded" in host.dialogs.texts("error")[0]
    assert len(volumes_in_scene()) == before


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
