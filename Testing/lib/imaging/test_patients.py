"""Folders of patients with labels: what is found, what is refused, and which structures were looked for."""

import json

import numpy as np
import pytest

import CoralBayLib as cb
from CoralBayLib.core.errors import VolumeError
from CoralBayLib.imaging.grid import Grid, Volume
from CoralBayLib.imaging.patients import (
    LabeledPatient,
    chosen_names,
    common_names,
    find_patients,
    names_from_json,
    read_labels,
    renumbered,
)
from CoralBayLib.imaging.segmentation_io import Segment, write_segmentation
from Testing.lib.imaging.segmentations.ct_series import write_series

GRID = Grid((6, 8, 10), np.diag([2.0, 2.0, 5.0, 1.0]))


def scan():
    return Volume(np.full(GRID.shape, 40, np.int16), GRID)


def labels(*values, grid=GRID):
    array = np.zeros(grid.shape, np.uint8)
    for n, value in enumerate(values):
        array[2, 3, n] = value
    return Volume(array, grid)


def patient(folder, labelmap=None, names=None, ct="ct.nii.gz", file="labels.nii.gz"):
    folder.mkdir(parents=True)
    if ct:
        cb.write_volume(scan(), folder / ct)
    if labelmap is not None:
        cb.write_volume(labelmap, folder / file)
    if names is not None:
        (folder / "labels.json").write_text(json.dumps(names))
    return folder


def reasons(found):
    return {path.rpartition("/")[2]: reason for path, reason in ((each.path, each.reason) for each in found.left_out)}


def test_a_folder_for_each_patient(tmp_path):
    patient(tmp_path / "b", labels(1, 2), {"1": "liver", "2": "spleen", "3": "kidney"})
    patient(tmp_path / "a", labels(5), {"5": "Liver"}, ct="CT.nrrd", file="labels.mha")
    (tmp_path / "notes.txt").write_text("")
    patient(tmp_path / ".hidden", labels(1))
    (tmp_path / "figures").mkdir()
    found = find_patients(tmp_path)
    assert [each.name for each in found.patients] == ["a", "b"]
    assert [each.is_fault for each in found.left_out] == [False]
    read = [read_labels(each) for each in found.patients]
    # A structure without voxels was looked for when it is listed, and is not known of otherwise.
    assert [each.names for each in read] == [{5: "Liver"}, {1: "liver", 2: "spleen", 3: "kidney"}]
    common = common_names(each.names for each in read)
    assert common == {1: "Liver", 2: "spleen", 3: "kidney"}
    assert np.unique(renumbered(read[0].labelmap, read[0].names, common).array).tolist() == [0, 1]
    assert np.unique(renumbered(read[1].labelmap, read[1].names, {1: "Spleen"}).array).tolist() == [0, 1]


def test_segmentations_have_their_own_names_and_may_be_cropped(tmp_path):
    folder = patient(tmp_path / "a", names={"1": "not used"})
    part = GRID.subgrid([1, 2, 1], 1, (3, 4, 5))
    array = np.zeros(part.shape, np.uint8)
    array[1, 1, 1] = 4
    segments = [Segment(4, "aorta", (1, 0, 0)), Segment(6, "trachea", (0, 1, 0))]
    write_segmentation(Volume(array, part), segments, folder / "labels.seg.nrrd")
    (one,) = find_patients(tmp_path).patients
    read = read_labels(one)
    assert read.names == {4: "aorta", 6: "trachea"}
    assert np.argwhere(read.labelmap.array).tolist() == [[2, 3, 2]] and read.labelmap.grid.same_as(GRID)
    elsewhere = Volume(array, part.subgrid([100, 0, 0], 1, part.shape))
    write_segmentation(elsewhere, segments, folder / "labels.seg.nrrd")
    with pytest.raises(VolumeError, match="outside of the scan"):
        read_labels(one)


def test_labels_as_dicom_seg_lie_on_the_scan(tmp_path):
    tilt = np.cos(0.3), np.sin(0.3)
    fields = {"row": (tilt[0], tilt[1], 0), "column": (-tilt[1], tilt[0], 0), "spacing_mm": (0.43, 1.1, 5.0), "downwards": True}
    series = write_series(tmp_path / "a" / "ct", np.zeros((6, 8, 10), np.int16), **fields)
    array = np.zeros((6, 8, 10), np.uint8)
    array[1, 2, 3], array[4, 5:7, 8] = 1, 2
    labelmap = Volume(array, cb.read_volume(series).grid)
    segments = [Segment(n, name, (1, 0, 0)) for n, name in enumerate(("aorta", "trachea", "liver"), start=1)]
    cb.write_dicom_seg(labelmap, segments, tmp_path / "a" / "labels.dcm", series)
    (tmp_path / "a" / "labels.json").write_text('{"1": "not used"}')
    (one,) = find_patients(tmp_path).patients
    read = read_labels(one)
    assert read.names == {1: "aorta", 2: "trachea", 3: "liver"} and read.labelmap.grid.same_as(labelmap.grid)
    np.testing.assert_array_equal(read.labelmap.array, array)
    # A scan with other voxels gets the labels of the nearest ones.
    finer = labelmap.grid.with_spacing(labelmap.grid.spacing_mm / (1, 1, 2))
    moved = read_labels(one, finer).labelmap
    centers = finer.to_ras(np.argwhere(moved.array == 1)[:, ::-1])
    assert len(centers) == 2 and np.abs(centers.mean(0) - labelmap.grid.to_ras([3, 2, 1])).max() < 1e-3
    (tmp_path / "a" / "labels.dcm").rename(tmp_path / "labels")
    unsuffixed = read_labels(LabeledPatient("a", series, tmp_path / "labels", None))
    np.testing.assert_array_equal(unsuffixed.labelmap.array, array)


def test_names_for_all_patients_and_no_names(tmp_path):
    patient(tmp_path / "a", labels(3))
    assert read_labels(find_patients(tmp_path).patients[0]).names == {3: "Structure 3"}
    (tmp_path / "labels.json").write_text(json.dumps({"3": "liver", "4": "spleen"}))
    assert read_labels(find_patients(tmp_path).patients[0]).names == {3: "liver", 4: "spleen"}


def test_what_is_missing_or_there_twice_is_told(tmp_path):
    patient(tmp_path / "good", labels(1), {"1": "liver"})
    patient(tmp_path / "no labels")
    patient(tmp_path / "no scan", labels(1), ct=None)
    cb.write_volume(labels(1), patient(tmp_path / "two labels", labels(1)) / "labels.nrrd")
    cb.write_volume(scan(), patient(tmp_path / "two scans", labels(1)) / "ct.mha")
    (patient(tmp_path / "no json", labels(1)) / "labels.json").write_text("{")
    found = find_patients(tmp_path)
    assert [each.name for each in found.patients] == ["good"]
    told = reasons(found)
    assert told["no labels"] == "There are no labels of this scan."
    assert "no scan" in told["no scan"]
    assert "labels.nii.gz, labels.nrrd" in told["two labels"]
    assert "ct.mha, ct.nii.gz" in told["two scans"]
    assert "not valid JSON" in told["no json"]
    unlabeled = find_patients(tmp_path, unlabeled=True)
    assert [(each.name, each.labels is None) for each in unlabeled.patients] == [("good", False), ("no labels", True)]


def test_a_folder_without_patients(tmp_path):
    with pytest.raises(VolumeError, match="no patient with a scan and labels"):
        find_patients(tmp_path)
    patient(tmp_path / "a", labels(1), ct=None)
    with pytest.raises(VolumeError, match="a: There are labels, but no scan"):
        find_patients(tmp_path)
    patient(tmp_path / "one" / "b", labels(1))
    with pytest.raises(VolumeError, match="the folder of one patient"):
        find_patients(tmp_path / "one" / "b")
    with pytest.raises(VolumeError, match="cannot be read"):
        find_patients(tmp_path / "none")


def test_grids_that_differ(tmp_path):
    patient(tmp_path / "a", labels(1, grid=Grid((6, 8, 9), GRID.ijk_to_ras)), {"1": "liver"})
    patient(tmp_path / "b", labels(1, grid=GRID.subgrid([3, 0, 0], 1, GRID.shape)), {"1": "liver"})
    patient(tmp_path / "c", labels(1, grid=GRID.subgrid([0.01, 0, 0], 1, GRID.shape)), {"1": "liver"})
    patient(tmp_path / "d", labels(1, 7), {"1": "liver"})
    a, b, c, d = find_patients(tmp_path).patients
    with pytest.raises(VolumeError, match="9x8x6 voxels, and the scan ct.nii.gz has 10x8x6"):
        read_labels(a)
    with pytest.raises(VolumeError, match="lies elsewhere"):
        read_labels(b)
    assert read_labels(c).labelmap.grid.same_as(GRID, 1e-5)
    with pytest.raises(VolumeError, match="label 7, which has no name"):
        read_labels(d)


def dataset(folder, names, images, labeled, **more):
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True)
    for name in images:
        cb.write_volume(scan(), folder / "imagesTr" / name)
    for name in labeled:
        cb.write_volume(labels(1), folder / "labelsTr" / name)
    if names is not None:
        (folder / "dataset.json").write_text(json.dumps({"labels": names, **more}))


def test_a_data_set_of_nnunet(tmp_path):
    images = ["case_001_0000.nrrd", "case_002_0000.nrrd"]
    dataset(tmp_path, {"background": 0, "liver": 1}, images, ["case_001.nrrd", "case_009.nrrd"], file_ending=".nrrd")
    found = find_patients(tmp_path)
    assert [(each.name, each.names) for each in found.patients] == [("case_001", {1: "liver"})]
    assert reasons(found) == {
        "case_002_0000.nrrd": "There are no labels of this scan.",
        "case_009.nrrd": "There are labels, but no scan case_009_0000.nrrd in imagesTr.",
    }
    assert read_labels(found.patients[0]).labelmap.array.max() == 1


def test_the_older_form_without_channels(tmp_path):
    dataset(tmp_path, {"0": "background", "1": "liver"}, ["spleen_2.nii.gz"], ["spleen_2.nii.gz"], modality={"0": "CT"})
    assert [(each.name, each.names) for each in find_patients(tmp_path).patients] == [("spleen_2", {1: "liver"})]


def test_data_sets_that_cannot_be_used(tmp_path):
    dataset(tmp_path / "bare", None, ["a_0000.nii.gz"], ["a.nii.gz"])
    with pytest.raises(VolumeError, match=r"has no dataset\.json"):
        find_patients(tmp_path / "bare")
    dataset(tmp_path / "channels", {"liver": 1}, ["a_0000.nii.gz", "a_0001.nii.gz"], ["a.nii.gz"])
    with pytest.raises(VolumeError, match="several channels"):
        find_patients(tmp_path / "channels")
    (tmp_path / "half" / "imagesTr").mkdir(parents=True)
    with pytest.raises(VolumeError, match="no folder labelsTr"):
        find_patients(tmp_path / "half")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"1": ["liver"]}, "several labels"),
        ({"tumor": [1, 2]}, "several labels"),
        ({"liver": 70000}, "from 0 to 65535"),
        ({"liver": -1}, "from 0 to 65535"),
        ({"1": ""}, "has no name"),
        ({"1": "background"}, "named 'background'"),
        ({"ignore": 3}, "to ignore"),
        ({"liver": 1, "spleen": 1}, "named twice"),
        ({"1": "Liver", "2": "liver"}, "two structures are named"),
    ],
)
def test_names_that_cannot_be_used(given, words):
    with pytest.raises(VolumeError, match=words):
        names_from_json(given, "labels.json")


def test_structures_that_are_chosen_are_numbered_anew():
    known = {1: "liver", 2: "spleen", 3: "kidney"}
    assert chosen_names(known, ["Kidney", "LIVER"]) == {1: "liver", 2: "kidney"}
    assert chosen_names(known, []) == known
    with pytest.raises(VolumeError, match="'heart'. There are liver, spleen, kidney"):
        chosen_names(known, ["heart"])
