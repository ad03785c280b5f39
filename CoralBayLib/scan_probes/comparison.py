"""Several kinds of probes on the same scans, in the same folds, beside chance."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from CoralBayLib.core.errors import ScansError
from CoralBayLib.core.formatting import safe_row
from CoralBayLib.core.paths import atomic_write
from CoralBayLib.core.progress import CancelToken, Progress, subprogress

from .embeddings import ScanEmbeddings
from .evaluation import Evaluation, Probe, cross_validate, few_shot
from .labels import Labels
from .metrics import Estimate, estimate_metrics
from .model import ScanProbe, classes_of
from .probes.attentive import AttentiveProbe
from .probes.nearest import NearestProbe
from .tokens import ScanTokens

CHANCE = "chance"
PROBES: Mapping[str, Callable[[], Probe]] = {"linear": ScanProbe, "nearest": NearestProbe, "attentive": AttentiveProbe}
"""What makes each kind of probe."""
TRAINED = ("linear", "attentive")
"""Kinds of probes that can be saved and applied to other scans."""


@dataclass(frozen=True)
class ShotResult:
    """AUROC from a few examples.

    Attributes:
        shots: patients with the class, and patients without it.
        mean, spread: mean and standard deviation over the draws.
    """

    shots: int
    mean: float
    spread: float


@dataclass(frozen=True, eq=False)
class Comparison:
    """Probes on the same scans.

    Attributes:
        evaluations: by kind of probe.
        chance: metrics of the same prediction for every scan.
        curves: for each kind of probe, from few to many examples; empty unless asked for.
    """

    evaluations: Mapping[str, Evaluation]
    chance: Mapping[str, Estimate]
    curves: Mapping[str, Sequence[ShotResult]] = field(default_factory=dict)

    def rows(self) -> dict[str, Mapping[str, Estimate]]:
        """The metrics by kind of probe; chance is last."""
        return {**{name: each.metrics for name, each in self.evaluations.items()}, CHANCE: self.chance}


def inputs_of(kind: str, embedded: ScanEmbeddings) -> NDArray | ScanTokens:
    """What a kind of probe takes: embeddings, or tokens.

    Raises:
        ScansError: there are no tokens, because they were not asked for.
    """
    if kind != "attentive":
        return embedded.vectors
    if embedded.tokens is None:
        raise ScansError("An attentive probe needs the tokens of the scans (`with_tokens`).")
    return embedded.tokens


def compare(
    embedded: ScanEmbeddings,
    labels: Labels,
    kinds: Sequence[str] = tuple(PROBES),
    *,
    folds: int = 5,
    seed: int = 0,
    progress: Progress | None = None,
    cancel: CancelToken | None = None,
) -> Comparison:
    """Cross-validate kinds of probes in the same folds.

    Args:
        embedded: of N scans.
        labels: (N,) the truth.
        kinds: names in `PROBES`.
        folds: of the outer loop; fewer when a class has fewer patients.
        seed: of the splits.
        progress: called with the fraction done and a message.
        cancel: checked as in `cross_validate`.

    Raises:
        ScansError: as `cross_validate`.
        Cancelled: `cancel` was called.
    """
    evaluations = {}
    for number, kind in enumerate(kinds):
        step = subprogress(progress, number / len(kinds), (number + 1) / len(kinds))
        inputs, make = inputs_of(kind, embedded), PROBES[kind]
        evaluations[kind] = cross_validate(inputs, labels, folds=folds, seed=seed, make=make, progress=step, cancel=cancel)
    return Comparison(evaluations, chance_evaluation(labels).metrics)


def chance_evaluation(labels: Labels) -> Evaluation:
    """The same prediction for every scan: the classes' shares, the mean, or one risk.

    Shares of a training part would differ between folds, and always to the wrong side, so they are of all scans.
    """
    classes = classes_of(labels)
    if labels.task == "classification":
        predicted = np.tile([np.mean(labels.values == name) for name in classes], (len(labels), 1))
    else:
        predicted = np.full(len(labels), float(np.mean(labels.values)) if labels.task == "regression" else 0.0)
    metrics = estimate_metrics(predicted, labels, classes)
    return Evaluation(metrics, predicted, np.zeros(len(labels), int), classes, np.empty((0, 2)))


def shot_curves(
    embedded: ScanEmbeddings,
    labels: Labels,
    positive: str,
    shots: Sequence[int],
    kinds: Sequence[str] = ("linear",),
    *,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, list[ShotResult]]:
    """AUROC of kinds of probes from a few examples, each from the same draws of patients.

    Args:
        embedded: of N scans.
        labels: (N,) of a classification.
        positive: the class.
        shots: numbers of examples, see `few_shot`.
        kinds: names in `PROBES`.
        seed: of the draws.
        progress: called with the fraction done and a message.

    Raises:
        ScansError: as `few_shot`.
    """
    curves: dict[str, list[ShotResult]] = {}
    for number, kind in enumerate(kinds):
        make, inputs = (None if kind == "linear" else PROBES[kind]), inputs_of(kind, embedded)
        curves[kind] = []
        for done, count in enumerate(shots):
            if progress is not None:
                progress((number + done / len(shots)) / len(kinds), f"{kind}, {count} examples")
            curves[kind].append(ShotResult(count, *few_shot(inputs, labels, positive, count, seed=seed, make=make)))
    return curves


def write_comparison(path: Path, tables: Mapping[str, Mapping[str, Mapping[str, Estimate]]]) -> None:
    """Write a CSV with a row for each target, probe and metric.

    Args:
        path: of the file.
        tables: for each target, the metrics by kind of probe, as `Comparison.rows` returns them.

    Raises:
        StoreError: the file could not be written.
    """
    with atomic_write(path) as temporary, temporary.open("w", newline="", encoding="utf-8", errors="replace") as file:
        writer = csv.writer(file)
        writer.writerow(["target", "probe", "metric", "value", "low", "high"])
        for target, rows in tables.items():
            for probe, metrics in rows.items():
                for metric, estimate in metrics.items():
                    numbers = (estimate.value, estimate.low, estimate.high)
                    writer.writerow(safe_row([target, probe, metric, *(f"{number:.6g}" for number in numbers)]))


def comparison_lines(rows: Mapping[str, Mapping[str, Estimate]], metrics: Sequence[str] | None = None) -> list[str]:
    """The metrics as lines of text, a row for each probe and a column for each metric, with intervals.

    Args:
        rows: as `Comparison.rows` returns them.
        metrics: columns; None for all that any probe has.
    """
    columns = list(metrics or dict.fromkeys(name for each in rows.values() for name in each))
    cells = [[probe, *(str(each[name]) if name in each else "-" for name in columns)] for probe, each in rows.items()]
    table = [["probe", *columns], *cells]
    widths = [max(len(row[n]) for row in table) for n in range(len(columns) + 1)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]
