"""Splits of scans that keep each patient in one part only."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from CoralBayLib.core.errors import ScansError

from .table import Labels

Fold: TypeAlias = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Rows to fit on, and rows to test on."""


def grouped_folds(labels: Labels, most: int = 5, seed: int = 0) -> list[Fold]:
    """Folds without a patient in both parts, with every class or event in every part where that is possible.

    Args:
        labels: of all rows.
        most: number of folds; fewer when a class has fewer patients.
        seed: of the draw.

    Returns:
        Pairs of (train, test) rows; empty when there are too few patients for two folds.
    """
    from sklearn.model_selection import GroupKFold, StratifiedGroupKFold

    groups, blank = labels.patients, np.zeros(len(labels))
    if labels.task == "regression":
        count = min(most, len(np.unique(groups)))
        splits = GroupKFold(count, shuffle=True, random_state=seed).split(blank, groups=groups) if count > 1 else ()
        folds = list(splits)
    else:
        count = min(most, *(len(np.unique(groups[labels.values == value])) for value in np.unique(labels.values)))
        splitter = StratifiedGroupKFold(max(count, 2), shuffle=True, random_state=seed)
        splits = splitter.split(blank, labels.values, groups) if count > 1 else ()
        folds = [(train, test) for train, test in splits if len(np.unique(labels.values[train])) > 1]
    for train, test in folds:
        no_patient_twice(groups[train], groups[test])
    return folds


def no_patient_twice(train: ArrayLike, test: ArrayLike) -> None:
    """Refuse a split with a patient in both parts.

    Args:
        train: (N,) names of the patients of the scans in the training part.
        test: (M,) names of the patients of the scans in the test part.

    Raises:
        ScansError: with the number of such patients.
    """
    both = set(np.asarray(train)) & set(np.asarray(test))
    if both:
        raise ScansError(f"{len(both)} patients are in the training and in the test part: the metrics would be too good.")


def no_scan_twice(vectors: NDArray, patients: NDArray[np.str_]) -> None:
    """Refuse one scan under two patients' names, which could be in the training and in the test part.

    Args:
        vectors: (N, D) embeddings; equal ones are of the same scan.
        patients: (N,) names.

    Raises:
        ScansError: with the patients' names.
    """
    _, first, inverse = np.unique(np.asarray(vectors), axis=0, return_index=True, return_inverse=True)
    for row, twin in enumerate(first[inverse.ravel()]):
        if patients[row] != patients[int(twin)]:
            raise ScansError(
                f"The same image is listed for the patients '{patients[int(twin)]}' and '{patients[row]}'. "
                "Give both rows the same patient, or remove one of them."
            )
