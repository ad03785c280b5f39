"""A session of clicks that begins with an answer, such as the suggestion of a probe that other patients taught."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from CoralBayLib.features.pyramid import FeaturePyramid
from CoralBayLib.imaging.cropping import bounding_box
from CoralBayLib.imaging.grid import Grid

from .inputs import ClickScan, Region
from .locks import Locks
from .networks import ClickNetworks
from .session import MARGIN_MM, OUTSIDE, ClickSession


@dataclass(frozen=True, eq=False)
class Start:
    """An answer before the first click.

    Attributes:
        grid: the working grid.
        log_odds: (K, J, I) float32 on it.
        mask: [k, j, i] its voxels: the largest component of positive log-odds.
    """

    grid: Grid
    log_odds: NDArray[np.float32]
    mask: NDArray[np.bool_]

    @classmethod
    def of(cls, log_odds: torch.Tensor, grid: Grid) -> Start | None:
        """The start of log-odds on the working grid; None if none is positive."""
        array = log_odds.numpy()
        box = bounding_box(array > 0)
        if box is None:
            return None
        components, count = ndimage.label(array[box] > 0)
        mask = np.zeros(array.shape, bool)
        mask[box] = components == 1 + int(np.bincount(components.ravel(), minlength=count + 1)[1:].argmax())
        return cls(grid, array, mask)

    @cached_property
    def point_ras(self) -> NDArray[np.float64]:
        """(1, 3) RAS mm of the voxel that is farthest from the border of the mask."""
        box = bounding_box(self.mask)
        assert box is not None
        depth = ndimage.distance_transform_edt(np.pad(self.mask[box], 1), sampling=self.grid.spacing_mm[::-1])
        kji = np.array(np.unravel_index(depth.argmax(), depth.shape)) - 1 + [side.start for side in box]
        return self.grid.to_ras(kji[None, ::-1].astype(float))

    @cached_property
    def dice(self) -> float:
        """The Dice to expect by the probabilities themselves: twice what the mask holds of the structure, by both volumes."""
        probability = torch.from_numpy(self.log_odds).sigmoid().numpy()
        inside = float(probability[self.mask].sum())
        return 2 * inside / (float(np.count_nonzero(self.mask)) + float(probability.sum()))

    @cached_property
    def key(self) -> bytes:
        """Equal for equal starts."""
        return hashlib.sha256(np.packbits(self.mask).tobytes()).digest()


class StartedSession(ClickSession):
    """Clicks that correct a start.

    Args:
        pyramid: of the scan.
        scan: of the same scan.
        networks: the shipped ones.
        start: the answer before the first click.
        locks: voxels that never belong to the structure.
    """

    is_cautious = False
    """The Dice that is expected of a start says too little of it (DECISIONS.md)."""

    def __init__(
        self, pyramid: FeaturePyramid, scan: ClickScan, networks: ClickNetworks, start: Start, locks: Locks | None = None
    ) -> None:
        super().__init__(pyramid, scan, networks, 0, locks)
        box = bounding_box(start.mask)
        assert box is not None
        low, high = np.array([side.start for side in box]), np.array([side.stop - 1 for side in box])
        region = Region.around(pyramid.grid, low, high, MARGIN_MM)
        log_odds = np.maximum(self.bounded(start.log_odds[region.slices], region), OUTSIDE)
        self._answer = region, start.mask[region.slices] & (log_odds > OUTSIDE), log_odds
        # The middle of the start stands for the first click, which every session begins with.
        self.points, self.own, self.n_implied = start.point_ras, np.ones(1, bool), 1
        self.dice = start.dice
