"""Saliency maps: the contribution of each location to a scan probe's output."""

from __future__ import annotations

import torch

from CoralBayLib.core.errors import ProbeError, Remedy
from CoralBayLib.features.pyramid import FeaturePyramid
from CoralBayLib.imaging.grid import Volume

from .loading import AnyProbe
from .probes.attention_maps import contribution_map
from .probes.attentive import AttentiveProbe


def saliency_map(pyramid: FeaturePyramid, probe: AnyProbe, output: int = 0) -> Volume:
    """How much each location raises or lowers an output, compared with the average scan that the probe was fitted on.

    The embedding is an average over locations and the probe is linear, so the output is an average over locations too. At
    a level's native stride, the mean of that level's part of the map is exactly the level's contribution to the difference
    between the output and its value for the average training scan. Levels are interpolated to the working grid and added.

    Args:
        pyramid: of the scan.
        probe: from `ScanProbe.load`, which knows the features it was fitted on.
        output: row of `weights_`.

    Returns:
        float32 [k, j, i] on the working grid, in units of the output (logits, the target's unit, or log risk).

    Raises:
        ProbeError: the probe is for other features, or for an encoder whose embedding is not an average of its features.
    """
    if isinstance(probe, AttentiveProbe):
        return contribution_map(pyramid, probe, output)
    if not probe.pooled:
        raise ProbeError(
            "There is no saliency map for this encoder, because its scan embedding is not an average of its features.",
            remedy=Remedy.CHOOSE_ENCODER,
        )
    probe.require_fit(pyramid.signature)
    sizes = [channels for _, channels in probe.pooled]
    weights, mean = torch.from_numpy(probe.weights_[output]).float(), torch.from_numpy(probe.mean_).float()
    weights_of_level = dict(zip((name for name, _ in probe.pooled), weights.split(sizes), strict=True))
    row = torch.cat([weights_of_level.get(level.name, torch.zeros(level.channels)) for level in pyramid.levels])
    return Volume(pyramid.linear_map(row[None], -(weights @ mean))[0].numpy(), pyramid.grid)
