"""`coralbay segment`."""

from __future__ import annotations

import json

import pytest

import CoralBayLib as cb

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
