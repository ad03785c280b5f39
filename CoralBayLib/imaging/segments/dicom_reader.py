"""Reading of DICOM SEG files (PS3.3, A.51), of which the voxels are read frame by frame.

The elements of a file are checked by `headers.dicom_elements` before pydicom sees them.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from CoralBayLib.core.errors import CoralBayError, Remedy, VolumeError
from CoralBayLib.core.names import is_background, printable_name
from CoralBayLib.core.paths import error_message, looks_like_dicom, printable
from CoralBayLib.core.requirements import DICOM
from CoralBayLib.imaging.dicom import series_slices
from CoralBayLib.imaging.facts import FileFacts
from CoralBayLib.imaging.formats import READABLE_SUFFIXES
from CoralBayLib.imaging.grid import Grid, Volume
from CoralBayLib.imaging.headers.dicom_elements import (
    CT_IMAGE,
    RT_STRUCTURE_SET,
    SEGMENTATIONS,
    UNCOMPRESSED,
    Elements,
    read_elements,
)
from CoralBayLib.imaging.headers.source import require_memory
from CoralBayLib.imaging.palette import Color, label_color

from .frames import Frames, read_frames
from .painting import masks_of, paint
from .segment import Segment

if TYPE_CHECKING:
    from highdicom.io import ImageFileReader
    from pydicom import Dataset

_TYPES = ("BINARY", "FRACTIONAL", "LABELMAP")
_HIGHEST = 65535
"""Highest number of a segment."""


def is_dicom_file(path: Path) -> bool:
    """Whether a file is named or begins as DICOM, of whatever kind."""
    try:
        return not path.name.lower().endswith(READABLE_SUFFIXES) and path.is_file() and looks_like_dicom(path)
    except OSError:  # what opens it next says so
        return False


def is_dicom_seg(path: Path) -> bool:
    """Whether a file is a DICOM SEG, as far as it can be read.

    Raises:
        VolumeError: it cannot be opened.
    """
    elements = read_elements(path) if is_dicom_file(path) else None
    return elements is not None and elements.sop_class in SEGMENTATIONS


def read_dicom_seg(path: Path, facts: FileFacts | None = None, scan_grid: Grid | None = None) -> tuple[Volume, list[Segment]]:
    """Read a DICOM SEG file.

    Args:
        path: of the file.
        facts: takes what reading tells of the file, also when it fails; without it, warnings say what was noted.
        scan_grid: of the scan that was segmented, if it is known.

    Returns:
        labelmap: uint8, int16 or int32, indexed [k, j, i], with the numbers of the segments. It lies on `scan_grid`, else on
            the grid of the referenced series if its slices are in the folder of the file, provided that the frames lie on
            their voxels. Otherwise it lies on the grid of the frames, which ends with the first and the last of them.
        segments: in the file's order. Of a fractional segmentation, voxels count from half of MaximumFractionalValue.

    Raises:
        VolumeError: it is another DICOM object or damaged, a frame has no place, segments overlap, or a package is missing
            (the remedy is INSTALL_PACKAGE).
        MemoryLimitError: the labelmap would not fit into memory.
    """
    name, quiet = path.name, facts is not None
    facts = FileFacts() if facts is None else facts
    facts.format = "DICOM"
    elements = _elements(path)
    facts.bytes = path.stat().st_size
    facts.compression = "" if elements.syntax in UNCOMPRESSED else "DICOM"
    import_highdicom("Reading")
    with warnings.catch_warnings():
        # About the representation of values that are not used here.
        warnings.simplefilter("ignore", UserWarning)
        try:
            labelmap, segments, note = _read(path, elements, facts, scan_grid)
        except CoralBayError:
            raise
        except Exception as error:  # pydicom and highdicom raise any for headers and voxels that they cannot decode
            raise VolumeError(
                f"{name} cannot be read ({error_message(error)}). It is damaged, or its compression is not supported. Copy it "
                "again, or load it in Slicer and save it as .seg.nrrd."
            ) from error
    facts.complete = True
    if note:
        facts.notes.append(note)
        if not quiet:
            warnings.warn(note, stacklevel=3)
    return labelmap, segments


def _read(path: Path, elements: Elements, facts: FileFacts, scan_grid: Grid | None) -> tuple[Volume, list[Segment], str]:
    """The labelmap, the segments, and a note; errors of pydicom and highdicom are raised as they are."""
    name = path.name
    _require_whole(path, elements)
    with _opened(path) as reader:
        dataset = reader.metadata
        kind = str(dataset.get("SegmentationType") or "").strip().upper()
        if kind not in _TYPES:
            raise VolumeError(f"{name} has the SegmentationType '{printable(kind[:16])}'. Expected one of {', '.join(_TYPES)}.")
        padding = int(dataset.get("PixelPaddingValue") or 0) if kind == "LABELMAP" else 0
        segments = _segments(dataset, padding, name)
        frames = read_frames(dataset, kind == "LABELMAP", name)
        masks, note = masks_of(dataset, kind, name)
        unknown = sorted(set(frames.numbers) - {segment.label for segment in segments} - ({0} if masks is None else set()))
        if unknown:
            raise VolumeError(f"{name} has frames of segment {unknown[0]}, which it does not describe. Export it again.")
        grid, slices = _placed(frames, dataset, path, scan_grid, facts)
        facts.grid, facts.size_ijk = grid, grid.size
        highest = max(segment.label for segment in segments)
        dtype = next(kind for kind in (np.uint8, np.int16, np.int32) if highest <= np.iinfo(kind).max)
        require_memory(int(np.prod(grid.shape, dtype=object)) * np.dtype(dtype).itemsize, name)
        array = np.zeros(grid.shape, dtype)
        values = _values(path, reader, elements)
        if padding:
            values = (np.where(each == padding, 0, each) for each in values)
        paint(array, zip(values, frames.numbers, slices, strict=True), masks, segments, name)
    return Volume(array, grid), segments, note


def _elements(path: Path) -> Elements:
    """What the elements of a file say, which must be a DICOM SEG without a fault."""
    elements, name = read_elements(path), path.name
    if elements is None:
        raise VolumeError(f"{name} is not a DICOM file, or a damaged one. Copy it again.")
    if elements.fault:
        raise VolumeError(f"The DICOM file {name} is damaged: {elements.fault}. Copy it again.")
    if elements.sop_class == CT_IMAGE:
        raise VolumeError(f"{name} is a slice of a CT, not a segmentation. Choose a DICOM SEG file, or a .seg.nrrd.")
    if elements.sop_class == RT_STRUCTURE_SET:
        raise VolumeError(
            f"{name} is an RT structure set, whose contours are not supported. Load it in Slicer (extension SlicerRT) and save "
            "the segmentation as .seg.nrrd."
        )
    if elements.sop_class not in SEGMENTATIONS:
        raise VolumeError(f"{name} is another kind of DICOM object, not a segmentation. Choose a DICOM SEG file.")
    if not elements.voxel_bytes:
        raise VolumeError(f"{name} is a DICOM segmentation without voxels. Export it again from its source.")
    return elements


def import_highdicom(task: str) -> Any:
    """The package, imported when it is needed.

    Args:
        task: what needs it, for the message: "Reading" or "Writing".

    Raises:
        VolumeError: it is missing (the remedy is INSTALL_PACKAGE).
    """
    try:
        import highdicom
    except ImportError as error:
        raise VolumeError(
            f"{task} DICOM segmentations needs the package highdicom.", remedy=Remedy.INSTALL_PACKAGE, package=DICOM
        ) from error
    return highdicom


def _segments(dataset: Dataset, padding: int, name: str) -> list[Segment]:
    """The segments that a header describes, without the background of a labelmap, whose voxels have the value `padding`."""
    segments: dict[int, Segment] = {}
    for item in dataset.get("SegmentSequence") or []:
        number, label = int(item.SegmentNumber), printable_name(str(item.get("SegmentLabel") or ""))
        if number == padding or (number == 0 and is_background(label)):
            continue
        if not 0 < number <= _HIGHEST or number in segments:
            raise VolumeError(f"{name} is damaged: a segment has the number {number}, which is out of range or given twice.")
        code: Any = next(iter(item.get("SegmentedPropertyTypeCodeSequence") or []), {})
        label = label or printable_name(str(code.get("CodeMeaning") or ""))
        segments[number] = Segment(number, label or f"Segment_{number}", _color(item, number))
    if not segments:
        raise VolumeError(f"{name} describes no segment. Export the segmentation again from its source.")
    return list(segments.values())


def _color(item: Dataset, number: int) -> Color:
    from highdicom.color import CIELabColor

    try:
        red, green, blue = CIELabColor.from_dicom_value(list(item.RecommendedDisplayCIELabValue)).to_rgb(clip=True)
    except (AttributeError, TypeError, ValueError):
        return label_color(number)
    return red / 255, green / 255, blue / 255


def _require_whole(path: Path, elements: Elements) -> None:
    """Refuse voxels that are fewer than the header says, before anything is allocated for them."""
    import pydicom

    tags = ["Rows", "Columns", "NumberOfFrames", "BitsAllocated", "SamplesPerPixel"]
    dataset = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=tags)
    rows, columns, frames, bits = (int(dataset[tag].value or 0) for tag in tags[:4])
    if min(rows, columns, frames, bits) < 1 or int(dataset.get("SamplesPerPixel") or 1) != 1:
        raise VolumeError(f"{path.name} is damaged: its frames have no voxels, or have colors. Copy it again.")
    stored = elements.voxel_bytes or 0
    expected = -(-rows * columns * frames * bits // 8) if elements.syntax in UNCOMPRESSED else frames
    if expected > stored:
        raise VolumeError(
            f"{path.name} is truncated or damaged: its header announces {frames:,} frames of {columns} x {rows} voxels, "
            f"at least {expected:,} bytes, and the file has {stored:,}. Copy it again."
        )


def _placed(
    frames: Frames, dataset: Dataset, path: Path, scan_grid: Grid | None, facts: FileFacts
) -> tuple[Grid, NDArray[np.intp]]:
    """The grid of the labelmap, and the slice of each frame in it."""
    if scan_grid is not None and (slices := frames.slices_of(scan_grid)) is not None:
        return scan_grid, slices
    reason = "The slices of the scan that the segmentation refers to are not beside it"
    for item in dataset.get("ReferencedSeriesSequence") or []:
        try:
            _, grid = series_slices(path.parent, str(item.SeriesInstanceUID))
        except (VolumeError, AttributeError):  # it is not there, or cannot be read
            continue
        if (slices := frames.slices_of(grid)) is not None:
            return grid, slices
        reason = "The segmentation does not lie on the voxels of the scan beside it"
    if scan_grid is None:
        facts.notes.append(f"{reason}: its geometry is that of its own frames, from the first to the last.")
    return frames.own_grid(path.name)


@contextmanager
def _opened(path: Path) -> Iterator[ImageFileReader]:
    """A reader of single frames. Used as a context manager itself, it would print a traceback for every error."""
    from highdicom.io import ImageFileReader

    reader = ImageFileReader(path)
    reader.open()
    try:
        yield reader
    finally:
        reader.close()


def _values(path: Path, reader: ImageFileReader, elements: Elements) -> Iterator[NDArray]:
    """The stored values of each frame, [j, i], one frame in memory at a time."""
    rows, columns, count = int(reader.metadata.Rows), int(reader.metadata.Columns), int(reader.number_of_frames)
    voxels = rows * columns
    if reader.metadata.BitsAllocated == 1 and voxels % 8 and elements.syntax in UNCOMPRESSED:
        # Such frames begin within a byte, and highdicom 0.28 leaves out the last bits of some.
        import pydicom

        packed = np.frombuffer(pydicom.dcmread(path, specific_tags=["PixelData"]).PixelData, np.uint8)
        for begin in range(0, count * voxels, voxels):
            bits = np.unpackbits(packed[begin // 8 : (begin + voxels + 7) // 8], bitorder="little")
            yield bits[begin % 8 :][:voxels].reshape(rows, columns)
        return
    for n in range(count):
        values = reader.read_frame(n)
        if values.shape != (rows, columns):
            raise ValueError(f"a frame has the shape {values.shape}")
        yield values
