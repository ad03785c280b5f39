"""Evaluation of scan probes on unseen patients: nested cross-validation, and few-shot learning."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from CoralBayLib.core.deprecation import deprecated_attribute
from CoralBayLib.core.errors import ScansError
from CoralBayLib.core.progress import CancelToken, Progress, raise_if_cancelled, report, subprogress

from .labels import Labels
from .metrics import CALIBRATION_BINS, Estimate, estimate_metrics
from .model import ScanProbe, classes_of
from .splits import Fold, grouped_folds, no_patient_twice, no_scan_twice
from .tokens import ScanTokens

FEW_SHOT_STRENGTH = 0.01
"""Inverse penalty of a few-shot probe, which has too few patients to choose one."""
_TOO_FEW = {
    "classification": "Too few patients: at least two of each class are needed, and two classes.",
    "regression": "Too few patients: at least two are needed.",
    "survival": "Too few patients: at least three with an observed event are needed.",
}
_LARGEST_SEED = 2**32 - 1
"""Of NumPy's generators."""


class Probe(Protocol):
    """What is cross-validated; `inputs` are (N, D) embeddings, or the tokens of N scans."""

    classes_: list[str]

    def fit(self, inputs: Any, labels: Labels, seed: int = 0) -> Probe:
        """Fit to some scans."""
        ...

    def predict(self, inputs: Any) -> NDArray[np.float64]:
        """Predict for some scans; values as `ScanProbe.predict` returns them."""
        ...


@dataclass(frozen=True, eq=False)
class Evaluation:
    """For every scan the prediction of a probe that was not fitted on the scan's patient.

    Attributes:
        metrics: by name, with 95 % confidence intervals.
        predicted: (N, classes) or (N,), see `ScanProbe.predict`; NaN for scans in no test fold.
        fold: (N,) the outer fold that a scan was tested in; -1 for none.
        classes: classification: their names.
        calibration: classification with two classes: (bins, 2) mean predicted probability and observed fraction of the
            second class; otherwise empty.
    """

    metrics: dict[str, Estimate]
    predicted: NDArray[np.float64]
    fold: NDArray[np.int64]
    classes: list[str]
    calibration: NDArray[np.float64]

    figures = deprecated_attribute("figures", "metrics")


def require_folds(labels: Labels, folds: int, seed: int) -> list[Fold]:
    """The folds of a cross-validation; needs no embedding, so it can be asked before the scans are embedded.

    Args:
        labels: of all scans.
        folds: number of folds; fewer when a class has fewer patients.
        seed: of the draw.

    Returns:
        As `grouped_folds`, at least two.

    Raises:
        ScansError: there are fewer than two folds, a class has too few patients, all numbers are the same, or the seed is
            out of range.
    """
    if folds < 2:
        raise ScansError(f"Expected at least 2 folds, got {folds}.")
    if not 0 <= seed <= _LARGEST_SEED:
        raise ScansError(f"Expected a seed from 0 to {_LARGEST_SEED}, got {seed}.")
    outer = grouped_folds(labels, folds, seed)
    if len(outer) < 2:
        raise ScansError(_TOO_FEW[labels.task])
    if labels.task == "regression" and not np.std(labels.values) > 0:
        raise ScansError(f"All scans have the number {labels.values[0]:g}, so there is nothing to predict. Check the column.")
    return outer


def cross_validate(
    vectors: NDArray | ScanTokens,
    labels: Labels,
    *,
    folds: int = 5,
    seed: int = 0,
    make: Callable[[], Probe] = ScanProbe,
    progress: Progress | None = None,
    cancel: CancelToken | None = None,
) -> Evaluation:
    """Nested cross-validation with both loops grouped by patient; the inner one is within the probe's `fit`.

    Args:
        vectors: (N, D) embeddings, or the tokens of N scans for an attentive probe.
        labels: (N,) the truth.
        folds: of the outer loop; fewer when a class has fewer patients.
        seed: of the splits.
        make: makes the probe that is fitted in each fold; the same seed gives all kinds of probes the same folds.
        progress: called with the fraction done and a message.
        cancel: checked between folds, and between the samples of the bootstrap.

    Raises:
        ScansError: there are fewer than two folds, a class has too few patients, or one scan is listed for two patients.
        Cancelled: `cancel` was called.
    """
    outer = require_folds(labels, folds, seed)
    no_scan_twice(vectors if isinstance(vectors, np.ndarray) else vectors.means, labels)
    classes = classes_of(labels)
    predicted = np.full((len(labels), len(classes)) if classes else len(labels), np.nan)
    shares = np.zeros((len(labels), len(classes)))
    fold = np.full(len(labels), -1)
    for number, (train, test) in enumerate(outer):
        raise_if_cancelled(cancel)
        report(progress, 0.5 * number / len(outer), f"Fold {number + 1} of {len(outer)}")
        no_patient_twice(labels.patients[train], labels.patients[test])
        probe = make().fit(vectors[train], labels.take(train), seed)
        prediction = probe.predict(vectors[test])
        shares[test] = [np.mean(labels.values[train] == name) for name in classes]
        if classes:
            # A class with a single patient is missing from one of the training parts.
            columns = [classes.index(name) for name in probe.classes_]
            all_classes = np.zeros((len(test), len(classes)))
            all_classes[:, columns] = prediction
            prediction = all_classes
        predicted[test], fold[test] = prediction, number
    tested = np.flatnonzero(fold >= 0)
    known = labels.take(tested)
    calibration = _calibration(predicted[tested], known, classes)
    steps = subprogress(progress, 0.5, 1)
    metrics = estimate_metrics(predicted[tested], known, classes, steps, cancel, shares=shares[tested])
    report(progress, 1.0, "Evaluated")
    return Evaluation(metrics, predicted, fold, classes, calibration)


def few_shot(
    vectors: NDArray | ScanTokens,
    labels: Labels,
    positive: str,
    shots: int,
    repeats: int = 20,
    seed: int = 0,
    make: Callable[[], Probe] | None = None,
) -> tuple[float, float]:
    """AUROC of a probe that is fitted on a few patients of a class and as many others, and tested on all other patients.

    Args:
        vectors: (N, D) embeddings, or the tokens of N scans for an attentive probe.
        labels: (N,) the truth, of a classification.
        positive: the class.
        shots: patients of the class to fit on, and patients without it.
        repeats: random draws of these patients, the same ones for all kinds of probes.
        seed: of the draws.
        make: makes the probe that is fitted to each draw; None for a linear one of `FEW_SHOT_STRENGTH`.

    Returns:
        Mean and standard deviation over the draws.

    Raises:
        ScansError: it is not a classification, or no patients would be left to test on.
    """
    from sklearn.metrics import roc_auc_score

    no_scan_twice(vectors if isinstance(vectors, np.ndarray) else vectors.means, labels)
    is_positive, patients = labels.values == positive, labels.patients
    groups = few_shot_patients(labels, positive, shots)
    random = np.random.default_rng(seed)
    binary = Labels.of("classification", is_positive.tolist(), patients.tolist())
    new_probe: Callable[[], Probe] = make or _few_shot_probe
    areas = []
    for _ in range(repeats):
        train = np.isin(patients, np.concatenate([random.choice(group, shots, replace=False) for group in groups]))
        no_patient_twice(patients[train], patients[~train])
        probe = new_probe().fit(vectors[train], binary.take(train))
        areas.append(roc_auc_score(is_positive[~train], probe.predict(vectors[~train])[:, 1]))
    return float(np.mean(areas)), float(np.std(areas))


def _few_shot_probe() -> ScanProbe:
    return ScanProbe(FEW_SHOT_STRENGTH)


def few_shot_patients(labels: Labels, positive: str, shots: int) -> tuple[NDArray[np.str_], NDArray[np.str_]]:
    """The patients with a class, and those without.

    Args:
        labels: (N,) the truth, of a classification.
        positive: the class.
        shots: patients of each group to fit on.

    Raises:
        ScansError: it is not a classification, or no patients would be left to test on.
    """
    if labels.task != "classification":
        raise ScansError(f"Few-shot evaluation needs a classification task, not {labels.task}.")
    has = np.unique(labels.patients[labels.values == positive])
    groups = has, np.setdiff1d(labels.patients, has)
    if shots < 1 or min(map(len, groups)) <= shots:
        raise ScansError(
            f"{shots} examples of each kind need more than {shots} patients with '{positive}' and without; "
            f"there are {len(groups[0])} and {len(groups[1])}."
        )
    return groups


def _calibration(predicted: NDArray, labels: Labels, classes: list[str]) -> NDArray[np.float64]:
    if len(classes) != 2:
        return np.empty((0, 2))
    from sklearn.calibration import calibration_curve

    truth = labels.values == classes[1]
    fraction, mean = calibration_curve(truth, predicted[:, 1], n_bins=CALIBRATION_BINS, strategy="quantile")
    return np.stack([mean, fraction], axis=1)
