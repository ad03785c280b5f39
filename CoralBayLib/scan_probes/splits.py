"""Splits of scans that keep each patient in one part only."""

from __future__ import annotations

import warnings
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from CoralBayLib.core.errors import ScansError

from .labels import Labels

FEWEST_EVENTS = 2
"""Scans with an observed event that a survival probe needs."""
Fold: TypeAlias = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Rows to fit on, and rows to test on."""


def grouped_folds(labels: Labels, most: int = 5, seed: int = 0) -> list[Fold]:
    """Folds without a patient in both parts, with every class or event in every part where that is possible.

    For survival each training part has at least `FEWEST_EVENTS` scans with an observed event; none needs to be censored.

    Args:
        labels: of all rows.
        most: number of folds; fewer when a class has fewer patients, or fewer have an observed event.
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
        needed = [True] if labels.task == "survival" else np.unique(labels.values)
        count = min(most, *(len(np.unique(groups[labels.values == value])) for value in needed))
        splitter = StratifiedGroupKFold(max(count, 2), shuffle=True, random_state=seed)
        with warnings.catch_warnings():
            # Of few censored scans not every part can have one.
            warnings.filterwarnings("ignore", "The least populated class", UserWarning)
            splits = list(splitter.split(blank, labels.values, groups)) if count > 1 else []
        folds = [(train, test) for train, test in splits if _can_be_fitted(labels.values[train], labels.task)]
    for train, test in folds:
        no_patient_twice(groups[train], groups[test])
    return folds


def _can_be_fitted(values: NDArray, task: str) -> bool:
    return int(values.sum()) >= FEWEST_EVENTS if task == "survival" else len(np.unique(values)) > 1


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


def no_scan_twice(vectors: NDArray, labels: Labels) -> None:
    """Refuse one scan under two patients' names, which could be in the training and in the test part, or with two truths.

    Args:
        vectors: (N, D) embeddings; equal ones are of the same scan.
        labels: (N,) the truth.

    Raises:
        ScansError: with the patients' names.
    """
    patients, values, times = labels.patients, labels.values, labels.times
    _, first, inverse = np.unique(np.asarray(vectors), axis=0, return_index=True, return_inverse=True)
    for row, twin in enumerate(first[inverse.ravel()]):
        if patients[row] != patients[int(twin)]:
            raise ScansError(
                f"The same image is listed for the patients '{patients[int(twin)]}' and '{patients[row]}'. "
                "Give both rows the same patient, or remove one of them."
            )
        if (values[row], times[row]) != (values[int(twin)], times[int(twin)]):
            raise ScansError(
                f"The same image of the patient '{patients[row]}' is listed twice, with different targets or times. Correct or "
                "remove one of the two rows."
            )
