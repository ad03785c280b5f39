"""The plots of the page of results, drawn from the measured lines and the long tables."""

from __future__ import annotations

import json
from pathlib import Path

from Testing.benchmarks.versions import QUALITY

from .quality import overall
from .sections import MEASURED, headings, rows

DICE, RETRIEVAL = "dice.png", "retrieval.png"
OURS = ("coralbay-mini", "astra")
DPI = 100


def draw(folder: Path) -> None:
    """Draw all into a folder of results."""
    dice(MEASURED / "quality.jsonl", folder / DICE)
    retrieval(folder)


def dice(lines: Path, to: Path) -> None:
    """Mean Dice over scans by number of clicks, of the measured lines."""
    found = overall([json.loads(line) for line in lines.read_text(encoding="utf-8").splitlines()], QUALITY)
    if found is None:
        return
    figure, (axes,) = figure_of(7.5, 3.6)
    names = [stage.replace(" ", "\n") if "slice" in stage else f"+{stage}" for stage in found.stages]
    for method, means in found.means.items():
        ours = method in OURS
        axes.plot(names, means, "o-" if ours else "s--", label=method, linewidth=2 if ours else 1.2, markersize=4)
    axes.set(xlabel="strokes on 1 or 3 slices, then corrective clicks a structure", ylabel="mean Dice", ylim=(0, 1))
    axes.set_title(f"Few-shot segmentation, mean of {len(found.scans)} scans", fontsize=10)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    save(figure, to)


def retrieval(folder: Path) -> None:
    """Precision of the 20 most similar regions, of the table of `encoders`."""
    file = folder / "retrieval.md"
    found = rows(file, headings(file)[-1])
    there = [float(row["across patients, there / back"].split(" / ")[0]) for row in found]
    back = [float(row["across patients, there / back"].split(" / ")[1]) for row in found]
    within = [float(row["precision@20 within"]) for row in found]
    figure, (axes,) = figure_of(7.0, 3.0)
    for number, (name, values) in enumerate({"within a scan": within, "to another patient": there, "and back": back}.items()):
        axes.bar([place + 0.27 * (number - 1) for place in range(len(found))], values, 0.25, label=name)
    axes.set_xticks(range(len(found)), [row["features"] for row in found], fontsize=8)
    axes.set(ylabel="precision@20", ylim=(0, 1))
    axes.set_title("Similar regions that are of the same kind of tissue", fontsize=10)
    axes.grid(alpha=0.3, axis="y")
    axes.legend(fontsize=8)
    save(figure, folder / RETRIEVAL)


def figure_of(width: float, height: float, columns: int = 1):  # type: ignore[no-untyped-def]
    """A figure and its axes side by side, without a screen."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(1, columns, squeeze=False)[0]


def save(figure, to: Path) -> None:  # type: ignore[no-untyped-def]
    """Write a PNG that is the same each time."""
    to.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(to, dpi=DPI, metadata={"Software": None})
