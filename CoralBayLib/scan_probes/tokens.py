"""Tokens of scans: the features at some locations of each level, which an attentive probe is trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from CoralBayLib.features.compression import support_mask
from CoralBayLib.features.pyramid import FeaturePyramid, Level
from CoralBayLib.imaging.grid import Volume

TOKENS_PER_LEVEL = 256
"""Most tokens of a level; of finer levels they are drawn at random from the body, always the same ones of a scan."""


@dataclass(frozen=True, eq=False)
class ScanTokens:
    """Tokens of some scans.

    Attributes:
        levels: name and number of channels of each level.
        scans: for each scan, a (T, channels) float16 array for each level.
    """

    levels: tuple[tuple[str, int], ...]
    scans: tuple[tuple[NDArray[np.float16], ...], ...]

    def __len__(self) -> int:
        return len(self.scans)

    def __getitem__(self, rows: NDArray) -> ScanTokens:
        """The tokens of some scans, given by number or by a mask."""
        chosen = np.arange(len(self))[np.asarray(rows)]
        return ScanTokens(self.levels, tuple(self.scans[row] for row in chosen))

    @property
    def means(self) -> NDArray[np.float32]:
        """(N, channels of all levels) the mean token of each level; equal ones are of the same scan."""
        return np.stack([np.concatenate([level.astype(np.float32).mean(axis=0) for level in scan]) for scan in self.scans])


def sample_tokens(pyramid: FeaturePyramid, most: int = TOKENS_PER_LEVEL) -> ScanTokens:
    """The tokens of one scan.

    Args:
        pyramid: of the scan.
        most: most tokens of a level.

    Returns:
        Tokens of one scan: at every location of a level that covers a part of the body, or at `most` of them.
    """
    drawn = []
    for level in pyramid.levels:
        flat = np.flatnonzero(locations(level, pyramid.body))
        if len(flat) > most:
            flat = np.sort(np.random.default_rng(0).choice(flat, most, replace=False))
        features = level.features.reshape(level.channels, -1)[:, torch.from_numpy(flat)]
        drawn.append(np.ascontiguousarray(features.T.to(torch.float16).numpy()))
    return ScanTokens(tuple((level.name, level.channels) for level in pyramid.levels), (tuple(drawn),))


def locations(level: Level, body: Volume) -> NDArray[np.bool_]:
    """Where the tokens of a level are: at the centers of voxels in the body, or if there are none, wherever it reaches.

    Args:
        level: of a pyramid.
        body: mask on the working grid.

    Returns:
        Boolean mask of the level's shape.
    """
    reached = support_mask(body, level.grid)
    kji = np.argwhere(reached)
    centers = level.grid.to_ras(kji[:, ::-1])
    inside = body.grid.contains(centers)
    inside[inside] = body.nearest_values(centers[inside]) > 0
    if not inside.any():
        return reached if reached.any() else np.ones(level.grid.shape, bool)
    mask = np.zeros(level.grid.shape, bool)
    mask[tuple(kji[inside].T)] = True
    return mask


def join_tokens(parts: Sequence[ScanTokens]) -> ScanTokens:
    """The tokens of all scans in one object, in the given order; all must have the same levels."""
    return ScanTokens(parts[0].levels, tuple(scan for part in parts for scan in part.scans))
