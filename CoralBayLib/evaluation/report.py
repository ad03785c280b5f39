"""The results of an evaluation as text, as JSON and as a picture."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from CoralBayLib.core.notice import NOTICE
from CoralBayLib.core.paths import atomic_write

from .results import Result
from .summary import MEAN, Interval, Row

INTERVALS = (
    "In brackets: 95 % confidence interval, from a bootstrap that draws the draws of labeled patients and, independently, the "
    "patients tested."
)


def markdown(rows: Sequence[Row]) -> str:
    """Tables of the Dice coefficients and of the surface distances, for each encoder.

    Args:
        rows: from `summarize`.
    """
    parts = []
    for encoder in dict.fromkeys(row.encoder for row in rows):
        own = [row for row in rows if row.encoder == encoder]
        shots = sorted({row.shots for row in own})
        counts = ", ".join(f"{n}: {_spread(own, n)}" for n in shots)
        parts += [
            f"### {encoder}",
            "Dice coefficient of patients left out, by number of labeled patients",
            _table(own, shots, lambda row: _text(row.dice, 2)),
            "Surface distance where the structure was found, mm: mean / 95th percentile; in parentheses, in what part of the "
            "tests it was missed",
            _table(own, shots, _distance),
            f"Tests by number of labeled patients: {counts}.",
        ]
    return "\n\n".join([*parts, INTERVALS, NOTICE]) + "\n"


def write_markdown(path: Path, rows: Sequence[Row]) -> None:
    """Write the tables into a file.

    Raises:
        StoreError: the file could not be written.
    """
    with atomic_write(path) as temporary:
        temporary.write_text(markdown(rows), encoding="utf-8")


def write_report(path: Path, rows: Sequence[Row], results: Sequence[Result], **about: Any) -> dict[str, Any]:
    """Write everything as JSON, also the scores of each patient.

    Args:
        path: of the file.
        rows: from `summarize`.
        results: of all tests.
        about: what else to write, by name.

    Returns:
        What was written.

    Raises:
        StoreError: the file could not be written.
    """
    report = {
        "notice": NOTICE,
        **about,
        "intervals": INTERVALS,
        "summary": [row.to_dict() for row in rows],
        "results": [result.to_dict() for result in results],
    }
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(report, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    return report


def draw_curves(path: Path, rows: Sequence[Row], title: str) -> bool:
    """Draw learning curves: the Dice coefficient over the number of labeled patients, for each structure and their mean.

    Args:
        path: of the picture; its suffix tells the format.
        rows: from `summarize`.
        title: above the curves.

    Returns:
        Whether it was drawn; False without matplotlib.

    Raises:
        StoreError: the file could not be written.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return False
    structures = [name for name in dict.fromkeys(row.structure for row in rows) if name != MEAN]
    panels, encoders = [MEAN, *structures], list(dict.fromkeys(row.encoder for row in rows))
    shots = sorted({row.shots for row in rows})
    columns = min(4, len(panels))
    lines = -(-len(panels) // columns)
    figure = Figure(figsize=(3.2 * columns, 2.7 * lines + 0.8), layout="constrained")
    axes = np.ravel(figure.subplots(lines, columns, sharey=True, squeeze=False))
    for number, (one, name) in enumerate(zip(axes, panels, strict=False)):
        for place, encoder in enumerate(encoders):
            own = [row for row in rows if (row.encoder, row.structure) == (encoder, name) and row.dice is not None]
            # Numbers of patients are drawn at equal distances, and encoders beside each other.
            x = np.array([shots.index(row.shots) for row in own]) + 0.08 * (place - (len(encoders) - 1) / 2)
            found = [row.dice for row in own if row.dice is not None]
            spread = np.array([[each.value - each.low, each.high - each.value] for each in found]).reshape(-1, 2).T
            y = [each.value for each in found]
            one.errorbar(x, y, yerr=np.maximum(spread, 0), marker="o", markersize=4, capsize=2, label=encoder)
        one.set_title("Mean of all structures" if name == MEAN else name, fontsize=10, weight="bold" if name == MEAN else None)
        one.set(xticks=range(len(shots)), xticklabels=shots, ylim=(0, 1), xlim=(-0.4, len(shots) - 0.6))
        one.grid(alpha=0.3)
        if number % columns == 0:
            one.set_ylabel("Dice coefficient")
        if number + columns >= len(panels):
            one.set_xlabel("labeled patients")
    for empty in axes[len(panels) :]:
        empty.set_visible(False)
    axes[0].legend(fontsize=8, loc="lower right")
    figure.suptitle(title, fontsize=10)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=110)
    return True


def _table(rows: Sequence[Row], shots: Sequence[int], cell: Callable[[Row], str]) -> str:
    by_place = {(row.structure, row.shots): row for row in rows}
    names = [name for name in dict.fromkeys(row.structure for row in rows) if name != MEAN]
    lines = [["structure", *map(str, shots)]]
    for name in [*names, MEAN]:
        found = [by_place.get((name, n)) for n in shots]
        lines.append([name.replace("|", "\\|"), *("" if row is None else cell(row) for row in found)])
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(
        "| " + " | ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)) + " |" for line in lines
    )


def _text(interval: Interval | None, digits: int) -> str:
    if interval is None:
        return "-"
    return f"{interval.value:.{digits}f} [{interval.low:.{digits}f}, {interval.high:.{digits}f}]"


def _distance(row: Row) -> str:
    missed = f"({100 * row.missed / row.tests:.0f} %)" if row.tests else ""
    if row.mean_mm is None or row.p95_mm is None:
        return f"- {missed}".strip()
    return f"{row.mean_mm.value:.1f} / {row.p95_mm.value:.1f} {missed}"


def _spread(rows: Sequence[Row], shots: int) -> str:
    """How many draws and patients are behind the figures."""
    (row,) = [row for row in rows if (row.shots, row.structure) == (shots, MEAN)]
    return f"{row.draws} draw{'s' * (row.draws != 1)}, {row.patients} patient{'s' * (row.patients != 1)}"
