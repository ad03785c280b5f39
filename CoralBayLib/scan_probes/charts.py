"""Charts of an evaluation as plain arrays, which matplotlib or Slicer's plots can draw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .evaluation import Evaluation
from .labels import Labels
from .metrics import Estimate

if TYPE_CHECKING:
    from .comparison import ShotResult


@dataclass(frozen=True, eq=False)
class Series:
    """A line or a set of points in a chart.

    Attributes:
        name: for the legend.
        x, y: (N,) each.
        kind: "curve", "points", "linked" (points joined by a line), "interval" (a value between its ends), "reference" (a line
            to compare the others with), or "cross" and "bar" (marks to compare the others with).
    """

    name: str
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    kind: str = "curve"


@dataclass(frozen=True)
class Chart:
    """Series that share their axes.

    Attributes:
        title, x_label, y_label: words.
        series: what is drawn.
        rows: names of the values 0, 1, ... of the y axis, where these are not numbers; drawn from top to bottom.
    """

    title: str
    x_label: str
    y_label: str
    series: tuple[Series, ...]
    rows: tuple[str, ...] = ()


def charts(labels: Labels, evaluation: Evaluation) -> list[Chart]:
    """The charts for a task.

    Args:
        labels: (N,) of all scans.
        evaluation: of the same scans; a scan that was in no test fold is left out.

    Returns:
        Classification: ROC curves, and a calibration curve for two classes. Regression: predicted over true values, and
        their difference. Survival: Kaplan-Meier curves of the scans with higher and with lower predicted risk.
    """
    tested = evaluation.fold >= 0
    predicted, known = evaluation.predicted[tested], labels.take(tested)
    if labels.task == "classification":
        roc = _roc(known.values, predicted, evaluation.classes)
        return [roc, _calibration(evaluation)] if len(evaluation.calibration) else [roc]
    if labels.task == "regression":
        truth = np.asarray(known.values, float)
        ends = np.array([truth.min(), truth.max()])
        identity = Series("predicted = true", ends, ends, "reference")
        zero = Series("no difference", ends, np.zeros(2), "reference")
        return [
            Chart("Predicted and true", "true", "predicted", (Series("scans", truth, predicted, "points"), identity)),
            Chart("Difference", "true", "predicted - true", (Series("scans", truth, predicted - truth, "points"), zero)),
        ]
    return [_survival(known, predicted)]


def shots_chart(curves: Mapping[str, Sequence[ShotResult]], positive: str) -> Chart:
    """AUROC over the number of examples, a line for each kind of probe.

    Args:
        curves: as `shot_curves` returns them.
        positive: the class.
    """
    lines = [
        Series(kind, np.array([float(each.shots) for each in found]), np.array([each.mean for each in found]), "linked")
        for kind, found in curves.items()
    ]
    ends = np.array([min(line.x.min() for line in lines), max(line.x.max() for line in lines)])
    chance = Series("chance", ends, np.full(2, 0.5), "reference")
    return Chart(f"Few examples of '{positive}'", "patients of each kind", "AUROC", (*lines, chance))


def comparison_chart(rows: Mapping[str, Mapping[str, Estimate]], metric: str) -> Chart:
    """One metric of several probes with its interval, a line for each probe.

    Args:
        rows: as `Comparison.rows` returns them.
        metric: name of the metric.
    """
    known = {kind: each[metric] for kind, each in rows.items() if metric in each}
    lines = tuple(interval(kind, each, n) for n, (kind, each) in enumerate(known.items()))
    return Chart("Probes", metric, "", lines, tuple(f"{kind}\n{each}" for kind, each in known.items()))


def interval(name: str, estimate: Estimate, y: float) -> Series:
    """A value with its interval, as a level line from end to end with the value between.

    Args:
        name: of the series.
        estimate: the value.
        y: where the line is.
    """
    return Series(name, np.array([estimate.low, estimate.value, estimate.high]), np.full(3, y, float), "interval")


def _roc(truth: NDArray, predicted: NDArray[np.float64], classes: list[str]) -> Chart:
    from sklearn.metrics import roc_curve

    lines = []
    for n, name in list(enumerate(classes))[1 if len(classes) == 2 else 0 :]:
        false_positive, true_positive, _ = roc_curve(truth == name, predicted[:, n])
        lines.append(Series(name, false_positive, true_positive))
    chance = Series("chance", np.array([0.0, 1.0]), np.array([0.0, 1.0]), "reference")
    return Chart("ROC", "1 - specificity", "sensitivity", (*lines, chance))


def _calibration(evaluation: Evaluation) -> Chart:
    ends, (mean, fraction) = np.array([0.0, 1.0]), evaluation.calibration.T
    name = evaluation.classes[1]
    ideal = Series("ideal", ends, ends, "reference")
    curve = Series(name, mean, fraction, "linked")
    return Chart("Calibration", "predicted probability", "observed fraction", (curve, ideal))


def _survival(labels: Labels, risk: NDArray[np.float64]) -> Chart:
    """Kaplan-Meier curves (lifelines) of the scans above the median risk and of the others."""
    from lifelines import KaplanMeierFitter

    high, lines = risk > np.median(risk), []
    for chosen, name in ((high, "higher risk"), (~high, "lower risk")):
        if chosen.any():
            curve = KaplanMeierFitter().fit(labels.times[chosen], labels.values[chosen]).survival_function_
            # Each point twice, so that the line between events is level and drops at the event.
            x, y = np.repeat(curve.index.to_numpy(float), 2)[1:], np.repeat(curve.iloc[:, 0].to_numpy(float), 2)[:-1]
            lines.append(Series(name, x, y))
    return Chart("Survival", "time", "fraction without the event", tuple(lines))
