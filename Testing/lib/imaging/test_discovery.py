"""What in a folder is a scan, and when it counts as changed."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest

import CoralBayLib as cb
from CoralBayLib.imaging.discovery import find_scans
from Testing.lib.imaging.test_dicom import write as write_dicom
from Testing.lib.library.conftest import make_scan, scans

__all__ = ["scans"]


def names(found, folder):
    return [os.path.relpath(each.path, folder) for each in found]


def test_images_in_folders_and_subfolders_each_once(scans):
    (scans / "more").mkdir()
    cb.write_volume(make_scan("a"), scans / "more" / "d.nii.gz")
    (scans / "notes.txt").write_text("no scan")
    (scans / ".hidden.nrrd").write_text("no scan")
    (scans / "organs.seg.nrrd").write_text("no scan")
    found, skipped = find_scans([scans, scans / "a.nrrd", scans / "no-such.nrrd"])
    assert names(found, scans) == ["a.nrrd", "b.nrrd", "c.nrrd", "more/d.nii.gz"]
    assert names(skipped, scans) == ["no-such.nrrd", "organs.seg.nrrd"]
    assert "no such file" in skipped[0].reason
    assert "segmentation" in skipped[1].reason


def test_a_folder_of_slices_is_one_scan(tmp_path):
    array = np.zeros((4, 8, 8), np.int16)
    write_dicom(tmp_path / "one", array)
    (tmp_path / "one" / "report.txt").write_text("no slice")
    found, skipped = find_scans([tmp_path])
    assert names(found, tmp_path) == ["one"]
    assert not skipped


def test_a_folder_of_two_series_is_two_scans_that_can_be_read(tmp_path):
    write_dicom(tmp_path / "two", np.full((4, 8, 8), 7, np.int16), series=1)
    write_dicom(tmp_path / "two", np.full((3, 8, 8), 9, np.int16), series=2)
    write_dicom(tmp_path / "two", np.full((3, 8, 8), 9, np.int16), series=3, modality="MR")
    found, _ = find_scans([tmp_path])
    assert [cb.read_volume(each.path).array[0, 0, 0] for each in found] == [7, 9]


def test_dicom_without_a_ct_is_skipped(tmp_path):
    write_dicom(tmp_path / "mr", np.zeros((4, 8, 8), np.int16), modality="MR")
    found, skipped = find_scans([tmp_path])
    assert not found
    assert "No CT series" in skipped[0].reason


def test_the_stamp_changes_with_the_files_and_tells_nothing_of_them(scans):
    before = {each.path: each.fingerprint for each in find_scans([scans])[0]}
    os.utime(scans / "b.nrrd", (1, 1))
    after = {each.path: each.fingerprint for each in find_scans([scans])[0]}
    assert {Path(path).name for path in before if before[path] != after[path]} == {"b.nrrd"}
    assert all(len(stamp) == 32 and int(stamp, 16) for stamp in after.values())


def test_a_known_folder_of_slices_is_not_looked_into_again(tmp_path, monkeypatch):
    write_dicom(tmp_path / "one", np.zeros((4, 8, 8), np.int16))
    known = {each.path: each.fingerprint for each in find_scans([tmp_path])[0]}
    monkeypatch.setattr("CoralBayLib.imaging.discovery.ct_series", lambda folder: 1 / 0)
    assert [each.path for each in find_scans([tmp_path], known)[0]] == list(known)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no names that are not UTF-8")
def test_names_that_are_not_utf8_are_skipped_in_words(scans):
    for name in (b"M\xfcller", b"dicom\xe9"):
        os.mkdir(os.fsencode(scans) + b"/" + name)  # noqa: PTH102 - bytes
    (scans / "c.nrrd").rename(os.fsdecode(os.fsencode(scans) + b"/M\xfcller/c.nrrd"))
    found, skipped = find_scans([scans, os.fsdecode(os.fsencode(scans) + b"/no\xff.nrrd")])
    assert names(found, scans) == ["a.nrrd", "b.nrrd"]
    assert names(skipped, scans) == ["M?ller/c.nrrd", "no?.nrrd"]
    assert "UTF-8" in skipped[0].reason


def test_paths_that_no_file_can_have_are_skipped(scans):
    found, skipped = find_scans([scans, "x" * 5000, "~nobody_of_this_name/a.nrrd", "a\0b"])
    assert len(found) == 3
    assert len(skipped) == 3


def test_a_folder_that_cannot_be_read_is_skipped_in_words(scans, monkeypatch):
    (scans / "locked").mkdir()
    scandir = os.scandir

    def refuse(path):
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    found, skipped = find_scans([scans])
    assert names(found, scans) == ["a.nrrd", "b.nrrd", "c.nrrd"]
    assert names(skipped, scans) == ["locked"]
    assert skipped[0].reason == "It cannot be read: Permission denied."


def test_segmentations_and_scouts_are_no_faults(tmp_path):
    array = np.zeros((4, 8, 8), np.int16)
    write_dicom(tmp_path / "ct", array)
    write_dicom(tmp_path / "ct", array[:1], series=2)
    write_dicom(tmp_path / "mr", array, modality="MR")
    (tmp_path / "organs.seg.nrrd").write_text("no scan")
    report = write_dicom(tmp_path / "report", array[:1], modality="SR") / "1-001.dcm"
    report.write_bytes(report.read_bytes().partition(b"\xe0\x7f\x10\x00")[0])
    _, skipped = find_scans([tmp_path])
    assert {Path(each.path).name: each.is_fault for each in skipped} == {
        "2-001.dcm": False,
        "mr": True,
        "organs.seg.nrrd": False,
        "report": False,
    }
    assert "without voxels" in skipped[-1].reason
