"""Which slices of a DICOM series belong to its scan, and whether they say all that is needed of their values."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk

from CoralBayLib.core.errors import VolumeError
from CoralBayLib.core.paths import printable
from CoralBayLib.imaging.gdcm_names import gdcm_names
from CoralBayLib.imaging.headers.dicom_identity import require_hu

from .slices import Slice, is_scout, to_vector

_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"


def sort_out(slices: list[Slice]) -> tuple[list[Slice], list[str]]:
    """Leave out scouts, secondary captures and copies, and check what the rest say of their values.

    Returns:
        slices: those of the scan, in the order given.
        notes: a sentence on each kind that was left out.

    Raises:
        VolumeError: a slice is of another modality or not in HU, or lacks its position, PixelSpacing or rescale intercept.
    """
    notes: list[str] = []
    kept = [s for s in slices if not is_scout(s.image_type)]
    if not kept:
        raise VolumeError("The series holds scouts (localizers) only. Choose the original axial series.")
    kept = [s for s in kept if not s.sop_class.startswith(_SECONDARY_CAPTURE)] or kept
    kept = _parallel(kept)
    if len(kept) < len(slices):
        notes.append(_note(slices, kept, "scouts or secondary captures"))
    _require_fields(kept)
    unique = _without_copies(kept)
    if len(unique) < len(kept):
        notes.append(_note(kept, unique, "copies of other slices"))
    return unique, notes


def _note(before: list[Slice], after: list[Slice], what: str) -> str:
    names = [s.name for s in before if not any(s is other for other in after)]
    shown = ", ".join(printable(name) for name in names[:3]) + (", ..." if len(names) > 3 else "")
    return f"Images of the series that are {what} are left out ({len(names)}: {shown})."


def _parallel(slices: list[Slice]) -> list[Slice]:
    """Without the few that are across most others, as a scout is."""
    known = [s for s in slices if s.orientation is not None]
    if len(known) < 4:
        return slices
    usual = np.median([s.normal for s in known], axis=0)
    across = [s for s in known if abs(float(s.normal @ usual)) < 0.5]
    if len(across) > max(2, len(known) // 10):
        return slices
    return [s for s in slices if not any(s is other for other in across)]


def _require_fields(slices: list[Slice]) -> None:
    for s in slices:
        require_hu(s.name, s.fields)
        if s.modality not in ("CT", ""):
            raise VolumeError(f"Slice {s.name} has modality {s.modality}. Expected CT: choose a series of CT alone.")
        if s.position is None or s.orientation is None:
            raise VolumeError(
                f"Slice {s.name} has no position (ImagePositionPatient, ImageOrientationPatient). It may be a scout or a "
                "secondary capture. Choose the original axial series."
            )
        if max(abs(float(np.linalg.norm(s.orientation[n : n + 3])) - 1) for n in (0, 3)) > 0.01 or s.flatness > 0.9:
            raise VolumeError(
                f"Slice {s.name} is damaged: the directions of its rows and columns (ImageOrientationPatient) are "
                f"{np.round(s.orientation, 3).tolist()}. Copy the series again."
            )
        spacing = to_vector(s.pixel_spacing, 2)
        if spacing is None or spacing.min() <= 0:
            fault = f"the PixelSpacing '{printable(s.pixel_spacing)}'" if s.pixel_spacing else "no PixelSpacing"
            raise VolumeError(
                f"Slice {s.name} has {fault}, so the size of its voxels is not known. An anonymizer may have removed it: "
                "export the series again with it."
            )
        if s.rescale is not None and (to_vector("\\".join(s.rescale), 2) is None or float(s.rescale[0]) == 0):
            raise VolumeError(
                f"Slice {s.name} is damaged: its RescaleSlope and RescaleIntercept are '{printable(s.rescale[0])}' and "
                f"'{printable(s.rescale[1])}'. Copy the series again."
            )
    without = [s.name for s in slices if s.rescale is None]
    if without and len(without) < len(slices):
        raise VolumeError(
            f"{len(without)} of {len(slices)} slices lack RescaleSlope and RescaleIntercept, so their values are not HU. The "
            f"first is {without[0]}. Export the series again from its source."
        )


def _without_copies(slices: list[Slice]) -> list[Slice]:
    """Without those that have the position and the voxels of an earlier one."""
    first: dict[tuple[float, ...], Slice] = {}
    unique = []
    for s in sorted(slices, key=lambda s: (len(s.name), s.name)):
        place = tuple(np.round(s.position, 3).tolist()) if s.position is not None else ()
        other = first.setdefault(place, s)
        if other is s:
            unique.append(s)
        elif not _same_voxels(s, other):
            if s.instance and s.instance == other.instance:
                raise VolumeError(
                    f"The slices {other.name} and {s.name} have the same SOPInstanceUID and different voxels. Remove the wrong "
                    "one, or copy the series again."
                )
            return slices
    return [s for s in slices if any(s is other for other in unique)]


def _same_voxels(a: Slice, b: Slice) -> bool:
    if a.size != b.size or a.slope_and_intercept != b.slope_and_intercept:
        return False
    if Path(a.file).read_bytes() == Path(b.file).read_bytes():
        return True
    try:
        with gdcm_names([a.file, b.file]) as names:
            voxels, others = (sitk.GetArrayFromImage(sitk.ReadImage(name)) for name in names)
    except RuntimeError:
        return False
    return np.array_equal(voxels, others)
