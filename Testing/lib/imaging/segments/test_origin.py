"""A DICOM SEG file of another scan is noticed."""

from __future__ import annotations

import numpy as np
import pydicom
from pydicom.uid import generate_uid

import CoralBayLib as cb
from CoralBayLib.imaging.segments.origin import note_on_origin

from .test_dicom_reader import by_highdicom, series_in


def test_a_segmentation_of_another_frame_of_reference_is_noticed(tmp_path):
    series = series_in(tmp_path)
    masks = np.zeros((*cb.read_volume(series).array.shape, 1), np.uint8)
    masks[1:4, 2:5, 2:5] = 1
    seg = tmp_path / "made.dcm"
    by_highdicom(series, masks).save_as(seg)
    cb.write_volume(cb.read_volume(series), tmp_path / "ct.nrrd")
    assert note_on_origin(seg, series) == ""
    assert note_on_origin(seg, tmp_path / "ct.nrrd") == ""
    assert note_on_origin(tmp_path / "ct.nrrd", series) == ""
    other = generate_uid()
    for path in series.iterdir():
        changed = pydicom.dcmread(path)
        changed.FrameOfReferenceUID = other
        changed.save_as(path)
    assert "made.dcm has another frame of reference" in note_on_origin(seg, series)
    assert "made.dcm has another frame of reference" in note_on_origin(seg, next(series.iterdir()))
    assert other not in note_on_origin(seg, series)
