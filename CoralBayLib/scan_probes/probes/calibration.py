"""Calibration of a probe's outputs on scans that it was not fitted on (Platt 1999; Guo et al. 2017)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import logsumexp

_PENALTY_SCALE, _PENALTY_SHIFT = 0.5, 0.05
"""Keep a calibration on few scans near the start: outputs as they are, shifted to the classes' shares."""


def calibrate_classes(outputs: NDArray, truth: NDArray[np.int64], shares: NDArray) -> tuple[float, NDArray[np.float64]]:
    """Scale and shift of logits with the largest likelihood.

    Args:
        outputs: (N, outputs) logits of a probe that gave each class the same weight; of two classes, the second's only.
        truth: (N,) index of the class.
        shares: (classes,) share of each class among the scans that the probe will be fitted on.

    Returns:
        The scale, and the shift of each output.
    """
    start = np.log(np.clip(shares, 1e-6, None))
    start = start[1:] - start[0] if outputs.shape[1] == 1 else start
    if not len(outputs):
        return 1.0, start

    def objective(parameters: NDArray) -> float:
        log_scale, shift = parameters[0], parameters[1:]
        logits = np.exp(log_scale) * outputs + start + shift
        if outputs.shape[1] == 1:
            logits = np.concatenate([np.zeros((len(logits), 1)), logits], axis=1)
        likelihood = logits[np.arange(len(logits)), truth] - logsumexp(logits, axis=1)
        return float(-likelihood.sum() + _PENALTY_SCALE * log_scale**2 + _PENALTY_SHIFT * (shift**2).sum())

    found = minimize(objective, np.zeros(1 + len(start)), method="L-BFGS-B", bounds=[(-4, 4), *[(-6, 6)] * len(start)]).x
    return float(np.exp(found[0])), start + found[1:]


def calibrate_numbers(outputs: NDArray, truth: NDArray) -> tuple[float, float]:
    """Scale (not below 0) and shift with the least squared error; outputs that predict nothing become the mean.

    Args:
        outputs: (N,) predicted.
        truth: (N,) numbers of variance about 1.
    """
    if len(outputs) < 2:
        return 1.0, 0.0
    centered = outputs - outputs.mean()
    # One more scan on which the outputs explain nothing, so that few scans are not fitted exactly.
    scale = max(0.0, float(centered @ truth) / (float(centered @ centered) + 1e-2))
    return scale, float(truth.mean() - scale * outputs.mean())
