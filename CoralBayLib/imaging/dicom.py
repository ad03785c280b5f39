"""A CT series of DICOM slices as one array on one grid.

Attributes are those of the CT Image IOD (DICOM PS3.3, A.3 and C.7.6.2): ImageOrientationPatient gives the directions of
a row and of a column, ImagePositionPatient the center of the first voxel, both in LPS mm. Messages name a series by its
description and UID. They name neither the patient nor the folder, whose name may be the patient's.
"""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from pathlib import Path

import SimpleITK as sitk
from numpy.typing import NDArray

from CoralBayLib.core.errors import Remedy, VolumeError
from CoralBayLib.core.paths import error_message, printable

from .dicom_slices import (
    DESCRIPTION,
    IMAGE_TYPE,
    MODALITY,
    SERIES_UID,
    arrange,
    header,
    is_scout,
    open_slice,
    read_slice,
    require_sound_meta,
    sort_out,
)
from .facts import FileFacts, SeriesFacts
from .grid import Grid
from .headers.source import require_memory

_CT_IMAGE_STORAGE = re.compile(rb"1\.2\.840\.10008\.5\.1\.4\.1\.1\.2(?![.\d])")


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
    if path.is_file():
        _require_utf8(path)
        series = series or header(str(path)).get(SERIES_UID, "")
        if not series:
            read_slice(str(path))  # says what is wrong with the header
            raise VolumeError(f"{path.name} names no series (SeriesInstanceUID). Export the series again from where it comes.")
        path = path.parent
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
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames([slices[n].file for n in order])
    try:
        image = reader.Execute()
    except (RuntimeError, MemoryError) as error:
        raise VolumeError(
            f"The slices of the series could not be read ({error_message(error)}). One is truncated, or its compression "
            "is not supported. Copy the series again, or load it in Slicer and save it as NRRD."
        ) from error
    facts.complete = True
    return sitk.GetArrayFromImage(image), grid


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
        VolumeError: a file is so damaged that GDCM cannot list the folder, or a name is not UTF-8.
    """
    found = _found(folder)
    headers = {uid: header(files[0]) for uid, files in found.items()}
    return [_series(uid, found[uid], headers[uid]) for uid in sorted(found) if headers[uid].get(MODALITY) == "CT"]


def _series(uid: str, files: list[str], fields: dict[str, str]) -> Series:
    return Series(uid, tuple(sorted(files)), _no_scan(fields, files), printable(fields.get(DESCRIPTION, "")))


def _no_scan(fields: dict[str, str], files: list[str]) -> str:
    if is_scout(fields.get(IMAGE_TYPE, "")):
        return "A scout (localizer), not a scan."
    return "A CT series of one image, not a scan: a scout or a single slice." if len(files) == 1 else ""


def series_uid(path: Path) -> str | None:
    """The SeriesInstanceUID of a slice, or of the only CT scan in a folder; None when there is none, or several."""
    if path.is_file():
        _require_utf8(path)
        return header(str(path)).get(SERIES_UID)
    series = [each for each in ct_series(path) if not each.no_scan]
    return series[0].uid if len(series) == 1 else None


def _choose(folder: Path, series: str | None) -> tuple[Series, list[Series]]:
    """The given series, or the only CT scan in the folder, and the scouts that are left out."""
    found = _found(folder)
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
    modality = headers[series].get(MODALITY, "unknown")
    if modality != "CT":
        raise VolumeError(f"The series has modality {modality}. Expected CT: the encoders work on Hounsfield units only.")
    _require_whole_files(folder, series, found)
    return _series(series, found[series], headers[series]), [_series(uid, found[uid], headers[uid]) for uid in left_out]


def _found(folder: Path) -> dict[str, list[str]]:
    """The files of each series in a folder, by UID."""
    _require_utf8(folder)
    for path in sorted(folder.iterdir()):
        _require_utf8(path)
        if path.is_file() and path.name.upper() != "DICOMDIR":
            require_sound_meta(path)
    try:
        return {uid: _files(folder, uid) for uid in sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder))}
    except RuntimeError as error:
        raise VolumeError(
            f"The DICOM files of this folder cannot be listed ({error_message(error)}). {_first_damaged(folder)}"
            "Copy the series again."
        ) from error


def _first_damaged(folder: Path) -> str:
    for path in sorted(folder.iterdir()):
        try:
            if path.is_file() and sitk.ImageFileReader.GetImageIOFromFileName(str(path)) == "GDCMImageIO":
                open_slice(str(path))
        except RuntimeError:
            return f"The file {path.name} is damaged. "
    return "One of them is damaged. "


def _require_utf8(path: Path) -> None:
    """GDCM takes names as UTF-8, and ends the process where they are not."""
    if printable(path) != str(path):
        raise VolumeError(
            f"The name {printable(path.name)}, or that of its folder, is not UTF-8, which DICOM files need. Rename it."
        )


def _require_whole_files(folder: Path, series: str, found: dict[str, list[str]]) -> None:
    """Refuse truncated slices: GDCM skips them without an error, and at either end of the scan they leave no gap."""
    listed = {Path(file).name for files in found.values() for file in files}
    suffix = Path(found[series][0]).suffix
    damaged = []
    for path in sorted(folder.iterdir()):
        if path.name in listed or not path.is_file():
            continue
        with path.open("rb") as data:
            head = data.read(1 << 14)
        of_series = _CT_IMAGE_STORAGE.search(head[:1024]) and re.search(re.escape(series.encode()) + rb"(?![.\d])", head)
        if of_series or (not head and path.suffix == suffix):
            damaged.append(path.name)
    if damaged:
        raise VolumeError(
            f"{len(damaged)} slices of the series are empty or truncated; the first is {damaged[0]}. Copy the series again."
        )


def _files(folder: Path, uid: str) -> list[str]:
    return list(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), uid))


def _listing(found: dict[str, list[str]]) -> str:
    lines = []
    for uid, files in found.items():
        fields = header(files[0])
        description = printable(fields.get(DESCRIPTION) or "no description")
        lines.append(f"  {uid}  ({fields.get(MODALITY, '?')}, {len(files)} files, {description})")
    return "\n".join(lines)
