"""`coralbay check`: every file is reported, and none ends the run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import CoralBayLib as cb
from CoralBayLib.cli import other_files
from CoralBayLib.core.tensor_files import write_tensors
from CoralBayLib.imaging.segmentations.dicom_seg import write_dicom_seg
from Testing.lib.conftest import phantom, phantom_grid
from Testing.lib.imaging.segmentations.ct_series import write_series
from Testing.lib.imaging.test_dicom import SECRET, UID
from Testing.lib.imaging.test_dicom import write as write_dicom


def slices(n=6):
    array = np.random.default_rng(0).integers(-1010, -990, (n, 12, 14)).astype(np.int16)
    array[:, 3:9, 3:10] += 1040
    return array


@pytest.fixture
def folder(tmp_path):
    """Scans of several kinds, all sound."""
    folder = tmp_path / "scans"
    (folder / "more").mkdir(parents=True)
    cb.write_volume(phantom(phantom_grid("oblique")), folder / "more" / "ct.nii.gz")
    cb.write_volume(phantom(phantom_grid("sheared")), folder / "sheared.nrrd")
    write_dicom(folder / "dicom", slices(), description="Thorax")
    write_dicom(folder / "dicom", slices(1), series=2, description="Topogram")
    labels = np.zeros((6, 6, 6), np.uint8)
    labels[2:4, 2:5] = 1
    labelmap = cb.Volume(labels, cb.Grid(labels.shape, np.diag([4.0, 4, 4, 1])))
    cb.write_segmentation(labelmap, [cb.Segment(1, "liver", (1, 0, 0))], folder / "organs.seg.nrrd")
    cb.write_volume(labelmap, folder / "organs.nii.gz")
    return folder


def by_path(out):
    """The lines of each report by the last part of its path, and the verdict before it."""
    reports, verdicts, last = {}, {}, ""
    for line in out.splitlines():
        if line.startswith(("ok ", "FAULT ")):
            verdict, path = line.split(maxsplit=1)
            last = Path(path).name
            verdicts[last], reports[last] = verdict, []
        elif line.startswith(" "):
            reports[last].append(line.strip())
    return verdicts, reports


def test_a_folder_of_sound_scans(folder, run):
    status, out, err = run("check", folder)
    verdicts, reports = by_path(out)
    assert (status, err) == (0, "")
    assert verdicts == dict.fromkeys(["dicom", "ct.nii.gz", "organs.nii.gz", "organs.seg.nrrd", "sheared.nrrd"], "ok")
    assert out.splitlines()[-1] == "Scans that can be used: 3. Other files: 2. With a fault: 0."
    assert reports["dicom"][0].startswith("DICOM, series 'Thorax', 6 slices, ")
    assert "0.7 x 0.8 x 2.5 mm" in reports["dicom"][1]
    assert "axial slices, i, j, k point to L, P, S" in reports["dicom"][1]
    assert "as in a CT in HU" in reports["dicom"][2]
    assert reports["dicom"][3].startswith("Note: The series 'Topogram' (1 image) is left out.")
    assert reports["ct.nii.gz"][0].startswith("NIfTI-1, ")
    assert reports["ct.nii.gz"][0].endswith("compressed (gzip), checksum correct")
    assert "oblique by 2" in reports["ct.nii.gz"][1]
    assert "axes sheared by 1" in reports["sheared.nrrd"][1]
    assert reports["organs.nii.gz"][-1] == "Not a scan: a labelmap with labels from 0 to 1."
    assert reports["organs.seg.nrrd"][-1] == "Not a scan: a segmentation with the segments liver."


def test_faults_are_told_in_words_and_no_other_file_suffers(folder, run):
    data = bytearray((folder / "more" / "ct.nii.gz").read_bytes())
    data[-6] ^= 1
    (folder / "damaged.nii.gz").write_bytes(data)
    (folder / "empty.nrrd").write_bytes(b"")
    write_dicom(folder / "gap", slices(), offsets=[0, 1, 2, 4, 5, 6])
    scaled = phantom(phantom_grid())
    cb.write_volume(cb.Volume((scaled.array / 3000).astype(np.float32), scaled.grid), folder / "scaled.nrrd")
    status, out, err = run("check", folder, folder / "no-such.nrrd")
    verdicts, reports = by_path(out)
    assert (status, err) == (1, "")
    assert {name for name, verdict in verdicts.items() if verdict == "FAULT"} == {
        "damaged.nii.gz",
        "empty.nrrd",
        "gap",
        "scaled.nrrd",
        "no-such.nrrd",
    }
    assert out.splitlines()[-1] == "Scans that can be used: 3. Other files: 2. With a fault: 5."
    assert "fail their own check" in reports["damaged.nii.gz"][-1]
    assert "Copy or download it again." in reports["damaged.nii.gz"][-1]
    assert reports["scaled.nrrd"][-1].endswith("run it again with --assume-hu.")
    assert "not evenly spaced" in reports["gap"][-1]
    status, out, _ = run("check", folder / "scaled.nrrd", "--assume-hu")
    assert status == 0
    assert "HU" not in out


def test_json_is_one_document_without_patients(folder, run):
    (folder / "empty.nrrd").write_bytes(b"")
    status, out, err = run("check", folder, "--json")
    assert (status, err) == (1, "")
    document = json.loads(out)
    assert (document["usable_scans"], document["other_files"], document["faulty"]) == (3, 2, 1)
    scans = {Path(each["path"]).name: each for each in document["scans"]}
    assert scans["dicom"]["series"] == {"description": "Thorax", "modality": "CT", "images": 6, "slices": 6}
    assert scans["dicom"]["geometry"]["spacing_mm"] == pytest.approx([0.7, 0.8, 2.5])
    assert scans["sheared.nrrd"]["looks_like_hu"] is True
    assert scans["sheared.nrrd"]["checksum"] == "correct"
    assert scans["empty.nrrd"]["faults"] == [
        {"error": "empty.nrrd is empty (0 bytes). Copy or download it again.", "kind": "VolumeError", "remedy": None}
    ]
    assert scans["organs.seg.nrrd"]["segments"] == ["liver"]
    assert SECRET not in out
    assert UID not in out


def test_several_series_of_one_folder_are_told_apart(tmp_path, run):
    folder = write_dicom(write_dicom(tmp_path / "two", slices(), description="soft"), slices(5), series=2, description="sharp")
    write_dicom(folder, slices(1), series=3, description="scout")
    status, out, _ = run("check", folder)
    verdicts, reports = by_path(out)
    assert status == 0
    assert verdicts == {"1-001.dcm": "ok", "2-001.dcm": "ok", "3-001.dcm": "ok"}
    assert reports["2-001.dcm"][0].startswith("DICOM, series 'sharp', 5 slices")
    assert reports["3-001.dcm"] == ["Not a scan: A CT series of one image, not a scan: a scout or a single slice."]


def test_a_series_of_mr_is_a_fault_in_the_reader_s_words(tmp_path, run):
    status, out, _ = run("check", write_dicom(tmp_path / "mr", slices(), modality="MR"))
    assert status == 1
    assert "The series has modality MR. Expected CT" in out


def test_the_list_of_files_of_a_cd_is_no_scan(tmp_path, run):
    (tmp_path / "cd").mkdir()
    write_dicom(tmp_path / "cd" / "A", slices())
    (tmp_path / "cd" / "DICOMDIR").write_bytes(bytes(128) + b"DICM")
    status, out, _ = run("check", tmp_path / "cd")
    assert status == 0
    assert by_path(out)[0] == {"A": "ok"}


def test_a_folder_without_scans_and_one_given_twice(folder, tmp_path, run):
    (tmp_path / "none").mkdir()
    status, out, _ = run("check", tmp_path / "none", folder, folder, folder / "sheared.nrrd")
    assert status == 1
    assert out.count("There are no scans in this folder") == 1
    assert out.count("sheared.nrrd") == 1


def test_files_that_are_no_scans(tmp_path, run):
    cb.Prompts([[1, 2, 3], [4, 5, 6], [7, 8, 9]], [1, 1, 0], {1: "liver"}).save(tmp_path / "p.json")
    (tmp_path / "q.json").write_text("{")
    (tmp_path / "t.csv").write_text("scan,patient,target\na.nrrd,x,1\n")
    (tmp_path / "u.csv").write_text("scan,Scan\na.nrrd,x\n")
    write_tensors(
        tmp_path / "b.safetensors", "basis", {"signature": "s"}, {"weights": torch.zeros(3, 4), "bias": torch.zeros(3)}
    )
    data = bytearray((tmp_path / "b.safetensors").read_bytes())
    data[-1] ^= 1
    (tmp_path / "c.safetensors").write_bytes(data)
    (tmp_path / "d.safetensors").write_bytes(b"nothing")
    files = sorted(tmp_path.iterdir())
    status, out, err = run("check", *files)
    verdicts, reports = by_path(out)
    assert (status, err) == (1, "")
    assert [name for name, verdict in verdicts.items() if verdict == "ok"] == ["b.safetensors", "p.json", "t.csv"]
    assert reports["p.json"] == ["Not a scan: prompts with points for liver (2), background (1)."]
    assert reports["t.csv"] == ["Not a scan: a table with 1 rows and the columns scan, patient, target."]
    assert reports["b.safetensors"] == ["Not a scan: a file of CoralBay of the kind 'basis'."]
    assert "its checksum is wrong" in reports["c.safetensors"][-1]
    assert "is not valid JSON" in reports["q.json"][-1]
    assert "more than one column" in reports["u.csv"][-1]
    document = json.loads(run("check", *files, "--json")[1])
    assert [bool(each["faults"]) for each in document["others"]] == [verdicts[file.name] == "FAULT" for file in files]


def test_a_dicom_segmentation_is_no_scan_and_no_fault(tmp_path, run, monkeypatch):
    pytest.importorskip("highdicom")
    series = write_series(tmp_path / "ct", np.zeros((4, 8, 8), np.int16) + np.arange(4, dtype=np.int16)[:, None, None])
    grid = cb.read_volume(series).grid
    file = tmp_path / "out.dcm"
    write_dicom_seg(cb.Volume(np.ones(grid.shape, np.uint8), grid), [cb.Segment(1, "liver", (1, 0, 0))], file, series)
    status, out, _ = run("check", file, series)
    verdicts, reports = by_path(out)
    assert status == 0 and verdicts["out.dcm"] == "ok"
    assert reports["out.dcm"][0].startswith("DICOM, ") and reports["out.dcm"][1].startswith("8 x 8 x 4 voxels of 0.7 x 0.8 x")
    assert reports["out.dcm"][2] == "Not a scan: a segmentation with the segments liver."
    assert "With a fault: 0." in out
    (tmp_path / "alone").mkdir()
    file.rename(tmp_path / "alone" / "out.dcm")
    status, out, _ = run("check", tmp_path / "alone")
    assert status == 0 and "Not a scan: DICOM segmentations without a scan." in out
    monkeypatch.setattr(other_files, "find_spec", lambda name: None)
    status, out, _ = run("check", tmp_path / "alone" / "out.dcm")
    assert status == 0 and "it was not checked, because that needs the package highdicom" in out


def test_an_unforeseen_error_is_a_fault_of_one_file(folder, run, monkeypatch):
    from CoralBayLib.imaging import inspection

    def fail(path, assume_hu=False, read=inspection.inspect_scan):
        if str(path).endswith("sheared.nrrd"):
            raise RuntimeError("shapes differ")
        return read(path, assume_hu=assume_hu)

    monkeypatch.setattr(inspection, "inspect_scan", fail)
    status, out, err = run("check", folder)
    assert (status, err) == (1, "")
    assert "sheared.nrrd could not be checked, because of an unexpected error (RuntimeError: shapes differ)" in out
    assert "Scans that can be used: 2. Other files: 2. With a fault: 1." in out


def test_paths_that_no_file_can_have(folder, run):
    status, out, _ = run(
        "check", "x" * 5000, "x" * 5000 + ".json", "~nobody_of_this_name/a.nrrd", "a\0b", folder / "sheared.nrrd"
    )
    assert status == 1
    assert out.count("FAULT") == 4
    assert "Scans that can be used: 1." in out


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no names that are not UTF-8")
def test_names_that_are_not_utf8(folder, run):
    (folder / "more").rename(os.fsdecode(os.fsencode(folder) + b"/M\xfcller"))
    status, out, _ = run("check", folder, "--json")
    assert status == 0
    assert any(each["path"].endswith("M?ller/ct.nii.gz") for each in json.loads(out)["scans"])


def test_paths_stay_as_they_were_given(folder, run, monkeypatch):
    monkeypatch.chdir(folder)
    _, out, _ = run("check", ".", "no-such.nrrd", "--json")
    assert str(folder) not in out
    assert {each["path"] for each in json.loads(out)["scans"]} >= {"dicom", str(Path("more", "ct.nii.gz")), "no-such.nrrd"}


def test_nothing_is_computed_and_nothing_written(folder, tmp_path):
    """torch, which every computation needs, is not even loaded."""
    before = sorted((each, each.stat().st_mtime_ns) for each in tmp_path.rglob("*"))
    code = "import sys\nfrom CoralBayLib.cli import main\nassert main(sys.argv[1:]) == 0\nassert 'torch' not in sys.modules\n"
    environment = os.environ | {"CORALBAY_CACHE": str(tmp_path / "cache")}
    command = [sys.executable, "-c", code, "check", str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert sorted((each, each.stat().st_mtime_ns) for each in tmp_path.rglob("*")) == before
