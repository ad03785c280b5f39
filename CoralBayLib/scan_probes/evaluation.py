"""What a scan probe is worth on patients it has not seen: nested cross-validation, and learning from a few examples."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from CoralBayLib.core.errors import ScansError
from CoralBayLib.core.progress import CancelToken, Progress, raise_if_cancelled, report, subprogress

from .metrics import Figure, figures
from .model import ScanProbe, classes_of
from .splits import grouped_folds, no_patient_twice, no_scan_twice
from .table import Labels

CALIBRATION_BINS = 5
FEW_STRENGTH = 0.01


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Predictions for every scan by a probe that has not seen its patient.

    Attributes:
        figures: by name, with 95 % intervals.
        predicted: (N, classes) or (N,), see `ScanProbe.predict`.
        fold: (N,) which outer fold a scan was tested in.
        classes: classify: their names.
        calibration: classify with two classes: (bins, 2) mean probability and share of the second class; else empty.
    """

    figures: dict[str, Figure]
    predicted: NDArray[np.float64]
    fold: NDArray[np.int64]
    classes: list[str]
    calibration: NDArray[np.float64]


def cross_validate(
    vectors: NDArray,
    labels: Labels,
    *,
    folds: int = 5,
    seed: int = 0,
    progress: Progress | None = None,
    cancel: CancelToken | None = None,
) -> Evaluation:
    """Nested cross-validation, both loops grouped by patient: the penalty is chosen inside each training part.

    Args:
        vectors: (N, D) embeddings.
        labels: what is known of them.
        folds: of the outer loop; fewer when a class has fewer patients.
        seed: of the splits.
        progress: called with the fraction done and a message.
        cancel: checked between folds, and between the draws of the bootstrap.

    Raises:
        ScansError: fewer than two folds, too few patients of some class, or one scan stands under two patients.
        Cancelled: `cancel` was called.
    """
    if folds < 2:
        raise ScansError(f"Expected at least 2 folds, got {folds}.")
    no_scan_twice(vectors, labels.patients)
    outer = grouped_folds(labels, folds, seed)
    if len(outer) < 2:
        raise ScansError("Too few patients: at least two of each class (or two in all, for a number) are needed.")
    classes = classes_of(labels)
    predicted = np.full((len(labels), len(classes)) if classes else len(labels), np.nan)
    fold = np.full(len(labels), -1)
    for number, (train, test) in enumerate(outer):
        raise_if_cancelled(cancel)
        report(progress, 0.5 * number / len(outer), f"Fold {number + 1} of {len(outer)}")
        no_patient_twice(labels.patients[train], labels.patients[test])
        probe = ScanProbe().fit(vectors[train], labels.take(train), seed)
        made = probe.predict(vectors[test])
        if classes:
            # A class with a single patient is missing from one of the training parts.
            full = np.zeros((len(test), len(classes)))
            full[:, [classes.index(name) for name in probe.classes_]] = made
            made = full
        predicted[test], fold[test] = made, number
    tested = np.flatnonzero(fold >= 0)
    known = labels.take(tested)
    calibration = _calibration(predicted[tested], known, classes)
    found = figures(predicted[tested], known, classes, subprogress(progress, 0.5, 1), cancel)
    report(progress, 1.0, "Evaluated")
    return Evaluation(found, predicted, fold, classes, calibration)


def few_shot(
    vectors: NDArray, labels: Labels, positive: str, shots: int, repeats: int = 20, seed: int = 0
) -> tuple[float, float]:
    """Mean and standard deviation of the AUROC when so many positive patients, and as many others, are learnt from and
    all other patients tested on, over repeated draws.

    Raises:
        ScansError: there are not more patients of each kind than that.
    """
    from sklearn.metrics import roc_auc_score

    no_scan_twice(vectors, labels.patients)
    told, whose = labels.values == positive, labels.patients
    kinds = few_shot_patients(labels, positive, shots)
    random = np.random.default_rng(seed)
    either = Labels.of("classify", told.tolist(), whose.tolist())
    areas = []
    for _ in range(repeats):
        train = np.isin(whose, np.concatenate([random.choice(kind, shots, replace=False) for kind in kinds]))
        no_patient_twice(whose[train], whose[~train])
        probe = ScanProbe(FEW_STRENGTH).fit(vectors[train], either.take(train))
        areas.append(roc_auc_score(told[~train], probe.decide(vectors[~train])[:, 0]))
    return float(np.mean(areas)), float(np.std(areas))


def few_shot_patients(labels: Labels, positive: str, shots: int) -> tuple[NDArray[np.str_], NDArray[np.str_]]:
    """The patients with a class, and those without.

    Raises:
        ScansError: it is not classes that are learnt, or there are too few of either to test on any.
    """
    if labels.task != "classify":
        raise ScansError("Learning from a few examples is for classes: it needs --task classify.")
    has = np.unique(labels.patients[labels.values == positive])
    kinds = has, np.setdiff1d(labels.patients, has)
    if shots < 1 or min(map(len, kinds)) <= shots:
        raise ScansError(
            f"{shots} examples of each kind need more than {shots} patients with '{positive}' and without; "
            f"there are {len(kinds[0])} and {len(kinds[1])}."
        )
    return kinds


def _calibration(predicted: NDArray, labels: Labels, classes: list[str]) -> NDArray[np.float64]:
    if len(classes) != 2:
        return np.empty((0, 2))
    from sklearn.calibration import calibration_curve

    truth = labels.values == classes[1]
    share, mean = calibration_curve(truth, predicted[:, 1], n_bins=CALIBRATION_BINS, strategy="quantile")
    return np.stack([mean, share], axis=1)
