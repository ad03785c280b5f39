"""DICOM SEG files of CoralBay, of highdicom and of other orders and types: the same voxels at the same positions."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid

import CoralBayLib as cb
from CoralBayLib.core.errors import CoralBayError, Remedy, VolumeError
from CoralBayLib.imaging.facts import FileFacts
from CoralBayLib.imaging.segments.dicom_reader import is_dicom_seg
from Testing.lib.imaging.segmentations.ct_series import write_series
from Testing.lib.imaging.segmentations.test_dicom_seg import ORIENTATIONS

SHAPE, ODD = (6, 8, 16), (6, 9, 7)
"""Frames of the second begin within a byte."""
SEGMENTS = [cb.Segment(1, "kidney_left", (0.9, 0.6, 0.0)), cb.Segment(2, "Fleck, größer", (0.2, 0.4, 1.0))]
OBLIQUE = {**ORIENTATIONS["oblique"], "spacing_mm": (0.4296875, 1.1, 5.0), "downwards": True}


def blobs(grid: cb.Grid) -> cb.Volume:
    """Blobs without symmetry on the slices 1, 2 and 4 of 6; none on the first, a gap and the last."""
    array = np.zeros(grid.shape, np.uint8)
    array[1, :3, :2], array[2, 4:, 3], array[4, 1, 4:], array[4, 5, :2] = 1, 2, 1, 2
    return cb.Volume(array, grid)


def points(labelmap: cb.Volume) -> np.ndarray:
    """Label and RAS mm of every labeled voxel, sorted."""
    kji = np.argwhere(labelmap.array)
    rows = np.column_stack([labelmap.array[tuple(kji.T)], labelmap.grid.to_ras(kji[:, ::-1])])
    return rows[np.lexsort(np.round(rows, 3).T[::-1])]


def same_places(found: cb.Volume, expected: cb.Volume) -> None:
    np.testing.assert_allclose(points(found), points(expected), atol=1e-3)


def series_in(folder: Path, shape: tuple[int, ...] = SHAPE, **fields: object) -> Path:
    return write_series(folder / "ct", np.zeros(shape, np.int16), PatientName="PHANTOM^", **fields)


def by_highdicom(series: Path, masks: np.ndarray, kind: str = "BINARY", **options: object) -> pydicom.Dataset:
    """A file of highdicom; masks are indexed [k, j, i, segment], or labels [k, j, i]."""
    normal = cb.read_volume(series).grid.ijk_to_ras[:3, 2] * (-1, -1, 1)
    slices = sorted(map(pydicom.dcmread, series.iterdir()), key=lambda each: float(normal @ each.ImagePositionPatient))
    count = masks.shape[3] if masks.ndim == 4 else int(masks.max())
    descriptions = [
        highdicom.seg.SegmentDescription(
            n, f"part {n}", codes.SCT.Organ, codes.SCT.Liver, highdicom.seg.SegmentAlgorithmTypeValues.MANUAL
        )
        for n in range(1, count + 1)
    ]
    for each in slices:
        for name in ("PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID", "AccessionNumber"):
            setattr(each, name, "")
        each.ReferringPhysicianName = ""
    return highdicom.seg.Segmentation(
        source_images=slices,
        pixel_array=masks,
        segmentation_type=kind,
        segment_descriptions=descriptions,
        series_instance_uid=generate_uid(),
        series_number=9,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="Test",
        manufacturer_model_name="Test",
        software_versions="1",
        device_serial_number="1",
        **options,
    )


def backwards(dataset: pydicom.Dataset) -> None:
    """Turn the order of the frames around."""
    size, count = dataset.Rows * dataset.Columns * dataset.BitsAllocated // 8, dataset.NumberOfFrames
    data = dataset.PixelData[: size * count]
    dataset.PixelData = b"".join(data[n * size : (n + 1) * size] for n in reversed(range(count)))
    groups = list(dataset.PerFrameFunctionalGroupsSequence)
    dataset.PerFrameFunctionalGroupsSequence = pydicom.Sequence(groups[::-1])


@pytest.mark.parametrize("shape", [SHAPE, ODD], ids=["whole bytes", "within bytes"])
@pytest.mark.parametrize("orientation", [*ORIENTATIONS, "all at once"])
def test_our_files_come_back_beside_their_series_and_apart(orientation, shape, tmp_path):
    fields = OBLIQUE if orientation == "all at once" else ORIENTATIONS[orientation]
    series = series_in(tmp_path, shape, **fields)
    labelmap = blobs(cb.read_volume(series).grid)
    cb.write_dicom_seg(labelmap, SEGMENTS, tmp_path / "apart.dcm", series)
    apart, segments = cb.read_segmentation(tmp_path / "apart.dcm")
    assert apart.grid.shape == (4, *shape[1:]) and apart.array.dtype == np.uint8
    same_places(apart, labelmap)
    assert [(each.label, each.name) for each in segments] == [(1, "kidney_left"), (2, "Fleck, größer")]
    np.testing.assert_allclose([s.color_rgb for s in segments], [s.color_rgb for s in SEGMENTS], atol=1 / 255)
    (tmp_path / "apart.dcm").rename(series / "seg.dcm")
    beside, _ = cb.read_segmentation(series / "seg.dcm")
    assert beside.grid.same_as(labelmap.grid, 1e-9)
    np.testing.assert_array_equal(beside.array, labelmap.array)
    np.testing.assert_array_equal(cb.read_labelmap(series / "seg.dcm").array, labelmap.array)
    assert cb.read_volume(series).grid.shape == shape


@pytest.mark.parametrize("tells", ["the spacing", "a wrong spacing", "the thickness only", "nothing"])
def test_sparse_frames_in_reversed_order(tells, tmp_path):
    series = series_in(tmp_path, **OBLIQUE)
    labelmap = blobs(cb.read_volume(series).grid)
    seg = by_highdicom(series, np.stack([labelmap.array == 1, labelmap.array == 2], -1))
    backwards(seg)
    measures = seg.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert float(measures.SpacingBetweenSlices) == pytest.approx(5.0)
    if tells == "a wrong spacing":
        measures.SpacingBetweenSlices = 7
    elif tells != "the spacing":
        del measures.SpacingBetweenSlices
        measures.SliceThickness = 5 if tells == "the thickness only" else None
    assert seg.NumberOfFrames == 4
    seg.save_as(tmp_path / "seg.dcm")
    found, segments = cb.read_segmentation(tmp_path / "seg.dcm")
    assert found.grid.shape == (4, *SHAPE[1:]) and not found.array[2].any()
    same_places(found, labelmap)
    assert [each.name for each in segments] == ["part 1", "part 2"]


def test_gaps_of_two_and_three_slices(tmp_path):
    series = series_in(tmp_path, **OBLIQUE)
    labelmap = blobs(cb.read_volume(series).grid)
    labelmap.array[[1, 2, 4]], labelmap.array[[0, 3, 5]] = 0, 1
    seg = by_highdicom(series, labelmap.array)
    measures = seg.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    del measures.SpacingBetweenSlices
    for thickness in (5, 10):
        measures.SliceThickness = thickness
        seg.save_as(tmp_path / "seg.dcm")
        if thickness == 5:
            same_places(cb.read_segmentation(tmp_path / "seg.dcm")[0], labelmap)
            continue
        with pytest.raises(VolumeError, match="not evenly spaced.*beside the slices of the series"):
            cb.read_segmentation(tmp_path / "seg.dcm")
    seg.save_as(series / "seg.dcm")
    same_places(cb.read_segmentation(series / "seg.dcm")[0], labelmap)


def test_every_second_slice_has_the_spacing_that_the_file_tells(tmp_path):
    series = series_in(tmp_path, **OBLIQUE)
    labels = np.zeros(SHAPE, np.uint8)
    labels[1::2, 2:4, 3:9] = 1
    seg = by_highdicom(series, labels)
    seg.save_as(tmp_path / "seg.dcm")
    found, _ = cb.read_segmentation(tmp_path / "seg.dcm")
    same_places(found, cb.Volume(labels, cb.read_volume(series).grid))
    assert found.grid.spacing_mm[2] == pytest.approx(5.0) and found.grid.shape[0] == 5


def test_a_segmentation_between_the_voxels_of_its_series_keeps_its_own(tmp_path):
    series = series_in(tmp_path)
    grid = cb.read_volume(series).grid
    labelmap = blobs(grid)
    seg = by_highdicom(series, np.where(labelmap.array > 0, 1, 0).astype(np.uint8))
    for group in seg.PerFrameFunctionalGroupsSequence:
        x, y, z = group.PlanePositionSequence[0].ImagePositionPatient
        group.PlanePositionSequence[0].ImagePositionPatient = [x + 0.35, y + 0.4, z + 1.25]
    seg.save_as(series / "seg.dcm")
    facts = FileFacts()
    for given in (None, grid):
        found, _ = cb.read_segmentation(series / "seg.dcm", facts, given)
        expected = points(cb.Volume((labelmap.array > 0).astype(np.uint8), grid)) + (0, -0.35, -0.4, 1.25)
        np.testing.assert_allclose(points(found), expected, atol=1e-3)
    assert facts.notes == [
        "The segmentation does not lie on the voxels of the scan beside it: its geometry is that of its own frames, from the "
        "first to the last."
    ]


def test_one_slice(tmp_path):
    series = series_in(tmp_path)
    labelmap = blobs(cb.read_volume(series).grid)
    labelmap.array[2:] = 0
    seg = by_highdicom(series, labelmap.array)
    seg.save_as(tmp_path / "seg.dcm")
    found, _ = cb.read_segmentation(tmp_path / "seg.dcm")
    same_places(found, labelmap)
    assert found.grid.spacing_mm[2] == pytest.approx(2.5)
    measures = seg.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    del measures.SpacingBetweenSlices
    measures.SliceThickness = None
    seg.save_as(tmp_path / "seg.dcm")
    with pytest.raises(VolumeError, match="one slice.*not known"):
        cb.read_segmentation(tmp_path / "seg.dcm")
    same_places(cb.read_segmentation(tmp_path / "seg.dcm", scan_grid=labelmap.grid)[0], labelmap)


def test_fractions_count_from_half_and_a_tie_is_of_the_first(tmp_path):
    series = series_in(tmp_path)
    grid = cb.read_volume(series).grid
    share = np.zeros((*SHAPE, 2))
    share[1, 0, :5, 0] = (0.2, 0.49, 0.5, 0.51, 1.0)
    share[1, 0, 2, 1], share[1, 0, 0, 1] = 0.5, 0.8
    seg = by_highdicom(series, share, "FRACTIONAL", fractional_type="OCCUPANCY", max_fractional_value=100)
    seg.save_as(tmp_path / "seg.dcm")
    with pytest.warns(UserWarning, match=r"seg\.dcm has fractions \(occupancy\).*half of the largest fraction, 100"):
        found, _ = cb.read_segmentation(tmp_path / "seg.dcm", scan_grid=grid)
    assert found.array[1, 0, :6].tolist() == [2, 0, 1, 1, 1, 0] and found.array.sum() == 5
    facts = FileFacts()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cb.read_segmentation(tmp_path / "seg.dcm", facts, grid)
    assert len(facts.notes) == 1 and facts.complete


def test_labelmaps(tmp_path):
    series = series_in(tmp_path, **OBLIQUE)
    labelmap = blobs(cb.read_volume(series).grid)
    seg = by_highdicom(series, labelmap.array, "LABELMAP")
    assert seg.SOPClassUID.endswith(".66.7")
    seg.save_as(tmp_path / "seg.dcm")
    found, segments = cb.read_segmentation(tmp_path / "seg.dcm")
    same_places(found, labelmap)
    assert [each.label for each in segments] == [1, 2] and is_dicom_seg(tmp_path / "seg.dcm")
    # The background has another value than 0.
    values = np.frombuffer(seg.PixelData, np.uint8)
    seg.PixelData, seg.PixelPaddingValue = np.where(values == 0, 5, values).astype(np.uint8).tobytes(), 5
    seg.save_as(tmp_path / "seg.dcm")
    again, segments = cb.read_segmentation(tmp_path / "seg.dcm")
    assert [each.label for each in segments] == [1, 2]
    np.testing.assert_array_equal(again.array, found.array)


def test_compressed_frames(tmp_path):
    series = series_in(tmp_path)
    labelmap = blobs(cb.read_volume(series).grid)
    by_highdicom(series, labelmap.array, "LABELMAP", transfer_syntax_uid=pydicom.uid.RLELossless).save_as(tmp_path / "seg.dcm")
    facts = FileFacts()
    same_places(cb.read_segmentation(tmp_path / "seg.dcm", facts)[0], labelmap)
    assert facts.compression == "DICOM"


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL"])
def test_segments_that_overlap_are_named(kind, tmp_path):
    series = series_in(tmp_path)
    masks = np.zeros((*SHAPE, 3), np.uint8)
    masks[2, 1:4, 2:6, 0], masks[2, 3:6, 4:9, 2], masks[4, 0, 0, 1] = 1, 1, 1
    seg = by_highdicom(series, masks.astype(float) if kind == "FRACTIONAL" else masks, kind, omit_empty_frames=True)
    seg.save_as(tmp_path / "seg.dcm")
    with pytest.raises(VolumeError, match="the segments 'part 1' and 'part 3' share 2 voxels"):
        cb.read_segmentation(tmp_path / "seg.dcm")


def test_names_and_colors_that_a_file_lacks(tmp_path):
    series = series_in(tmp_path)
    labelmap = blobs(cb.read_volume(series).grid)
    seg = by_highdicom(series, labelmap.array)
    seg.SegmentSequence[0].SegmentLabel = ""
    seg.SegmentSequence[1].RecommendedDisplayCIELabValue = [1, 2]
    seg.save_as(tmp_path / "seg.dcm")
    _, segments = cb.read_segmentation(tmp_path / "seg.dcm")
    assert [each.name for each in segments] == ["Liver", "part 2"]
    assert all(0 <= part <= 1 for each in segments for part in each.color_rgb) and segments[0] != segments[1]


def without(*keywords: str):
    def edit(seg: pydicom.Dataset) -> None:
        for keyword in keywords:
            for group in (seg, seg.SharedFunctionalGroupsSequence[0], *seg.PerFrameFunctionalGroupsSequence):
                if keyword in group:
                    delattr(group, keyword)

    return edit


def uneven(seg: pydicom.Dataset) -> None:
    place = seg.PerFrameFunctionalGroupsSequence[1].PlanePositionSequence[0]
    place.ImagePositionPatient = [*place.ImagePositionPatient[:2], float(place.ImagePositionPatient[2]) + 0.37]
    del seg.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SpacingBetweenSlices


def unnumbered(seg: pydicom.Dataset) -> None:
    seg.PerFrameFunctionalGroupsSequence[2].SegmentIdentificationSequence[0].ReferencedSegmentNumber = 0


def far(seg: pydicom.Dataset) -> None:
    place = seg.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence[0]
    place.ImagePositionPatient = [*place.ImagePositionPatient[:2], -1e9]


def beside(seg: pydicom.Dataset) -> None:
    place = seg.PerFrameFunctionalGroupsSequence[1].PlanePositionSequence[0]
    place.ImagePositionPatient = [float(place.ImagePositionPatient[0]) + 3, *place.ImagePositionPatient[1:]]


def turned(seg: pydicom.Dataset) -> None:
    group = seg.PerFrameFunctionalGroupsSequence[0]
    group.PlaneOrientationSequence = highdicom.PlaneOrientationSequence("PATIENT", (0, 1, 0, 0, 0, -1))


def set_to(keyword: str, value: object):
    return lambda seg: setattr(seg, keyword, value)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (without("PlanePositionSequence"), "no ImagePositionPatient"),
        (without("PlaneOrientationSequence"), "no ImageOrientationPatient"),
        (without("PixelMeasuresSequence"), "no PixelSpacing"),
        (without("SegmentIdentificationSequence"), "does not name its segment"),
        (without("PerFrameFunctionalGroupsSequence"), "positions for 0.*empty or damaged"),
        (without("PixelData"), "without voxels"),
        (without("Rows"), "cannot be read"),
        (without("SegmentSequence"), "describes no segment"),
        (without("BitsStored"), "cannot be read"),
        (set_to("SegmentationType", "SURFACE"), "SegmentationType 'SURFACE'"),
        (set_to("SegmentationType", "FRACTIONAL"), "no MaximumFractionalValue"),
        (set_to("PixelData", b"\0\0"), "truncated or damaged"),
        (set_to("Rows", 65535), "truncated or damaged"),
        (set_to("NumberOfFrames", 2), "2 frames, and positions for 4"),
        (lambda seg: seg.SegmentSequence.pop(), "frames of segment 2, which it does not describe"),
        (lambda seg: setattr(seg.SegmentSequence[1], "SegmentNumber", 1), "given twice"),
        (unnumbered, "frames of segment 0, which it does not describe"),
        (uneven, "not evenly spaced"),
        (far, "not evenly spaced|of memory"),
        (beside, "do not lie in one line"),
        (turned, "differ in orientation"),
    ],
)
def test_faults_are_told_in_words(edit, message, tmp_path, capfd):
    series = series_in(tmp_path)
    seg = by_highdicom(series, blobs(cb.read_volume(series).grid).array)
    edit(seg)
    seg.save_as(tmp_path / "seg.dcm")
    with pytest.raises(CoralBayError, match=message):
        cb.read_segmentation(tmp_path / "seg.dcm")
    assert capfd.readouterr().err == ""


def test_truncated_files(tmp_path):
    series = series_in(tmp_path)
    by_highdicom(series, blobs(cb.read_volume(series).grid).array).save_as(tmp_path / "seg.dcm")
    data = (tmp_path / "seg.dcm").read_bytes()
    for share in (0.01, 0.2, 0.5, 0.9, 0.999):
        (tmp_path / "torn.dcm").write_bytes(data[: int(len(data) * share)])
        with pytest.raises(VolumeError, match="damaged"):
            cb.read_segmentation(tmp_path / "torn.dcm")
    (tmp_path / "torn.dcm").write_bytes(b"")
    with pytest.raises(VolumeError, match="0 bytes"):
        cb.read_segmentation(tmp_path / "torn.dcm")


def test_other_dicom_objects_and_a_missing_package(tmp_path, monkeypatch):
    series = series_in(tmp_path)
    labelmap = blobs(cb.read_volume(series).grid)
    with pytest.raises(VolumeError, match=r"001\.dcm is a slice of a CT, not a segmentation"):
        cb.read_segmentation(series / "001.dcm")
    contours = pydicom.dcmread(series / "001.dcm")
    del contours.PixelData
    for uid, message in (("481.3", "RT structure set.*not supported.*Slicer"), ("88.33", "another kind of DICOM object")):
        contours.SOPClassUID = contours.file_meta.MediaStorageSOPClassUID = f"1.2.840.10008.5.1.4.1.1.{uid}"
        contours.save_as(tmp_path / "other.dcm")
        with pytest.raises(VolumeError, match=message):
            cb.read_segmentation(tmp_path / "other.dcm")
    (tmp_path / "no.dcm").write_bytes(b"no DICOM file" * 99)
    with pytest.raises(VolumeError, match=r"no\.dcm is not a DICOM file"):
        cb.read_labelmap(tmp_path / "no.dcm")
    cb.write_dicom_seg(labelmap, SEGMENTS, tmp_path / "seg.dcm", series)
    monkeypatch.setitem(sys.modules, "highdicom", None)
    with pytest.raises(VolumeError, match="needs the package highdicom") as caught:
        cb.read_segmentation(tmp_path / "seg.dcm")
    assert caught.value.remedy is Remedy.INSTALL_PACKAGE
