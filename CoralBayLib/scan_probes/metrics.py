"""Metrics of predictions, with confidence intervals that account for several scans of one patient."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from CoralBayLib.core.deprecation import deprecated_names
from CoralBayLib.core.progress import CancelToken, Progress, raise_if_cancelled, report

from .labels import Labels

RESAMPLES = 1000
"""Bootstrap samples for an interval."""
CALIBRATION_BINS = 5
"""Bins of equal size in the calibration curve, and for the calibration error."""

__getattr__ = deprecated_names(__name__, {"Figure": "Estimate", "figures": "estimate_metrics"})


@dataclass(frozen=True)
class Estimate:
    """A metric with its 95 % confidence interval.

    The interval is between percentiles of a bootstrap (Efron 1979) that draws whole patients.
    """

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


def estimate_metrics(
    predicted: NDArray,
    labels: Labels,
    classes: list[str],
    progress: Progress | None = None,
    cancel: CancelToken | None = None,
    shares: NDArray | None = None,
) -> dict[str, Estimate]:
    """All metrics of a task for predictions on scans that the probe was not fitted on.

    Args:
        predicted: (N, classes) or (N,), as `ScanProbe.predict` returns them.
        labels: (N,) the truth; the bootstrap draws patients, not scans.
        classes: classification: their names in the order of the columns.
        progress: called with the fraction done and a message.
        cancel: checked between bootstrap samples.
        shares: (N, classes) of each class among the scans that the scan's probe was fitted on, by which the balanced
            accuracy divides the probabilities; None for those of these scans.

    Returns:
        By name; without the metrics that are undefined for these scans.

    Raises:
        Cancelled: `cancel` was called.
    """
    metrics = metric_functions(predicted, labels, classes, shares)
    rows_of_patient = [np.flatnonzero(labels.patients == patient) for patient in np.unique(labels.patients)]
    random, count = np.random.default_rng(0), len(rows_of_patient)
    samples = [np.concatenate([rows_of_patient[n] for n in random.integers(count, size=count)]) for _ in range(RESAMPLES)]
    all_rows = np.arange(len(labels))
    estimates = {}
    for number, (name, metric) in enumerate(metrics.items()):
        report(progress, number / len(metrics), name)
        values = []
        for rows in samples:
            raise_if_cancelled(cancel)
            values.append(metric(rows))
        defined = np.array([value for value in values if value is not None])
        value = metric(all_rows)
        if value is not None:
            low, high = np.percentile(defined, [2.5, 97.5]) if len(defined) else (value, value)
            estimates[name] = Estimate(float(value), float(low), float(high))
    return estimates


def leading_score(predicted: NDArray, classes: list[str], labels: Labels) -> float:
    """The score by which a penalty is chosen; higher is better.

    Args:
        predicted: (N, classes) or (N,), as `ScanProbe.predict` returns them.
        classes: classification: their names in the order of the columns.
        labels: (N,) the truth.

    Returns:
        Mean log likelihood of the true class, minus the mean squared error, or concordance.
    """
    if labels.task == "regression":
        return -float(np.mean((predicted - labels.values) ** 2))
    if labels.task == "survival":
        return concordance(predicted, labels.values, labels.times) or 0.5
    column = {name: n for n, name in enumerate(classes)}
    likelihood = [row[column[value]] if value in column else 1e-9 for row, value in zip(predicted, labels.values, strict=True)]
    return float(np.mean(np.log(np.clip(likelihood, 1e-9, 1))))


def concordance(risk: ArrayLike, event: ArrayLike, times: ArrayLike) -> float | None:
    """Concordance index (Harrell 1982): the fraction of comparable pairs in which the higher risk has the earlier event.

    Args:
        risk: (N,) predicted.
        event: (N,) whether it was observed; otherwise the time is censored.
        times: (N,) to the event or to censoring.

    Returns:
        From 0 to 1; None without any comparable pair.
    """
    risk, observed, times = np.asarray(risk), np.asarray(event, bool), np.asarray(times, float)
    comparable = observed[:, None] & ((times[:, None] < times) | ((times[:, None] == times) & ~observed))
    if not comparable.any():
        return None
    higher = (risk[:, None] > risk) + 0.5 * (risk[:, None] == risk)
    return float(higher[comparable].mean())


def calibration_error(truth: NDArray[np.bool_], probability: NDArray) -> float:
    """Expected calibration error (Naeini et al. 2015), in `CALIBRATION_BINS` bins of equal size.

    Args:
        truth: (N,) whether a scan has the class.
        probability: (N,) predicted.

    Returns:
        Mean over the bins, weighted by their size, of the difference between mean probability and observed share. Scans with
        the same probability count with their common share, so that their order does not matter.
    """
    _, same = np.unique(probability, return_inverse=True)
    shares = (np.bincount(same, truth) / np.bincount(same))[same]
    order = np.argsort(probability, kind="stable")
    bins = [part for part in np.array_split(order, CALIBRATION_BINS) if len(part)]
    return float(sum(abs(probability[part].mean() - shares[part].mean()) * len(part) for part in bins) / len(truth))


def metric_functions(
    predicted: NDArray, labels: Labels, classes: list[str], shares: NDArray | None = None
) -> dict[str, Callable[[NDArray[np.int64]], float | None]]:
    """Functions of rows, by the metric's name, that return None where the metric is undefined; see `estimate_metrics`."""
    from sklearn import metrics

    truth = labels.values
    if labels.task == "survival":
        return {"concordance": lambda rows: concordance(predicted[rows], truth[rows], labels.times[rows])}
    if labels.task == "regression":

        def r2(rows: NDArray[np.int64]) -> float | None:
            return metrics.r2_score(truth[rows], predicted[rows]) if np.ptp(truth[rows]) > 0 else None

        return {"MAE": lambda rows: metrics.mean_absolute_error(truth[rows], predicted[rows]), "R2": r2}
    index = np.array([classes.index(value) for value in truth])

    def one_against_rest(score: Callable[[NDArray, NDArray], float]) -> Callable[[NDArray[np.int64]], float | None]:
        """The score of the second of two classes, or the mean over all of more classes."""
        scored_classes = [1] if len(classes) == 2 else range(len(classes))

        def metric(rows: NDArray[np.int64]) -> float | None:
            present = [n for n in scored_classes if 0 < (index[rows] == n).sum() < len(rows)]
            return float(np.mean([score(index[rows] == n, predicted[rows, n]) for n in present])) if present else None

        return metric

    most_likely = predicted.argmax(axis=1)
    if shares is None:
        shares = np.tile(np.bincount(index, minlength=len(classes)) / len(index), (len(index), 1))
    # A rare class is never the most likely one; divided by its share, its probability tells what the scan adds.
    most_raised = (predicted / np.maximum(shares, 1e-9)).argmax(axis=1)

    def balanced(rows: NDArray[np.int64]) -> float | None:
        right, present = most_raised[rows] == index[rows], np.unique(index[rows])
        return float(np.mean([right[index[rows] == n].mean() for n in present])) if len(present) > 1 else None

    return {
        "AUROC": one_against_rest(metrics.roc_auc_score),
        "average precision": one_against_rest(metrics.average_precision_score),
        "F1": lambda rows: metrics.f1_score(
            index[rows], most_likely[rows], average="binary" if len(classes) == 2 else "macro", zero_division=0
        ),
        "accuracy": lambda rows: float((index[rows] == most_likely[rows]).mean()),
        "balanced accuracy": balanced,
        "Brier score": one_against_rest(metrics.brier_score_loss),
        "calibration error": one_against_rest(calibration_error),
    }
