"""Means over patients and draws, with intervals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .agreement import Agreement
from .results import Result

RESAMPLES = 2000
"""Bootstrap samples for an interval."""
MEAN = "mean"
"""Stands for the mean over structures in place of a structure's name."""


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % confidence interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Row:
    """What probes from some number of patients reached on one structure.

    Attributes:
        encoder: its name.
        shots: number of labeled patients.
        structure: its name, or `MEAN` for the mean over all structures.
        dice: mean Dice coefficient; None if no patient could be scored.
        mean_mm: mean of the mean surface distances, mm, where the structure was found.
        p95_mm: mean of the 95th percentiles of the distances, mm, where it was found.
        draws: number of draws.
        patients: number of different patients tested.
        missed: in how many tests the structure is labeled and was not found.
        invented: in how many tests it was found although it is not there.
        tests: in how many it was scored.
    """

    encoder: str
    shots: int
    structure: str
    dice: Interval | None
    mean_mm: Interval | None
    p95_mm: Interval | None
    draws: int
    patients: int
    missed: int
    invented: int
    tests: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values by name."""
        return asdict(self)


def summarize(results: Sequence[Result], structures: Sequence[str], seed: int = 0) -> list[Row]:
    """The means for each encoder, number of patients and structure, and over structures.

    The intervals are between percentiles of a bootstrap (Efron 1979) that draws the draws and, independently of them, the
    patients tested, both with replacement (Owen 2007, "The pigeonhole bootstrap", doi 10.1214/07-AOAS122). With three draws
    they say little about other choices of labeled patients. The mean over structures weighs all structures the same.

    Args:
        results: of tests.
        structures: names, in the order of the rows.
        seed: of the bootstrap.
    """
    rows = []
    for encoder, shots in dict.fromkeys((result.encoder, result.shots) for result in results):
        own = [result for result in results if (result.encoder, result.shots) == (encoder, shots)]
        scored = [
            name for name in structures if any(_value(result, name, lambda score: score.dice) is not None for result in own)
        ]
        tables = {
            metric: np.stack([_table(own, name, value) for name in scored]) if scored else np.empty((0, 1, 1))
            for metric, value in _METRICS.items()
        }
        intervals = {metric: _intervals(table, seed) for metric, table in tables.items()}
        for number, name in enumerate([*scored, MEAN] if scored else []):
            of = [score for result in own for key, score in result.scores.items() if name in (key, MEAN)]
            of = [score for score in of if score.dice is not None]
            rows.append(
                Row(
                    encoder,
                    shots,
                    name,
                    **{metric: each[number] for metric, each in intervals.items()},
                    draws=len({result.draw for result in own}),
                    patients=len({result.patient for result in own if name == MEAN or name in result.scores}),
                    missed=sum(score.present and not score.found for score in of),
                    invented=sum(score.found and not score.present for score in of),
                    tests=len(of),
                )
            )
    return rows


_METRICS: dict[str, Callable[[Agreement], float | None]] = {
    "dice": lambda score: score.dice,
    "mean_mm": lambda score: score.mean_mm,
    "p95_mm": lambda score: score.p95_mm,
}


def _value(result: Result, structure: str, metric: Callable[[Agreement], float | None]) -> float | None:
    score = result.scores.get(structure)
    return None if score is None else metric(score)


def _table(results: Sequence[Result], structure: str, metric: Callable[[Agreement], float | None]) -> NDArray[np.float64]:
    """(draws, patients) values; NaN where there is none."""
    draws = sorted({result.draw for result in results})
    patients = sorted({result.patient for result in results})
    table = np.full((len(draws), len(patients)), np.nan)
    for result in results:
        value = _value(result, structure, metric)
        if value is not None:
            table[draws.index(result.draw), patients.index(result.patient)] = value
    return table


def _intervals(table: NDArray[np.float64], seed: int) -> list[Interval | None]:
    """The interval of each structure, and of their mean; `table` is (structures, draws, patients)."""
    random, (_, draws, patients) = np.random.default_rng(seed), table.shape
    whole = _means(table, np.ones((1, draws)), np.ones((1, patients)))[0]
    resampled = _means(table, _counts(random, draws), _counts(random, patients))
    found: list[Interval | None] = []
    for value, samples in zip(whole, resampled.T, strict=True):
        defined = samples[~np.isnan(samples)]
        if np.isnan(value):
            found.append(None)
        else:
            low, high = np.percentile(defined, [2.5, 97.5]) if len(defined) else (value, value)
            found.append(Interval(float(value), float(low), float(high)))
    return found


def _counts(random: np.random.Generator, count: int) -> NDArray[np.float64]:
    """(RESAMPLES, count): how often each of `count` things is drawn when as many are drawn with replacement."""
    return random.multinomial(count, np.full(count, 1 / count), size=RESAMPLES).astype(float)


def _means(table: NDArray[np.float64], draws: NDArray[np.float64], patients: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weighted means of each structure, and the mean of these.

    Args:
        table: (structures, draws, patients); NaN where there is no value.
        draws: (N, draws) weights.
        patients: (N, patients) weights.

    Returns:
        (N, structures + 1); NaN where nothing has a weight.
    """
    known = ~np.isnan(table)

    def weighted(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.einsum("sdn,nd->ns", values @ patients.T, draws)

    total, weight = weighted(np.nan_to_num(table)), weighted(known.astype(float))
    means = np.divide(total, weight, out=np.full(total.shape, np.nan), where=weight > 0)
    scored = ~np.isnan(means)
    count = scored.sum(axis=1)
    mean = np.divide(np.nansum(means, axis=1), count, out=np.full(len(means), np.nan), where=count > 0)
    return np.concatenate([means, mean[:, None]], axis=1)
