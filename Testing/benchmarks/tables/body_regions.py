"""Markdown tables from the lines of results that `body_regions` writes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .encoders import APART_MM, QUERIES, TOP
from .sections import table

FILE = "body-regions.md"
TITLE = "Retrieval across patients, per region of the body"
FIRST, ASTRA, UNTRAINED = "coralbay-mini, first edition", "astra", "untrained"
FILTERS, POSITION = "hand-made filters", "position only"
TRIAL, MEAN = "450 more steps (not shipped)", "mean of the first edition and these (not shipped)"
LABELED, LABELED_MEAN = "480 further steps with labels (not shipped)", "mean of the first edition and those (not shipped)"
EDITIONS = {
    "37cad15ebd301a90c8a3e12e861a67d5abd9bc4f28ac5af135323b563db64bd9": FIRST,
    "b45c09f560bf23c4f6023902c7b386e1948daa47b2c3f96079aac7625303fe7b": TRIAL,
    "b60f373977aec7bf26b5883b12c23ea64e39bac83a5b0fa2ffd319c97c7b7a21": MEAN,
    "ff1c40b5449a5cec97721793db2a12c486743628109b0094731aa02098e9d2b6": LABELED,
    "964a3bdffe251ecb9146ca183603579118318c0740f2c556e7c2b4ce8ccb51e8": LABELED_MEAN,
}
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
    """Tables of the lines, in the order of their rows; in a region, what all rows that were measured there have is compared."""
    titles = list(dict.fromkeys(line["row"] for line in lines))
    by = {title: values_of([line for line in lines if line["row"] == title]) for title in titles}
    keys = _common(by)
    heads, scans = ["features"], []
    for region, own in keys.items():
        pairs, kinds = sorted({key[1] for key in own}), {key[2] for key in own}
        heads.append(f"{region}: {_many(len(pairs), 'pair')}, {_many(len(kinds), 'kind')}")
        scans.append(f"{region}: {', '.join(' and '.join(pair) for pair in pairs)}")
    shown, differences = [], []
    for title in titles:
        found = {region: _array(by[title], own) for region, own in keys.items()}
        shown.append([title, *("-" if found[region] is None else cell(found[region], keys[region]) for region in keys)])
        if title != FIRST and FIRST in by:
            first = {region: _array(by[FIRST], own) for region, own in keys.items()}
            both = {region: None if found[region] is None or first[region] is None else True for region in keys}
            cells = ("-" if not both[region] else signed(found[region] - first[region], keys[region]) for region in keys)
            differences.append([title, *cells])
    seeds = sorted({line["seeds"] for line in lines})
    parts = [HOW, f"Seeds of the queries: {', '.join(map(str, seeds))}. Pairs: {'; '.join(scans)}."]
    parts += [f"## {PER_REGION}", table(heads, shown)]
    if differences:
        parts += [
            f"## {DIFFERENCES}",
            "Precision minus that of the first edition on the same queries.",
            table(heads, differences),
        ]
    parts += [f"## {EACH}", table(["region", "structure", *titles], _by_kind(by, titles, keys))]
    return "\n\n".join(part.strip() for part in parts)


def _common(by: Mapping[str, Mapping[Key, float]]) -> dict[str, list[Key]]:
    """By region, what all rows have that have anything there."""
    found: dict[str, list[Key]] = {}
    for region in dict.fromkeys(key[0] for values in by.values() for key in values):
        own = [{key for key in values if key[0] == region} for values in by.values()]
        common = set.intersection(*(keys for keys in own if keys))
        if common:
            found[region] = sorted(common)
    return found


def _array(values: Mapping[Key, float], keys: Sequence[Key]) -> NDArray | None:
    """(N,) values; None where one is missing."""
    return np.array([values[key] for key in keys]) if all(key in values for key in keys) else None


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


def _by_kind(
    by: Mapping[str, Mapping[Key, float]], titles: Sequence[str], keys: Mapping[str, Sequence[Key]]
) -> list[list[str]]:
    """Mean precision of each kind of structure."""
    cells = []
    for region, wanted in sorted({(key[0], key[2]) for own in keys.values() for key in own}):
        same = [key for key in keys[region] if key[2] == wanted]
        found = [_array(by[title], same) for title in titles]
        cells.append([region, wanted, *("-" if one is None else f"{one.mean():.3f}" for one in found)])
    return cells
