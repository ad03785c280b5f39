"""How good a segmentation is likely to be, with nothing to compare it to: the Dice that its own probabilities lead to
expect."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from CoralBayLib.core.errors import ProbeError
from CoralBayLib.features.pyramid import FeaturePyramid

from .probe import Probe
from .prompts import Prompts
from .segmentation import labelmap_on

ERROR = 0.35
"""Root mean square error of the estimate, as a part of what it lacks to 1: over simulated sessions on two scans it grew
about so (Testing/benchmarks/suggest.py, RESULTS.md)."""


def expected_dice(probe: Probe, pyramid: FeaturePyramid, prompts: Prompts | None = None) -> dict[int, tuple[float, float]]:
    """The Dice to expect of each structure of a probe on the scan it was fitted on.

    Args:
        probe: a fitted probe.
        pyramid: of the scan it was fitted on; elsewhere its odds are not honest.
        prompts: keep only the pieces of a structure that one of them touches, as `segment` does.

    Returns:
        By label, the estimate and its error (one standard deviation), both in [0, 1].

    Raises:
        ProbeError: not fitted, or fitted on another scan.
    """
    values = probe.logits(pyramid)
    if not pyramid.key or pyramid.key != probe.scan_:
        raise ProbeError("The Dice to expect can only be told on the scan that the probe was fitted on.")
    labels = labelmap_on(pyramid.grid, pyramid, probe, prompts).array
    body = pyramid.body.array > 0
    log_odds = np.full(labels.shape, -np.inf, np.float32)
    totals = {}
    for label, one in zip(probe.labels_, values.numpy(), strict=True):
        np.copyto(log_odds, one, where=labels == label)
        totals[label] = float(expit(one[body]).sum())
    return agreement(labels, log_odds, totals)


def agreement(labels: NDArray, log_odds: NDArray[np.float32], totals: Mapping[int, float]) -> dict[int, tuple[float, float]]:
    """The same from maps that are at hand.

    With A what a structure was given and p its probabilities, 2 sum_A(p) / (|A| + sum(p)): expected overlap over expected
    size, both sums over all of the body.

    Args:
        labels: [k, j, i] the structure each voxel was given; 0 for none.
        log_odds: at each voxel, of the structure it was given.
        totals: sum of each structure's probability over all voxels, by label.
    """
    given = np.flatnonzero(labels)
    whose = labels.ravel()[given]
    most = max(totals, default=0) + 1
    sizes = np.bincount(whose, minlength=most)
    right = np.bincount(whose, weights=expit(log_odds.ravel()[given]), minlength=most)
    found = {}
    for label, total in totals.items():
        estimate = float(2 * right[label] / max(sizes[label] + total, 1e-6))
        found[label] = estimate, ERROR * (1 - estimate)
    return found
