"""`coralbay segment`."""

from __future__ import annotations

import json

import numpy as np
import pydicom
import pytest

import CoralBayLib as cb
from Testing.lib.imaging.segmentations.ct_series import write_series

from .conftest import CENTRE


def test_segment_writes_a_segmentation_and_a_probe(run, ct, prompts, pooling_by_name, tmp_path):
    output, probe = tmp_path / "out.seg.nrrd", tmp_path / "probe.safetensors"
    status, out, _ = run(
        "segment", ct, "--encoder", "pooling", "--prompts", prompts, "-o", output, "--save-probe", probe, "--json"
    )
    assert status == 0
    labelmap, segments = cb.read_segmentation(output)
    assert [segment.name for segment in segments] == ["bright spot"]
    assert labelmap.grid.same_as(cb.read_volume(ct).grid)
    assert labelmap.nearest_values([CENTRE])[0] == segments[0].label
    millilitres = json.loads(out)["volume_ml"]["bright spot"]
    assert millilitres == pytest.approx((labelmap.array > 0).sum() * labelmap.grid.voxel_volume_mm3 / 1000)
    again = tmp_path / "again.seg.nrrd"
    status, _, _ = run("segment", ct, "--encoder", "pooling", "--probe", probe, "-o", again, "--keep-all-components")
    assert status == 0
    assert cb.read_segmentation(again)[0].nearest_values([CENTRE])[0] == 1


@pytest.fixture
def probe(run, ct, prompts, pooling_by_name, tmp_path):
    """A probe that was fitted on the scan."""
    path = tmp_path / "probe.safetensors"
    output = tmp_path / "first.seg.nrrd"
    run("segment", ct, "--encoder", "pooling", "--prompts", prompts, "-o", output, "--save-probe", path)
    return path


def test_a_folder_of_scans_is_segmented_and_one_bad_file_does_not_end_the_run(run, ct, probe, tmp_path):
    archive, output = tmp_path / "archive", tmp_path / "masks"
    archive.mkdir()
    for name in ("a.nrrd", "b.nrrd"):
        (archive / name).write_bytes(ct.read_bytes())
    (archive / "broken.nrrd").write_bytes(b"no image")
    arguments = ("segment", archive, "--encoder", "pooling", "--probe", probe, "-o", output, "--json")
    status, out, _ = run(*arguments)
    result = json.loads(out)
    assert status == 1
    assert sorted(path.name for path in output.iterdir()) == ["a.seg.nrrd", "b.seg.nrrd"]
    assert list(result["failed"]) == [str(archive / "broken.nrrd")]
    assert cb.read_segmentation(output / "a.seg.nrrd")[0].nearest_values([CENTRE])[0] == 1
    # Nothing is replaced unasked.
    before = (output / "a.seg.nrrd").stat().st_mtime_ns
    status, out, _ = run(*arguments)
    assert status == 1 and len(json.loads(out)["failed"]) == 3
    assert json.loads(out)["failed"][str(archive / "a.nrrd")].startswith("a.seg.nrrd exists already. Add --overwrite")
    assert (output / "a.seg.nrrd").stat().st_mtime_ns == before
    status, out, _ = run(*arguments, "--overwrite")
    assert len(json.loads(out)["written"]) == 2


def test_of_two_scans_of_one_name_the_second_is_left_out(run, ct, probe, tmp_path):
    archive = tmp_path / "archive"
    archive.mkdir()
    (archive / "a.nrrd").write_bytes(ct.read_bytes())
    cb.write_volume(cb.read_volume(ct), archive / "a.nii.gz")
    for _ in range(2):
        status, out, _ = run("segment", archive, "--encoder", "pooling", "--probe", probe, "--json", "--overwrite")
        result = json.loads(out)
        assert status == 1 and len(result["written"]) == 1
        # Writing over the first one's segmentation is no way out.
        (reason,) = result["failed"].values()
        assert "another scan of the same name" in reason and "--overwrite" not in reason


def test_every_file_that_is_written_is_named(run, ct, prompts, pooling_by_name, tmp_path):
    output, path = tmp_path / "a.seg.nrrd", tmp_path / "p.safetensors"
    _, out, _ = run("segment", ct, "--encoder", "pooling", "--prompts", prompts, "-o", output, "--save-probe", path)
    assert out.splitlines()[-2:] == [f"Written: {output}", f"Written: {path}"]


def test_a_folder_of_scans_wants_a_probe(run, ct, prompts, pooling_by_name, tmp_path):
    status, _, err = run("segment", ct.parent, "--encoder", "pooling", "--prompts", prompts)
    assert status == 1 and "folder of scans" in err and "--probe" in err


@pytest.fixture
def organs(ct, tmp_path):
    """A segmentation on a grid of its own: a part of the bright spot, and a ball beside it."""
    grid = cb.read_volume(ct).grid.with_spacing([1.7, 2.3, 3.1])
    k, j, i = np.indices(grid.shape)
    points = grid.to_ras(np.stack([i, j, k], -1).reshape(-1, 3))
    array = np.zeros(grid.shape, np.uint8)
    for label, centre, radius in ((1, CENTRE + [0, 9, 0], 5.0), (2, CENTRE + [0, -30, 0], 6.0)):
        array[(np.linalg.norm(points - centre, axis=1) < radius).reshape(grid.shape)] = label
    path = tmp_path / "organs.seg.nrrd"
    segments = [cb.Segment(1, "Front", (1, 0, 0)), cb.Segment(2, "Back", (0, 1, 0))]
    cb.write_segmentation(cb.Volume(array, grid), segments, path)
    return path


def segment(run, ct, output, *arguments):
    status, _, err = run("segment", ct, "--encoder", "pooling", "-o", output, *arguments)
    assert status == 0, err
    return cb.read_segmentation(output)


def test_locked_segments_are_not_touched(run, ct, prompts, organs, pooling_by_name, tmp_path):
    free, _ = segment(run, ct, tmp_path / "free.seg.nrrd", "--prompts", prompts)
    locks = cb.resample(cb.read_segmentation(organs)[0], free.grid, "nearest").array
    assert free.array[locks == 1].any()
    probe = tmp_path / "probe.safetensors"
    held, _ = segment(run, ct, tmp_path / "held.seg.nrrd", "--prompts", prompts, "--locked", organs, "--save-probe", probe)
    assert not held.array[locks > 0].any() and held.nearest_values([CENTRE])[0] == 1
    assert len(cb.Probe.load(probe).prompts_) == len(cb.read_prompts(prompts))
    some, _ = segment(run, ct, tmp_path / "b.seg.nrrd", "--prompts", prompts, "--locked", organs, "--lock-segments", "BACK")
    assert some.array[locks == 1].any() and not some.array[locks == 2].any()
    plain = tmp_path / "plain.nrrd"
    cb.write_volume(cb.read_segmentation(organs)[0], plain)
    same, _ = segment(run, ct, tmp_path / "c.seg.nrrd", "--prompts", prompts, "--locked", plain, "--lock-segments", "1", "2")
    assert np.array_equal(same.array, held.array)


def test_locks_that_cannot_be_used_are_explained(run, ct, prompts, organs, pooling_by_name, tmp_path):
    arguments = ("segment", ct, "--encoder", "pooling", "--prompts", prompts, "-o", tmp_path / "out.seg.nrrd")
    status, _, err = run(*arguments, "--locked", organs, "--lock-segments", "liver")
    assert status == 1 and "organs.seg.nrrd: There is no segment 'liver' to lock. Segments of the file: 'Front', 'Back'." in err
    status, _, err = run(*arguments, "--lock-segments", "Front")
    assert status == 1 and "--locked FILE" in err
    status, _, err = run("segment", ct.parent, "--encoder", "pooling", "--probe", "x", "--locked", organs)
    assert status == 1 and "folder of scans" in err
    status, _, err = run(*arguments[:-1], organs, "--locked", organs)
    assert status == 1 and "organs.seg.nrrd" in err and not (tmp_path / "out.seg.nrrd").exists()


def test_a_segment_named_as_a_structure_is_not_locked(run, ct, prompts, organs, pooling_by_name, tmp_path):
    labelmap, segments = cb.read_segmentation(organs)
    renamed = tmp_path / "renamed.seg.nrrd"
    cb.write_segmentation(labelmap, [cb.Segment(1, "Bright  Spot", (1, 0, 0)), segments[1]], renamed)
    free, _ = segment(run, ct, tmp_path / "free.seg.nrrd", "--prompts", prompts)
    held, _ = segment(run, ct, tmp_path / "held.seg.nrrd", "--prompts", prompts, "--locked", renamed)
    assert np.array_equal(free.array, held.array)


def test_a_mask_is_corrected(run, ct, organs, pooling_by_name, tmp_path):
    start = cb.read_segmentation(organs)[0]
    wrong = tmp_path / "background.json"
    cb.Prompts([CENTRE + [0, -30, 0]], [0]).save(wrong)
    found, segments = segment(run, ct, tmp_path / "a.seg.nrrd", "--start", organs, "--prompts", wrong)
    before = cb.resample(start, found.grid, "nearest").array
    assert [each.name for each in segments] == ["Front", "Back"]
    assert np.array_equal(found.array == 1, before == 1)
    assert (found.array == 2).sum() < 0.2 * (before == 2).sum()
    # A point in the structure that is named as a segment adds the part that it lies in.
    more = tmp_path / "more.json"
    cb.Prompts(CENTRE + 2 * np.eye(3), [5] * 3, {5: "front"}).save(more)
    found, segments = segment(run, ct, tmp_path / "b.seg.nrrd", "--start", organs, "--prompts", more)
    assert {each.name: each.label for each in segments} == {"front": 5, "Back": 6}
    assert found.nearest_values([CENTRE])[0] == 5 and (found.array[before == 1] == 5).all()
    assert np.array_equal(found.array == 6, before == 2)


def test_a_mask_alone_makes_a_probe(run, ct, organs, pooling_by_name, tmp_path):
    probe = tmp_path / "probe.safetensors"
    found, _ = segment(run, ct, tmp_path / "a.seg.nrrd", "--start", organs, "--save-probe", probe)
    assert np.array_equal(found.array, cb.resample(cb.read_segmentation(organs)[0], found.grid, "nearest").array)
    assert sorted(cb.Probe.load(probe).names_.values()) == ["Back", "Front"]


def test_a_mask_of_other_structures_is_refused(run, ct, prompts, organs, pooling_by_name, tmp_path):
    arguments = ("segment", ct, "--encoder", "pooling", "--prompts", prompts, "-o", tmp_path / "out.seg.nrrd")
    status, _, err = run(*arguments, "--start", organs)
    assert status == 1 and "is one of the structures: 'bright spot'" in err and "'Front', 'Back'" in err
    empty = tmp_path / "empty.nrrd"
    cb.write_volume(cb.Volume(np.zeros((4, 4, 4), np.uint8), cb.read_volume(ct).grid.subgrid(0, 1, (4, 4, 4))), empty)
    status, _, err = run(*arguments, "--start", empty)
    assert status == 1 and "empty.nrrd: The mask to start from is empty" in err


def test_a_roi_is_a_prompt(run, ct, pooling_by_name, tmp_path):
    roi = {
        "type": "ROI",
        "coordinateSystem": "RAS",
        "center": CENTRE.tolist(),
        "orientation": np.eye(3).ravel().tolist(),
        "size": [20, 20, 20],
    }
    path = tmp_path / "bright spot.mrk.json"
    path.write_text(json.dumps({"markups": [roi]}))
    found, segments = segment(run, ct, tmp_path / "a.seg.nrrd", "--prompts", path)
    assert [each.name for each in segments] == ["bright spot"]
    points = found.grid.to_ras(np.argwhere(found.array > 0)[:, ::-1])
    assert len(points) > 50 and np.abs(points - CENTRE).max() < 12.01


def test_dicom_seg_of_a_dicom_series(run, prompts, pooling_by_name, make_grid, make_phantom, ct, tmp_path):
    phantom = make_phantom(make_grid("flipped"), [(CENTRE, 7.0, 300.0)])
    lps = phantom.grid.ijk_to_ras * np.array([-1, -1, 1, 1])[:, None]
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    axes = (lps[:3, :3] / spacing).T
    series = write_series(tmp_path / "series", phantom.array.astype(np.int16), *axes[:2], tuple(spacing), lps[:3, 3])
    output, plain = tmp_path / "out.dcm", tmp_path / "out.seg.nrrd"
    for target in (output, plain):
        status, out, err = run("segment", series, "--encoder", "pooling", "--prompts", prompts, "-o", target)
        assert status == 0 and f"Written: {target}" in out, err
    read, labelmap = pydicom.dcmread(output), cb.read_segmentation(plain)[0]
    assert read.SegmentSequence[0].SegmentAlgorithmName == "CoralBay (pooling)"
    assert read.pixel_array.sum() == (labelmap.array > 0).sum() > 0
    # It is a mask to start from and to lock, too.
    again, segments = segment(run, series, tmp_path / "again.seg.nrrd", "--start", output)
    assert np.array_equal(again.array > 0, labelmap.array > 0) and [each.name for each in segments] == ["bright spot"]
    other = tmp_path / "other.json"
    cb.Prompts([CENTRE, CENTRE + [0, 0, 20]], [1, 0], {1: "other"}).save(other)
    arguments = ("segment", series, "--encoder", "pooling", "--prompts", other, "-o", tmp_path / "held.seg.nrrd")
    status, _, err = run(*arguments, "--locked", output)
    assert status == 1 and "A prompt of 'other' lies in a locked segment" in err
    # Before anything is computed.
    status, _, err = run("segment", ct, "--encoder", "no such encoder", "--prompts", prompts, "-o", output)
    assert status == 1 and "ct.nrrd is not a DICOM series" in err and ".seg.nrrd" in err
