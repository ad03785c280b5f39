"""Maps of an attentive probe: where its queries look, and what each location adds to an output."""

from __future__ import annotations

import numpy as np
import torch

from CoralBayLib.features.pyramid import FeaturePyramid
from CoralBayLib.imaging.grid import Grid, Volume
from CoralBayLib.imaging.resampling import sum_interpolated
from CoralBayLib.scan_probes.tokens import locations

from .attentive import AttentiveProbe


def attention_map(pyramid: FeaturePyramid, probe: AttentiveProbe) -> Volume:
    """The weight that an attentive probe gives to each location, relative to the same weight everywhere.

    At a level's native stride, the mean over the level's tokens is the share of the weight that the level gets. Levels are
    interpolated to the working grid and added, so 1 is as much as every location would get in a plain average.

    Args:
        pyramid: of the scan.
        probe: fitted or loaded.

    Returns:
        float32 [k, j, i] on the working grid, mean over the queries.

    Raises:
        ProbeError: the probe is for other features.
    """
    return _summed(pyramid, probe, None)


def contribution_map(pyramid: FeaturePyramid, probe: AttentiveProbe, output: int = 0) -> Volume:
    """What each location adds to an output: the value of its token, times the weight that the queries give it.

    At a level's native stride, the mean over the level's tokens is exactly what the level adds to the output, when the probe
    is applied to all tokens of the scan. `AttentiveProbe.predict` draws some of them.

    Args:
        pyramid: of the scan.
        probe: fitted or loaded.
        output: which one, see `AttentiveProbe.bias_`.

    Returns:
        float32 [k, j, i] on the working grid, in units of the output.

    Raises:
        ProbeError: the probe is for other features.
    """
    return _summed(pyramid, probe, output)


def _summed(pyramid: FeaturePyramid, probe: AttentiveProbe, output: int | None) -> Volume:
    return Volume(sum_interpolated(native_maps(pyramid, probe, output), pyramid.grid)[0].numpy(), pyramid.grid)


def native_maps(pyramid: FeaturePyramid, probe: AttentiveProbe, output: int | None) -> list[tuple[torch.Tensor, Grid]]:
    """The part of each level in a map, at the level's native stride.

    Args:
        pyramid: of the scan.
        probe: fitted or loaded.
        output: whose contributions; None for the weights.

    Returns:
        For each level a (1, K, J, I) tensor, 0 where there is no token, and its grid.

    Raises:
        ProbeError: the probe is for other features.
    """
    probe.require_fit(pyramid.signature)
    probe.require_levels(tuple((level.name, level.channels) for level in pyramid.levels))
    masks = [torch.from_numpy(locations(level, pyramid.body)) for level in pyramid.levels]
    counts = [int(mask.sum()) for mask in masks]
    sums = [torch.zeros(count) for count in counts]
    queries = len(probe.keys_[0])
    # One query at a time: the scores of all queries on a fine level may not fit into memory.
    for query in range(queries):
        scores, values = [], []
        for number, (level, mask, count) in enumerate(zip(pyramid.levels, masks, counts, strict=True)):
            rows = probe.keys_[number][query : query + 1]
            if output is not None:
                rows = torch.cat([rows, probe.values_[number][output, query : query + 1]])
            projected = level.project(rows)[:, mask]
            scores.append(projected[0] + probe.key_bias_[number][query] - float(np.log(count)))
            if output is not None:
                values.append(projected[1] + probe.value_bias_[number][output, query])
        weights = torch.softmax(torch.cat(scores), dim=0).split(counts)
        for number, weight in enumerate(weights):
            sums[number] += weight / queries if output is None else weight * values[number]
    parts: list[tuple[torch.Tensor, Grid]] = []
    for level, mask, count, values_of_level in zip(pyramid.levels, masks, counts, sums, strict=True):
        native = torch.zeros(1, *level.grid.shape)
        native[0][mask] = values_of_level * count
        parts.append((native, level.grid))
    return parts
