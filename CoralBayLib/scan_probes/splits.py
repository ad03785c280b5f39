"""Splits in which a patient is on one side only."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from CoralBayLib.core.errors import ScansError

from .table import Labels

Fold: TypeAlias = tuple[NDArray[np.int64], NDArray[np.int64]]


def grouped_folds(labels: Labels, most: int = 5, seed: int = 0) -> list[Fold]:
    """Pairs of (train, test) rows with no patient in both, each class or event in every part where that is possible.

    Args:
        labels: of all rows.
        most: folds; fewer when a class has fewer patients.
        seed: of the draw.

    Returns:
        No fold at all when there are too few patients for two.
    """
    from sklearn.model_selection import GroupKFold, StratifiedGroupKFold

    groups, blank = labels.patients, np.zeros(len(labels))
    if labels.task == "regress":
        count = min(most, len(np.unique(groups)))
        folds = GroupKFold(count, shuffle=True, random_state=seed).split(blank, groups=groups) if count > 1 else ()
        made = list(folds)
    else:
        count = min(most, *(len(np.unique(groups[labels.values == value])) for value in np.unique(labels.values)))
        splitter = StratifiedGroupKFold(max(count, 2), shuffle=True, random_state=seed)
        folds = splitter.split(blank, labels.values, groups) if count > 1 else ()
        made = [(train, test) for train, test in folds if len(np.unique(labels.values[train])) > 1]
    for train, test in made:
        no_patient_twice(groups[train], groups[test])
    return made


def no_patient_twice(train: ArrayLike, test: ArrayLike) -> None:
    """Refuse a split that has a patient on both sides.

    Raises:
        ScansError: naming how many patients are.
    """
    both = set(np.asarray(train)) & set(np.asarray(test))
    if both:
        raise ScansError(f"{len(both)} patients are learnt from and tested on at once: the figures would flatter.")


def no_scan_twice(vectors: NDArray, patients: NDArray[np.str_]) -> None:
    """Refuse one scan under two patients' names: a copy would be learnt from and tested on.

    Raises:
        ScansError: with the patients' names.
    """
    _, first, inverse = np.unique(np.asarray(vectors), axis=0, return_index=True, return_inverse=True)
    for row, twin in enumerate(first[inverse.ravel()]):
        if patients[row] != patients[int(twin)]:
            raise ScansError(
                f"The same image stands under the patients '{patients[int(twin)]}' and '{patients[row]}'. "
                "Give both rows one patient, or leave one out."
            )
