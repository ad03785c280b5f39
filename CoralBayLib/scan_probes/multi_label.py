"""The mean of a metric over the targets of a multi-label table, with an interval over patients."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from CoralBayLib.core.errors import ScansError

from .evaluation import Evaluation
from .labels import Labels
from .metrics import RESAMPLES, Estimate, metric_functions


def mean_estimate(tested: Sequence[tuple[Labels, Evaluation]], metric: str) -> Estimate:
    """The mean of a metric over targets.

    Args:
        tested: for each target its labels, and the evaluation of a probe on the same scans. Scans, and so patients, may
            differ between targets where labels are missing.
        metric: a name in `Evaluation.metrics`.

    Returns:
        The mean over the targets for which the metric is defined, with an interval from a bootstrap that draws patients for
        all targets at once, because the labels of a patient go together.

    Raises:
        ScansError: no target has this metric.
    """
    functions, rows_of = [], []
    for labels, evaluation in tested:
        rows = np.flatnonzero(evaluation.fold >= 0)
        known = labels.take(rows)
        function = metric_functions(evaluation.predicted[rows], known, evaluation.classes).get(metric)
        if function is not None and function(np.arange(len(known))) is not None:
            functions.append(function)
            rows_of.append({name: np.flatnonzero(known.patients == name) for name in np.unique(known.patients)})
    if not functions:
        raise ScansError(f"No target has the metric '{metric}'.")
    patients = sorted(set().union(*rows_of))
    random, means = np.random.default_rng(0), []
    nothing = np.empty(0, np.int64)
    for _ in range(RESAMPLES):
        drawn = [patients[n] for n in random.integers(len(patients), size=len(patients))]
        values = []
        for function, rows_by_name in zip(functions, rows_of, strict=True):
            sample = np.concatenate([rows_by_name.get(name, nothing) for name in drawn])
            value = function(sample) if len(sample) else None
            values += [] if value is None else [value]
        means += [float(np.mean(values))] if values else []
    whole = [function(np.concatenate(list(rows.values()))) for function, rows in zip(functions, rows_of, strict=True)]
    value = float(np.mean([each for each in whole if each is not None]))
    low, high = np.percentile(means, [2.5, 97.5]) if means else (value, value)
    return Estimate(value, float(low), float(high))
