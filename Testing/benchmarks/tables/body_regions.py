"""Markdown tables from the lines of results that `body_regions` writes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .encoders import APART_MM, QUERIES, TOP
from .sections import table

FILE = "body-regions.md"
TITLE = "Retrieval across patients, per region of the body"
FIRST, ASTRA, UNTRAINED = "coralbay-mini, first edition", "astra", "untrained"
FILTERS, POSITION = "hand-made filters", "position only"
EDITIONS = {"37cad15ebd301a90c8a3e12e861a67d5abd9bc4f28ac5af135323b563db64bd9": FIRST}
"""Titles of weights of coralbay-mini by SHA-256; others have the name of their file."""
PER_REGION, DIFFERENCES, EACH = "Precision per region of the body", "Differences from the first edition", "Each structure"
RESAMPLES = 2000
HOW = (
    f"A query is a place deep inside a structure of one patient, {QUERIES} for each structure and seed. Of the {TOP} most "
    f"similar regions in another patient, {APART_MM:g} mm apart, those in the same kind of structure are right, regardless of "
    f"side and number. Precision is their share: of the {TOP}, or of as many as have room in the structure there if that is "
    "fewer. Means over pairs of patients, both directions, kinds of structures and seeds. Intervals (95 %) are of a bootstrap "
    "that draws pairs of patients and, of each, kinds of structures; with few pairs they say little about other patients. All "
    "rows have the same queries; 'untrained' has random weights of seed 0."
)


def title_of(weights: Path) -> str:
    """The title of a weights file of coralbay-mini."""
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    return EDITIONS.get(digest, weights.stem)


def write_tables(lines: Sequence[dict]) -> str:
    """Tables of the lines, in the order of their rows; only what all rows have is compared."""
    titles = list(dict.fromkeys(line["row"] for line in lines))
    by = {title: values_of([line for line in lines if line["row"] == title]) for title in titles}
    common = set.intersection(*(set(values) for values in by.values())) if by else set()
    regions = list(dict.fromkeys(key[0] for values in by.values() for key in values if key in common))
    heads, shown, differences = ["features"], [], []
    keys = {region: sorted(key for key in common if key[0] == region) for region in regions}
    for region in regions:
        pairs, kinds = {key[1] for key in keys[region]}, {key[2] for key in keys[region]}
        heads.append(f"{region}: {_many(len(pairs), 'pair')}, {_many(len(kinds), 'kind')}")
    for title in titles:
        found = {region: np.array([by[title][key] for key in keys[region]]) for region in regions}
        shown.append([title, *(cell(found[region], keys[region]) for region in regions)])
        if title != FIRST and FIRST in by:
            first = {region: np.array([by[FIRST][key] for key in keys[region]]) for region in regions}
            cells = [signed(found[region] - first[region], keys[region]) for region in regions]
            differences.append([title, *cells])
    scans = "; ".join(f"{region}: {', '.join(sorted({' and '.join(key[1]) for key in keys[region]}))}" for region in regions)
    seeds = sorted({line["seeds"] for line in lines})
    parts = [HOW, f"Seeds of the queries: {', '.join(map(str, seeds))}. Pairs: {scans}."]
    parts += [f"## {PER_REGION}", table(heads, shown)]
    if differences:
        parts += [
            f"## {DIFFERENCES}",
            "Precision minus that of the first edition on the same queries.",
            table(heads, differences),
        ]
    parts += [f"## {EACH}", table(["region", "structure", *titles], _by_kind(by, titles, common))]
    return "\n\n".join(part.strip() for part in parts)


Key = tuple[str, tuple[str, str], str]
"""Region of the body, the names of two patients, kind of structure."""


def values_of(lines: Sequence[dict]) -> dict[Key, float]:
    """Precision: means of both directions and of all seeds."""
    found: dict[Key, list[float]] = {}
    for line in lines:
        first, second = sorted((line["asked"], line["searched"]))
        for wanted, scores in line["scores"].items():
            key = line["regions"][wanted], (first, second), wanted
            found.setdefault(key, []).append(float(np.mean(scores["room"])))
    return {key: float(np.mean(each)) for key, each in found.items()}


def interval(values: NDArray, keys: Sequence[Key], seed: int = 0) -> tuple[float, float]:
    """95 % interval of the mean of (N,) values: draws the pairs of patients, and of each the kinds, with replacement."""
    groups = [np.flatnonzero([key[1] == pair for key in keys]) for pair in sorted({key[1] for key in keys})]
    random, means = np.random.default_rng(seed), []
    for _ in range(RESAMPLES):
        drawn = [random.choice(groups[n], len(groups[n])) for n in random.integers(len(groups), size=len(groups))]
        means.append(values[np.concatenate(drawn)].mean())
    low, high = np.percentile(means, (2.5, 97.5))
    return float(low), float(high)


def cell(values: NDArray, keys: Sequence[Key]) -> str:
    low, high = interval(values, keys)
    return f"{values.mean():.3f} ({low:.2f} to {high:.2f})"


def signed(values: NDArray, keys: Sequence[Key]) -> str:
    low, high = interval(values, keys)
    return f"{values.mean():+.3f} ({low:+.2f} to {high:+.2f})"


def _many(number: int, word: str) -> str:
    return f"{number} {word}{'s' if number > 1 else ''}"


def _by_kind(by: dict[str, dict[Key, float]], titles: Sequence[str], common: set[Key]) -> list[list[str]]:
    """Mean precision of each kind of structure."""
    kinds = sorted({(region, wanted) for region, _, wanted in common})
    cells = []
    for region, wanted in kinds:
        keys = [key for key in common if (key[0], key[2]) == (region, wanted)]
        cells.append([region, wanted, *(f"{np.mean([by[title][key] for key in keys]):.3f}" for title in titles)])
    return cells
