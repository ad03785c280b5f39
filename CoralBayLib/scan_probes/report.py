"""Files of an evaluation: a CSV of the predictions and an image of the charts."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from CoralBayLib.core.formatting import safe_row
from CoralBayLib.core.paths import atomic_write

from .charts import Chart, charts
from .evaluation import Evaluation
from .table import Labels


def write_predictions(path: Path, scans: Sequence[Path], labels: Labels, evaluation: Evaluation) -> None:
    """Write a CSV with a row for each scan: the truth, and the prediction of a probe that was not fitted on the patient.

    Args:
        path: of the file.
        scans: (N,) paths.
        labels: (N,) of the same scans.
        evaluation: of the same scans.

    Raises:
        StoreError: the file could not be written.
    """
    names = [f"probability of {name}" for name in evaluation.classes] or ["predicted"]
    predicted = evaluation.predicted.reshape(len(labels), -1)
    with atomic_write(path) as temporary, temporary.open("w", newline="", encoding="utf-8", errors="replace") as file:
        writer = csv.writer(file)
        writer.writerow(safe_row(["scan", "patient", "true", "fold", *names]))
        for scan, patient, value, fold, row in zip(
            scans, labels.patients, labels.values, evaluation.fold, predicted, strict=True
        ):
            writer.writerow(safe_row([scan, patient, value, int(fold) + 1, *(f"{number:.6g}" for number in row)]))


def draw(path: Path, labels: Labels, evaluation: Evaluation, title: str, further: Sequence[Chart] = ()) -> bool:
    """Draw the charts of an evaluation into an image file.

    Args:
        path: of the file; its suffix tells the format.
        labels: (N,) of all scans.
        evaluation: of the same scans.
        title: above the charts.
        further: charts to draw beside those of the evaluation.

    Returns:
        Whether the image was drawn; False without matplotlib.

    Raises:
        StoreError: the file could not be written.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return False
    all_charts = [*charts(labels, evaluation), *further]
    figure = Figure(figsize=(4.5 * len(all_charts), 4), layout="constrained")
    for axes, chart in zip(np.ravel(figure.subplots(1, len(all_charts))), all_charts, strict=True):
        for series in chart.series:
            style = {"curve": "-", "points": "o", "linked": "o-", "reference": "k:"}[series.kind]
            axes.plot(series.x, series.y, style, label=series.name, markersize=4)
        axes.legend(fontsize=7)
        axes.set(xlabel=chart.x_label, ylabel=chart.y_label)
    figure.suptitle(title, fontsize=9)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=110)
    return True
