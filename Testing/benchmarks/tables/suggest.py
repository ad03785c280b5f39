"""Markdown tables from the lines of results that `suggest` writes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import expit, logit

from CoralBayLib.fewshot.probe import TEMPERATURE

from .sections import put_section, table

GOOD = 0.8
EDGES = np.linspace(-8, 8, 65)
"""Edges of the bins of log-odds."""
_BAND = 0.05
_MIDDLES = (EDGES[1:] + EDGES[:-1]) / 2


def write_tables(lines: list[dict], ways: list[str], path: Path | None) -> str:
    """The section's text; written too where a file is named."""
    scans = list(dict.fromkeys(line["scan"] for line in lines))
    parts = [_clicks([line for line in lines if line["scan"] == scan], scan, ways) for scan in scans]
    parts += [_reliability(lines, scans), _expected(lines, scans)]
    text = "\n".join(parts)
    if path is not None:
        put_section(path, "Suggested clicks, calibration and estimated Dice", text)
    return text


def _clicks(lines: list[dict], scan: str, ways: list[str]) -> str:
    rounds = max(len(line["dice"]) for line in lines) - 1
    shown = [n for n in (0, 1, 2, 4, 6, 8, 10, 12) if n <= rounds]
    ends = {line["seed"]: np.mean(line["dice"][-1]) for line in lines if line["way"] == ways[0]}
    rows = []
    for way in ways:
        runs = {line["seed"]: np.mean(line["dice"], axis=1) for line in lines if line["way"] == way}
        if runs:
            good = [_reached(runs[seed], GOOD) for seed in sorted(runs)]
            same = [_reached(runs[seed], ends[seed]) for seed in sorted(runs) if seed in ends]
            means = (f"{np.mean([run[n] for run in runs.values()]):.3f}" for n in shown)
            rows.append([way, ", ".join(map(str, sorted(runs))), ", ".join(good), ", ".join(same), *means])
    names = len(lines[0]["dice"][0])
    taken = [line["seconds"] for line in lines if line["seconds"]]
    said = ""
    if taken:
        every, one = np.median(taken, axis=0)
        said = f"\nA suggestion takes {every:.2f} s of one processor for all {names} structures, {one:.2f} s for one.\n"
    head = ["clicks", "seeds", f"clicks a structure to mean Dice {GOOD:.2f}", f"to that of random clicks after {rounds}"]
    head += [f"+{n}" for n in shown]
    return f"## {scan}: mean Dice of {names} structures on the 2 mm grid, from strokes on 1 slice\n\n{table(head, rows)}{said}"


def _reached(run: NDArray, goal: float) -> str:
    """The number of rounds to reach a mean Dice."""
    return next((str(n) for n, mean in enumerate(run) if mean >= goal), f"over {len(run) - 1}")


def _odds(lines: list[dict], scan: str) -> NDArray:
    """(2, B): how many voxels outside and inside the structure had log-odds of each bin."""
    return np.sum([line["odds"] for line in lines if line["scan"] == scan], axis=(0, 1))


def _reliability(lines: list[dict], scans: list[str]) -> str:
    rows = []
    band = np.abs(_MIDDLES) < logit(1 - _BAND)
    for scan in scans:
        counts = _odds(lines, scan)
        others = [_odds(lines, one) for one in scans if one != scan]
        theirs = f"{_error(counts, _best(np.sum(others, axis=0)), band):.3f}" if others else "-"
        errors = [f"{_error(counts, slope, band):.3f}" for slope in (TEMPERATURE, 1.0)]
        rows.append([scan, *errors, theirs, f"{TEMPERATURE / _best(counts):.2f}"])
    head = ["scan", "undivided", f"divided by {TEMPERATURE:g} (kept)", "divided by the other scan's best", "best divisor here"]
    words = (
        "## Calibration of probabilities\n\nExpected calibration error (mean difference of probability and frequency, in bins "
        f"of log-odds) of voxels whose probability lies between {_BAND:.2f} and {1 - _BAND:.2f}; all sessions and "
        "rounds together.\n\n"
    )
    return words + table(head, rows)


def _best(counts: NDArray) -> float:
    """The factor of log-odds with the greatest likelihood."""

    def loss(slope: float) -> float:
        odds = slope * _MIDDLES
        return float((counts.sum(axis=0) * np.logaddexp(0, odds) - counts[1] * odds).sum())

    return float(minimize_scalar(loss, bounds=(0.2, 5), method="bounded").x)


def _error(counts: NDArray, slope: float, band: NDArray) -> float:
    both = counts.sum(axis=0)[band]
    return float(np.abs(counts[1][band] - both * expit(slope * _MIDDLES[band])).sum() / both.sum())


def _expected(lines: list[dict], scans: list[str]) -> str:
    found = {
        scan: [np.concatenate([np.ravel(line[key]) for line in lines if line["scan"] == scan]) for key in ("expected", "dice")]
        for scan in scans
    }
    rows = []
    for scan, (estimate, dice) in found.items():
        rest = [found[one] for one in scans if one != scan]
        corrected = middle = "-"
        if rest:
            theirs, true = (np.concatenate(parts) for parts in zip(*rest, strict=True))
            slope, shift = np.polyfit(_logit(theirs), _logit(true), 1)
            corrected = f"{np.abs(expit(slope * _logit(estimate) + shift) - dice).mean():.3f}"
            middle = f"{np.abs(np.median(true) - dice).mean():.3f}"
        row = [scan, str(len(dice)), f"{np.abs(estimate - dice).mean():.3f}", f"{np.corrcoef(estimate, dice)[0, 1]:.2f}"]
        rows.append([*row, f"{(estimate - dice).mean():+.3f}", corrected, middle])
    head = ["scan", "results", "mean absolute error", "correlation", "bias", "error, corrected on the other scan"]
    head += ["error of the other scan's median as the estimate"]
    bins = [(0.0, 0.5), (0.5, 0.6), (0.6, 0.7), (0.7, 0.8), (0.8, 0.9), (0.9, 1.0)]
    finer = []
    for low, high in bins:
        cells = [f"{low:.1f} to {high:.1f}"]
        for estimate, dice in found.values():
            here = (estimate >= low) & (estimate < high)
            off = np.sqrt(np.mean((estimate - dice)[here] ** 2)) if here.any() else np.nan
            cells.append(f"{off:.3f} ({here.sum()})" if here.any() else "-")
        finer.append(cells)
    return (
        "## Estimated Dice\n\nEstimates of every structure after every round of every session, compared with the true Dice. "
        "Only the divisor above was fitted.\n\n"
        + table(head, rows)
        + "\nRoot mean square error by estimate (results):\n\n"
        + table(["estimate", *found], finer)
    )


def _logit(values: NDArray) -> NDArray:
    return logit(np.clip(values, 0.03, 0.98))
