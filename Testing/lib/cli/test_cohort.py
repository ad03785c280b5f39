"""`coralbay cohort`, on the stand-in for learning."""

from __future__ import annotations

import json

import numpy as np
import pytest

import CoralBayLib as cb
from CoralBayLib.imaging.palette import label_color
from CoralBayLib.imaging.segmentations.dicom_seg import write_dicom_seg
from Testing.lib.cohort.stand_in import STRUCTURES, StandIn, make_scan, write_scans
from Testing.lib.imaging.segmentations.ct_series import write_series


@pytest.fixture
def learner(pooling_by_name, monkeypatch):
    """In place of the probe and its features."""
    learner = StandIn()
    monkeypatch.setattr("CoralBayLib.cohort.ProbeLearner", lambda *_: learner)
    return learner


@pytest.fixture
def cohort(run, tmp_path, learner):
    write_scans(tmp_path / "scans", 3)
    folder = tmp_path / "cohort"
    assert run("cohort", "create", folder, "--structures", *STRUCTURES)[0] == 0
    status, out, _ = run("cohort", "add", folder, tmp_path / "scans")
    assert (status, out) == (0, "3 added, 3 in the cohort.\n")
    return folder


def write_truth(path, number, structures=STRUCTURES):
    labels = make_scan(number)[1]
    segments = [cb.Segment(n, name, label_color(n)) for n, name in enumerate(STRUCTURES, 1) if name in structures]
    labels.array[~np.isin(labels.array, [segment.label for segment in segments])] = 0
    cb.write_segmentation(labels, segments, path)
    return path


def json_of(run, *arguments):
    status, out, err = run(*arguments, "--json")
    assert "Traceback" not in err
    return status, json.loads(out)


def test_from_an_empty_folder_to_the_card(run, cohort, tmp_path, learner):
    options = ("--encoder", "pooling")
    assert json_of(run, "cohort", "status", cohort)[1]["counts"]["to do"] == 3
    status, found = json_of(run, "cohort", "next", cohort)
    assert found["scan"]["name"] == "scan0" and found["segmentation"] is None
    truth = write_truth(tmp_path / "scan0.seg.nrrd", 0)
    status, done = json_of(run, "cohort", "accept", cohort, "scan0", truth, "--by", "AB", *options)
    assert status == 0 and done["structures"] == STRUCTURES
    assert np.array_equal(cb.read_segmentation(done["written"])[0].array, make_scan(0)[1].array)
    status, made = json_of(run, "cohort", "suggest", cohort, "--all", *options)
    assert status == 0 and sorted(made["written"]) == ["scan1", "scan2"]
    status, out, _ = run("cohort", "next", cohort)
    assert "suggested: " in out and ".seg.nrrd" in out
    assert run("cohort", "accept", cohort, "scan1", *options)[0] == 0
    status, card = json_of(run, "cohort", "card", cohort)
    assert [point["patients"] for point in card["curve"]] == [1] and card["curve"][0]["mean"] == 1.0
    assert (cohort / "model-card.md").is_file()
    _, out, _ = run("cohort", "status", cohort)
    assert "1 to do" not in out and "0 to do, 1 suggested, 0 corrected, 2 accepted" in out


def test_a_structure_without_a_segment_is_not_annotated(run, cohort, tmp_path, learner):
    truth = write_truth(tmp_path / "t.seg.nrrd", 0, STRUCTURES[:1])
    status, _, err = run("cohort", "accept", cohort, "scan0", truth, "--encoder", "pooling")
    assert status == 0 and "Not annotated: dark spot" in err
    assert learner.learned == [["bright spot"]]


def test_a_plain_labelmap_has_the_numbers_of_the_cohort(run, cohort, tmp_path, learner):
    cb.write_volume(make_scan(1)[1], tmp_path / "labels.nii.gz")
    assert run("cohort", "accept", cohort, "scan1", tmp_path / "labels.nii.gz", "--encoder", "pooling")[0] == 0
    assert learner.learned == [sorted(STRUCTURES)]
    # With a list of names beside it, its own.
    labels = make_scan(2)[1]
    labels.array[labels.array == 2] = 0
    labels.array[labels.array == 1] = 5
    cb.write_volume(labels, tmp_path / "labels.nii.gz")
    (tmp_path / "labels.json").write_text('{"5": "Bright Spot"}')
    status, done = json_of(run, "cohort", "accept", cohort, "scan2", tmp_path / "labels.nii.gz", "--encoder", "pooling")
    assert status == 0 and done["structures"] == ["bright spot"] and learner.learned[-1] == ["bright spot"]
    assert np.array_equal(cb.read_segmentation(done["written"])[0].array, make_scan(2)[1].array == 1)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("status", "nowhere"), "coralbay cohort create"),
        (("suggest", "cohort", "--encoder", "pooling"), "Nothing was accepted yet"),
        (("suggest", "cohort", "scan9", "--encoder", "pooling"), "no scan 'scan9'"),
        (("accept", "cohort", "scan0", "--encoder", "pooling"), "no segmentation of 'scan0'"),
        (("accept", "cohort", "scan0", "other.seg.nrrd", "--encoder", "pooling"), "bright spot, dark spot"),
        (("create", "scans", "--structures", "liver"), "not empty"),
        (("card", "cohort", "-o", "card.txt"), ".md"),
    ],
)
def test_errors_say_what_to_do(run, cohort, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    labels = make_scan(0)[1]
    cb.write_segmentation(labels, [cb.Segment(n, f"organ {n}", label_color(n)) for n in (1, 2)], tmp_path / "other.seg.nrrd")
    status, _, err = run("cohort", *arguments)
    assert status == 1 and words in err and "Traceback" not in err


def test_moved_scans_are_found(run, cohort, tmp_path, learner):
    (tmp_path / "scans").rename(tmp_path / "archive")
    status, _, err = run("cohort", "next", cohort)
    assert status == 1 and "--moved" in err
    assert run("cohort", "add", cohort, tmp_path / "archive", "--moved")[0] == 0
    assert run("cohort", "next", cohort)[0] == 0
    (tmp_path / "archive" / "scan1.nrrd").unlink()
    assert run("cohort", "add", cohort, tmp_path / "archive", "--moved")[0] == 1


def test_a_dicom_segmentation_of_another_examination_is_noticed(run, cohort, tmp_path):
    shape = (6, 8, 16)
    series = write_series(tmp_path / "ct" / "one", np.zeros(shape, np.int16))
    other = write_series(tmp_path / "other", np.zeros(shape, np.int16))
    labelmap = cb.read_volume(other)
    labelmap = cb.Volume(np.ones(shape, np.uint8), labelmap.grid)
    write_dicom_seg(labelmap, [cb.Segment(1, STRUCTURES[0], label_color(1))], tmp_path / "seg.dcm", other)
    assert run("cohort", "add", cohort, series)[0] == 0
    name = next(scan["name"] for scan in json_of(run, "cohort", "status", cohort)[1]["scans"] if "scan" not in scan["name"])
    status, out, err = run("cohort", "accept", cohort, name, tmp_path / "seg.dcm", "--encoder", "pooling")
    assert status == 0 and "seg.dcm has another frame of reference" in out + err
