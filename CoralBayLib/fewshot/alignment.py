"""Where a place in one patient is to be looked for in another: scale and shift, from places that look alike.

Places of the one body that are each other's best match in the other vote for a shift; those that agree fit a scale along
each axis. It stands within two or three centimetres, also where the scans show different parts of the body, which is
enough to tell left from right, and one vertebra from those far away.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

_AGREE_MM = 30.0
_TRIALS = 2000
_WIDEST_MM, _NARROWEST_MM, _NARROWING = 80.0, 20.0, 0.7
_STIFFNESS_MM = 30.0
"""A scale is trusted as far as the matches spread over more than this."""
_SCALES = (0.7, 1.4)


@dataclass(frozen=True, eq=False)
class Placement:
    """`there = scale * here + shift`, RAS mm, axis by axis.

    Attributes:
        scale, shift: (3,).
    """

    scale: NDArray[np.float64]
    shift: NDArray[np.float64]

    def to(self, points_ras: NDArray[np.float64]) -> NDArray[np.float64]:
        """(N, 3) places of the first patient in the second."""
        return points_ras * self.scale + self.shift

    def back(self, points_ras: NDArray[np.float64]) -> NDArray[np.float64]:
        """(N, 3) places of the second patient in the first."""
        return (points_ras - self.shift) / self.scale


def place(
    here_ras: NDArray[np.float64], here: torch.Tensor, there_ras: NDArray[np.float64], there: torch.Tensor, seed: int = 0
) -> Placement:
    """Scale and shift that carry one body onto another.

    Args:
        here_ras: (N, 3) RAS mm of places drawn from the one body.
        here: (N, D) their features, of about unit variance.
        there_ras: (M, 3) likewise of the other.
        there: (M, D) likewise, so that they can be compared with those.
        seed: of the trials.
    """
    alike = torch.nn.functional.normalize(here, dim=1) @ torch.nn.functional.normalize(there, dim=1).T
    best, back = alike.argmax(dim=1).numpy(), alike.argmax(dim=0).numpy()
    mutual = np.flatnonzero(back[best] == np.arange(len(best)))
    if len(mutual) < 2:
        return Placement(np.ones(3), there_ras.mean(axis=0) - here_ras.mean(axis=0))
    of, onto = here_ras[mutual], there_ras[best[mutual]]
    trust = alike[mutual, best[mutual]].clamp_min(0).numpy()
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
        both, own = weight @ ((of - of_mean) * (onto - onto_mean)), weight @ (of - of_mean) ** 2
        scale = np.clip((both + _STIFFNESS_MM**2) / (own + _STIFFNESS_MM**2), *_SCALES)
        shift = onto_mean - scale * of_mean
        width *= _NARROWING
    return Placement(scale, shift)
