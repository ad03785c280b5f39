"""*Export as DICOM* in step 2: the segments of the output, read back from the file."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import host
import numpy as np
import pydicom
import pytest

from CoralBayLib.imaging.cropping import CroppedMask
from CoralBayLib.imaging.segmentations import dicom_seg
from CoralBayLib.imaging.segmentations.dicom_seg import require_dicom
from Testing.lib.imaging.segmentations.ct_series import write_series

TILT = np.cos(0.2), np.sin(0.2)


@pytest.fixture
def exported(coralbay: Any, driver: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """An oblique series of the DICOM database with two segments; a function that exports them."""
    import slicer
    from CoralBaySlicerCore.scene import segments

    array = np.random.default_rng(0).integers(-900, 900, (6, 20, 16)).astype(np.int16)
    series = write_series(tmp_path / "ct", array, row=(TILT[0], TILT[1], 0), column=(-TILT[1], TILT[0], 0))
    files, grid = require_dicom(series)
    by_uid = {pydicom.dcmread(file).SOPInstanceUID: str(file) for file in files}
    database = SimpleNamespace(isOpen=True, fileForInstance=lambda uid: by_uid.get(uid, ""))
    monkeypatch.setattr(slicer, "dicomDatabase", database, raising=False)
    node = slicer.util.addVolumeFromArray(array, ijkToRAS=grid.ijk_to_ras, name="CT")
    node.SetAttribute("DICOM.instanceUIDs", " ".join(by_uid))
    coralbay.panel.parameters.volume = node
    segmentation = segments.new(node, "Output")
    expected = np.zeros(array.shape, int)
    for label, (name, start) in enumerate({"kidney_left": (1, 2, 0), "spot": (9, 3, 4)}.items(), start=1):
        mask = CroppedMask(start, np.ones((2, 3, 4), np.uint8))
        segments.write(segmentation, name, (1, 0.5, 0), mask, grid.ijk_to_ras)
        i, j, k = start
        expected[k : k + 2, j : j + 3, i : i + 4] = label
    coralbay.panel.parameters.output = segmentation
    driver.open(coralbay.panel.segment)
    driver.settle()
    path = tmp_path / "out.dcm"

    def export() -> Path:
        host.dialogs.answer(str(path.with_suffix("")))
        assert coralbay.panel.segment.ui.exportDicomButton.enabled
        coralbay.panel.segment.ui.exportDicomButton.click()
        driver.settle()
        return path

    return SimpleNamespace(export=export, node=node, segmentation=segmentation, expected=expected, grid=grid)


def test_the_segments_are_written_with_codes_on_the_voxels_of_the_series(exported: Any) -> None:
    read = pydicom.dcmread(exported.export())
    assert host.dialogs.texts("error") == []
    kinds = [each.SegmentedPropertyTypeCodeSequence[0].CodeMeaning for each in read.SegmentSequence]
    assert [each.SegmentLabel for each in read.SegmentSequence] == ["kidney_left", "spot"] and kinds == ["Kidney", "Tissue"]
    found = np.zeros_like(exported.expected)
    for bits, frame in zip(read.pixel_array, read.PerFrameFunctionalGroupsSequence, strict=True):
        position = np.array(frame.PlanePositionSequence[0].ImagePositionPatient, float) * (-1, -1, 1)
        k = round(float(exported.grid.to_ijk(position)[0][2]))
        found[k][bits > 0] = frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber
    np.testing.assert_array_equal(found, exported.expected)


def test_segments_tell_slicer_what_they_are(exported: Any) -> None:
    import slicer
    import vtk

    entries, inner = {}, exported.segmentation.GetSegmentation()
    for segment_id in inner.GetSegmentIDs():
        segment, entry = inner.GetSegment(segment_id), vtk.mutable("")
        segment.GetTag(slicer.vtkSegment.GetTerminologyEntryTagName(), entry)
        entries[segment.GetName()] = str(entry)
    assert "SCT^64033007^Kidney~SCT^7771000^Left" in entries["kidney_left"] and "Kidney" not in entries["spot"]


def test_a_scan_that_is_not_from_dicom_and_slices_that_are_gone(exported: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import slicer

    monkeypatch.setattr(slicer.dicomDatabase, "fileForInstance", lambda _uid: "")
    path = exported.export()
    assert "no longer in the DICOM database" in host.dialogs.texts("error")[-1]
    exported.node.RemoveAttribute("DICOM.instanceUIDs")
    exported.export()
    assert "was not loaded from DICOM" in host.dialogs.texts("error")[-1] and not path.exists()


def test_cancel_keeps_the_older_file(exported: Any, coralbay: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    older = exported.export().read_bytes()
    make = dicom_seg._dataset

    def cancelled_meanwhile(slices: Any, numbers: Any, *rest: Any) -> Any:
        if len(slices) > 1:  # not the trial with one slice
            coralbay.panel.logic.worker.cancel_all()
        return make(slices, numbers, *rest)

    monkeypatch.setattr(dicom_seg, "_dataset", cancelled_meanwhile)
    assert exported.export().read_bytes() == older
    assert sorted(each.name for each in tmp_path.iterdir() if each.is_file()) == ["out.dcm"]
