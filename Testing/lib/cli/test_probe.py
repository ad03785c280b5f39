"""`coralbay probe`: learn from annotated scans, describe and merge probes, and segment with them."""

from __future__ import annotations

import json

import numpy as np
import pytest

import CoralBayLib as cb
from CoralBayLib.imaging.grid import Volume
from CoralBayLib.imaging.segmentation_io import Segment, write_segmentation

from .conftest import CENTRE

pytestmark = pytest.mark.slow


@pytest.fixture
def annotated(tmp_path, make_grid, make_phantom):
    """Makes a scan with a bright spot and its annotation as a segmentation; returns both paths."""

    def make(number, moved):
        center = CENTRE + moved
        volume = make_phantom(make_grid("axial"), [(center, 7.0, 300.0)], seed=number)
        away = np.linalg.norm(volume.grid.centers() - center, axis=1).reshape(volume.grid.shape)
        scan, labels = tmp_path / f"ct{number}.nrrd", tmp_path / f"labels{number}.seg.nrrd"
        cb.write_volume(volume, scan)
        write_segmentation(Volume((away < 7).astype(np.uint8), volume.grid), [Segment(1, "bright spot", (1, 0, 0))], labels)
        return scan, labels

    return make


def test_a_probe_of_two_scans_segments_a_third(run, annotated, pooling_by_name, tmp_path):
    first, second, third = annotated(1, (0, 0, 0)), annotated(2, (3, -2, 1)), annotated(3, (-2, 2, 2))
    probe = tmp_path / "probe.safetensors"
    status, out, err = run("probe", "fit", *first, *second, "-o", probe, "--encoder", "pooling", "--quiet")
    assert status == 0, err
    assert "2 patients" in out
    status, out, _ = run("probe", "info", probe, "--json")
    report = json.loads(out)
    assert status == 0
    assert [patient["structures"] for patient in report["patients"]] == [["bright spot"]] * 2
    output = tmp_path / "third.seg.nrrd"
    status, out, err = run("segment", third[0], "--probe", probe, "-o", output, "--encoder", "pooling", "--json")
    assert status == 0, err
    truth = cb.read_segmentation(third[1])[0].array > 0
    assert abs(json.loads(out)["volume_ml"]["bright spot"] - truth.sum() * 8 / 1000) < 1.0


def test_prompts_teach_a_probe_that_is_continued(run, annotated, ct, prompts, pooling_by_name, tmp_path):
    one, more = tmp_path / "one.safetensors", tmp_path / "more.safetensors"
    assert run("probe", "fit", ct, prompts, "-o", one, "--encoder", "pooling", "--quiet")[0] == 0
    before = one.read_bytes()
    scan, labels = annotated(1, (3, 0, 0))
    status, _, err = run("probe", "fit", scan, labels, "--add-to", one, "-o", more, "--encoder", "pooling", "--quiet")
    assert status == 0, err
    assert one.read_bytes() == before
    _, out, _ = run("probe", "info", more)
    assert "Patient 2" in out
    assert "bright spot" in out


def test_probes_are_merged(run, annotated, pooling_by_name, tmp_path):
    paths = []
    for number in (1, 2):
        paths.append(tmp_path / f"probe{number}.safetensors")
        run("probe", "fit", *annotated(number, (number, 0, 0)), "-o", paths[-1], "--encoder", "pooling", "--quiet")
    status, out, err = run("probe", "merge", *paths, "-o", tmp_path / "both.safetensors", "--quiet")
    assert status == 0, err
    assert "2 patients" in out


def test_a_scan_without_an_annotation_is_refused(run, annotated, pooling_by_name, tmp_path):
    scan, _ = annotated(1, (0, 0, 0))
    status, _, err = run("probe", "fit", scan, "-o", tmp_path / "probe.safetensors", "--encoder", "pooling")
    assert status == 1
    assert "has none" in err
    assert not (tmp_path / "probe.safetensors").exists()


def test_a_probe_is_not_written_over_an_input(run, annotated, pooling_by_name, tmp_path):
    scan, labels = annotated(1, (0, 0, 0))
    probe = tmp_path / "probe.safetensors"
    run("probe", "fit", scan, labels, "-o", probe, "--encoder", "pooling", "--quiet")
    before = probe.read_bytes()
    status, _, _ = run("probe", "merge", probe, "-o", probe)
    assert status == 1
    assert probe.read_bytes() == before
