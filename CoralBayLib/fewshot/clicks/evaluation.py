"""Log-odds of the clicked structure at one moment of a session, on any region of the working grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from CoralBayLib.features.pyramid import FeaturePyramid
from CoralBayLib.fewshot.probe import Probe
from CoralBayLib.imaging.resampling import interpolate

from .inputs import Clicks, ClickScan, Distances, Region, appearance_on, click_inputs
from .networks import ClickNetworks

_FINE_VOXELS = 1_500_000
"""Larger regions are interpolated rather than evaluated on every voxel."""


@dataclass(frozen=True, eq=False)
class Evaluated:
    """What was computed on a region.

    Attributes:
        region: where.
        log_odds: that a voxel belongs to the structure, [k, j, i] on the region.
        appearance: log-odds by appearance alone, as the other ones.
        distances: from the clicks.
        inputs: of the voxel network, (inputs, voxels).
    """

    region: Region
    log_odds: NDArray[np.float32]
    appearance: NDArray[np.float32]
    distances: Distances
    inputs: torch.Tensor


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Applies the voxel network to the clicks so far.

    Attributes:
        pyramid: of the scan.
        scan: of the same scan.
        networks: the shipped ones.
        clicks: so far.
        probe: fitted on them.
        previous: log-odds of the answer before the newest click on the working grid, or None if there was none.
    """

    pyramid: FeaturePyramid
    scan: ClickScan
    networks: ClickNetworks
    clicks: Clicks
    probe: Probe
    previous: NDArray[np.float32] | None

    def on(self, region: Region) -> Evaluated:
        """Evaluate on a region."""
        return self._with(region, Distances.on(self.scan, region, self.clicks))

    def refined(self, coarse: Evaluated) -> NDArray[np.float32]:
        """Log-odds on every voxel of a region: distances are interpolated, the rest is evaluated again."""
        grid, full = self.pyramid.grid, coarse.region.full()
        source, target = coarse.region.grid(grid), full.grid(grid)
        if np.prod(full.shape) > _FINE_VOXELS:
            return interpolate(torch.from_numpy(coarse.log_odds)[None], source, target)[0].numpy()
        both = torch.from_numpy(np.stack([coarse.distances.own, coarse.distances.other]))
        return self._with(full, Distances(*interpolate(both, source, target).numpy())).log_odds

    def _with(self, region: Region, distances: Distances) -> Evaluated:
        appearance = appearance_on(self.probe, self.pyramid, region)
        inputs = click_inputs(self.scan, region, self.clicks, distances, appearance, self.previous)
        log_odds = self.networks.voxels(inputs).numpy().reshape(region.shape)
        return Evaluated(region, log_odds, appearance, distances, inputs)
