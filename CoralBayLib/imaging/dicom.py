"""A CT series of DICOM slices as one array on one grid.

Attributes are those of the CT Image IOD (DICOM PS3.3, A.3 and C.7.6.2): ImageOrientationPatient gives the directions of
a row and of a column, ImagePositionPatient the center of the first voxel, both in LPS mm. Messages name a series by its
description and UID. They name neither the patient nor the folder, whose name may be the patient's.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from CoralBayLib.core.errors import Remedy, VolumeError
from CoralBayLib.core.paths import error_message, printable

from .facts import FileFacts, SeriesFacts
from .gdcm_names import gdcm_names
from .grid import Grid
from .headers.dicom_elements import Elements, read_elements
from .headers.dicom_identity import have_one_type
from .headers.source import require_memory
from .series.selection import sort_out
from .series.slices import (
    DESCRIPTION,
    IMAGE_TYPE,
    MODALITY,
    Slice,
    arrange,
    header,
    is_scout,
    read_slice,
)

_LEAST_STEP = 100.0
"""Least difference of two rescale intercepts that shows in the mean of a slice, in HU."""


def read_series(path: Path, series: str | None = None, facts: FileFacts | None = None) -> tuple[NDArray, Grid]:
    """Read one CT series.

    Args:
        path: a folder with DICOM files, or one file, for the series that it belongs to.
        series: SeriesInstanceUID; needed when the folder holds several.
        facts: takes what reading tells of the series, also when it fails; without it, warnings say what was left out.

    Returns:
        array: [k, j, i] values with the rescale slope and intercept applied, k along the slice normal.
        grid: their geometry.

    Raises:
        VolumeError: there is no series or there are several, it is not CT, it cannot be read, or its slices do not make a
            regular 3D grid. The remedy is CHOOSE_SERIES when the folder holds several.
    """
    path, series = _folder_and_series(path, series)
    quiet = facts is not None
    facts = FileFacts() if facts is None else facts
    facts.format = "DICOM"
    chosen, left_out = _choose(path, series)
    # Without the UIDs, by which a patient could be identified.
    facts.notes += [f"The series {each.title} is left out. {each.no_scan}" for each in left_out]
    facts.series = SeriesFacts(chosen.description, "CT", len(chosen.files))
    facts.bytes = sum(Path(file).stat().st_size for file in chosen.files)
    slices, notes = sort_out([read_slice(file) for file in chosen.files])
    facts.notes += notes
    facts.series.slices = len(slices)
    facts.compression = "DICOM" if any(each.compressed for each in slices) else ""
    grid, order = arrange(slices)
    facts.grid, facts.size_ijk = grid, grid.size
    require_memory(2 * sum(each.bytes for each in slices), "The series")
    for note in [] if quiet else [f"The series {each.uid} is left out. {each.no_scan}" for each in left_out] + notes:
        warnings.warn(note, stacklevel=3)
    try:
        array = _voxels([slices[n] for n in order])
    except (RuntimeError, MemoryError) as error:
        raise VolumeError(
            f"The slices of the series could not be read ({error_message(error)}). One is truncated, or its compression "
            "is not supported. Copy the series again, or load it in Slicer and save it as NRRD."
        ) from error
    facts.complete = True
    return array, grid


def series_slices(path: Path, series: str | None = None) -> tuple[list[Path], Grid]:
    """The files of the slices that `read_series` reads.

    Args:
        path: as for `read_series`.
        series: as for `read_series`.

    Returns:
        files: in the order of k.
        grid: of the series.

    Raises:
        VolumeError: as `read_series`.
    """
    chosen, _ = _choose(*_folder_and_series(path, series))
    slices, _ = sort_out([read_slice(file) for file in chosen.files])
    grid, order = arrange(slices)
    return [Path(slices[n].file) for n in order], grid


def _folder_and_series(path: Path, series: str | None) -> tuple[Path, str | None]:
    """The folder of a series and its UID, which is None where the folder may tell."""
    if not path.is_file():
        return path, series
    series = series or _sound(path).series
    if not series:
        read_slice(str(path))  # says what is wrong with the header
        raise VolumeError(f"{path.name} names no series (SeriesInstanceUID). Export the series again from its source.")
    return path.parent, series


def _voxels(slices: list[Slice]) -> NDArray:
    """The values of slices in their order, rescaled.

    ITK's reader of series gives all slices the type of the first, which cuts off fractions where a rescale differs.

    Raises:
        VolumeError: the values say that a rescale is wrong.
    """
    alike = have_one_type([s.fields for s in slices]) and len({s.slope_and_intercept for s in slices}) == 1
    with gdcm_names([s.file for s in slices]) as names:
        if alike:
            reader = sitk.ImageSeriesReader()
            reader.SetFileNames(names)
            return sitk.GetArrayFromImage(reader.Execute())
        array = np.concatenate([sitk.GetArrayFromImage(sitk.ReadImage(name)).astype(np.float32) for name in names])
    means = [float(values.mean(dtype=np.float64)) for values in array]
    for (one, mean), (other, next_mean) in pairwise(zip(slices, means, strict=True)):
        intercepts = one.slope_and_intercept[1], other.slope_and_intercept[1]
        step = abs(intercepts[0] - intercepts[1])
        if step > _LEAST_STEP and abs(mean - next_mean) > 0.5 * step:
            raise VolumeError(
                f"The slices {one.name} and {other.name} lie beside each other and differ by about as much as their rescale "
                f"intercepts ({intercepts[0]:g} and {intercepts[1]:g}), so one of the two is wrong. Export the series again "
                "from where it comes."
            )
    return array


@dataclass(frozen=True)
class Series:
    """One series of a folder.

    Attributes:
        uid: its SeriesInstanceUID.
        files: its slices, sorted by name.
        no_scan: why it is no scan, as a sentence; "" when it may be one.
        description: its SeriesDescription; "" without one.
    """

    uid: str
    files: tuple[str, ...]
    no_scan: str = ""
    description: str = ""

    @property
    def title(self) -> str:
        """Its description and its number of images, for a sentence."""
        images = f"{len(self.files)} image{'' if len(self.files) == 1 else 's'}"
        return f"'{self.description}' ({images})" if self.description else f"without a description ({images})"


def ct_series(folder: Path) -> list[Series]:
    """The CT series in a folder, sorted by UID. Subfolders are not searched.

    Raises:
        VolumeError: a file cannot be read, or is so damaged that its series is not known.
    """
    found, _ = _found(folder)
    headers = {uid: header(files[0]) for uid, files in found.items()}
    return [_series(uid, found[uid], headers[uid]) for uid in sorted(found) if headers[uid].get(MODALITY) == "CT"]


def modalities_in(folder: Path) -> set[str]:
    """The modalities of the sound DICOM files with voxels in a folder; reports and structure sets have no voxels."""
    return {header(files[0]).get(MODALITY, "") for files in _found(folder)[0].values()}


def _series(uid: str, files: list[str], fields: dict[str, str]) -> Series:
    return Series(uid, tuple(sorted(files)), _no_scan(fields, files), printable(fields.get(DESCRIPTION, "")))


def _no_scan(fields: dict[str, str], files: list[str]) -> str:
    if is_scout(fields.get(IMAGE_TYPE, "")):
        return "A scout (localizer), not a scan."
    return "A CT series of one image, not a scan: a scout or a single slice." if len(files) == 1 else ""


def series_uid(path: Path) -> str | None:
    """The SeriesInstanceUID of a slice, or of the only CT scan in a folder; None when there is none, or several."""
    if path.is_file():
        return _sound(path).series or None
    series = [each for each in ct_series(path) if not each.no_scan]
    return series[0].uid if len(series) == 1 else None


def _choose(folder: Path, series: str | None) -> tuple[Series, list[Series]]:
    """The given series, or the only CT scan in the folder, and the scouts that are left out."""
    found, damaged = _found(folder)
    if not found:
        raise VolumeError(
            "This folder holds no DICOM series. Choose the folder that contains the slices (subfolders are not "
            "searched), or a single NRRD or NIfTI file."
        )
    if series is not None and series not in found:
        raise VolumeError(f"This folder has no series {series}. It has:\n{_listing(found)}", remedy=Remedy.CHOOSE_SERIES)
    headers = {uid: header(files[0]) for uid, files in found.items()}
    left_out: list[str] = []
    if series is None:
        # Reports, structure sets and segmentations are often in the folder of their CT; they are ignored.
        ct = [uid for uid in found if headers[uid].get(MODALITY) == "CT"]
        scans = [uid for uid in ct if not _no_scan(headers[uid], found[uid])]
        choices = scans or ct or list(found)
        if len(choices) > 1:
            raise VolumeError(
                f"This folder holds {len(choices)} series:\n" + _listing({uid: found[uid] for uid in choices}),
                remedy=Remedy.CHOOSE_SERIES,
            )
        series = choices[0]
        left_out = [uid for uid in ct if uid not in choices]
    if not headers[series]:
        read_slice(found[series][0])  # says why it cannot be read
    modality = headers[series].get(MODALITY, "unknown")
    if modality != "CT":
        raise VolumeError(f"The series has modality {modality}. Expected CT: the encoders work on Hounsfield units only.")
    _require_whole_files(folder, series, found[series], damaged)
    return _series(series, found[series], headers[series]), [_series(uid, found[uid], headers[uid]) for uid in left_out]


def _found(folder: Path) -> tuple[dict[str, list[str]], dict[Path, Elements]]:
    """The sound files with voxels of each series in a folder, by UID; and the damaged ones whose series is known."""
    found: dict[str, list[str]] = {}
    damaged: dict[Path, Elements] = {}
    try:
        paths = sorted(path for path in folder.iterdir() if path.is_file())
    except OSError as error:
        raise VolumeError(f"The folder cannot be read ({error_message(error)}). Choose another.") from error
    for path in paths:
        if path.name.upper() == "DICOMDIR" or (elements := read_elements(path)) is None:
            continue
        if elements.fault and not elements.series:
            raise _damaged(path, elements)
        if elements.fault:
            damaged[path] = elements
        elif elements.series and elements.voxel_bytes is not None:
            found.setdefault(elements.series, []).append(str(path))
    return found, damaged


def _sound(path: Path) -> Elements:
    """The elements of a file, which must be a DICOM file without a fault."""
    elements = read_elements(path)
    if elements is None:
        raise VolumeError(f"{path.name} is not a DICOM file, or a damaged one. Copy the series again.")
    if elements.fault:
        raise _damaged(path, elements)
    return elements


def _damaged(path: Path, elements: Elements) -> VolumeError:
    return VolumeError(
        f"The DICOM file {printable(path.name)} is damaged: {elements.fault}. Copy the series again. If Slicer can load it, "
        "save it there as NRRD."
    )


def _require_whole_files(folder: Path, series: str, files: list[str], damaged: dict[Path, Elements]) -> None:
    """Refuse a series of which slices are damaged or empty: at either end of the scan they leave no gap."""
    suffix = Path(files[0]).suffix
    faulty = [path for path, elements in damaged.items() if elements.series == series]
    faulty += [path for path in folder.iterdir() if path.suffix == suffix and path.is_file() and not path.stat().st_size]
    if faulty:
        first = min(faulty)
        fault = damaged[first].fault if first in damaged else "it has 0 bytes"
        raise VolumeError(
            f"{len(faulty)} slices of the series are damaged, empty or truncated; the first is {printable(first.name)} "
            f"({fault}). Copy the series again."
        )


def _listing(found: dict[str, list[str]]) -> str:
    lines = []
    for uid, files in found.items():
        fields = header(files[0])
        description = printable(fields.get(DESCRIPTION) or "no description")
        lines.append(f"  {uid}  ({fields.get(MODALITY, '?')}, {len(files)} files, {description})")
    return "\n".join(lines)
