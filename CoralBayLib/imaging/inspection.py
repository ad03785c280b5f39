"""What is known of a scan, and what is wrong with it. Nothing is computed and nothing is written.

A file is read as `read_volume` reads it, by the same code, so that a scan without faults here is one that can be used.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from CoralBayLib.core.errors import CoralBayError, MemoryLimitError, Remedy, VolumeError
from CoralBayLib.core.paths import error_message, expand, printable, shortened

from .facts import FileFacts
from .formats import SEGMENTATION_SUFFIX
from .grid import Volume
from .hounsfield import ct_faults, value_range
from .segmentation_io import read_segmentation
from .segments.dicom_reader import is_dicom_seg
from .volume_io import read_volume

SCAN, LABELMAP, SEGMENTATION = "scan", "labelmap", "segmentation"
"""Kinds of files with voxels."""
_MOST_LABELS = 1000
"""Highest value of a labelmap; a CT without its rescale intercept has higher ones."""
_LABEL_RUNS = 0.5
"""Least share of a labelmap's voxels that have the same label as the next; noise makes it much smaller in a CT."""


@dataclass(frozen=True, eq=False)
class ScanReport:
    """What is known of a scan.

    Attributes:
        path: of the file or folder, as text that can be printed; the name of a volume in memory.
        kind: "scan", "labelmap" or "segmentation"; "" when it could not be read.
        facts: what reading told of the files, as far as it got.
        values: smallest and largest value; None when they are not known, or some are NaN or infinite.
        is_hu: whether the values look like Hounsfield units; None when that was not checked.
        segments: names of the segments of a segmentation.
        faults: why it cannot be used; the message says what to do, and so does the remedy.
    """

    path: str
    kind: str = ""
    facts: FileFacts = field(default_factory=FileFacts)
    values: tuple[float, float] | None = None
    is_hu: bool | None = None
    segments: tuple[str, ...] = ()
    faults: tuple[CoralBayError, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The report in values that JSON can represent; no patient data, unless the path or a description holds some."""
        facts, grid = self.facts, self.facts.grid
        place = grid and {
            "spacing_mm": grid.spacing_mm.tolist(),
            "extent_mm": (np.array(grid.size) * grid.spacing_mm).tolist(),
            "ijk_to_ras": grid.ijk_to_ras.tolist(),
            "directions": grid.directions,
            "slice_plane": grid.slice_plane,
            "obliqueness_deg": grid.obliqueness_deg,
            "shear_deg": grid.shear_deg,
        }
        return {
            "path": self.path,
            "kind": self.kind or None,
            "format": facts.format or None,
            "bytes": facts.bytes or None,
            "compression": facts.compression or None,
            "checksum": facts.checksum,
            "value_type": facts.value_type or None,
            "size_ijk": list(facts.size_ijk) or None,
            "geometry": place,
            "values": self.values,
            "looks_like_hu": self.is_hu,
            "series": vars(facts.series) if facts.series else None,
            "segments": list(self.segments),
            "notes": list(facts.notes),
            "faults": [fault.as_dict() for fault in self.faults],
        }


def inspect_scan(path: str | os.PathLike, series: str | None = None, assume_hu: bool = False) -> ScanReport:
    """Read a scan and tell what is known of it, and what is wrong.

    Args:
        path: as for `read_volume`; or a `.seg.nrrd` or DICOM SEG file.
        series: as for `read_volume`.
        assume_hu: skip the check that the values look like Hounsfield units.

    Returns:
        The report. No error is raised for a file that cannot be read: it is among the report's faults.
    """
    name, facts = printable(path), FileFacts()
    try:
        if name.lower().endswith(SEGMENTATION_SUFFIX) or is_dicom_seg(expand(path)):
            labelmap, segments = read_segmentation(path, facts)
            names = tuple(segment.name for segment in segments)
            return ScanReport(name, SEGMENTATION, facts, value_range(labelmap.array), segments=names)
        return inspect_volume(read_volume(path, series, facts), name, assume_hu, facts)
    except CoralBayError as error:
        fault = error
    except MemoryError:
        fault = MemoryLimitError("There is too little memory to read it.", remedy=Remedy.FREE_MEMORY)
    except OSError as error:
        fault = VolumeError(f"It could not be read ({error_message(error)}). Choose another.")
    return ScanReport(name, facts=facts, faults=(fault,))


def inspect_volume(volume: Volume, name: str, assume_hu: bool = False, facts: FileFacts | None = None) -> ScanReport:
    """As `inspect_scan`, for a volume in memory.

    Args:
        volume: values indexed [k, j, i].
        name: what the report calls it.
        assume_hu: skip the check that the values look like Hounsfield units.
        facts: what is known of its files.
    """
    if facts is None:
        facts = FileFacts(size_ijk=volume.grid.size, value_type=volume.array.dtype.name, grid=volume.grid)
    faults = tuple(ct_faults(volume, assume_hu))
    try:
        values = value_range(volume.array)
    except VolumeError:  # it is among the faults
        values = None
    not_hu = any(fault.remedy is Remedy.ASSUME_HU for fault in faults)
    if not_hu and _is_labelmap(volume.array, values):
        return ScanReport(name, LABELMAP, facts, values)
    unknown = assume_hu or values is None or values[0] == values[1]
    return ScanReport(name, SCAN, facts, values, None if unknown else not not_hu, faults=faults)


def unexpected_fault(path: str | os.PathLike, error: Exception) -> VolumeError:
    """The fault for an error that is not foreseen, so that one file does not end the check of the others."""
    return VolumeError(
        f"{shortened(Path(path).name)} could not be checked, because of an unexpected error ({type(error).__name__}: "
        f"{error_message(error)}). Please report it."
    )


def _is_labelmap(array: NDArray, values: tuple[float, float] | None) -> bool:
    """Whether the values are whole numbers, few of them, and in runs: labels, rather than a CT of another scale."""
    if array.dtype.kind not in "iub" or values is None or values[0] < 0 or values[1] > _MOST_LABELS:
        return False
    step = max(1, len(array) // 50)
    this, following = array[::step, :, :-1], array[::step, :, 1:]
    labeled = this > 0
    return bool(np.count_nonzero(labeled & (this == following)) > _LABEL_RUNS * np.count_nonzero(labeled))
