"""Segmentations as DICOM SEG files (PS3.3, A.51), which refer to the slices of the series that they were made on.

Each frame holds one segment in one slice, and has the position and the orientation of that slice, digit by digit. The file
names the patient and the study, which DICOM requires: they are copied from the slices.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from CoralBayLib.core import __version__
from CoralBayLib.core.errors import VolumeError
from CoralBayLib.core.names import printable_name, unique_names
from CoralBayLib.core.outputs import require_writable
from CoralBayLib.core.paths import atomic_write, error_message, expand
from CoralBayLib.core.progress import CancelToken, raise_if_cancelled
from CoralBayLib.imaging.dicom import series_slices
from CoralBayLib.imaging.formats import DICOM_SEGMENTATION_SUFFIX, READABLE_SUFFIXES
from CoralBayLib.imaging.grid import Grid, Volume
from CoralBayLib.imaging.headers.terminology import Code, term
from CoralBayLib.imaging.segments.dicom_reader import import_highdicom
from CoralBayLib.imaging.segments.segment import Segment
from CoralBayLib.imaging.volume_io import as_labels

if TYPE_CHECKING:
    from pydicom import Dataset

_LONGEST = 64
"""Most characters of a text (DICOM's value representation LO)."""
_NEEDED = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID", "FrameOfReferenceUID")
_MAY_BE_EMPTY = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime"),
    *("StudyID", "AccessionNumber", "ReferringPhysicianName"),
)
"""Fields that DICOM wants, if only with no value; anonymizers remove them."""


def require_dicom(path: str | os.PathLike, series: str | None = None) -> tuple[list[Path], Grid]:
    """Check before anything is computed that a DICOM SEG can be written for a scan.

    Args:
        path: a folder with DICOM slices, or one slice.
        series: SeriesInstanceUID; needed when the folder holds several.

    Returns:
        files: the slices, in the order of k.
        grid: of the series.

    Raises:
        VolumeError: it is no DICOM series, or one that lacks what a segmentation must refer to; or a package is missing
            (the remedy is INSTALL_PACKAGE); or headers with values that DICOM does not allow.
    """
    path = expand(path)
    if path.name.lower().endswith(READABLE_SUFFIXES):
        raise VolumeError(
            f"{path.name} is not a DICOM series. A DICOM segmentation refers to the slices that it was made on. Give the "
            "folder with the slices, or write a .seg.nrrd file."
        )
    files, grid = series_slices(path, series)
    import_highdicom("Writing")
    first = _read(files[0])
    missing = [name for name in _NEEDED if not first.get(name)]
    if missing:
        raise VolumeError(
            f"The slices of the series lack {', '.join(missing)}, to which a DICOM segmentation must refer. An anonymizer may "
            "have removed it: export the series again with it, or write a .seg.nrrd file."
        )
    _dataset([first], np.ones((1, *grid.shape[1:]), np.uint16), [Segment(1, "trial", (0.0, 0.0, 0.0))], "")
    return files, grid


def write_dicom_seg(
    labelmap: Volume,
    segments: Sequence[Segment],
    path: str | os.PathLike,
    source: str | os.PathLike,
    series: str | None = None,
    *,
    encoder: str = "",
    cancel: CancelToken | None = None,
) -> None:
    """Write a labelmap and its segments as a DICOM SEG file.

    Args:
        labelmap: whole numbers indexed [k, j, i], 0 for background, on the grid of the series.
        segments: one for every label in the labelmap, at least one; others become segments without voxels.
        path: ends in `.dcm`.
        source: a folder with the DICOM slices of the scan, or one slice.
        series: SeriesInstanceUID; needed when the folder holds several.
        encoder: name of the encoder, which is written into the file.
        cancel: checked between the slices, and before the file takes its name.

    Raises:
        VolumeError: as `require_dicom`; or another suffix, a grid that is not that of the series, no segment, or a label
            that no segment names.
        StoreError: the file could not be written, or is one of the slices; an existing one is unchanged.
        Cancelled: `cancel` was called; an existing file is unchanged.
    """
    path = Path(path)
    if path.suffix.lower() != DICOM_SEGMENTATION_SUFFIX:
        raise VolumeError(f"Use a name ending in {DICOM_SEGMENTATION_SUFFIX} for a DICOM segmentation, not {path.name}.")
    files, grid = require_dicom(source, series)
    require_writable(path, files)
    if not labelmap.grid.same_as(grid):
        raise VolumeError("The segmentation does not lie on the voxels of the series. Segment the series itself.")
    numbers = _numbers(labelmap.array, segments)
    slices = []
    for file in files:
        raise_if_cancelled(cancel)
        slices.append(_read(file))
    if len({each.SOPInstanceUID for each in slices}) < len(slices):
        raise VolumeError(
            "Two slices of the series have the same SOPInstanceUID, so that a DICOM segmentation cannot refer to one of them. "
            "Export the series again from its source, or write a .seg.nrrd file."
        )
    dataset = _dataset(slices, numbers, segments, encoder)
    with atomic_write(path) as temporary:
        raise_if_cancelled(cancel)
        dataset.save_as(temporary)
        raise_if_cancelled(cancel)


def _numbers(array: NDArray, segments: Sequence[Segment]) -> NDArray[np.uint16]:
    """The number of each voxel's segment: DICOM numbers segments from 1 in their order."""
    labels = [segment.label for segment in segments]
    if not segments or len(set(labels)) < len(labels):
        raise VolumeError("Expected at least one segment, and a label of its own for each.")
    array = as_labels(array, "The volume")
    highest = int(array.max(initial=0))
    lookup = np.zeros(highest + 1, np.uint16)
    for number, label in enumerate(labels, start=1):
        if label <= highest:
            lookup[label] = number
    numbers = lookup[array]
    unnamed = np.unique(array[(numbers == 0) & (array != 0)]).tolist()
    if unnamed:
        raise VolumeError(f"The labelmap has voxels with labels {unnamed[:10]}, but no segments for them. Add them.")
    return numbers


def _dataset(slices: list[Dataset], numbers: NDArray[np.uint16], segments: Sequence[Segment], encoder: str) -> Dataset:
    highdicom = import_highdicom("Writing")
    for each in slices:
        for name in _MAY_BE_EMPTY:
            if name not in each:
                setattr(each, name, "")
        if not each.get("SliceThickness"):
            each.SliceThickness = None
    number = slices[0].get("SeriesNumber")
    try:
        with warnings.catch_warnings():
            # About the representation of values in the slices, which are only copied.
            warnings.simplefilter("ignore", UserWarning)
            dataset = highdicom.seg.Segmentation(
                source_images=slices,
                pixel_array=numbers,
                segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
                segment_descriptions=[
                    _description(n, each, name, encoder)
                    for n, (each, name) in enumerate(zip(segments, _names(segments), strict=True), start=1)
                ],
                series_instance_uid=highdicom.UID(),
                series_number=min(int(number), 9899) + 100 if number is not None else 100,
                sop_instance_uid=highdicom.UID(),
                instance_number=1,
                manufacturer="CoralBay",
                manufacturer_model_name="CoralBay",
                software_versions=__version__,
                device_serial_number=__version__,
                content_description="Segmentation by CoralBay",
                series_description="Segmentation by CoralBay",
            )
    except (AttributeError, ValueError, TypeError, KeyError) as error:
        raise VolumeError(
            f"The headers of the slices do not allow a DICOM segmentation ({error_message(error)}). Write a .seg.nrrd file."
        ) from error
    # Texts of the slices were decoded when they were read; names of segments may have any characters.
    dataset.SpecificCharacterSet = "ISO_IR 192"
    return dataset


def _names(segments: Sequence[Segment]) -> list[str]:
    """Names that DICOM can hold; those that would become equal get a number."""
    plain = [printable_name(segment.name.replace("\\", "/")) or f"Segment_{segment.label}" for segment in segments]
    # Only names that are cut off get shorter for the number.
    for longest in range(_LONGEST, _LONGEST - 8, -1):
        names = unique_names(name[:longest].strip() for name in plain)
        if max(map(len, names)) <= _LONGEST:
            break
    return names


def _description(number: int, segment: Segment, name: str, encoder: str) -> Any:
    highdicom = import_highdicom("Writing")
    from pydicom.sr.codedict import codes
    from pydicom.sr.coding import Code as DicomCode

    def coded(code: Code) -> DicomCode:
        return DicomCode(code.value, "SCT", code.meaning)

    what = term(segment.name)
    identification = highdicom.AlgorithmIdentificationSequence(
        name=f"CoralBay ({encoder})" if encoder else "CoralBay",
        version=__version__,
        family=codes.cid7162.ArtificialIntelligence,
    )
    description = highdicom.seg.SegmentDescription(
        segment_number=number,
        segment_label=name,
        segmented_property_category=coded(what.category),
        segmented_property_type=coded(what.kind),
        algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.SEMIAUTOMATIC,
        algorithm_identification=identification,
        display_color=highdicom.color.CIELabColor.from_rgb(*(round(255 * part) for part in segment.color_rgb)),
    )
    if what.side is not None:
        kind = description.SegmentedPropertyTypeCodeSequence[0]
        kind.SegmentedPropertyTypeModifierCodeSequence = [highdicom.sr.CodedConcept(what.side.value, "SCT", what.side.meaning)]
    return description


def _read(file: Path) -> Dataset:
    import pydicom

    try:
        return pydicom.dcmread(file, stop_before_pixels=True)
    except (OSError, ValueError, pydicom.errors.InvalidDicomError) as error:
        raise VolumeError(f"The header of slice {file.name} could not be read ({error_message(error)}).") from error
