"""Logistic regressions of appearance, one for each structure against the rest, fitted in a fraction of a second."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from threadpoolctl import ThreadpoolController

_MAX_REFITS = 3
_UPWEIGHT = 3.0
"""Factor on the weight of a prompt that the last fit misclassified."""


def fit_linear(
    features: NDArray[np.float32], insides: Sequence[NDArray[np.bool_]], n_prompts: int, strength: float
) -> list[tuple[NDArray[np.float64], float]]:
    """Coefficients and intercept of each structure.

    Args:
        features: (N, channels); the first `n_prompts` rows are prompts, the rest weak negatives.
        insides: for each structure (N,) whether a row is of it.
        n_prompts: number of prompts.
        strength: inverse strength of the L2 penalty, as scikit-learn's `C`.
    """
    # One thread for each structure: a fit is too small to be shared, and shared threads wait long on a busy machine.
    with _blas().limit(limits=1, user_api="blas"), ThreadPoolExecutor(torch.get_num_threads()) as threads:
        return list(threads.map(lambda inside: _fit_one(features, inside, n_prompts, strength), insides))


@cache
def _blas() -> ThreadpoolController:
    """The BLAS libraries of this process; finding them takes milliseconds, so it is done once."""
    return ThreadpoolController()


def _fit_one(
    features: NDArray[np.float32], inside: NDArray[np.bool_], n_prompts: int, strength: float
) -> tuple[NDArray[np.float64], float]:
    """Coefficients and intercept of one structure; the first `n_prompts` rows are prompts, the rest weak negatives.

    Prompts that the fit misclassifies get more weight and it is fitted again: a click that corrects an error is a
    few points against many, and must still count.
    """
    model = LogisticRegression(C=strength, solver="newton-cholesky", tol=3e-3, max_iter=50, warm_start=True)
    weights = np.ones(len(inside))
    for _ in range(1 + _MAX_REFITS):
        balance = np.where(inside, weights[inside].sum(), weights[~inside].sum())
        model.fit(features, inside, sample_weight=weights * len(inside) / (2 * balance))
        misclassified = (model.decision_function(features[:n_prompts]) > 0) != inside[:n_prompts]
        if not misclassified.any():
            break
        weights[:n_prompts][misclassified] *= _UPWEIGHT
    return model.coef_[0], float(model.intercept_[0])
