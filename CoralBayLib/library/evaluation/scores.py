"""Means of the values of queries, with intervals over patients."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from CoralBayLib.scan_probes.metrics import RESAMPLES, Estimate


def mean_over_patients(values: NDArray, patients: Sequence[str], groups: Sequence[str] | None = None) -> Estimate:
    """The mean of values of queries, with the 95 % interval of a bootstrap that draws whole patients.

    Args:
        values: (N,) one for each query.
        patients: (N,) whom the query is from.
        groups: (N,) kinds of queries that count the same however many queries they have; None for one kind.

    Returns:
        The mean over the groups of their means.
    """
    names, patient = np.unique(np.asarray(patients), return_inverse=True)
    kinds, group = np.unique(np.asarray(groups if groups is not None else [""] * len(values)), return_inverse=True)
    sums, counts = (np.zeros((len(names), len(kinds))) for _ in range(2))
    np.add.at(sums, (patient, group), values)
    np.add.at(counts, (patient, group), 1)
    random = np.random.default_rng(0)

    def mean(drawn: NDArray[np.int64]) -> float:
        count = counts[drawn].sum(axis=0)
        return float(np.mean(sums[drawn].sum(axis=0)[count > 0] / count[count > 0]))

    means = [mean(random.integers(len(names), size=len(names))) for _ in range(RESAMPLES)]
    low, high = np.percentile(means, [2.5, 97.5])
    return Estimate(mean(np.arange(len(names))), float(low), float(high))
