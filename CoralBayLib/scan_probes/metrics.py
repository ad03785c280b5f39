"""How good predictions are, with intervals that know of patients with several scans."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from CoralBayLib.core.progress import CancelToken, Progress, raise_if_cancelled, report

from .model import ScanProbe
from .table import Labels

RESAMPLES = 1000


@dataclass(frozen=True)
class Figure:
    """A figure with its 95 % interval: percentiles of a bootstrap over patients (Efron 1979; whole patients are drawn)."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


def figures(
    predicted: NDArray,
    labels: Labels,
    classes: list[str],
    progress: Progress | None = None,
    cancel: CancelToken | None = None,
) -> dict[str, Figure]:
    """Every score of a task on predictions for scans that were not learnt from.

    Args:
        predicted: as `ScanProbe.predict` gives them.
        labels: what is true; the bootstrap draws patients, not scans.
        classes: classify: their names in the order of the columns.
        progress: called with the fraction done and a message.
        cancel: checked between draws.

    Raises:
        Cancelled: `cancel` was called.
    """
    measures = _measures(predicted, labels, classes)
    members = [np.flatnonzero(labels.patients == patient) for patient in np.unique(labels.patients)]
    random = np.random.default_rng(0)
    draws = [np.concatenate([members[n] for n in random.integers(len(members), size=len(members))]) for _ in range(RESAMPLES)]
    everything = np.arange(len(labels))
    found = {}
    for number, (name, measure) in enumerate(measures.items()):
        report(progress, number / len(measures), name)
        values = []
        for rows in draws:
            raise_if_cancelled(cancel)
            values.append(measure(rows))
        drawn = np.array([value for value in values if value is not None])
        value = measure(everything)
        if value is not None:
            low, high = np.percentile(drawn, [2.5, 97.5]) if len(drawn) else (value, value)
            found[name] = Figure(float(value), float(low), float(high))
    return found


def leading_score(probe: ScanProbe, vectors: NDArray, labels: Labels) -> float:
    """What strengths are chosen by, more is better: log likelihood of classes, minus squared error, or concordance."""
    predicted = probe.predict(vectors)
    if labels.task == "regress":
        return -float(np.mean((predicted - labels.values) ** 2))
    if labels.task == "survive":
        return concordance(predicted, labels.values, labels.times) or 0.5
    column = {name: n for n, name in enumerate(probe.classes_)}
    likely = [row[column[value]] if value in column else 1e-9 for row, value in zip(predicted, labels.values, strict=True)]
    return float(np.mean(np.log(np.clip(likely, 1e-9, 1))))


def concordance(risk: ArrayLike, seen: ArrayLike, times: ArrayLike) -> float | None:
    """Share of comparable pairs in which the one with the higher risk has the event first (Harrell 1982); None without
    any such pair."""
    risk, happened, when = np.asarray(risk), np.asarray(seen, bool), np.asarray(times, float)
    comparable = happened[:, None] & ((when[:, None] < when) | ((when[:, None] == when) & ~happened))
    if not comparable.any():
        return None
    higher = (risk[:, None] > risk) + 0.5 * (risk[:, None] == risk)
    return float(higher[comparable].mean())


def _measures(predicted: NDArray, labels: Labels, classes: list[str]) -> dict[str, Callable[[NDArray[np.int64]], float | None]]:
    from sklearn import metrics

    truth = labels.values
    if labels.task == "survive":
        return {"concordance": lambda rows: concordance(predicted[rows], truth[rows], labels.times[rows])}
    if labels.task == "regress":

        def explained(rows: NDArray[np.int64]) -> float | None:
            return metrics.r2_score(truth[rows], predicted[rows]) if np.ptp(truth[rows]) > 0 else None

        return {"MAE": lambda rows: metrics.mean_absolute_error(truth[rows], predicted[rows]), "R2": explained}
    index = np.array([classes.index(value) for value in truth])

    def each(score: Callable[[NDArray, NDArray], float]) -> Callable[[NDArray[np.int64]], float | None]:
        """Of the second of two classes, or the mean over classes, each against the rest."""
        which = [1] if len(classes) == 2 else range(len(classes))

        def measure(rows: NDArray[np.int64]) -> float | None:
            present = [n for n in which if 0 < (index[rows] == n).sum() < len(rows)]
            return float(np.mean([score(index[rows] == n, predicted[rows, n]) for n in present])) if present else None

        return measure

    chosen = predicted.argmax(axis=1)
    return {
        "AUROC": each(metrics.roc_auc_score),
        "average precision": each(metrics.average_precision_score),
        "F1": lambda rows: metrics.f1_score(
            index[rows], chosen[rows], average="binary" if len(classes) == 2 else "macro", zero_division=0
        ),
        "accuracy": lambda rows: float((index[rows] == chosen[rows]).mean()),
        "Brier score": each(metrics.brier_score_loss),
    }
