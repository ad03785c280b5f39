"""What annotated scans teach a probe: one patient after another."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Self

import numpy as np

from CoralBayLib.core.errors import ProbeError
from CoralBayLib.core.names import unique_names
from CoralBayLib.core.progress import CancelToken
from CoralBayLib.features.pyramid import FeaturePyramid
from CoralBayLib.fewshot.prompts import Prompts
from CoralBayLib.imaging.grid import Volume

from .patients import Patients
from .record import PatientRecord, Projection

Example = tuple[FeaturePyramid, Volume | Prompts] | tuple[FeaturePyramid, Volume | Prompts, Mapping[int, str]]
"""A scan's features and its labels, with or without the names of the structures that were looked for."""


def patients_of(
    pyramid: FeaturePyramid,
    labelmap: Volume,
    names: Mapping[int, str] | None = None,
    about: Mapping[str, Any] | None = None,
    like: Patients | None = None,
) -> Patients:
    """One patient.

    Args:
        pyramid: of the scan.
        labelmap: on any grid; 0 is background.
        names: of the structures that were looked for, by label. A structure of the list that has no voxel is absent from
            the scan; one that is not in the list may be there. By default the labels that occur.
        about: what is known of the annotation; values that JSON can represent.
        like: patients that this one is to be joined with.

    Raises:
        ProbeError: no structure was looked for, or none has a voxel in the scan.
    """
    if names is None:
        names = {int(label): f"Structure {label}" for label in np.unique(labelmap.array) if label > 0}
    known = dict(zip(names, unique_names(names.values()), strict=True))
    known.pop(0, None)
    if not known:
        raise ProbeError("No structure is labeled in this scan, so there is nothing to learn.")
    projection = like.projection if like is not None else Projection.of(pyramid)
    facts = {"learned": datetime.now(UTC).isoformat(timespec="seconds"), **(about or {})}
    return Patients.of_one(PatientRecord.of(pyramid, labelmap, known, projection, facts), projection)


def labels_by_name(patients: Patients) -> dict[str, int]:
    """A label for each structure: its own in the first patient that has it, or the next free one."""
    labels: dict[str, int] = {}
    structures: list[tuple[int, str]] = [(label, name) for record in patients.records for label, name in record.names.items()]
    for label, name in structures:
        if name not in labels:
            taken = set(labels.values())
            labels[name] = label if label not in taken else next(n for n in range(1, len(taken) + 2) if n not in taken)
    return labels


def described(patients: Patients) -> list[dict[str, Any]]:
    """What is known of each patient, as values that JSON can represent."""
    return [
        {
            "scan": record.key,
            "structures": list(record.names.values()),
            "bytes": record.nbytes(),
            **record.about,
        }
        for record in patients.records
    ]


class LearnsPatients:
    """What a probe has to do with several patients (see `Probe`, which is the only one of the kind).

    Attributes:
        patients_: what it learnt from several patients, or None if it was fitted on the prompts of one scan.
    """

    patients_: Patients | None = None
    fitted_pyramid_: FeaturePyramid | None = None
    labels_for_memory_: Callable[[], Volume] | None = None
    signature_: str
    labels_: list[int]
    names_: dict[int, str]
    prompts_: Prompts
    scan_key_: str

    def learn(
        self,
        pyramid: FeaturePyramid,
        labels: Volume | Prompts,
        names: Mapping[int, str] | None = None,
        about: Mapping[str, Any] | None = None,
        cancel: CancelToken | None = None,
    ) -> Self:
        """Learn one more patient; scans that were learnt before are not needed. A scan that is known is replaced.

        The probe keeps about two megabytes of each patient. A probe that was fitted on the prompts of one scan takes its
        result there as the first patient.

        Args:
            pyramid: of the scan.
            labels: a labelmap on any grid, 0 is background; or prompts, from which a probe on them makes the labelmap.
                For single clicks, pass the labelmap of `Segmenter`.
            names: of the structures that were looked for, by label; those of the prompts, or the labels that occur, by default.
                A structure of the list that has no voxel is absent from the scan; one that is not in the list may be there.
            about: what is known of the annotation, which is kept; values that JSON can represent.
            cancel: checked between steps; the probe is unchanged then.

        Raises:
            ProbeError: other features than those of the other patients, or no structure in the scan.
            PromptError: as in `fit`.
            Cancelled: `cancel` was called.
        """
        known = self._as_patients()
        if known is not None:
            self.require_features_of(pyramid)
        facts = dict(about or {})
        if isinstance(labels, Prompts):
            facts = {"prompts": len(labels), **facts}
            names = names or {label: labels.name(label) for label in labels.structures}
            labels = type(self)(**self.parameters).fit(pyramid, labels).predict_labels(pyramid, prompts=labels)
        patient = patients_of(pyramid, labels, names, facts, known)
        self._know(patient if known is None else known.joined([patient], cancel), pyramid.signature)
        return self

    @classmethod
    def merged(cls, probes: Sequence[Self], cancel: CancelToken | None = None) -> Self:
        """A probe of all patients of some probes; a scan that several have counts as in the last.

        Raises:
            ProbeError: there are none, they are on different features, or one keeps too little of its scan.
            Cancelled: `cancel` was called.
        """
        if not probes:
            raise ProbeError("There is no probe to merge.")
        if any(probe.signature_ != probes[0].signature_ for probe in probes):
            raise ProbeError("These probes were made on features of different encoders, weights or settings.")
        first, *others = [probe._as_patients() for probe in probes]
        assert first is not None
        merged = cls(**probes[0].parameters)
        merged._know(first.joined([each for each in others if each is not None], cancel), probes[0].signature_)
        return merged

    def _as_patients(self) -> Patients | None:
        """What it knows of patients; None if it is not fitted.

        Raises:
            ProbeError: it was fitted on one scan that is not at hand any more.
        """
        if self.patients_ is not None or not hasattr(self, "signature_"):
            return self.patients_
        if self.fitted_pyramid_ is None:
            raise ProbeError(
                "This probe was read from a file of one scan, which keeps too little to learn more. Fit it again on its scan "
                "and prompts, and learn the next scan then."
            )
        labelmap = (
            self.labels_for_memory_()
            if self.labels_for_memory_ is not None
            else self.predict_labels(self.fitted_pyramid_, prompts=self.prompts_)
        )
        return patients_of(self.fitted_pyramid_, labelmap, self.names_, {"prompts": len(self.prompts_)})

    def _know(self, patients: Patients, signature: str) -> None:
        """Become a probe of patients."""
        self._forget()
        labels = labels_by_name(patients)
        self.patients_, self.signature_, self.scan_key_ = patients, signature, ""
        self.names_ = {label: name for name, label in sorted(labels.items(), key=lambda each: each[1])}
        self.labels_, self.prompts_ = list(self.names_), Prompts.none()

    def _forget(self) -> None:
        for name in ("signature_", "labels_", "names_", "weights_", "image_weights_", "intercept_", "_memory"):
            self.__dict__.pop(name, None)
        self.fitted_pyramid_, self.labels_for_memory_, self.patients_ = None, None, None

    # `Probe` has these.

    def fit(self, pyramid: Any, prompts: Prompts | None = None) -> Self:
        """See `Probe.fit`."""
        raise NotImplementedError

    def predict_labels(self, pyramid: FeaturePyramid, *, prompts: Prompts | None = None) -> Volume:
        """See `Probe.predict_labels`."""
        raise NotImplementedError

    def require_features_of(self, pyramid: FeaturePyramid) -> None:
        """See `Probe.require_features_of`."""
        raise NotImplementedError

    @property
    def parameters(self) -> dict[str, Any]:
        """See `Probe.parameters`."""
        raise NotImplementedError
