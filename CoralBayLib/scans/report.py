"""What an evaluation found, as a table of predictions and a picture."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..paths import replacing
from .evaluation import Evaluation
from .table import Labels


def write_predictions(path: Path, scans: Sequence[Path], labels: Labels, evaluation: Evaluation) -> None:
    """A CSV with a row a scan: what is true, and what a probe said that had not seen the patient.

    Raises:
        StoreError: the file could not be written.
    """
    names = [f"probability of {name}" for name in evaluation.classes] or ["predicted"]
    made = evaluation.predicted.reshape(len(labels), -1)
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["scan", "patient", "true", "fold", *names])
        for scan, patient, value, fold, row in zip(scans, labels.patients, labels.values, evaluation.fold, made, strict=True):
            writer.writerow([scan, patient, value, int(fold) + 1, *(f"{number:.6g}" for number in row)])


def draw(path: Path, labels: Labels, evaluation: Evaluation, title: str) -> bool:
    """ROC and calibration, predicted against true, or survival by predicted risk; False where matplotlib is missing."""
    try:
        from matplotlib.figure import Figure as Picture
    except ImportError:
        return False
    picture = Picture(figsize=(9, 4), layout="constrained")
    left, right = picture.subplots(1, 2)
    tested = evaluation.fold >= 0
    made = evaluation.predicted[tested]
    known = labels.take(tested)
    if labels.task == "classify":
        _draw_classes(left, right, known.values, made, evaluation)
    elif labels.task == "regress":
        numbers = known.values
        left.scatter(numbers, made, s=12)
        left.plot([numbers.min(), numbers.max()], [numbers.min(), numbers.max()], "k:")
        left.set(xlabel="true", ylabel="predicted")
        right.hist(made - numbers, bins=20)
        right.set(xlabel="predicted - true", ylabel="scans")
    else:
        _draw_survival(left, known, made)
        right.hist(made, bins=20)
        right.set(xlabel="log risk", ylabel="scans")
    picture.suptitle(title, fontsize=9)
    with replacing(path) as temporary:
        picture.savefig(temporary, dpi=110)
    return True


def _draw_classes(left: Any, right: Any, truth: np.ndarray, made: np.ndarray, evaluation: Evaluation) -> None:
    from sklearn.metrics import roc_curve

    for n, name in list(enumerate(evaluation.classes))[1 if len(evaluation.classes) == 2 else 0 :]:
        wrong, right_ones, _ = roc_curve(truth == name, made[:, n])
        left.plot(wrong, right_ones, label=name)
    left.plot([0, 1], [0, 1], "k:")
    left.legend()
    left.set(xlabel="1 - specificity", ylabel="sensitivity", aspect="equal")
    right.plot([0, 1], [0, 1], "k:")
    if len(evaluation.calibration):
        right.plot(*evaluation.calibration.T, "o-")
    right.set(xlabel="predicted probability", ylabel="share that is so", aspect="equal", xlim=(0, 1), ylim=(0, 1))


def _draw_survival(axes: Any, labels: Labels, risk: np.ndarray) -> None:
    """Kaplan-Meier curves (lifelines) of the half with the higher risk and the other."""
    from lifelines import KaplanMeierFitter

    high = risk > np.median(risk)
    for chosen, label in ((high, "higher risk"), (~high, "lower risk")):
        if chosen.any():
            KaplanMeierFitter(label=label).fit(labels.times[chosen], labels.values[chosen]).plot_survival_function(ax=axes)
    axes.set(xlabel="time", ylabel="without the event")
