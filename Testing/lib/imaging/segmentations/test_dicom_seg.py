"""DICOM SEG: read back by two other readers, in series of any orientation."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk

import CoralBayLib as cb
from CoralBayLib.core.errors import Cancelled, Remedy, StoreError, VolumeError
from CoralBayLib.core.progress import CancelToken
from CoralBayLib.imaging.segmentations import dicom_seg

from .ct_series import write_series

SHAPE = (5, 9, 7)
SEGMENTS = [
    cb.Segment(2, "kidney_left", (0.9, 0.6, 0.0)),
    cb.Segment(7, "Fleck, größer", (0.2, 0.4, 1.0)),
    cb.Segment(3, "liver", (0.5, 0.5, 0.5)),
]
TILT = np.cos(0.3), np.sin(0.3)
ORIENTATIONS = {
    "axial": {},
    "downwards": {"downwards": True},
    "flipped": {"row": (-1, 0, 0), "column": (0, 1, 0)},
    "coronal": {"row": (1, 0, 0), "column": (0, 0, -1)},
    "sagittal": {"row": (0, 1, 0), "column": (0, 0, -1)},
    "oblique": {
        "row": (TILT[0], TILT[1], 0),
        "column": (-TILT[1] * TILT[0], TILT[0] ** 2, TILT[1]),
        "origin": (12.25, 7, -340),
    },
    "anisotropic": {"spacing_mm": (0.4296875, 1.1, 5.0)},
}


@pytest.fixture(params=ORIENTATIONS, ids=str)
def series(request, tmp_path):
    array = np.random.default_rng(0).integers(-1000, 1500, SHAPE).astype(np.int16)
    return write_series(tmp_path / "ct", array, **ORIENTATIONS[request.param])


@pytest.fixture
def axial(tmp_path):
    return write_series(tmp_path / "ct", np.zeros(SHAPE, np.int16) + np.arange(5, dtype=np.int16)[:, None, None])


def labelmap_on(series: Path) -> cb.Volume:
    """Blobs without symmetry, so that any flip or swap of axes shows."""
    grid = cb.read_volume(series).grid
    array = np.zeros(SHAPE, np.uint8)
    array[0, :3, :2], array[1:4, 4:, 3], array[3:, 1, 4:] = 2, 7, 2
    return cb.Volume(array, grid)


def sampled(points_lps: np.ndarray, labels: np.ndarray, grid: cb.Grid) -> np.ndarray:
    """A labelmap on a grid from labeled positions, which must lie on its voxels."""
    ijk = grid.to_ijk(points_lps * (-1, -1, 1))
    index = np.rint(ijk).astype(int)
    assert np.abs(ijk - index).max(initial=0) < 1e-3
    array = np.zeros(grid.shape, np.uint8)
    array[tuple(index.T[::-1])] = labels
    return array


def test_the_geometry_of_the_frames_leads_back_to_the_same_voxels(series, tmp_path):
    labelmap = labelmap_on(series)
    cb.write_dicom_seg(labelmap, SEGMENTS, tmp_path / "out.dcm", series, encoder="pooling")
    read = pydicom.dcmread(tmp_path / "out.dcm")
    shared = read.SharedFunctionalGroupsSequence[0]
    row, column = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, float).reshape(2, 3)
    down, across = map(float, shared.PixelMeasuresSequence[0].PixelSpacing)
    slices = {each.SOPInstanceUID: each for each in map(pydicom.dcmread, series.iterdir())}
    points, labels = [np.empty((0, 3))], [np.empty(0, int)]
    for bits, frame in zip(read.pixel_array, read.PerFrameFunctionalGroupsSequence, strict=True):
        position = np.array(frame.PlanePositionSequence[0].ImagePositionPatient, float)
        (source,) = frame.DerivationImageSequence[0].SourceImageSequence
        assert slices[source.ReferencedSOPInstanceUID].ImagePositionPatient == list(position)
        j, i = np.nonzero(bits)
        points.append(position + np.outer(i * across, row) + np.outer(j * down, column))
        number = frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        labels.append(np.full(len(i), SEGMENTS[number - 1].label))
    found = sampled(np.concatenate(points), np.concatenate(labels), labelmap.grid)
    np.testing.assert_array_equal(found, labelmap.array)


def test_dcmqi_reads_the_same_voxels_codes_and_names(series, tmp_path):
    labelmap = labelmap_on(series)
    cb.write_dicom_seg(labelmap, SEGMENTS, tmp_path / "out.dcm", series)
    program = Path(sys.executable).with_name("segimage2itkimage")
    command = [program, "--inputDICOM", tmp_path / "out.dcm", "--outputDirectory", tmp_path, "-p", "seg"]
    subprocess.run([*map(str, command), "-t", "nrrd"], check=True, capture_output=True)
    meta = json.loads((tmp_path / "seg-meta.json").read_text())
    known = {each["labelID"]: each for (each,) in meta["segmentAttributes"]}
    assert known[1]["SegmentedPropertyTypeCodeSequence"]["CodeMeaning"] == "Kidney"
    assert known[1]["SegmentedPropertyTypeModifierCodeSequence"]["CodeMeaning"] == "Left"
    assert known[2]["SegmentedPropertyTypeCodeSequence"]["CodeValue"] == "85756007"
    assert known[1]["SegmentAlgorithmType"] == "SEMIAUTOMATIC"
    found = np.zeros(SHAPE, np.uint8)
    for number in known:
        path = tmp_path / f"seg-{number}.nrrd"
        image = sitk.ReadImage(str(path))
        mask = sitk.GetArrayFromImage(image) > 0
        points = [image.TransformIndexToPhysicalPoint(list(map(int, at[::-1]))) for at in np.argwhere(mask)]
        found = np.maximum(found, sampled(np.array(points).reshape(-1, 3), SEGMENTS[number - 1].label, labelmap.grid))
    np.testing.assert_array_equal(found, labelmap.array)


def test_it_refers_to_the_series_and_says_what_made_it(axial, tmp_path):
    cb.write_dicom_seg(labelmap_on(axial), SEGMENTS, tmp_path / "out.dcm", axial / "003.dcm", encoder="pooling")
    read, source = pydicom.dcmread(tmp_path / "out.dcm"), pydicom.dcmread(axial / "001.dcm")
    assert (read.Modality, read.SegmentationType) == ("SEG", "BINARY")
    for field in ("StudyInstanceUID", "FrameOfReferenceUID", "PatientID", "PatientName"):
        assert read[field].value == source[field].value
    (referenced,) = read.ReferencedSeriesSequence
    assert referenced.SeriesInstanceUID == source.SeriesInstanceUID != read.SeriesInstanceUID
    assert len(referenced.ReferencedInstanceSequence) == SHAPE[0] and read.SeriesNumber == 103
    names = [each.SegmentLabel for each in read.SegmentSequence]
    assert names == [each.name for each in SEGMENTS]
    assert all(each.SegmentAlgorithmName == "CoralBay (pooling)" for each in read.SegmentSequence)
    # The reader of scans leaves it out where it lies beside its series.
    (axial / "seg.dcm").write_bytes((tmp_path / "out.dcm").read_bytes())
    assert cb.read_volume(axial).grid.shape == SHAPE


def test_names_of_any_characters_and_length(axial, tmp_path):
    names = ["лёгкое", "a\\b", "x" * 100]
    segments = [cb.Segment(n, name, (1, 0, 0)) for n, name in zip((2, 7, 3), names, strict=True)]
    cb.write_dicom_seg(labelmap_on(axial), segments, tmp_path / "out.dcm", axial)
    read = pydicom.dcmread(tmp_path / "out.dcm")
    assert [each.SegmentLabel for each in read.SegmentSequence] == ["лёгкое", "a/b", "x" * 64]


def test_fields_that_an_anonymizer_removed(tmp_path):
    bare = dict.fromkeys(("PatientName", "PatientID", "SeriesNumber"))
    series = write_series(tmp_path / "bare", np.zeros(SHAPE, np.int16), **bare)
    cb.write_dicom_seg(labelmap_on(series), SEGMENTS, tmp_path / "out.dcm", series)
    assert pydicom.dcmread(tmp_path / "out.dcm").SeriesNumber == 100
    series = write_series(tmp_path / "torn", np.zeros(SHAPE, np.int16), FrameOfReferenceUID=None)
    with pytest.raises(VolumeError, match="lack FrameOfReferenceUID.*anonymizer"):
        cb.write_dicom_seg(labelmap_on(series), SEGMENTS, tmp_path / "out.dcm", series)


def test_a_segmentation_without_voxels(axial, tmp_path):
    grid = cb.read_volume(axial).grid
    cb.write_dicom_seg(cb.Volume(np.zeros(SHAPE, np.uint8), grid), SEGMENTS, tmp_path / "out.dcm", axial)
    assert not pydicom.dcmread(tmp_path / "out.dcm").pixel_array.any()


def test_what_cannot_be_written_is_refused_in_words(axial, tmp_path, monkeypatch):
    labelmap, out = labelmap_on(axial), tmp_path / "out.dcm"
    nrrd = tmp_path / "ct.nrrd"
    cb.write_volume(cb.read_volume(axial), nrrd)
    with pytest.raises(VolumeError, match="ct.nrrd is not a DICOM series"):
        cb.write_dicom_seg(labelmap, SEGMENTS, out, nrrd)
    with pytest.raises(VolumeError, match="labels \\[7\\]"):
        cb.write_dicom_seg(labelmap, [SEGMENTS[0]], out, axial)
    matrix = labelmap.grid.ijk_to_ras.copy()
    matrix[2, 3] += 0.5
    moved = cb.Volume(labelmap.array, cb.Grid(SHAPE, matrix))
    with pytest.raises(VolumeError, match="does not lie on the voxels"):
        cb.write_dicom_seg(moved, SEGMENTS, out, axial)
    with pytest.raises(VolumeError, match=r"\.dcm"):
        cb.write_dicom_seg(labelmap, SEGMENTS, tmp_path / "out.nii", axial)
    with pytest.raises(StoreError, match="does not exist"):
        cb.write_dicom_seg(labelmap, SEGMENTS, tmp_path / "no" / "out.dcm", axial)
    monkeypatch.setitem(sys.modules, "highdicom", None)
    with pytest.raises(VolumeError, match="highdicom") as caught:
        dicom_seg.require_dicom(axial)
    assert caught.value.remedy is Remedy.INSTALL_PACKAGE
    assert not out.exists()


def test_long_names_that_begin_alike_stay_apart_and_have_no_control_characters(axial, tmp_path):
    names = ["x" * 100 + "1", "x" * 100 + "2", "a\nb\0"]
    segments = [cb.Segment(n, name, (1, 0, 0)) for n, name in zip((2, 7, 3), names, strict=True)]
    cb.write_dicom_seg(labelmap_on(axial), segments, tmp_path / "out.dcm", axial)
    labels = [each.SegmentLabel for each in pydicom.dcmread(tmp_path / "out.dcm").SegmentSequence]
    assert labels == ["x" * 60, "x" * 60 + " (2)", "a b"]


def test_no_slice_is_overwritten(axial, tmp_path):
    before = (axial / "001.dcm").read_bytes()
    (tmp_path / "link.dcm").symlink_to(axial / "001.dcm")
    for path in (axial / "001.dcm", tmp_path / "link.dcm"):
        with pytest.raises(StoreError, match="overwrite an input"):
            cb.write_dicom_seg(labelmap_on(axial), SEGMENTS, path, axial)
    assert (axial / "001.dcm").read_bytes() == before


@pytest.mark.parametrize("kind", [bool, np.float32, np.int32, np.uint64])
def test_labelmaps_of_any_type(axial, tmp_path, kind):
    labelmap = labelmap_on(axial)
    array = labelmap.array.astype(kind)
    segments = [*SEGMENTS, cb.Segment(1, "all", (0, 0, 0)), cb.Segment(2**31 - 1, "none", (0, 0, 0))]
    cb.write_dicom_seg(cb.Volume(array, labelmap.grid), segments, tmp_path / "out.dcm", axial)
    assert pydicom.dcmread(tmp_path / "out.dcm").pixel_array.sum() == np.count_nonzero(array)


@pytest.mark.parametrize("wrong", [-1, 0.5, np.nan])
def test_values_that_are_no_labels_are_refused(axial, tmp_path, wrong):
    labelmap = labelmap_on(axial)
    array = np.where(labelmap.array == 7, wrong, labelmap.array.astype(float))
    with pytest.raises(VolumeError, match="not a labelmap|NaN or infinite"):
        cb.write_dicom_seg(cb.Volume(array, labelmap.grid), SEGMENTS, tmp_path / "out.dcm", axial)


@pytest.mark.filterwarnings("ignore:Invalid value for VR DA")
def test_headers_that_allow_no_segmentation_are_refused_before_anything_is_computed(tmp_path):
    series = write_series(tmp_path / "dates", np.zeros(SHAPE, np.int16), StudyDate="1.2.2020")
    with pytest.raises(VolumeError, match="headers of the slices do not allow"):
        dicom_seg.require_dicom(series)
    series = write_series(tmp_path / "thin", np.zeros(SHAPE, np.int16), SliceThickness=None)
    cb.write_dicom_seg(labelmap_on(series), SEGMENTS, tmp_path / "out.dcm", series)
    series = write_series(tmp_path / "twins", np.zeros(SHAPE, np.int16))
    twin = pydicom.dcmread(series / "002.dcm")
    twin.SOPInstanceUID = pydicom.dcmread(series / "004.dcm").SOPInstanceUID
    twin.save_as(series / "002.dcm")
    with pytest.raises(VolumeError, match="same SOPInstanceUID"):
        cb.write_dicom_seg(labelmap_on(series), SEGMENTS, tmp_path / "out.dcm", series)


def test_cancel_leaves_no_file(axial, tmp_path):
    cancel = CancelToken()
    cancel.cancel()
    with pytest.raises(Cancelled):
        cb.write_dicom_seg(labelmap_on(axial), SEGMENTS, tmp_path / "out.dcm", axial, cancel=cancel)
    assert [each.name for each in tmp_path.iterdir()] == ["ct"]
