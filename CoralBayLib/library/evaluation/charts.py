"""Charts of the scores of a library."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from CoralBayLib.scan_probes.charts import Chart, Series, interval
from CoralBayLib.scan_probes.metrics import Estimate

from .regions import KINDS, RegionScores
from .scans import ScanScores

SHOWN_AT = 5
"""Number of the first regions whose precision is drawn."""
_ORDERS = {"within": "by similarity", "across": "by similarity", "across, re-ranked": "re-ranked by surroundings"}


def scan_charts(scores: ScanScores) -> list[Chart]:
    """Recall@k and mAP, and mAP by label, with intervals."""
    found = [_with_chance("Scans", "recall or mean average precision", scores.metrics, scores.chance)]
    if scores.by_label:
        found.append(_with_chance("mAP by label", "mean average precision", scores.by_label, {}))
    return found


def _with_chance(title: str, words: str, values: Mapping[str, Estimate], chance: Mapping[str, float]) -> Chart:
    lines = [interval(name, each, row) for row, (name, each) in enumerate(values.items())]
    known = [(chance[name], float(row)) for row, name in enumerate(values) if name in chance]
    if known:
        lines.append(_marks("chance", known, "cross"))
    return Chart(title, words, "", tuple(lines), tuple(f"{name}\n{each}" for name, each in values.items()))


def region_charts(scores: RegionScores) -> list[Chart]:
    """Precision@5 by structure: a chart for the own scan, and one for those of other patients with both orders."""
    within, across, reranked = KINDS
    orders = {within: [within], across: [across, reranked]}
    return [
        _by_structure(title, scores, orders[kind], kind)
        for kind, title in ((across, "Scans of other patients"), (within, "The same scan"))
        if kind in scores.metrics
    ]


def _by_structure(title: str, scores: RegionScores, orders: list[str], kind: str) -> Chart:
    structures = list(scores.metrics[kind])
    lines = []
    for number, order in enumerate(orders):
        shift = 0.0 if len(orders) == 1 else 0.24 * number - 0.12
        # One series for each order: a gap (NaN) parts its intervals.
        parts = [interval(order, scores.metrics[order][name][SHOWN_AT], row + shift) for row, name in enumerate(structures)]
        x, y = (np.concatenate([np.append(getattr(each, axis), np.nan) for each in parts]) for axis in ("x", "y"))
        lines.append(Series(_ORDERS[order], x, y, "interval"))
    lines.append(_marks("chance", [(scores.chance[kind][name], float(row)) for row, name in enumerate(structures)], "cross"))
    possible = [(scores.possible[kind][name][SHOWN_AT], float(row)) for row, name in enumerate(structures)]
    if any(value < 1 for value, _ in possible):
        lines.append(_marks("possible", possible, "bar"))
    return Chart(title, f"precision of the first {SHOWN_AT} regions", "", tuple(lines), tuple(structures))


def _marks(name: str, places: list[tuple[float, float]], kind: str) -> Series:
    x, y = np.array(places, float).T
    return Series(name, x, y, kind)
