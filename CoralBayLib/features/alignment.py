"""Scale and shift between two patients, estimated from points with similar features.

Mutual nearest neighbors in feature space vote for a shift; the matches that agree with it fit a scale along each axis.
The result is accurate to two or three centimetres, also where the scans cover different parts of the body. That tells
left from right, and a vertebra from distant ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

_AGREE_MM = 30.0
"""Standard deviation of the Gaussian by which matches vote for a shift."""
_TRIALS = 2000
_WIDEST_MM, _NARROWEST_MM, _NARROWING = 80.0, 20.0, 0.7
"""Width of the Gaussian that weights matches by their residual: first, last, and its factor from step to step."""
_STIFFNESS_MM = 30.0
"""Prior on the scale (towards 1), as a spread of the matches in mm."""
_SCALES = (0.7, 1.4)
"""Least and largest scale along an axis."""


@dataclass(frozen=True, eq=False)
class AxisAlignment:
    """`target = scale * source + shift` in RAS mm, for each axis.

    Attributes:
        scale: (3,).
        shift: (3,) mm.
    """

    scale: NDArray[np.float64]
    shift: NDArray[np.float64]

    @classmethod
    def identity(cls) -> AxisAlignment:
        """Of a body with itself."""
        return cls(np.ones(3), np.zeros(3))

    def to(self, points_ras: NDArray[np.float64]) -> NDArray[np.float64]:
        """Map (N, 3) RAS points of the first patient into the second."""
        return points_ras * self.scale + self.shift

    def back(self, points_ras: NDArray[np.float64]) -> NDArray[np.float64]:
        """Map (N, 3) RAS points of the second patient into the first."""
        return (points_ras - self.shift) / self.scale

    def inverse(self) -> AxisAlignment:
        """From the second patient to the first."""
        return AxisAlignment(1 / self.scale, -self.shift / self.scale)


def align(
    source_ras: NDArray[np.float64],
    source: torch.Tensor,
    target_ras: NDArray[np.float64],
    target: torch.Tensor,
    seed: int = 0,
) -> AxisAlignment:
    """Estimate the scale and shift that map one body onto another.

    Args:
        source_ras: (N, 3) RAS mm of points drawn from the first body.
        source: (N, D) their features, of about unit variance.
        target_ras: (M, 3) RAS mm of points drawn from the second body.
        target: (M, D) their features, comparable with the first.
        seed: of the random trials.
    """
    similarity = torch.nn.functional.normalize(source, dim=1) @ torch.nn.functional.normalize(target, dim=1).T
    best, back = similarity.argmax(dim=1).numpy(), similarity.argmax(dim=0).numpy()
    mutual = np.flatnonzero(back[best] == np.arange(len(best)))
    if len(mutual) < 2:
        return AxisAlignment(np.ones(3), target_ras.mean(axis=0) - source_ras.mean(axis=0))
    of, onto = source_ras[mutual], target_ras[best[mutual]]
    trust = similarity[mutual, best[mutual]].clamp_min(0).numpy()
    random = np.random.default_rng(seed)
    pairs = random.integers(len(of), size=(_TRIALS, 2))
    shifts = (onto - of)[pairs].mean(axis=1)
    votes = [np.exp(-0.5 * (((of + shift - onto) / _AGREE_MM) ** 2).sum(axis=1)).sum() for shift in shifts]
    scale, shift = np.ones(3), shifts[int(np.argmax(votes))]
    width = _WIDEST_MM
    while width > _NARROWEST_MM:
        weight = trust * np.exp(-0.5 * (((of * scale + shift - onto) / width) ** 2).sum(axis=1)) + 1e-12
        weight /= weight.sum()
        of_mean, onto_mean = weight @ of, weight @ onto
        covariance, variance = weight @ ((of - of_mean) * (onto - onto_mean)), weight @ (of - of_mean) ** 2
        scale = np.clip((covariance + _STIFFNESS_MM**2) / (variance + _STIFFNESS_MM**2), *_SCALES)
        shift = onto_mean - scale * of_mean
        width *= _NARROWING
    return AxisAlignment(scale, shift)
