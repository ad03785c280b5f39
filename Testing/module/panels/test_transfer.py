"""A probe beyond the scan it was made on: saved, loaded, applied to other scans and to a folder."""

from pathlib import Path
from typing import Any

import host
import numpy as np
import pytest
from host import mouse

from Testing.module.steps import click_all, oblique

pytestmark = pytest.mark.slow


def test_a_probe_is_saved_loaded_and_applied_to_other_scans(
    ready: Any, driver: Any, coralbay: Any, scan: Any, tmp_path: Path
) -> None:
    import qt
    import slicer

    _node, place, panel = ready
    click_all(panel, driver, place)
    driver.open(panel)
    path = tmp_path / "ball.safetensors"
    host.dialogs.answer(str(path))
    mouse.press(panel.ui.saveProbeButton)
    driver.settle()
    assert path.is_file()
    other, _place = scan(oblique(), "other", seed=3)
    driver.settle()
    items = panel.ui.targetList
    assert [items.item(row).text() for row in range(items.count)] == ["other"]
    items.item(0).setCheckState(qt.Qt.Checked)
    mouse.press(panel.ui.applyToButton)
    driver.settle()
    assert host.dialogs.texts("info") == ["Scans segmented: 1"]
    made = slicer.util.getNode("other segmentation")
    assert made.GetSegmentation().GetNthSegment(0).GetName() == "Structure 1"
    driver.embed(other)
    host.dialogs.answer(str(path))
    mouse.press(panel.ui.loadProbeButton)
    driver.settle()
    assert panel.few_shot.volume is other
    assert panel.few_shot.preview is not None
    assert panel.few_shot.message == ""
    # What is shown is what is written: the probe as it was adapted to this scan.
    shown = panel.few_shot.segmenter.probe_
    assert shown.scan_key_ == panel.logic.features.cached(other).key != panel.few_shot.given.scan_key_
    # How good it is on a scan it was not fitted on, its probabilities do not tell.
    assert not panel.few_shot.preview.dice_estimate
    mouse.press(panel.ui.applyButton)
    driver.settle()
    assert np.array_equal(panel.logic.probe.prompts_.points_ras, shown.prompts_.points_ras)
    host.dialogs.answer(str(tmp_path / "none.safetensors"))
    mouse.press(panel.ui.loadProbeButton)
    driver.settle()
    assert "There is no probe" in host.dialogs.texts("error")[-1]


def test_clicks_correct_a_probe_of_another_scan(ready: Any, driver: Any, scan: Any, tmp_path: Path) -> None:
    from CoralBaySlicerCore.scene import structures

    _node, place, panel = ready
    click_all(panel, driver, place)
    driver.open(panel)
    panel.few_shot.structures[0].node.SetName("ball")
    panel.few_shot.update()
    driver.settle()
    panel.logic.saveProbe(tmp_path / "ball.safetensors")
    other, there = scan(oblique(), "other", seed=3)
    driver.embed(other)
    assert panel.few_shot.structures == []
    host.dialogs.answer(str(tmp_path / "ball.safetensors"))
    mouse.press(panel.ui.loadProbeButton)
    driver.settle()
    # Its structures are there to be clicked on.
    ball, background = panel.few_shot.structures
    assert (ball.name, background.label) == ("ball", 0)

    def percent(world: Any) -> int:
        from CoralBaySlicerCore.scene import volumes

        from CoralBayLib.imaging.grid import Volume

        preview = panel.few_shot.preview
        return int(Volume(preview.percent[ball.label], preview.grid).nearest_values(volumes.from_world(other, [world]))[0])

    assert percent(there) > 50, panel.few_shot.message
    structures.add_point(background, there)
    driver.settle()
    assert panel.few_shot.given is not None
    assert percent(there) < 50
    # The probe's own prompts still speak beside the click.
    assert len(panel.few_shot.segmenter.probe_.prompts_) > 1
    assert panel.few_shot.segmenter.probe_.names_ == {ball.label: "ball"}
    mouse.press(panel.ui.undoButton)
    driver.settle()
    assert percent(there) > 50
    # Whoever clears everything begins anew.
    assert panel.ui.clearButton.enabled
    mouse.press(panel.ui.clearButton)
    driver.settle()
    assert panel.few_shot.given is None
    assert panel.few_shot.preview is None


def test_a_structure_that_is_not_there_is_named(ready: Any, driver: Any, scan: Any, tmp_path: Path) -> None:
    import slicer

    _node, place, panel = ready
    click_all(panel, driver, place)
    driver.open(panel)
    panel.few_shot.structures[0].node.SetName("ball")
    panel.few_shot.update()
    driver.settle()
    panel.logic.saveProbe(tmp_path / "ball.safetensors")
    empty, _there = scan(name="empty", seed=5)
    voxels = slicer.util.arrayFromVolume(empty)
    voxels[voxels > -500] = 30
    slicer.util.arrayFromVolumeModified(empty)
    driver.embed(empty)
    host.dialogs.answer(str(tmp_path / "ball.safetensors"))
    mouse.press(panel.ui.loadProbeButton)
    driver.settle()
    assert panel.few_shot.message == "Not found in this scan: ball. Click on them if they are present."
    assert not panel.few_shot.preview.labels.any()


@pytest.fixture
def folder(ready: Any, driver: Any, tmp_path: Path) -> Path:
    """A folder with a CT, and much that is none; a probe is at hand."""
    import slicer

    node, place, panel = ready
    click_all(panel, driver, place)
    driver.open(panel)
    folder = tmp_path / "scans"
    (folder / "empty").mkdir(parents=True)
    assert slicer.util.saveNode(node, str(folder / "one.nrrd"))
    assert slicer.util.saveNode(node, str(folder / "one.nii.gz"))
    (folder / "broken.nrrd").write_text("no image")
    (folder / "two.nrrd").write_bytes((folder / "one.nrrd").read_bytes()[:-4000])
    photo = slicer.util.addVolumeFromArray(np.indices((20, 20, 20)).sum(axis=0).astype(np.uint8), name="photo")
    assert slicer.util.saveNode(photo, str(folder / "photo.nrrd"))
    slicer.mrmlScene.RemoveNode(photo)
    (folder / "notes.txt").write_text("not looked at")
    driver.settle()
    return folder


def test_a_folder_is_segmented_and_what_was_left_out_is_listed(folder: Path, ready: Any, driver: Any) -> None:
    from CoralBayLib.imaging.segmentation_io import read_segmentation

    _node, _place, panel = ready
    assert not panel.ui.folderReport.visible
    host.dialogs.answer(str(folder))
    mouse.press(panel.ui.applyFolderButton)
    driver.settle()
    assert "written to" in host.dialogs.texts("warning")[0], host.dialogs.texts()
    labelmap, parts = read_segmentation(folder / "one.seg.nrrd")
    assert [part.name for part in parts] == ["Structure 1"]
    assert labelmap.array.any()
    assert panel.ui.folderReport.visible
    lines = panel.ui.folderReport.toPlainText().splitlines()
    assert lines[0].endswith(": 1. Scans skipped: 5.")
    reasons = dict(line.split(": ", 1) for line in lines[1:])
    assert set(reasons) == {"broken.nrrd", "two.nrrd", "photo.nrrd", "empty", "one.nrrd"}
    assert "Hounsfield" in reasons["photo.nrrd"]
    assert "one.seg.nrrd was written for another scan" in reasons["one.nrrd"]
    # Nothing half-written, and no leftovers.
    assert sorted(path.name for path in folder.glob("*.seg.nrrd")) == ["one.seg.nrrd"]
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]


def test_the_user_is_asked_before_files_are_replaced(folder: Path, ready: Any, driver: Any) -> None:
    _node, _place, panel = ready
    (folder / "one.seg.nrrd").write_text("drawn by hand")
    host.dialogs.answer(str(folder), False)
    mouse.press(panel.ui.applyFolderButton)
    driver.settle()
    assert "one.seg.nrrd" in host.dialogs.texts("confirm")[0]
    assert (folder / "one.seg.nrrd").read_text(encoding="utf-8") == "drawn by hand"
    result = panel.logic.applyProbeToFolder(panel.logic.probe, folder)
    assert result.written == {}
    assert "exists already" in str(result.failed[folder / "one.nrrd"])
    assert (folder / "one.seg.nrrd").read_text(encoding="utf-8") == "drawn by hand"
    result = panel.logic.applyProbeToFolder(panel.logic.probe, folder, overwrite=True)
    assert result.written == {folder / "one.nii.gz": folder / "one.seg.nrrd"}


def test_an_error_that_nobody_thought_of_does_not_stop_the_rest(
    folder: Path, ready: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from CoralBayLib.core.errors import CoralBayError
    from CoralBayLib.fewshot import batch

    _node, _place, panel = ready
    write, seen = batch.write_segmentation, []

    def fail_once(labelmap: Any, parts: Any, path: Path) -> None:
        seen.append(path)
        if len(seen) == 1:
            raise ZeroDivisionError("odd")
        write(labelmap, parts, path)

    monkeypatch.setattr(batch, "write_segmentation", fail_once)
    result = panel.logic.applyProbeToFolder(panel.logic.probe, folder)
    assert isinstance(result.failed[folder / "one.nii.gz"], ZeroDivisionError)
    assert result.written == {folder / "one.nrrd": folder / "one.seg.nrrd"}
    (folder / "nothing").mkdir()
    with pytest.raises(CoralBayError, match="no scans"):
        panel.logic.applyProbeToFolder(panel.logic.probe, folder / "nothing")


def test_other_scans_are_the_same_everywhere_and_scans_alone(ready: Any, driver: Any, coralbay: Any, scan: Any) -> None:
    import slicer
    from CoralBaySlicerCore.scene import volumes

    node, _place, panel = ready
    other, _place = scan(name="other", seed=3)
    for kind in ("LabelMap", "Vector"):
        slicer.mrmlScene.AddNewNodeByClass(f"vtkMRML{kind}VolumeNode", kind)
    coralbay.panel.parameters.everywhere = True
    coralbay.panel.feature_maps.show_colors()
    driver.settle()
    assert volumes.other_scans(node) == [other]
    assert [panel.ui.targetList.item(row).text() for row in range(panel.ui.targetList.count)] == ["other"]
    assert coralbay.panel.similar.ui.otherScansLabel.text == "Features to be computed first, which takes a while: other"


def test_a_folder_that_is_gone_is_told(folder: Path, ready: Any, driver: Any, tmp_path: Path) -> None:
    _node, _place, panel = ready
    host.dialogs.answer(str(tmp_path / "gone"))
    mouse.press(panel.ui.applyFolderButton)
    driver.settle()
    assert "The folder 'gone' cannot be read: No such file or directory." in host.dialogs.texts("error")[0]


def test_what_vanishes_or_cannot_be_read_is_told_and_the_rest_is_done(
    folder: Path, ready: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from CoralBayLib.fewshot import batch

    _node, _place, panel = ready
    (folder / "loop.nrrd").symlink_to(folder / "loop.nrrd")
    (folder / "late.nrrd").write_bytes((folder / "one.nrrd").read_bytes())
    (folder / "one.nrrd").unlink()
    (folder / "one.nii.gz").rename(folder / "last.nii.gz")
    write = batch.write_segmentation

    def write_and_tidy(*given: Any) -> None:
        write(*given)
        (folder / "two.nrrd").unlink(missing_ok=True)

    monkeypatch.setattr(batch, "write_segmentation", write_and_tidy)
    result = panel.logic.applyProbeToFolder(panel.logic.probe, folder)
    assert set(result.written) == {folder / "late.nrrd", folder / "last.nii.gz"}
    assert str(result.failed[folder / "loop.nrrd"]) == "It cannot be read: Too many levels of symbolic links."
    assert str(result.failed[folder / "two.nrrd"]) == "It cannot be read: No such file or directory."


def test_a_folder_asks_before_weights_are_downloaded(
    folder: Path, ready: Any, driver: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from CoralBayLib.core.errors import WeightsError
    from CoralBayLib.encoders import EncoderCard, get_entry, registry
    from CoralBayLib.encoders.weights import DownloadRequest

    def load(weights: Any = None, device: Any = "cpu", consent: Any = None, *, setting: Any = None) -> Any:
        if consent is None or not consent(DownloadRequest("weights of X", "300 MB", "https://example.org", "MIT")):
            raise WeightsError("No weights.")
        return get_entry("pooling").load()

    _node, _place, panel = ready
    probe = panel.logic.probe
    monkeypatch.setitem(registry._registry, "asking", registry.EncoderEntry(EncoderCard("asking", "", ""), load))
    panel.parameters.encoder = "asking"
    driver.settle()
    panel.logic.probe = probe
    for answer in (False, True):
        host.dialogs.answer(str(folder), answer)
        mouse.press(panel.ui.applyFolderButton)
        driver.settle()
        assert "300 MB" in host.dialogs.texts("confirm")[-1]
    assert "No weights." in host.dialogs.texts("error")[0]
    assert (folder / "one.seg.nrrd").is_file()
