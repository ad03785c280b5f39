"""Step 1, "Check scan": what is known of the scan and its file, and what is wrong with them."""

import builtins
import threading
from pathlib import Path
from typing import Any

import host
import numpy as np
import pytest
from host import mouse

from Testing.lib.imaging.test_dicom import SECRET
from Testing.lib.imaging.test_dicom import write as write_dicom

pytestmark = pytest.mark.slow


@pytest.fixture
def check(coralbay: Any, driver: Any) -> Any:
    """Chooses a volume, presses the button and returns the kind and the text of the dialog."""

    def press(node: Any) -> tuple[str, str]:
        ui = coralbay.panel.scan.ui
        ui.volumeSelector.setCurrentNode(node)
        driver.settle()
        host.dialogs.clear()
        mouse.press(ui.checkButton)
        driver.settle()
        (dialog,) = host.dialogs.shown
        assert dialog.title == "CoralBay: check scan"
        return dialog.kind, dialog.text

    return press


@pytest.fixture
def loaded(scan: Any, tmp_path: Path) -> Any:
    """A volume that was read from a file."""
    import slicer

    node, _place = scan()
    path = tmp_path / "thorax.nrrd"
    slicer.util.saveNode(node, str(path))
    slicer.mrmlScene.RemoveNode(node)
    return slicer.util.loadVolume(str(path))


def test_the_button_needs_a_scan(coralbay: Any, driver: Any, scan: Any) -> None:
    ui = coralbay.panel.scan.ui
    assert not ui.checkButton.enabled
    node, _place = scan()
    ui.volumeSelector.setCurrentNode(node)
    driver.settle()
    assert ui.checkButton.enabled


def test_a_sound_scan_without_a_file(check: Any, scan: Any) -> None:
    node, _place = scan()
    kind, text = check(node)
    assert kind == "info"
    assert text.startswith("'CT' can be used. No fault was found in it.")
    assert "Size: 48 x 48 x 40 voxels of 2 x 2 x 2.5 mm, 96 x 96 x 100 mm in all" in text
    assert "Axial slices, not oblique" in text
    assert "as in a CT in Hounsfield units (HU)" in text
    assert "File: none." in text
    assert "transform" not in text


def test_a_sound_scan_with_its_file(check: Any, loaded: Any) -> None:
    kind, text = check(loaded)
    assert kind == "info"
    assert "File: thorax.nrrd, NRRD, " in text
    assert "compressed, checksum correct" in text
    assert "another size" not in text
    assert "was changed" not in text


def test_nothing_is_computed_on_the_main_thread_and_nothing_changes(
    check: Any, loaded: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import slicer

    from CoralBayLib.imaging import inspection

    threads = []
    for name in ("inspect_scan", "inspect_volume"):
        real = getattr(inspection, name)

        def watched(*arguments: Any, real: Any = real, **options: Any) -> Any:
            threads.append(threading.current_thread())
            return real(*arguments, **options)

        monkeypatch.setattr(inspection, name, watched)
    before = slicer.mrmlScene.GetNumberOfNodes(), loaded.GetMTime()
    check(loaded)
    assert len(threads) >= 2
    assert threading.main_thread() not in threads
    assert (slicer.mrmlScene.GetNumberOfNodes(), loaded.GetMTime()) == before


def test_a_file_that_is_damaged_now(check: Any, loaded: Any, tmp_path: Path) -> None:
    path = tmp_path / "thorax.nrrd"
    path.write_bytes(path.read_bytes()[:-200])
    kind, text = check(loaded)
    assert kind == "warning"
    assert text.startswith("'thorax' can be used.")
    assert "Its file cannot be used as it is" in text
    assert "thorax.nrrd is truncated or damaged" in text
    path.unlink()
    kind, text = check(loaded)
    assert kind == "warning"
    assert "There is no file or folder" in text


def test_voxels_and_geometry_that_differ_from_the_file(check: Any, loaded: Any) -> None:
    import slicer

    slicer.util.arrayFromVolume(loaded)[3, 3, 3] += 1
    slicer.util.arrayFromVolumeModified(loaded)
    loaded.SetSpacing(1.5, 1.5, 1.5)
    _kind, text = check(loaded)
    assert "was changed in the scene after it was read" in text
    assert "another size, spacing, position or orientation than its file" in text


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda a: (a > 0).astype(np.uint8), "look like the labels of a segmentation"),
        (lambda a: (a + 1024).clip(0).astype(np.int16), "The values (0 to "),
        (lambda a: np.where(np.indices(a.shape)[0] < 1, np.nan, a).astype(np.float32), "2,304 of 92,160 voxels are NaN"),
        (lambda a: np.zeros_like(a), "Every voxel has the same value (0)"),
    ],
)
def test_what_is_wrong_with_the_values(check: Any, scan: Any, change: Any, words: str) -> None:
    import slicer

    node, _place = scan()
    slicer.util.updateVolumeFromArray(node, change(slicer.util.arrayFromVolume(node)))
    kind, text = check(node)
    assert kind == "warning"
    assert text.startswith("'CT' cannot be used as it is:")
    assert words in text


def test_values_that_are_not_hu_name_the_box_to_tick(check: Any, scan: Any, coralbay: Any) -> None:
    import slicer

    node, _place = scan()
    slicer.util.updateVolumeFromArray(node, (slicer.util.arrayFromVolume(node) / 3000).astype(np.float32))
    kind, text = check(node)
    assert kind == "warning"
    assert "not Hounsfield units" in text
    assert "check 'The values are Hounsfield units' in step 1" in text
    coralbay.panel.parameters.assumeHU = True
    kind, text = check(node)
    assert kind == "info"
    assert "Values: -0.3" in text


def test_spacing_that_cannot_be(check: Any, scan: Any) -> None:
    node, _place = scan()
    node.SetSpacing(0.002, 0.002, 0.002)
    kind, text = check(node)
    assert kind == "warning"
    assert "impossible for a CT of a patient" in text


def test_orientation_and_transforms(check: Any, scan: Any) -> None:
    import slicer
    import vtk

    angle = np.radians(20)
    matrix = np.eye(4)
    matrix[:3, :3] = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]]) * 2
    node, _place = scan(matrix)
    assert "Axial slices, oblique by 20.0 degrees" in check(node)[1]
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    node.SetAndObserveTransformNodeID(transform.GetID())
    assert "A linear transform is applied" in check(node)[1]
    bent = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTransformNode")
    spline = vtk.vtkThinPlateSplineTransform()
    points = vtk.vtkPoints()
    for corner in np.ndindex(2, 2, 2):
        points.InsertNextPoint(*(50.0 * np.array(corner)))
    spline.SetSourceLandmarks(points)
    spline.SetTargetLandmarks(points)
    bent.SetAndObserveTransformToParent(spline)
    node.SetAndObserveTransformNodeID(bent.GetID())
    kind, text = check(node)
    assert kind == "info"
    assert "A non-linear transform is applied" in text


def test_a_dicom_series(check: Any, scan: Any, tmp_path: Path) -> None:
    import slicer

    node, _place = scan()
    array = slicer.util.arrayFromVolume(node).copy()
    slicer.mrmlScene.RemoveNode(node)
    folder = write_dicom(tmp_path / "ct", array, description="Thorax 2.5", step=(0, 0, 2.5))
    files = sorted(str(path) for path in folder.iterdir())
    from CoralBayLib.imaging.volume_io import read_volume

    volume = read_volume(folder)
    node = slicer.util.addVolumeFromArray(volume.array, ijkToRAS=volume.grid.ijk_to_ras, name="series")
    storage = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLVolumeArchetypeStorageNode")
    storage.SetFileName(files[0])
    for file in files:
        storage.AddFileName(file)
    node.SetAndObserveStorageNodeID(storage.GetID())
    kind, text = check(node)
    assert kind == "info", text
    assert "File: ct, DICOM, series 'Thorax 2.5', images: 40, slices of the scan: 40" in text
    assert "another size" not in text
    assert SECRET not in text
    Path(files[20]).unlink()
    kind, text = check(node)
    assert kind == "warning"
    assert "not evenly spaced" in text


def test_without_the_packages_the_scan_is_checked_and_the_file_is_not(
    check: Any, loaded: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As before the first installation."""
    real = builtins.__import__

    def without(name: str, *arguments: Any) -> Any:
        if name == "psutil":
            raise ModuleNotFoundError("No module named 'psutil'", name="psutil")
        return real(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", without)
    kind, text = check(loaded)
    assert kind == "info"
    assert "can be used" in text
    assert "It was not checked, because the Python package psutil is not installed." in text
    assert host.dialogs.pip == []


def test_the_report_waits_until_the_user_is_back(
    coralbay: Any, driver: Any, scan: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from CoralBayLib.imaging import inspection

    left, real = threading.Event(), inspection.inspect_volume

    def inspect(*arguments: Any, **options: Any) -> Any:
        assert left.wait(30)
        return real(*arguments, **options)

    monkeypatch.setattr(inspection, "inspect_volume", inspect)
    node, _place = scan()
    ui = coralbay.panel.scan.ui
    ui.volumeSelector.setCurrentNode(node)
    driver.settle()
    mouse.press(ui.checkButton)
    coralbay.exit()
    left.set()
    driver.settle()
    assert host.dialogs.shown == []
    coralbay.enter()
    driver.settle()
    assert "can be used" in host.dialogs.texts("info")[0]
