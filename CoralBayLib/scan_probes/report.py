"""Files of an evaluation: a CSV of the predictions and an image of the charts."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from CoralBayLib.core.formatting import safe_row
from CoralBayLib.core.paths import atomic_write

from .charts import Chart, charts
from .evaluation import Evaluation
from .labels import Labels


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
    return draw_charts(path, [*charts(labels, evaluation), *further], title)


_STYLES = {
    "curve": "-",
    "points": "o",
    "linked": "o-",
    "interval": "o-",
    "reference": "k:",
    "cross": "kx",
    "bar": "k|",
}
"""Of matplotlib, by the kind of a series."""


def draw_charts(path: Path, found: Sequence[Chart], title: str) -> bool:
    """Draw charts side by side into an image file; arguments, result and errors as of `draw`."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return False
    height = max(4, *(0.4 * len(chart.rows) + 1 for chart in found))
    figure = Figure(figsize=(4.5 * len(found), height), layout="constrained")
    for axes, chart in zip(np.ravel(figure.subplots(1, len(found))), found, strict=True):
        for series in chart.series:
            # Of an interval, each second of three points and a gap is the value.
            every = slice(1, None, 4) if series.kind == "interval" else None
            axes.plot(series.x, series.y, _STYLES[series.kind], label=series.name, markersize=5, markevery=every)
        if chart.rows:
            axes.set_yticks(range(len(chart.rows)), chart.rows, fontsize=8)
            axes.set_ylim(len(chart.rows) - 0.5, -0.5)
            axes.set_xlim(left=min(0.0, axes.get_xlim()[0]))
        _add_legend(axes, chart)
        axes.set_title(chart.title, fontsize=9)
        axes.set(xlabel=chart.x_label, ylabel=chart.y_label)
    figure.suptitle(title, fontsize=9)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=110)
    return True


def _add_legend(axes: Any, chart: Chart) -> None:
    """Name the series that the rows of the y axis do not name; below the axes where there are rows, which fill them."""
    of_rows = {row.partition("\n")[0] for row in chart.rows}
    named = [line for line in axes.lines if line.get_label() not in of_rows]
    if named and chart.rows:
        axes.legend(handles=named, fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2, frameon=False)
    elif named:
        axes.legend(fontsize=7)
