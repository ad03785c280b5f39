"""The patients of an evaluation: what is labeled in each, and their features."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from CoralBayLib.core.errors import Cancelled, CoralBayError, EvaluationError, VolumeError
from CoralBayLib.core.progress import CancelToken, Progress, raise_if_cancelled, report, subprogress
from CoralBayLib.encoders.base import Encoder
from CoralBayLib.features.embedding import embed
from CoralBayLib.features.pyramid import FeaturePyramid
from CoralBayLib.features.store import Store
from CoralBayLib.imaging.discovery import Skipped
from CoralBayLib.imaging.grid import Volume
from CoralBayLib.imaging.patients import (
    LabeledPatient,
    chosen_names,
    common_labels,
    common_names,
    read_labels,
    renumbered,
)
from CoralBayLib.imaging.volume_io import read_volume


@dataclass(frozen=True)
class Case:
    """A patient of an evaluation.

    Attributes:
        patient: where the scan and the labels are.
        looked_for: common labels of the structures that were looked for.
        present: common labels of those that have voxels.
        labels_hash: of the labels in the common numbering and their geometry.
        scan_keys: keys of the scan's features, by encoder.
    """

    patient: LabeledPatient
    looked_for: frozenset[int]
    present: frozenset[int]
    labels_hash: str
    scan_keys: dict[str, str]

    @property
    def name(self) -> str:
        """Of the patient."""
        return self.patient.name


@dataclass(frozen=True)
class Cases:
    """The patients of an evaluation.

    Attributes:
        cases: by name of the patient, sorted.
        names: of the structures that are evaluated, by common label.
        left_out: patients that cannot be used, with the reason.
    """

    cases: dict[str, Case]
    names: dict[int, str]
    left_out: list[Skipped]

    @property
    def complete(self) -> list[str]:
        """Names of the patients in whom all structures were looked for and are labeled."""
        return [name for name, case in self.cases.items() if set(self.names) <= case.looked_for & case.present]

    @property
    def empty(self) -> list[str]:
        """Names of the patients in whom no structure has a voxel; they can be tested, and teach nothing."""
        return [name for name, case in self.cases.items() if not case.present]

    def described(self, case: Case) -> dict[str, list[str]]:
        """Which structures of a patient were looked for, and which have voxels, by name."""
        return {
            "looked_for": [self.names[label] for label in sorted(case.looked_for)],
            "present": [self.names[label] for label in sorted(case.present)],
        }

    def labels_of(self, case: Case) -> Volume:
        """The labels of a patient in the common numbering, on the grid of the scan."""
        read = read_labels(case.patient)
        return renumbered(read.labelmap, read.names, self.names)


def read_cases(
    patients: Sequence[LabeledPatient],
    structures: Sequence[str] = (),
    progress: Progress | None = None,
    cancel: CancelToken | None = None,
) -> Cases:
    """Read the labels of all patients, to know what is labeled in each; patients whose labels cannot be used are left out.

    Args:
        patients: with labels.
        structures: names of those to evaluate; all by default.
        progress: called with the fraction done and the name of a patient.
        cancel: checked between patients.

    Raises:
        VolumeError: no patient can be used, or none has a structure of a given name.
        Cancelled: `cancel` was called.
    """
    read, left_out = [], []
    for number, patient in enumerate(patients):
        raise_if_cancelled(cancel)
        report(progress, number / len(patients), f"Labels of {patient.name}")
        try:
            labels = read_labels(patient)
        except CoralBayError as error:
            left_out.append(Skipped(str(patient.labels), str(error)))
            continue
        # Voxels are not kept: those of hundreds of patients do not fit into memory.
        digest = hashlib.sha256(np.ascontiguousarray(labels.labelmap.array).tobytes())
        digest.update(repr((labels.labelmap.grid.shape, labels.labelmap.grid.ijk_to_ras.round(3).tolist())).encode())
        read.append((patient, labels.names, set(np.unique(labels.labelmap.array).tolist()), digest.hexdigest()[:32]))
    if not read:
        reasons = " ".join(f"{each.path}: {each.reason}" for each in left_out[:3])
        raise VolumeError(f"The labels of no patient can be used. {reasons}")
    names = chosen_names(common_names(names for _, names, _, _ in read), structures)
    cases = {}
    for patient, own, labels_in, hashed in sorted(read, key=lambda each: each[0].name):
        by_own_label = common_labels(own, names)
        looked_for = frozenset(by_own_label.values())
        if not looked_for:
            left_out.append(Skipped(str(patient.labels), f"None of these was looked for: {', '.join(names.values())}."))
            continue
        present = frozenset(label for old, label in by_own_label.items() if old in labels_in)
        known = f"{hashed} {sorted(by_own_label.items())} {sorted(names.items())}"
        cases[patient.name] = Case(patient, looked_for, present, hashlib.sha256(known.encode()).hexdigest()[:32], {})
    return Cases(cases, names, left_out)


def embed_cases(
    cases: Cases,
    encoder: Encoder,
    store: Store,
    *,
    assume_hu: bool = False,
    progress: Progress | None = None,
    cancel: CancelToken | None = None,
) -> Cases:
    """Compute the features of all patients, or find them in the store; patients whose scan cannot be used are left out.

    So are patients whose scan is that of another one: a probe would be tested on a scan that it was learned from.

    Args:
        cases: the patients.
        encoder: one of those to evaluate.
        store: keeps the features.
        assume_hu: skip the check that the values look like HU.
        progress: called with the fraction done and a message.
        cancel: checked between steps.

    Raises:
        EvaluationError: fewer than two patients are left.
        Cancelled: `cancel` was called.
    """
    kept: dict[str, Case] = {}
    left_out = list(cases.left_out)
    known: dict[str, str] = {}
    for number, (name, case) in enumerate(cases.cases.items()):
        raise_if_cancelled(cancel)
        part = subprogress(progress, number / len(cases.cases), (number + 1) / len(cases.cases))
        report(part, 0, name)
        try:
            key = _pyramid(case, encoder, store, assume_hu, part, cancel).key
        except (Cancelled, MemoryError):
            raise
        except CoralBayError as error:
            left_out.append(Skipped(str(case.patient.scan), str(error)))
            continue
        if key in known:
            left_out.append(Skipped(str(case.patient.scan), f"It is the same scan as that of {known[key]}."))
            continue
        known[key] = name
        kept[name] = replace(case, scan_keys={**case.scan_keys, encoder.name: key})
    if len(kept) < 2:
        reasons = " ".join(f"{each.path}: {each.reason}" for each in left_out[:3])
        raise EvaluationError(f"Too few patients can be used: one to learn from and one to test are needed. {reasons}".rstrip())
    return Cases(kept, cases.names, left_out)


def pyramid_of(
    case: Case, encoder: Encoder, store: Store, *, assume_hu: bool = False, cancel: CancelToken | None = None
) -> FeaturePyramid:
    """The features of a patient, from the store or, where it dropped them, computed anew."""
    return store.get(case.scan_keys[encoder.name]) or _pyramid(case, encoder, store, assume_hu, None, cancel)


def _pyramid(
    case: Case, encoder: Encoder, store: Store, assume_hu: bool, progress: Progress | None, cancel: CancelToken | None
) -> FeaturePyramid:
    def named(fraction: float, message: str) -> None:
        report(progress, fraction, f"{case.name}: {message}")

    return embed(read_volume(case.patient.scan), encoder, named, cancel, store=store, assume_hu=assume_hu)
