"""Reports on scans: what is known of them, and every fault in the words of the reader."""

from __future__ import annotations

import bz2
import gzip
import json
import warnings

import numpy as np
import pytest
import SimpleITK as sitk

import CoralBayLib as cb
from CoralBayLib.core.errors import CoralBayError, Remedy
from CoralBayLib.imaging import hounsfield, volume_io
from CoralBayLib.imaging.inspection import inspect_scan, inspect_volume
from Testing.lib.conftest import phantom, phantom_grid
from Testing.lib.imaging.test_dicom import SECRET, UID
from Testing.lib.imaging.test_dicom import write as write_dicom


@pytest.fixture
def volume():
    return phantom(phantom_grid("anisotropic"))


def slices():
    """Six slices in HU: tissue in air."""
    array = np.random.default_rng(0).integers(-1010, -990, (6, 12, 14)).astype(np.int16)
    array[:, 3:9, 3:10] += 1040
    return array


def check_agrees(path):
    """The report has a fault just when the reader or the check for HU refuses the file, in the same words."""
    report, refusals = inspect_scan(path), []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            cb.read_volume(path)
    except CoralBayError as error:
        refusals.append(str(error))
    assert bool(report.kind) != bool(refusals)
    if refusals:
        assert [str(fault) for fault in report.faults] == refusals
    return report


@pytest.mark.parametrize(
    ("name", "kind", "compression"),
    [
        ("a.nrrd", "NRRD", "gzip"),
        ("a.nii.gz", "NIfTI-1", "gzip"),
        ("a.mha", "MetaImage", "zlib"),
    ],
)
def test_what_is_known_of_a_file(tmp_path, volume, name, kind, compression):
    cb.write_volume(volume, tmp_path / name)
    report = check_agrees(tmp_path / name)
    facts = report.facts
    assert (report.kind, report.faults, report.is_hu) == ("scan", (), True)
    assert report.values == (volume.array.min(), volume.array.max())
    assert (facts.format, facts.compression, facts.checksum, facts.value_type) == (kind, compression, "correct", "int16")
    assert facts.size_ijk == volume.grid.size
    assert facts.bytes == (tmp_path / name).stat().st_size
    np.testing.assert_allclose(facts.grid.spacing_mm, volume.grid.spacing_mm, rtol=1e-5)


def test_uncompressed_files_have_no_checksum(tmp_path, volume):
    cb.write_volume(volume, tmp_path / "a.nii")
    report = check_agrees(tmp_path / "a.nii")
    assert (report.facts.compression, report.facts.checksum) == ("", "none")


def test_files_that_are_compressed_as_a_whole(tmp_path, volume):
    cb.write_volume(volume, tmp_path / "a.nii")
    data = (tmp_path / "a.nii").read_bytes()
    (tmp_path / "b.nii").write_bytes(bz2.compress(data))
    (tmp_path / "c.nii").write_bytes(gzip.compress(data))
    assert check_agrees(tmp_path / "b.nii").facts.compression == "bzip2"
    assert check_agrees(tmp_path / "c.nii").facts.compression == "gzip"


def test_a_detached_header_counts_the_bytes_of_its_data_file(tmp_path, volume):
    image = volume_io.to_itk(volume)
    sitk.WriteImage(image, str(tmp_path / "a.mhd"))
    report = check_agrees(tmp_path / "a.mhd")
    assert report.facts.bytes == sum(each.stat().st_size for each in tmp_path.iterdir())
    (tmp_path / "a.raw").unlink()
    report = check_agrees(tmp_path / "a.mhd")
    assert "a.raw" in str(report.faults[0])
    assert report.facts.size_ijk == volume.grid.size


def test_what_is_known_before_the_fault_is_told(tmp_path, volume):
    """The header of a damaged file is sound, its voxels are not."""
    cb.write_volume(volume, tmp_path / "a.nii.gz")
    data = bytearray((tmp_path / "a.nii.gz").read_bytes())
    data[-6] ^= 1
    (tmp_path / "a.nii.gz").write_bytes(data)
    report = check_agrees(tmp_path / "a.nii.gz")
    assert "fail their own check" in str(report.faults[0])
    assert report.facts.size_ijk == volume.grid.size
    assert report.facts.checksum is None
    assert report.values is None


@pytest.mark.parametrize("content", [b"", b"no image", b"NRRD0004\ntype: short\n\n", b"n" * 400])
def test_files_that_are_no_image(tmp_path, content):
    (tmp_path / "a.nrrd").write_bytes(content)
    assert check_agrees(tmp_path / "a.nrrd").faults


def test_a_missing_file(tmp_path):
    assert "There is no file or folder" in str(check_agrees(tmp_path / "no.nrrd").faults[0])


def test_a_series_and_what_was_set_aside(tmp_path):
    folder = write_dicom(tmp_path / "ct", slices(), description="Thorax 2.5")
    (folder / "1-002 (1).dcm").write_bytes((folder / "1-002.dcm").read_bytes())
    write_dicom(folder, slices()[:1], series=2, description="Topogram", image_type="ORIGINAL\\PRIMARY\\LOCALIZER")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report = inspect_scan(folder)
    facts = report.facts
    assert (report.kind, report.faults, facts.format, facts.size_ijk) == ("scan", (), "DICOM", (14, 12, 6))
    assert (facts.series.description, facts.series.images, facts.series.slices) == ("Thorax 2.5", 7, 6)
    assert facts.notes == [
        "The series 'Topogram' (1 image) is left out. A scout (localizer), not a scan.",
        "Images of the series that are copies of other slices are left out (1: 1-002 (1).dcm).",
    ]
    text = json.dumps(report.as_dict())
    assert SECRET not in text
    assert UID not in text


def test_a_series_with_a_fault_is_still_described(tmp_path):
    folder = write_dicom(tmp_path / "ct", slices(), offsets=[0, 1, 2, 4, 5, 6], description="with a gap")
    report = check_agrees(folder)
    assert "not evenly spaced" in str(report.faults[0])
    assert (report.facts.series.description, report.facts.series.images) == ("with a gap", 6)


def test_compressed_slices(tmp_path):
    assert check_agrees(write_dicom(tmp_path / "ct", slices(), compress=True)).facts.compression == "DICOM"


def test_several_series_name_the_remedy(tmp_path):
    folder = write_dicom(write_dicom(tmp_path / "two", slices()), slices(), series=2)
    assert check_agrees(folder).faults[0].remedy is Remedy.CHOOSE_SERIES
    assert not inspect_scan(folder, series=f"{UID}.2").faults


def test_a_slice_without_a_header_is_named(tmp_path):
    folder = write_dicom(tmp_path / "ct", slices())
    data = (folder / "1-003.dcm").read_bytes()
    (folder / "1-003.dcm").write_bytes(data[: data.index(b"DICM") + 4] + b"\x02\x00\x10\x00UI\x02\x001." + bytes(200))
    assert "1-003.dcm" in str(check_agrees(folder / "1-003.dcm").faults[0])


def test_values_that_are_not_hu(volume):
    scaled = cb.Volume(((volume.array + 1024) / 3000).astype(np.float32), volume.grid)
    report = inspect_volume(scaled, "scaled")
    assert report.kind == "scan"
    assert report.is_hu is False
    assert report.faults[0].remedy is Remedy.ASSUME_HU
    assert not inspect_volume(scaled, "scaled", assume_hu=True).faults
    assert inspect_volume(scaled, "scaled", assume_hu=True).is_hu is None


def test_all_faults_are_told_and_not_the_first_alone(volume):
    matrix = volume.grid.ijk_to_ras.copy()
    matrix[:3, :3] /= 1000
    scan = cb.Volume((volume.array + 1024).clip(0).astype(np.int16), cb.Grid(volume.grid.shape, matrix))
    report = inspect_volume(scan, "in metres")
    first, second = (str(fault) for fault in report.faults)
    assert "impossible for a CT" in first
    assert "intercept" in second
    with pytest.raises(cb.CoralBayError, match="impossible for a CT"):
        hounsfield.check_ct(scan)


def test_nan_is_counted(volume):
    array = volume.array.astype(np.float32)
    array[0, 0, :3] = np.nan
    report = inspect_volume(cb.Volume(array, volume.grid), "nan")
    assert report.values is None
    assert report.is_hu is None
    assert str(report.faults[0]).startswith("3 of ")
    assert "NaN" not in json.dumps(report.as_dict()["values"])


@pytest.mark.parametrize("dtype", [np.uint8, np.int16])
def test_a_labelmap_is_no_faulty_scan(tmp_path, volume, dtype):
    labels = np.zeros(volume.grid.shape, dtype)
    labels[5:15, 5:20, 5:20] = 1
    labels[15:20, 5:20, 5:20] = 7
    cb.write_volume(cb.Volume(labels, volume.grid), tmp_path / "a.nii.gz")
    report = inspect_scan(tmp_path / "a.nii.gz")
    assert (report.kind, report.values, report.faults) == ("labelmap", (0, 7), ())


def test_a_picture_and_an_mr_are_no_labelmaps(volume):
    noise = np.random.default_rng(0)
    picture = np.interp(volume.array, (-160, 240), (0, 255)) + noise.normal(0, 3, volume.array.shape)
    mr = np.where(volume.array > -500, noise.normal(300, 40, volume.array.shape), 0)
    for array in (picture.clip(0, 255).astype(np.uint8), mr.clip(0, 900).astype(np.int16)):
        report = inspect_volume(cb.Volume(array, volume.grid), "no CT")
        assert report.kind == "scan"
        assert report.is_hu is False
        assert report.faults


def test_a_segmentation(tmp_path, volume):
    labels = np.zeros(volume.grid.shape, np.uint8)
    labels[5:15, 5:20, 5:20] = 3
    path = tmp_path / "a.seg.nrrd"
    cb.write_segmentation(cb.Volume(labels, volume.grid), [cb.Segment(3, "liver", (1, 0, 0))], path)
    report = inspect_scan(path)
    assert (report.kind, report.segments, report.faults) == ("segmentation", ("liver",), ())
    assert report.facts.checksum == "correct"
    path.write_bytes(path.read_bytes()[:-20])
    report = inspect_scan(path)
    assert "damaged" in str(report.faults[0])
    assert report.facts.format == "NRRD"


def test_errors_that_are_none_of_the_library_become_faults(tmp_path, monkeypatch):
    (tmp_path / "a.nrrd").write_bytes(b"x")
    for error, words in ((MemoryError(), "too little memory"), (PermissionError(13, "Permission denied"), "Permission denied")):

        def fail(*_, error=error):
            raise error

        monkeypatch.setattr("CoralBayLib.imaging.inspection.read_volume", fail)
        assert words in str(inspect_scan(tmp_path / "a.nrrd").faults[0])


def test_nothing_is_written(tmp_path, volume, monkeypatch):
    folder = tmp_path / "scans"
    folder.mkdir()
    cb.write_volume(volume, folder / "a.nrrd")
    monkeypatch.setenv("CORALBAY_CACHE", str(tmp_path / "cache"))
    before = sorted((each, each.stat().st_mtime_ns) for each in tmp_path.rglob("*"))
    inspect_scan(folder / "a.nrrd")
    assert sorted((each, each.stat().st_mtime_ns) for each in tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", ["a.nrrd", "a.nii", "a.nii.gz", "a.mha", "ct/1-003.dcm"])
def test_reports_on_damaged_files_agree_with_the_reader(tmp_path, name):
    volume = phantom(phantom_grid("anisotropic", extent_mm=60.0, spacing=4.0))
    path = tmp_path / name
    if path.suffix == ".dcm":
        write_dicom(tmp_path / "ct", volume.array[:6])
    else:
        cb.write_volume(volume, path)
    sound = path.read_bytes()
    for seed in range(15):
        random = np.random.default_rng(seed)
        data = bytearray(sound)
        for _ in range(random.choice([1, 2, 5])):
            data[random.integers(min(len(data), 900))] = random.integers(256)
        path.write_bytes(data[: random.integers(len(data))] if seed % 5 == 0 else data)
        report = check_agrees(path.parent if path.suffix == ".dcm" else path)
        json.dumps(report.as_dict(), allow_nan=False)
