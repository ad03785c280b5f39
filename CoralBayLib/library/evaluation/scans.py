"""Retrieval of scans: Recall@k of one scan of the same label against others, and mean average precision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from CoralBayLib.core.errors import LibraryError
from CoralBayLib.scan_probes.metrics import Estimate

from .scores import mean_over_patients

RECALL_AT = (1, 5, 10)
AGAINST = 99
"""Scans with other labels that a scan of the same label is ranked against, as VoxelFM does."""


@dataclass(frozen=True, eq=False)
class ScanScores:
    """How well scans of one label find each other.

    Attributes:
        queries, patients: their numbers.
        against: scans with other labels in a ranking; the smallest and the largest number of all queries.
        metrics: "Recall@k" and "mAP" by name.
        chance: the expected values of the same metrics in a random order.
        by_label: mAP of the queries of each label, for labels of at least two patients.
    """

    queries: int
    patients: int
    against: tuple[int, int]
    metrics: dict[str, Estimate]
    chance: dict[str, float]
    by_label: dict[str, Estimate]


def evaluate_scans(
    vectors: NDArray,
    labels: Sequence[str],
    patients: Sequence[str],
    against: int = AGAINST,
    of_same_patient: bool = False,
) -> ScanScores:
    """Use each scan as a query for the others.

    Args:
        vectors: (N, D) of scans.
        labels: (N,) what a query and the scans that it should find have in common.
        patients: (N,) names.
        against: scans with other labels that a scan of the same label is ranked against; fewer where there are fewer.
        of_same_patient: whether scans of the query's own patient are searched; otherwise they are left out, because scans of
            one patient look alike whatever their label is.

    Returns:
        The scores. Recall@k is the exact expectation over all draws of one scan with the same label and `against` others. Of
        scans with equal similarity those with other labels come first.

    Raises:
        LibraryError: no scan has another one with the same label to be found.
    """
    from scipy.stats import hypergeom
    from sklearn.metrics import average_precision_score

    x = np.asarray(vectors, np.float64)
    x = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
    similarity = x @ x.T
    label, patient = np.asarray(labels), np.asarray(patients)
    values: dict[str, list[float]] = {name: [] for name in _names()}
    chance: dict[str, list[float]] = {name: [] for name in _names()}
    asked, sizes = [], []
    for query in range(len(x)):
        gallery = np.arange(len(x)) != query if of_same_patient else patient != patient[query]
        same = gallery & (label == label[query])
        others = gallery & (label != label[query])
        if not same.any() or not others.any():
            continue
        asked.append(query)
        count = min(against, int(others.sum()))
        sizes.append(count)
        better = (similarity[query, others][None] >= similarity[query, same][:, None]).sum(axis=1)
        for k in RECALL_AT:
            values[f"Recall@{k}"].append(float(np.mean(hypergeom.cdf(k - 1, int(others.sum()), better, count))))
            chance[f"Recall@{k}"].append(min(1.0, k / (count + 1)))
        values["mAP"].append(float(average_precision_score(label[gallery] == label[query], similarity[query, gallery])))
        chance["mAP"].append(_expected_precision(int(same.sum()), int(gallery.sum())))
    if not asked:
        raise LibraryError("No scan has another one with the same label, and one with another label, of other patients.")
    query_patients = patient[asked]
    by_label = {}
    for name in sorted({str(each) for each in label[asked]}):
        rows = label[asked] == name
        if len(set(query_patients[rows])) > 1:
            by_label[name] = mean_over_patients(np.array(values["mAP"])[rows], query_patients[rows].tolist())
    return ScanScores(
        len(asked),
        len(set(query_patients)),
        (min(sizes), max(sizes)),
        {name: mean_over_patients(np.array(found), query_patients.tolist()) for name, found in values.items()},
        {name: float(np.mean(found)) for name, found in chance.items()},
        by_label,
    )


def _names() -> list[str]:
    return [*(f"Recall@{k}" for k in RECALL_AT), "mAP"]


def _expected_precision(relevant: int, total: int) -> float:
    """The mean of the average precision over all orders of `total` scans of which some are relevant."""
    harmonic = float((1 / np.arange(1, total + 1)).sum())
    further = (relevant - 1) / (total - 1) if total > 1 else 0.0
    return (harmonic + further * (total - harmonic)) / total
