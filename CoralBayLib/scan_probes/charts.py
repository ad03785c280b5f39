"""What an evaluation found, as curves that anything can draw."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .evaluation import Evaluation
from .table import Labels


@dataclass(frozen=True, eq=False)
class Series:
    """One line, or cloud of points, of a chart.

    Attributes:
        name: for the legend.
        x, y: (N,) each.
        kind: "curve", "points", "linked" (points on a line) or "reference" (what is to be compared with).
    """

    name: str
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    kind: str = "curve"


@dataclass(frozen=True)
class Chart:
    """Some series with common axes."""

    title: str
    x_label: str
    y_label: str
    series: tuple[Series, ...]


def charts(labels: Labels, evaluation: Evaluation) -> list[Chart]:
    """ROC and calibration; predicted against true, and the difference; or survival by predicted risk.

    Args:
        labels: of all scans.
        evaluation: of them; those that were tested in no fold are left out.
    """
    tested = evaluation.fold >= 0
    made, known = evaluation.predicted[tested], labels.take(tested)
    if labels.task == "classify":
        found = [_roc(known.values, made, evaluation.classes)]
        return [*found, _calibration(evaluation)] if len(evaluation.calibration) else found
    if labels.task == "regress":
        truth = np.asarray(known.values, float)
        ends = np.array([truth.min(), truth.max()])
        same = Series("predicted as it is", ends, ends, "reference")
        none = Series("no difference", ends, np.zeros(2), "reference")
        return [
            Chart("Predicted and true", "true", "predicted", (Series("scans", truth, made, "points"), same)),
            Chart("Difference", "true", "predicted - true", (Series("scans", truth, made - truth, "points"), none)),
        ]
    return [_survival(known, made)]


def _roc(truth: NDArray, made: NDArray[np.float64], classes: list[str]) -> Chart:
    from sklearn.metrics import roc_curve

    lines = []
    for n, name in list(enumerate(classes))[1 if len(classes) == 2 else 0 :]:
        wrong, right, _ = roc_curve(truth == name, made[:, n])
        lines.append(Series(name, wrong, right))
    chance = Series("chance", np.array([0.0, 1.0]), np.array([0.0, 1.0]), "reference")
    return Chart("ROC", "1 - specificity", "sensitivity", (*lines, chance))


def _calibration(evaluation: Evaluation) -> Chart:
    ends, (mean, share) = np.array([0.0, 1.0]), evaluation.calibration.T
    name = evaluation.classes[1]
    ideal = Series("ideal", ends, ends, "reference")
    return Chart("Calibration", "predicted probability", "share that is so", (Series(name, mean, share, "linked"), ideal))


def _survival(labels: Labels, risk: NDArray[np.float64]) -> Chart:
    """Kaplan-Meier curves (lifelines) of the half with the higher risk and the other."""
    from lifelines import KaplanMeierFitter

    high, lines = risk > np.median(risk), []
    for chosen, name in ((high, "higher risk"), (~high, "lower risk")):
        if chosen.any():
            curve = KaplanMeierFitter().fit(labels.times[chosen], labels.values[chosen]).survival_function_
            # It falls at the event, not on the way there.
            x, y = np.repeat(curve.index.to_numpy(float), 2)[1:], np.repeat(curve.iloc[:, 0].to_numpy(float), 2)[:-1]
            lines.append(Series(name, x, y))
    return Chart("Survival", "time", "share without the event", tuple(lines))
