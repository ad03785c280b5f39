"""Losses of the tasks of scan probes, as functions of a model's outputs."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from CoralBayLib.scan_probes.labels import Labels

from .attention import Loss


def class_loss(index: NDArray[np.int64], classes: int) -> Loss:
    """Cross entropy in which each class has the same total weight; of two classes there is one output.

    Args:
        index: (N,) class of each scan.
        classes: their number.
    """
    counts = np.bincount(index, minlength=classes)
    weights = torch.from_numpy((len(index) / (classes * np.maximum(counts, 1)))[index]).float()
    truth = torch.from_numpy(index)

    def loss(outputs: torch.Tensor, rows: NDArray[np.int64]) -> torch.Tensor:
        logits = torch.cat([torch.zeros_like(outputs), outputs], dim=1) if outputs.shape[1] == 1 else outputs
        each = torch.nn.functional.cross_entropy(logits, truth[torch.from_numpy(rows)], reduction="none")
        weight = weights[torch.from_numpy(rows)]
        return (each * weight).sum() / weight.sum()

    return loss


def number_loss(values: NDArray[np.float64]) -> Loss:
    """Mean squared error.

    Args:
        values: (N,) standardized.
    """
    truth = torch.from_numpy(values).float()

    def loss(outputs: torch.Tensor, rows: NDArray[np.int64]) -> torch.Tensor:
        return ((outputs[:, 0] - truth[torch.from_numpy(rows)]) ** 2).mean()

    return loss


def survival_loss(labels: Labels) -> Loss:
    """Negative log partial likelihood of Cox's model (Breslow 1974), for each event.

    Args:
        labels: (N,) of a survival task.
    """
    times = torch.from_numpy(labels.times).float()
    seen = torch.from_numpy(np.asarray(labels.values, bool))

    def loss(outputs: torch.Tensor, rows: NDArray[np.int64]) -> torch.Tensor:
        index = torch.from_numpy(rows)
        risk, time, event = outputs[:, 0], times[index], seen[index]
        if not event.any():
            return 0.0 * risk.sum()
        at_risk = torch.where(time[None] >= time[:, None], risk[None], -torch.inf)
        return (torch.logsumexp(at_risk, dim=1) - risk)[event].mean()

    return loss
