"""Whether a DICOM SEG file was made on a scan, as far as their headers tell."""

from __future__ import annotations

import os
from pathlib import Path

from CoralBayLib.core.errors import VolumeError
from CoralBayLib.core.paths import expand
from CoralBayLib.imaging.dicom import series_slices
from CoralBayLib.imaging.series.slices import header

from .dicom_reader import is_dicom_file, is_dicom_seg

_FRAME_OF_REFERENCE = "0020|0052"


def note_on_origin(segmentation: str | os.PathLike, scan: str | os.PathLike, series: str | None = None) -> str:
    """A sentence when positions of a DICOM SEG file and of a DICOM scan cannot be compared.

    These have another FrameOfReferenceUID (DICOM PS3.3, C.7.4.1), as of another patient or examination. Anonymizers
    replace the two independently, too, so that this is no error.

    Args:
        segmentation: any file.
        scan: any file, or a folder with a DICOM series.
        series: SeriesInstanceUID of the scan, where its folder holds several.

    Returns:
        The sentence; "" where nothing is known against the two.
    """
    segmentation, scan = expand(segmentation), expand(scan)
    try:
        if not is_dicom_seg(segmentation) or not (scan.is_dir() or is_dicom_file(scan)):
            return ""
        files, _ = series_slices(scan, series)
    except VolumeError:  # reading them says what is wrong
        return ""
    own, other = _frame_of_reference(segmentation), header(str(files[0])).get(_FRAME_OF_REFERENCE, "")
    if not own or not other or own == other:
        return ""
    return (
        f"{segmentation.name} has another frame of reference (FrameOfReferenceUID) than the scan, so it was probably made on "
        "another scan. Check the result."
    )


def _frame_of_reference(segmentation: Path) -> str:
    try:
        from pydicom import dcmread

        found = dcmread(segmentation, stop_before_pixels=True, specific_tags=["FrameOfReferenceUID"])
        return str(found.get("FrameOfReferenceUID", ""))
    except Exception:  # pydicom raises any; reading the file says what is wrong
        return ""
