"""The table and the picture of what a pretraining taught."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from . import plots
from .body_regions import cell, signed, values_of
from .encoders import APART_MM, QUERIES, TOP
from .sections import table

FILE, PICTURE = "pretraining.md", "pretraining.png"
TITLE = "Retrieval across patients before and after `coralbay pretrain`"
HEAD = ["weights", "precision", "by seed", "minus its start"]
SHOWN = {"loss": "loss", "entropy": "entropy of the teacher", "spread": "spread of its vectors", "used": "prototypes in use"}


def write_tables(lines: Sequence[dict], starts: Mapping[str, str]) -> str:
    """The table of the lines of results.

    Args:
        lines: as `body_regions` writes them.
        starts: for each trained row, the row of its start.
    """
    titles = list(dict.fromkeys(line["row"] for line in lines))
    by = {title: values_of([line for line in lines if line["row"] == title]) for title in titles}
    keys = sorted(set.intersection(*(set(values) for values in by.values()))) if by else []
    rows = []
    for title in titles:
        found = np.array([by[title][key] for key in keys])
        minus = "-"
        if title in starts:
            before = np.array([by[starts[title]][key] for key in keys])
            minus = signed(found - before, keys)
        seeds = ", ".join(f"{score:.3f}" for score in _by_seed([line for line in lines if line["row"] == title]))
        rows.append([title, cell(found, keys), seeds, minus])
    pairs, kinds = sorted({key[1] for key in keys}), sorted({key[2] for key in keys})
    words = (
        f"{QUERIES} places deep inside each structure of a patient and of each seed are searched for in another patient. "
        f"Precision: of the best {TOP} regions, {APART_MM:g} mm apart, the share in the same kind of structure; of fewer where "
        "fewer have room in it. Intervals (95 %) draw pairs of patients and, of each, kinds of structures."
    )
    where = f"Structures: {', '.join(kinds)}. Pairs, both directions: {', '.join(' and '.join(pair) for pair in pairs)}."
    return f"{words}\n\n{where}\n\n{table(HEAD, rows)}"


def _by_seed(lines: Sequence[dict]) -> list[float]:
    """Mean precision of each seed."""
    scores = [score["room"] for line in lines for score in line["scores"].values()]
    return np.mean(scores, axis=0).tolist()


def draw_curves(curves: Path, to: Path) -> None:
    """Draw the curves of a training, its `curves.csv`, side by side into a PNG."""
    with curves.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    steps = [int(row["step"]) for row in rows]
    figure, axes = plots.figure_of(9.0, 2.2, len(SHOWN))
    for column, (name, title) in enumerate(SHOWN.items()):
        axes[column].plot(steps, [float(row[name]) for row in rows], linewidth=1)
        axes[column].set_title(title, fontsize=9)
        axes[column].set_xlabel("step", fontsize=8)
        axes[column].tick_params(labelsize=8)
        axes[column].grid(alpha=0.3)
    plots.save(figure, to)
