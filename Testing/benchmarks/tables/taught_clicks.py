"""Markdown tables from the lines of results that `taught_clicks` writes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .sections import put_section, table

NOTHING = "from nothing"
TITLE = "Clicks on the suggestion of a probe, and from nothing"
HOW = (
    "One structure of a new patient at a time. Each click is in the middle of the largest connected error of the method's own "
    "answer; from nothing, the first one is in the middle of the structure. A probe was taught by other patients and answers "
    "before the first click. Clicks are chosen and scored on a grid of 2 mm, or the scan's own where that is coarser. Only "
    "structures that all methods have are counted."
)
AFTER = (0, 1, 2, 3, 4, 5, 6, 8, 10, 12, 15)
"""Numbers of clicks after which mean Dice is shown."""
GOAL = 0.80


def write_tables(lines: Sequence[dict], path: Path | None) -> str:
    """Tables of the lines, in their order; to a file too where a path is given."""
    methods = list(dict.fromkeys(line["method"] for line in lines))
    tests = [{(line["scan"], line["structure"]) for line in lines if line["method"] == method} for method in methods]
    common = set.intersection(*tests) if tests else set()
    curves = {method: _curves([line for line in lines if line["method"] == method], common) for method in methods}
    clicks = [n for n in AFTER if n < max((curve.shape[1] for curve in curves.values()), default=0)]
    scans = sorted({scan for scan, _ in common})
    parts = [
        HOW,
        f"{len(common)} structures of {len(scans)} patients: {', '.join(scans)}. Draws of labeled patients of a probe: "
        f"{max((line['draw'] for line in lines), default=0)}.",
        "## Mean Dice",
        table(["clicks", *map(str, clicks)], [[method, *_means(curves[method], clicks)] for method in methods]),
        f"## Clicks to a Dice of {GOAL:.2f}",
        "By the mean of all structures, and of each session the median and how many reach it at all.",
        table(
            ["method", "mean of all", "median of sessions", "sessions that reach it"],
            [[method, *_reached(curves[method])] for method in methods],
        ),
        "## Each structure",
        "Mean Dice without a click, and after 1, 3, 5 and the last click.",
        table(["structure", *methods], _by_structure(lines, methods, common)),
    ]
    text = "\n\n".join(part.strip() for part in parts)
    if path is not None:
        put_section(path, TITLE, text)
    return text


def _curve(line: dict) -> list[float]:
    """Dice after no, one, two, ... clicks; NaN where a method has no answer without a click."""
    dice = line["dice"]
    return dice if len(dice) > line["clicks"] else [float("nan"), *dice]


def _curves(lines: Sequence[dict], common: set[tuple[str, str]]) -> NDArray[np.float64]:
    """(sessions, clicks + 1)."""
    return np.array([_curve(line) for line in lines if (line["scan"], line["structure"]) in common])


def _means(curves: NDArray[np.float64], clicks: Sequence[int]) -> list[str]:
    means = curves.mean(axis=0)
    return ["-" if np.isnan(means[n]) else f"{means[n]:.3f}" for n in clicks]


def _reached(curves: NDArray[np.float64]) -> list[str]:
    last = curves.shape[1] - 1
    mean = np.flatnonzero(curves.mean(axis=0) >= GOAL)
    first = np.where((curves >= GOAL).any(axis=1), (curves >= GOAL).argmax(axis=1), last + 1)
    middle = float(np.median(first))
    return [
        str(mean[0]) if len(mean) else f"more than {last}",
        f"{middle:g}" if middle <= last else f"more than {last}",
        f"{np.count_nonzero(first <= last)} of {len(first)}",
    ]


def _by_structure(lines: Sequence[dict], methods: Sequence[str], common: set[tuple[str, str]]) -> list[list[str]]:
    rows = []
    for name in sorted({structure for _, structure in common}):
        cells = [name]
        for method in methods:
            own = [line for line in lines if line["method"] == method and line["structure"] == name]
            curves = _curves(own, common)
            last = curves.shape[1] - 1
            cells.append(" / ".join(_means(curves, [n for n in (0, 1, 3, 5, last) if n <= last])))
        rows.append(cells)
    return rows
