"""The tables of the sessions with suggested clicks count what happened."""

from __future__ import annotations

import re

import numpy as np
from scipy.special import expit

from CoralBayLib.fewshot.probe import TEMPERATURE
from Testing.benchmarks.tables.suggest import EDGES, write_tables


def line(scan: str, way: str, seed: int, dice: list[float], slope: float = 1.0) -> dict:
    """A session of two structures that fare alike; odds are right when multiplied by the slope."""
    middles = (EDGES[1:] + EDGES[:-1]) / 2
    right = np.round(1e6 * expit(slope * middles))
    both = [[0.0, *dice[1:]], [2 * dice[0], *dice[1:]]]
    scores = np.array(both).T.tolist()
    half = [(1e6 - right).tolist(), right.tolist()]
    return {
        "scan": scan,
        "way": way,
        "seed": seed,
        "dice": scores,
        "expected": (np.array(scores) + 0.05).tolist(),
        "odds": [half, half],
        "seconds": [0.1, 0.02] if way == "suggested" else [],
    }


def test_clicks_are_counted_and_divisors_found(tmp_path):
    lines = [
        line("one", "at random", 0, [0.4, 0.45, 0.5]),
        line("one", "suggested", 0, [0.4, 0.6, 0.8]),
        line("two", "suggested", 1, [0.4, 0.5, 0.79], slope=2.0),
    ]
    file = tmp_path / "RESULTS.md"
    text = write_tables(lines, ["at random", "suggested"], file)
    assert text.strip() in file.read_text(encoding="utf-8")
    assert "| suggested | 0 | 2 | 1 | 0.400 | 0.600 | 0.800 |" in text
    assert "| at random | 0 | over 2 | 2 | 0.400 | 0.450 | 0.500 |" in text
    assert "| suggested | 1 | over 2 |  | 0.400 | 0.500 | 0.790 |" in text
    divisors = dict(re.findall(r"\| (one|two) \| .* \| ([\d.]+) \|\n", text.split("Calibration of")[1].split("##")[0]))
    assert float(divisors["one"]) == TEMPERATURE
    assert float(divisors["two"]) == TEMPERATURE / 2
    assert "| one | 12 | 0.050 | 1.00 | +0.050 |" in text
