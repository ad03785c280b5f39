"""Segmentations to and from `.seg.nrrd` files, which Slicer opens as named segments with colors.

DICOM SEG files and plain labelmaps are read here, too.

The format is a NRRD labelmap with key/value pairs `SegmentN_...` (N from 0) and `Segmentation_...`, as written and read
by Slicer's vtkMRMLSegmentationStorageNode (Libs/MRML/Core). Files written here have one layer, so segments do not overlap.

gzip's CRC-32 vouches for the voxels alone. In files written here, the pair `CoralBay_Checksum` vouches for the header: the
CRC-32 of size, geometry and segments, and the geometry's numbers. A copy at the other end of the header tells when a lost
sector took it away. Other programs ignore both, and Slicer drops them on saving.
"""

from __future__ import annotations

import json
import os
import re
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from CoralBayLib.core.errors import VolumeError

from .facts import FileFacts
from .formats import SEGMENTATION_SUFFIX
from .grid import Grid, Volume
from .headers.terminology import term
from .hounsfield import slabs
from .palette import label_color
from .segments.dicom_reader import is_dicom_file, read_dicom_seg
from .segments.segment import Segment
from .volume_io import as_labels, quiet_itk, read_image, require_file, to_itk, write_image

__all__ = ["Segment", "names_its_segments", "read_segmentation", "write_segmentation"]

_NOT_IN_NRRD = re.compile("[\0\r\ud800-\udfff]")
"""Characters that a header cannot hold."""
_CHECKSUM = "CoralBay_Checksum"
_CHECKSUMS = (_CHECKSUM, "coralbay_checksum_copy")
"""The keys of the checksum and its copy. ITK writes keys in the order of their bytes, so capitals come first."""
_TOLERANCE_MM = 1e-7
"""Largest difference of a geometry that another program's rounding may cause when it saves the file."""


def write_segmentation(labelmap: Volume, segments: list[Segment], path: str | os.PathLike) -> None:
    """Write a labelmap and its segments as a `.seg.nrrd` file.

    Args:
        labelmap: whole numbers indexed [k, j, i], 0 for background; on any grid, also a sheared one.
        segments: one for every label in the labelmap; others become empty segments.
        path: ends in `.seg.nrrd`.

    Raises:
        VolumeError: another suffix, a label given twice, or a label in the volume that no segment names.
        StoreError: the file could not be written; an existing one is unchanged.
    """
    path = Path(path)
    if not path.name.lower().endswith(SEGMENTATION_SUFFIX):
        raise VolumeError(f"Slicer does not recognize {path.name} as a segmentation. End the name with {SEGMENTATION_SUFFIX}.")
    labels = [segment.label for segment in segments]
    if len(set(labels)) < len(labels):
        raise VolumeError(f"Two segments share a label: {sorted(labels)}. Give each segment its own.")
    array = as_labels(labelmap.array, "The volume")
    unnamed = sorted(set(_labels_in(array)) - set(labels))
    if unnamed:
        raise VolumeError(f"The labelmap has voxels with labels {unnamed[:10]}, but no segments for them. Add them.")
    image = to_itk(Volume(array, labelmap.grid))
    for key, value in _header(segments, labelmap.grid).items():
        image.SetMetaData(key, value)
    write_image(image, path)


def read_segmentation(
    path: str | os.PathLike, facts: FileFacts | None = None, scan_grid: Grid | None = None
) -> tuple[Volume, list[Segment]]:
    """Read a segmentation saved by Slicer or by `write_segmentation`, a DICOM SEG, or any labelmap.

    Args:
        path: the file.
        facts: takes what reading tells of the file, also when it fails.
        scan_grid: of the scan that was segmented. A DICOM SEG whose frames lie on its voxels is read onto it; other files
            keep their grid.

    Returns:
        labelmap: uint8, int16 or int32, indexed [k, j, i]. Several layers are merged into one; a label value that two
            layers use becomes a new one in the second. A DICOM SEG has the numbers of its segments as labels. Without
            `scan_grid` it lies on the grid of the series that it refers to, if the slices are in the folder of the file,
            else on that of its own frames. Fractions count from half of MaximumFractionalValue.
        segments: in the file's order; a plain labelmap gets names "Segment_<label>" and default colors.

    Raises:
        VolumeError: as `read_labelmap`; or segments overlap; or the package for DICOM SEG is missing (the remedy is
            INSTALL_PACKAGE).
    """
    path = require_file(path)
    if is_dicom_file(path):
        with quiet_itk():
            return read_dicom_seg(path, facts, scan_grid)
    with quiet_itk():
        array, grid, header = read_image(path, layers=True, facts=facts)
    array = as_labels(array, path.name)
    segments, layers = _parse(header, path.name)
    if any(key in header for key in _CHECKSUMS):
        for key in _CHECKSUMS:
            _require_checksum(header.get(key, ""), segments, grid, path.name)
    if array.ndim == 4 and not segments:
        raise VolumeError(f"{path.name} has several values per voxel and no segments. Expected a labelmap or a segmentation.")
    _require_places(segments, layers, array.shape[3] if array.ndim == 4 else 1, path.name)
    for note in _unnamed(array, segments, layers, path.name) if segments else ():
        if facts is not None:
            facts.notes.append(note)
        else:
            warnings.warn(note, stacklevel=2)
    if array.ndim == 4:
        array, segments = _merge_layers(array, segments, layers, path.name)
    elif not segments and "Segmentation_MasterRepresentation" not in header:
        segments = [Segment(n, f"Segment_{n}", label_color(n)) for n in _labels_in(array)]
    return Volume(array, grid), segments


def names_its_segments(path: Path) -> bool:
    """Whether a file is of a format that names its segments: a `.seg.nrrd` or DICOM SEG file."""
    return path.name.lower().endswith(SEGMENTATION_SUFFIX) or is_dicom_file(path)


def _unnamed(array: NDArray, segments: list[Segment], layers: list[int], name: str) -> Iterator[str]:
    """A sentence for each layer with labels that no segment names, as after a damaged header."""
    for layer, values in enumerate(np.moveaxis(array, -1, 0) if array.ndim == 4 else [array]):
        named = {segment.label for segment, where in zip(segments, layers, strict=True) if where == layer}
        labels = [label for label in _labels_in(values) if label not in named]
        if labels:
            voxels = int(np.isin(values, labels).sum())
            yield (
                f"{name}: {voxels:,} voxels with the labels {', '.join(map(str, labels[:5]))} belong to no segment. If a "
                "structure is missing, save the segmentation again in Slicer."
            )


def _require_places(segments: list[Segment], layers: list[int], count: int, name: str) -> None:
    """Refuse segments whose voxels cannot be told apart, or that are in a layer that the file lacks."""
    known: dict[tuple[int, int], str] = {}
    for segment, layer in zip(segments, layers, strict=True):
        if not 0 <= layer < count:
            raise VolumeError(f"{name}: segment '{segment.name}' is in layer {layer}, which the file lacks. Save it again.")
        if segment.label > np.iinfo(np.int32).max:
            raise VolumeError(f"{name}: segment '{segment.name}' has the label {segment.label}, which no voxel can have.")
        other = known.get((layer, segment.label))
        known[layer, segment.label] = segment.name
        if other is not None:
            raise VolumeError(
                f"{name}: the segments '{other}' and '{segment.name}' have the same label, {segment.label}, so their voxels "
                "cannot be told apart. Save the segmentation again in Slicer."
            )


def _labels_in(array: NDArray) -> list[int]:
    """The positive labels in an array, sorted."""
    found: set[int] = set()
    for slab in slabs(array):
        if array.dtype == np.uint8:
            found.update(np.flatnonzero(np.bincount(slab.ravel(), minlength=256)).tolist())
        else:
            found.update(np.unique(slab).tolist())
    return sorted(found - {0})


def _header(segments: list[Segment], grid: Grid) -> dict[str, str]:
    extent = " ".join(f"0 {n - 1}" for n in grid.size)
    # Slicer's Segment Editor paints within the reference geometry. Without one, it would use the segments' bounding box.
    numbers = [*(repr(float(v)) for v in grid.ijk_to_ras.ravel()), *extent.split()]
    fields = {
        "Segmentation_MasterRepresentation": "Binary labelmap",
        "Segmentation_ContainedRepresentationNames": "Binary labelmap|",
        "Segmentation_ConversionParameters": f"Reference image geometry|{';'.join(numbers)};|&",
        "Segmentation_ReferenceImageExtentOffset": "0 0 0",
    }
    for n, segment in enumerate(segments):
        values = {
            "ID": f"Segment_{segment.label}",
            "Name": _NOT_IN_NRRD.sub(" ", segment.name),
            "NameAutoGenerated": "0",
            "Color": " ".join(f"{c:.6g}" for c in segment.color_rgb),
            "ColorAutoGenerated": "0",
            "LabelValue": str(segment.label),
            "Layer": "0",
            "Extent": extent,
            "Tags": f"Segmentation.Status:inprogress|TerminologyEntry:{term(segment.name).slicer_entry}|",
        }
        fields.update({f"Segment{n}_{key}": value for key, value in values.items()})
    matrix = " ".join(repr(float(v)) for v in grid.ijk_to_ras[:3].ravel())
    return fields | dict.fromkeys(_CHECKSUMS, f"{_crc(segments, grid, matrix)} {matrix}")


def _crc(segments: list[Segment], grid: Grid, numbers: str) -> str:
    """The CRC-32 of what a header says; `numbers` are the first three rows of the grid's matrix, as text."""
    # Programs differ in how they escape blanks and backslashes.
    known = [
        [s.label, re.sub(r"[\s\\]+", " ", _NOT_IN_NRRD.sub(" ", s.name)).strip(), *(f"{c:.6g}" for c in s.color_rgb)]
        for s in segments
    ]
    return f"{zlib.crc32(json.dumps([grid.size, known, numbers]).encode()):08x}"


def _require_checksum(checksum: str, segments: list[Segment], grid: Grid, name: str) -> None:
    crc, _, numbers = checksum.partition(" ")
    if crc == _crc(segments, grid, numbers):
        written = np.array([float(word) for word in numbers.split()]).reshape(3, 4)
        if np.allclose(written, grid.ijk_to_ras[:3], rtol=1e-9, atol=_TOLERANCE_MM):
            return
    raise VolumeError(
        f"{name} is damaged, or was changed: its segments, size or geometry are not those that CoralBay wrote. Copy it again. "
        f"If you changed it with another program, open it in Slicer, check it and save it there, which drops {_CHECKSUM}."
    )


def _parse(header: dict[str, str], name: str) -> tuple[list[Segment], list[int]]:
    """The segments in a header, and the layer of each."""
    numbers = sorted(int(match[1]) for key in header if (match := re.fullmatch(r"Segment(\d+)_ID", key)))
    segments, layers = [], []
    for index, n in enumerate(numbers):
        try:
            # Before Slicer 4.11 neither field existed, and every segment had its own layer.
            layers.append(int(header.get(f"Segment{n}_Layer", str(index))))
            label = int(header.get(f"Segment{n}_LabelValue", "1"))
            written = header.get(f"Segment{n}_Color")
            color = tuple(float(c) for c in written.split()) if written else label_color(index + 1)
        except ValueError as error:
            raise VolumeError(f"{name}: the fields of segment {n} are damaged ({error}). Save it again in Slicer.") from error
        segment_name = header.get(f"Segment{n}_Name") or header[f"Segment{n}_ID"]
        segments.append(Segment(label, segment_name, color))  # type: ignore[arg-type]
    return segments, layers


def _merge_layers(array: NDArray, segments: list[Segment], layers: list[int], name: str) -> tuple[NDArray, list[Segment]]:
    """Merge several layers into one; `array` is [k, j, i, layer]."""
    merged = np.zeros(array.shape[:3], dtype=np.int32)
    used: set[int] = set()
    renumbered = []
    for segment, layer in zip(segments, layers, strict=True):
        mask = array[..., layer] == segment.label
        shared = int(np.count_nonzero(merged[mask]))
        if shared:
            raise VolumeError(
                f"{name}: segment '{segment.name}' shares {shared:,} voxels with others. Expected segments that do not "
                "overlap. In Slicer, export the segmentation to a labelmap, or separate the segments with Logical operators."
            )
        label = segment.label if segment.label not in used else max(used | {s.label for s in segments}) + 1
        used.add(label)
        merged[mask] = label
        renumbered.append(Segment(label, segment.name, segment.color_rgb))
    return as_labels(merged, name), renumbered
