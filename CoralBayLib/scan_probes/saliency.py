"""Which regions carry a scan-level prediction: exact for a linear probe, through the pooling."""

from __future__ import annotations

import torch

from CoralBayLib.core.errors import ProbeError
from CoralBayLib.features.pyramid import FeaturePyramid
from CoralBayLib.imaging.grid import Volume

from .model import ScanProbe


def saliency_map(pyramid: FeaturePyramid, probe: ScanProbe, output: int = 0) -> Volume:
    """How much each place raises or lowers an output, compared with the average scan that was learnt from.

    The embedding is an average over places and the probe linear, so the output is itself an average over places: at
    native stride the mean of a level's part of this map is exactly that level's share of the output's difference from
    its value for the average training scan. Levels are interpolated to the working grid and added.

    Args:
        pyramid: of the scan.
        probe: loaded from a file, which tells what it was learnt on.
        output: row of `weights_`.

    Returns:
        float32 on the working grid, in units of the output (logits, the target's unit, or log risk).

    Raises:
        ProbeError: the probe is for other features, or for a network whose embedding is no average of features.
    """
    if not probe.pooled:
        raise ProbeError("This encoder's scan embedding is no average of its features, so no region can be singled out.")
    if probe.signature != pyramid.signature:
        raise ProbeError("This scan probe was learnt on another encoder, weights or setting than this scan's features.")
    sizes = [channels for _, channels in probe.pooled]
    weights, mean = torch.from_numpy(probe.weights_[output]).float(), torch.from_numpy(probe.mean_).float()
    shares = dict(zip((name for name, _ in probe.pooled), weights.split(sizes), strict=True))
    row = torch.cat([shares.get(level.name, torch.zeros(level.channels)) for level in pyramid.levels])
    return Volume(pyramid.linear_map(row[None], -(weights @ mean))[0].numpy(), pyramid.grid)
