"""What the headers of slices tell of their values and of where they come from (DICOM PS3.3, A.3, C.7.6, C.8.2).

Messages name no identifiers, by which a patient could be identified.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

from CoralBayLib.core.errors import VolumeError
from CoralBayLib.core.paths import printable

_CLASS, _RESCALE_TYPE, _PHOTOMETRIC, _ACQUISITION = "0008|0016", "0028|1054", "0028|0004", "0020|0012"
_ONE = {
    "0010|0020": "patients (PatientID)",
    "0020|000d": "studies (StudyInstanceUID)",
    "0020|0052": "frames of reference (FrameOfReferenceUID)",
    "0018|1210": "reconstruction kernels (ConvolutionKernel)",
    "0018|0060": "tube voltages (KVP)",
}
"""Fields that are the same in all slices of a scan, by tag: how they are called in the plural."""
_TYPE = "0028|0103"
"""PixelRepresentation: whether the stored values have a sign."""
FIELDS = (_CLASS, _RESCALE_TYPE, _PHOTOMETRIC, _ACQUISITION, _TYPE, *_ONE)
"""Tags of the fields that the functions here look at."""

_STORAGE = "1.2.840.10008.5.1.4.1.1."
_CT_CLASSES = ("2", "7")
"""Behind `_STORAGE`: CT images, also enhanced ones, and secondary captures, which are sorted out by their own rule."""
_HU_TYPES = ("", "HU", "HU_MOD", "US", "UNSPECIFIED", "H")
"""Rescale types of HU; US is "unspecified"."""
_FEW = 3
"""Slices of which each may be of another scan."""


def require_hu(name: str, fields: Mapping[str, str]) -> None:
    """Refuse a slice whose header says that its values are not Hounsfield units.

    Raises:
        VolumeError: it is of another kind of image, its values are inverted, or have another unit.
    """
    kind = fields.get(_CLASS, "")
    if kind.startswith(_STORAGE) and kind.removeprefix(_STORAGE).split(".")[0] not in _CT_CLASSES:
        raise VolumeError(
            f"Slice {name} is not a CT image (SOPClassUID {printable(kind)}), although its modality is CT. Choose the original "
            "CT series."
        )
    if fields.get(_PHOTOMETRIC, "") == "MONOCHROME1":
        raise VolumeError(
            f"Slice {name} is stored inverted (MONOCHROME1), and programs read such values differently. Export the series "
            "again as MONOCHROME2."
        )
    unit = fields.get(_RESCALE_TYPE, "")
    if unit.upper() not in _HU_TYPES and "HOUNSFIELD" not in unit.upper():
        raise VolumeError(
            f"The values of slice {name} are not HU: their RescaleType is '{printable(unit)[:20]}', as in a material map. "
            "Choose the series in HU."
        )


def require_one_scan(slices: Sequence[Mapping[str, str]]) -> None:
    """Refuse slices of several scans that have one SeriesInstanceUID.

    Args:
        slices: the fields of each slice, in the order of their positions.

    Raises:
        VolumeError: they are of several patients, studies or reconstructions, or those of two acquisitions alternate.
    """
    for tag, what in _ONE.items():
        values = {fields[tag] for fields in slices if fields.get(tag)}
        if len(values) == len(slices) > _FEW:
            continue  # an anonymizer gave each file its own, which tells nothing
        if len(values) > 1:
            raise VolumeError(
                f"The slices of the series are of {len(values)} {what}, so they are not one scan. Copy or export each scan "
                "on its own, into its own folder."
            )
    numbers = [fields[_ACQUISITION] for fields in slices if fields.get(_ACQUISITION)]
    changes = sum(a != b for a, b in pairwise(numbers))
    if changes >= 2 * len(set(numbers)) > 2:
        raise VolumeError(
            f"The slices of {len(set(numbers))} acquisitions alternate in the series (AcquisitionNumber), as of two phases or "
            "two energies. Split it in Slicer's DICOM module (advanced loading) and save one volume as NRRD."
        )


def have_one_type(slices: Sequence[Mapping[str, str]]) -> bool:
    """Whether the stored values of all slices have a sign, or none has."""
    return len({fields.get(_TYPE, "") for fields in slices}) == 1
