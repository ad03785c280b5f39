"""Which labeled patients a folder holds. Imports no torch.

A folder for each patient, with the scan as `ct.*` (an image file, or a folder `ct` of DICOM slices) and the labels as
`labels.seg.nrrd` or `labels.dcm` (DICOM SEG), which have their own names, or as another `labels.*` with the names in
`labels.json`; or a data set of nnU-Net
(https://github.com/MIC-DKFZ/nnUNet/blob/master/documentation/dataset_format.md): `imagesTr`, `labelsTr` and `dataset.json`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from CoralBayLib.core.errors import VolumeError
from CoralBayLib.core.paths import error_message, expand
from CoralBayLib.imaging.discovery import Skipped
from CoralBayLib.imaging.formats import DICOM_SEGMENTATION_SUFFIX, NAMED_SEGMENTATIONS, READABLE_SUFFIXES, SEGMENTATION_SUFFIX

from .structures import names_from_json, read_json

NAMES_FILE, _DATASET_FILE = "labels.json", "dataset.json"
_IMAGES, _LABELS = "imagesTr", "labelsTr"
_CHANNEL = "_0000"
"""What nnU-Net appends to the name of a case for the file of its first channel."""


@dataclass(frozen=True)
class LabeledPatient:
    """A patient of a folder.

    Attributes:
        name: of the patient's folder, or of nnU-Net's case.
        scan: the CT, an image file or a folder of DICOM slices.
        labels: the labelmap or segmentation; None if there is none yet.
        names: of the structures that were looked for in the scan, by label; None where the labels' own file tells, or where
            nothing does. A structure that is not among them may be there all the same.
    """

    name: str
    scan: Path
    labels: Path | None
    names: dict[int, str] | None


@dataclass(frozen=True)
class PatientFolder:
    """What a folder holds.

    Attributes:
        patients: sorted by name.
        left_out: patients that cannot be used, with the reason.
    """

    patients: list[LabeledPatient]
    left_out: list[Skipped]


def find_patients(folder: str | os.PathLike, unlabeled: bool = False) -> PatientFolder:
    """The patients of a folder. Files of scans and labels are not opened yet; see `read_labels`.

    Args:
        folder: with a folder for each patient, or a data set of nnU-Net.
        unlabeled: whether to take patients without labels, too; otherwise they are left out.

    Raises:
        VolumeError: the folder cannot be read, `dataset.json` is missing or damaged, or there is no patient that can be used.
    """
    folder = expand(folder)
    try:
        entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
        is_dataset = any(entry.name in (_IMAGES, _LABELS, _DATASET_FILE) for entry in entries)
        found = _dataset(folder, unlabeled) if is_dataset else _one_folder_each(folder, entries, unlabeled)
    except OSError as error:
        raise VolumeError(f"The folder {folder} cannot be read: {error_message(error)}. Choose another.") from error
    if not found.patients:
        faults = [f"{Path(each.path).name}: {each.reason}" for each in found.left_out if each.is_fault][:5]
        raise VolumeError(
            f"There is no patient with a scan and labels in {folder}. Expected a folder for each patient with ct.nii.gz and "
            f"labels.seg.nrrd or labels.dcm (or labels.nii.gz and {NAMES_FILE}; other image formats, too), or a data set of "
            f"nnU-Net with {_IMAGES}, {_LABELS} and {_DATASET_FILE}." + "".join(f"\n  {fault}" for fault in faults)
        )
    return found


def _one_folder_each(folder: Path, entries: list[Path], unlabeled: bool) -> PatientFolder:
    if _named(entries, "ct"):
        raise VolumeError(f"{folder} is the folder of one patient. Give the folder that holds the patients' folders.")
    found = PatientFolder([], [])
    for entry in entries:
        if not entry.is_dir():
            continue
        try:
            patient = _patient(entry)
        except (VolumeError, OSError) as error:
            reason = str(error) if isinstance(error, VolumeError) else f"It cannot be read: {error_message(error)}."
            found.left_out.append(Skipped(str(entry), reason))
            continue
        _take(found, patient, entry, unlabeled)
    return found


def _take(found: PatientFolder, patient: LabeledPatient | None, path: Path, unlabeled: bool) -> None:
    if patient is None:
        found.left_out.append(Skipped(str(path), "It holds neither a scan (ct.*) nor labels (labels.*).", is_fault=False))
    elif patient.labels is None and not unlabeled:
        found.left_out.append(Skipped(str(path), "There are no labels of this scan."))
    else:
        found.patients.append(patient)


def _patient(folder: Path) -> LabeledPatient | None:
    """The patient of a folder; None if it holds nothing like one."""
    files = [entry for entry in sorted(folder.iterdir()) if not entry.name.startswith(".")]
    scans = _named(files, "ct")
    labels = [entry for entry in _named(files, "labels", DICOM_SEGMENTATION_SUFFIX) if not entry.is_dir()]
    if not scans and not labels:
        return None
    if not scans:
        raise VolumeError("There are labels, but no scan (ct.*).")
    for kind, found in (("scans", scans), ("files of labels", labels)):
        if len(found) > 1:
            raise VolumeError(f"There are several {kind}: {', '.join(entry.name for entry in found)}. Keep one.")
    names = None
    if labels and not labels[0].name.lower().endswith(NAMED_SEGMENTATIONS):
        # A list in the folder above holds for all patients that have none of their own.
        lists = [path for path in (folder / NAMES_FILE, folder.parent / NAMES_FILE) if path.is_file()]
        names = names_from_json(read_json(lists[0]), NAMES_FILE) if lists else None
    return LabeledPatient(folder.name, scans[0], labels[0] if labels else None, names)


def _named(entries: Iterable[Path], name: str, *more: str) -> list[Path]:
    """The image files of a name, with any suffix, also those in `more`, and the folder of that name."""
    return [
        entry
        for entry in entries
        if any(entry.name.lower() == name + suffix for suffix in (*READABLE_SUFFIXES, SEGMENTATION_SUFFIX, *more))
        or (entry.name.lower() == name and entry.is_dir())
    ]


def _dataset(folder: Path, unlabeled: bool) -> PatientFolder:
    """The cases of a data set of nnU-Net, or of the Medical Segmentation Decathlon, whose scans have no channel's number."""
    document = _described(folder)
    ending = str(document.get("file_ending", ".nii.gz"))
    images = {path.name.removesuffix(ending): path for path in _files(folder / _IMAGES, ending)}
    labels = {path.name.removesuffix(ending): path for path in _files(folder / _LABELS, ending)}
    if any(name.endswith(_CHANNEL) for name in images):
        more = sorted(name for name in images if name[-5:-4] == "_" and name[-4:].isdecimal() and not name.endswith(_CHANNEL))
        if more:
            raise VolumeError(
                f"The scans have several channels ({more[0]}{ending}). Only data sets with one, the CT, can be used."
            )
        images = {name.removesuffix(_CHANNEL): path for name, path in images.items()}
    names = names_from_json(document["labels"], _DATASET_FILE)
    found = PatientFolder([], [])
    for name, scan in sorted(images.items()):
        _take(found, LabeledPatient(name, scan, labels.get(name), names), scan, unlabeled)
    for name in sorted(set(labels) - set(images)):
        found.left_out.append(
            Skipped(str(labels[name]), f"There are labels, but no scan {name}{_CHANNEL}{ending} in {_IMAGES}.")
        )
    return found


def _described(folder: Path) -> dict[str, Any]:
    """The data set's description."""
    for part in (_IMAGES, _LABELS):
        if not (folder / part).is_dir():
            raise VolumeError(f"{folder} looks like a data set of nnU-Net, but has no folder {part}.")
    if not (folder / _DATASET_FILE).is_file():
        raise VolumeError(f"{folder} has no {_DATASET_FILE}, which names the structures. nnU-Net needs it, too.")
    document = read_json(folder / _DATASET_FILE)
    if not isinstance(document.get("labels"), dict):
        raise VolumeError(f'{_DATASET_FILE} has no "labels". Expected the structures, as in {{"background": 0, "liver": 1}}.')
    return document


def _files(folder: Path, ending: str) -> list[Path]:
    return [path for path in folder.iterdir() if path.name.endswith(ending) and not path.name.startswith(".")]
