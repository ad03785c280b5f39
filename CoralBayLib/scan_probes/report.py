"""What an evaluation found, as a table of predictions and a picture."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from CoralBayLib.core.paths import atomic_write

from .charts import charts
from .evaluation import Evaluation
from .table import Labels


def write_predictions(path: Path, scans: Sequence[Path], labels: Labels, evaluation: Evaluation) -> None:
    """A CSV with a row a scan: what is true, and what a probe said that had not seen the patient.

    Raises:
        StoreError: the file could not be written.
    """
    names = [f"probability of {name}" for name in evaluation.classes] or ["predicted"]
    made = evaluation.predicted.reshape(len(labels), -1)
    with atomic_write(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["scan", "patient", "true", "fold", *names])
        for scan, patient, value, fold, row in zip(scans, labels.patients, labels.values, evaluation.fold, made, strict=True):
            writer.writerow([scan, patient, value, int(fold) + 1, *(f"{number:.6g}" for number in row)])


def draw(path: Path, labels: Labels, evaluation: Evaluation, title: str) -> bool:
    """A picture of the charts of an evaluation; False where matplotlib is missing."""
    try:
        from matplotlib.figure import Figure as Picture
    except ImportError:
        return False
    drawn = charts(labels, evaluation)
    picture = Picture(figsize=(4.5 * len(drawn), 4), layout="constrained")
    for axes, chart in zip(np.ravel(picture.subplots(1, len(drawn))), drawn, strict=True):
        for series in chart.series:
            style = {"curve": "-", "points": "o", "linked": "o-", "reference": "k:"}[series.kind]
            axes.plot(series.x, series.y, style, label=series.name, markersize=4)
        axes.legend(fontsize=7)
        axes.set(xlabel=chart.x_label, ylabel=chart.y_label)
    picture.suptitle(title, fontsize=9)
    with atomic_write(path) as temporary:
        picture.savefig(temporary, dpi=110)
    return True
