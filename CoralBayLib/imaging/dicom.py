"""A CT series of DICOM slices as one array on one grid.

Attributes are those of the CT Image IOD (DICOM PS3.3, A.3 and C.7.6.2): ImageOrientationPatient gives the directions of
a row and of a column, ImagePositionPatient the center of the first voxel, both in LPS mm. Messages name a series by its
description and UID. They name neither the patient nor the folder, whose name may be the patient's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from CoralBayLib.core.errors import Remedy, VolumeError
from CoralBayLib.core.paths import error_message

from .grid import Grid

_MODALITY, _DESCRIPTION, _SERIES_UID = "0008|0060", "0008|103e", "0020|000e"
_POSITION, _ORIENTATION, _FRAMES = "0020|0032", "0020|0037", "0028|0008"

_CT_IMAGE_STORAGE = re.compile(rb"1\.2\.840\.10008\.5\.1\.4\.1\.1\.2(?![.\d])")

_REGULARIZE = (
    "Import it in Slicer's DICOM module with 'Acquisition geometry regularization' switched on "
    "(Application Settings, DICOM), resample the volume and save it as NRRD, then use that file."
)


@dataclass(frozen=True)
class _Slice:
    """The header of one slice; vectors in LPS mm."""

    file: str
    size: tuple[int, ...]
    components: int
    spacing_mm: tuple[float, ...]
    position: NDArray[np.float64]
    orientation: NDArray[np.float64]


def read_series(path: Path, series: str | None = None) -> tuple[NDArray, Grid]:
    """Read one CT series.

    Args:
        path: a folder with DICOM files, or one file, for the series that it belongs to.
        series: SeriesInstanceUID; needed when the folder holds several.

    Returns:
        array: [k, j, i] values with the rescale slope and intercept applied, k along the slice normal.
        grid: their geometry.

    Raises:
        VolumeError: there is no series or there are several, it is not CT, it cannot be read, or its slices do not make a
            regular 3D grid. The remedy is CHOOSE_SERIES when the folder holds several.
    """
    if path.is_file():
        series = series or _header(str(path)).get(_SERIES_UID, "")
        path = path.parent
    files = _choose(path, series)
    slices = [_slice(file) for file in files]
    grid, order = _arrange(slices)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames([slices[n].file for n in order])
    try:
        image = reader.Execute()
    except (RuntimeError, MemoryError) as error:
        raise VolumeError(
            f"The slices of the series could not be read ({error_message(error)}). One is truncated, or its compression "
            "is not supported. Copy the series again, or load it in Slicer and save it as NRRD."
        ) from error
    return sitk.GetArrayFromImage(image), grid


@dataclass(frozen=True)
class Series:
    """One CT series of a folder.

    Attributes:
        uid: its SeriesInstanceUID.
        files: its slices, sorted by name.
    """

    uid: str
    files: tuple[str, ...]


def ct_series(folder: Path) -> list[Series]:
    """The CT series in a folder that have more than one slice. Subfolders are not searched."""
    found = {uid: _files(folder, uid) for uid in sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder))}
    stacks = {uid: files for uid, files in found.items() if len(files) > 1 and _header(files[0]).get(_MODALITY) == "CT"}
    return [Series(uid, tuple(sorted(stacks[uid]))) for uid in sorted(stacks)]


def series_uid(path: Path) -> str | None:
    """The SeriesInstanceUID of a slice, or of the only CT series in a folder; None when there is none, or several."""
    if path.is_file():
        return _header(str(path)).get(_SERIES_UID)
    series = ct_series(path)
    return series[0].uid if len(series) == 1 else None


def _choose(folder: Path, series: str | None) -> list[str]:
    """The files of the given series, or of the only CT series in the folder."""
    found = {uid: _files(folder, uid) for uid in sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder))}
    if not found:
        raise VolumeError(
            "This folder holds no DICOM series. Choose the folder that contains the slices (subfolders are not "
            "searched), or a single NRRD or NIfTI file."
        )
    if series is not None and series not in found:
        raise VolumeError(f"This folder has no series {series}. It has:\n{_listing(found)}", remedy=Remedy.CHOOSE_SERIES)
    headers = {uid: _header(files[0]) for uid, files in found.items()}
    if series is None:
        # Reports, structure sets and segmentations are often in the folder of their CT; they are ignored.
        choices = [uid for uid in found if headers[uid].get(_MODALITY) == "CT"] or list(found)
        if len(choices) > 1:
            raise VolumeError(
                f"This folder holds {len(choices)} series:\n" + _listing({uid: found[uid] for uid in choices}),
                remedy=Remedy.CHOOSE_SERIES,
            )
        series = choices[0]
    modality = headers[series].get(_MODALITY, "unknown")
    if modality != "CT":
        raise VolumeError(f"The series has modality {modality}. Expected CT: the encoders work on Hounsfield units only.")
    _require_whole_files(folder, series, found)
    return found[series]


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
        header = _header(files[0])
        description = header.get(_DESCRIPTION) or "no description"
        lines.append(f"  {uid}  ({header.get(_MODALITY, '?')}, {len(files)} files, {description})")
    return "\n".join(lines)


def _open(file: str) -> sitk.ImageFileReader:
    reader = sitk.ImageFileReader()
    reader.SetFileName(file)
    reader.ReadImageInformation()
    return reader


def _header(file: str) -> dict[str, str]:
    try:
        reader = _open(file)
    except RuntimeError:  # not an image: a report or a structure set
        return {}
    return {key: reader.GetMetaData(key).strip() for key in reader.GetMetaDataKeys()}


def _slice(file: str) -> _Slice:
    name = Path(file).name
    try:
        reader = _open(file)
    except RuntimeError as error:
        raise VolumeError(
            f"The header of slice {name} could not be read ({error_message(error)}). Copy the series again."
        ) from error
    if reader.HasMetaDataKey(_FRAMES) and int(reader.GetMetaData(_FRAMES)) > 1:
        raise VolumeError(f"{name} is a multi-frame DICOM file, which is not supported. Load it in Slicer and save it as NRRD.")
    try:
        position, orientation = (
            np.array([float(v) for v in reader.GetMetaData(key).split("\\")]) for key in (_POSITION, _ORIENTATION)
        )
        if position.shape != (3,) or orientation.shape != (6,):
            raise ValueError
    except (RuntimeError, ValueError):
        raise VolumeError(
            f"Slice {name} has no position (ImagePositionPatient, ImageOrientationPatient). It may be a scout or a "
            "secondary capture. Choose the original axial series."
        ) from None
    return _Slice(file, reader.GetSize()[:2], reader.GetNumberOfComponents(), reader.GetSpacing()[:2], position, orientation)


def _arrange(slices: list[_Slice]) -> tuple[Grid, list[int]]:
    """The grid of the series, and the order of its slices along their normal."""
    first = slices[0]
    if len(slices) < 2:
        raise VolumeError("The series has only one slice. Expected a 3D CT: choose the folder with the whole series.")
    if any(s.components != 1 for s in slices):
        raise VolumeError("The series is in color. Expected a CT in HU: choose the original series.")
    if any(s.size != first.size or not np.allclose(s.spacing_mm, first.spacing_mm, rtol=1e-3) for s in slices):
        raise VolumeError(
            "The slices of the series differ in size or pixel spacing. It probably contains a scout or several "
            "reconstructions. Split it in Slicer's DICOM module (advanced loading) and save one part as NRRD."
        )
    if any(np.abs(s.orientation - first.orientation).max() > 1e-3 for s in slices):
        raise VolumeError("The slices of the series are not parallel. Expected an axial stack: choose another series.")
    row, column = first.orientation[:3], first.orientation[3:]
    positions = np.array([s.position for s in slices])
    along = positions @ np.cross(row, column)
    order = np.argsort(along, kind="stable")
    _require_regular(along[order])
    path = positions[order[-1]] - positions[order[0]]
    tilt = np.degrees(np.arccos(np.clip(path @ np.cross(row, column) / np.linalg.norm(path), -1, 1)))
    if tilt > 0.2:
        raise VolumeError(f"The scan has a gantry tilt of {tilt:.1f} degrees, so its axes are sheared. {_REGULARIZE}")
    lps = np.eye(4)
    lps[:3, 0] = row * first.spacing_mm[0]
    lps[:3, 1] = column * first.spacing_mm[1]
    lps[:3, 2] = path / (len(slices) - 1)
    lps[:3, 3] = positions[order[0]]
    columns, rows = first.size
    return Grid((len(slices), rows, columns), np.diag([-1.0, -1.0, 1.0, 1.0]) @ lps), order.tolist()


def _require_regular(along: NDArray[np.float64]) -> None:
    """`along`: sorted distances in mm of the slices along their normal."""
    gaps = np.diff(along)
    repeated = int((gaps < 1e-3).sum())
    if repeated:
        raise VolumeError(
            f"{repeated} of {len(along)} slices have the position of another one. The series is a time series or "
            "contains several acquisitions. Split it in Slicer's DICOM module (advanced loading) and save one volume as NRRD."
        )
    usual = float(np.median(gaps))
    wrong = np.flatnonzero(np.abs(gaps - usual) > max(0.05, 0.01 * usual))
    if len(wrong):
        n = int(wrong[0])
        raise VolumeError(
            f"The slices are not evenly spaced: {len(wrong)} of {len(gaps)} gaps differ from {usual:.2f} mm; the first "
            f"is {gaps[n]:.2f} mm, after slice {n + 1} of {len(along)}. Slices are probably missing. Copy the whole "
            f"series again. If the scan was acquired like this, {_REGULARIZE[0].lower()}{_REGULARIZE[1:]}"
        )
