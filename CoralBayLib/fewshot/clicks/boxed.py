"""Clicks on a structure that the user drew a box around.

A tight box tells how large the structure is, so of the nested regions the one is taken that fills the box's extent. What the
structure looks like is not known before the first click in it: places of several intensities inside the box are tried.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage
from scipy.cluster.vq import kmeans2

from CoralBayLib.features.pyramid import FeaturePyramid
from CoralBayLib.fewshot.constraints.boxes import MARGIN_MM, Box

from .choice import POOR_DICE
from .inputs import ClickScan, Region
from .level_sets import LEVELS
from .networks import ClickNetworks
from .session import OUTSIDE, ClickSession, Locks

EXTENT_WEIGHT = 1.0
"""Expected Dice that a region loses if it has no extent beside that of the box; see DECISIONS.md."""
FACES_WEIGHT = 1.0
"""Expected Dice that a region loses if it covers all faces of the box: what fills a tight box up to its faces is what lies
around the structure."""
_INTENSITIES = 3
"""Groups of intensities in a box; a place in the middle of each is tried."""


class BoxedSession(ClickSession):
    """A session with a box.

    Args:
        pyramid: of the scan.
        scan: of the same scan.
        networks: the shipped ones.
        box: around the structure.
        locks: voxels that never belong to the structure.
    """

    def __init__(
        self, pyramid: FeaturePyramid, scan: ClickScan, networks: ClickNetworks, box: Box, locks: Locks | None = None
    ) -> None:
        super().__init__(pyramid, scan, networks, 0, locks)
        self.box = box
        self.points = box.shell_points()
        inside = pyramid.grid.contains(self.points)
        self.points = self.points[inside]
        self.own = np.zeros(len(self.points), bool)
        self.n_implied, self._has_place = len(self.own), False

    def start(self) -> float:
        """Answer from the box alone; returns the Dice that is expected."""
        tried = []
        for place in self._places():
            session = copy(self)
            ClickSession.add(session, place, True)
            tried.append(session)
        best = max(tried, key=lambda session: session.score)
        self.__dict__.update(best.__dict__)
        # The place is no click of the user's.
        self.n_implied, self._has_place = len(self.own), True
        return self.dice

    def add(self, ras: ArrayLike, own: bool, rank: Callable[[NDArray[np.float32]], NDArray] | None = None) -> float:
        """As in `ClickSession`; the first click on the structure takes the place of the one that was tried."""
        if self._has_place and not own and self.dice <= POOR_DICE and not self._agrees(np.reshape(ras, (1, 3)), own):
            # The guess was poor, and a click says that it is wrong: guess again with what is known now.
            self.points = np.vstack([np.delete(self.points, self.n_implied - 1, axis=0), np.reshape(ras, (1, 3))])
            self.own = np.append(np.delete(self.own, self.n_implied - 1), False)
            self._answer, self.dice = None, 0.0
            return self.start()
        if own and self._has_place:
            self.n_implied, self._has_place = self.n_implied - 1, False
            self.points = np.delete(self.points, self.n_implied, axis=0)
            self.own = np.delete(self.own, self.n_implied)
        return super().add(ras, own, rank)

    def bounded(self, log_odds: NDArray[np.float32], region: Region) -> NDArray[np.float32]:
        """As in `ClickSession`; nothing outside of the box belongs to the structure."""
        inside = self.box.mask_on(region.grid(self.pyramid.grid), MARGIN_MM)
        return np.where(inside, super().bounded(log_odds, region), OUTSIDE)

    def bonus(self, field: NDArray[np.float32]) -> NDArray[np.float64]:
        """By level: what a region lacks of the box's extent, and what it covers of its faces, as expected Dice; 0 or less."""
        assert self.region is not None
        local = self._local(self.region)
        spacing = float(self.region.spacing_mm(self.pyramid.grid).max())
        beside = np.asarray((np.abs(local) > self.box.size_mm / 2 - spacing).any(axis=1))
        outside = np.asarray((np.abs(local) > self.box.size_mm / 2 + MARGIN_MM).any(axis=1))
        faces = max(int(np.count_nonzero(beside)) - int(np.count_nonzero(outside)), 1)
        at = np.flatnonzero(field.ravel() >= LEVELS[0])
        values, local, beside = field.ravel()[at], local[at], beside[at]
        lacking, filled = [], []
        for level in LEVELS:
            chosen = values >= level
            part = local[chosen]
            extent = np.ptp(part, axis=0) + spacing if len(part) else np.zeros(3)
            lacking.append(1 - np.minimum(extent / self.box.size_mm, 1).mean())
            filled.append(np.count_nonzero(beside & chosen) / faces)
        return -EXTENT_WEIGHT * np.array(lacking) - FACES_WEIGHT * np.array(filled)

    def _places(self) -> list[NDArray[np.float64]]:
        """The middle of the box, and of the largest part of each group of intensities in it; RAS mm."""
        grid = self.pyramid.grid
        kji = grid.nearest_ijk(self.box.corners())[:, ::-1]
        region = Region.around(grid, kji.min(axis=0), kji.max(axis=0), 0.0, 60_000)
        within = self.box.mask_on(region.grid(grid)) & self.scan.body[region.slices]
        places = [self.box.center_ras]
        if not within.any():
            return places
        intensity = self.scan.smooth[region.slices]
        centers, groups = kmeans2(intensity[within], np.quantile(intensity[within], [0.15, 0.5, 0.85]), minit="matrix")
        spacing = region.spacing_mm(grid)
        for number in range(min(_INTENSITIES, len(centers))):
            mask = np.zeros(region.shape, bool)
            mask[within] = groups == number
            if not mask.any():
                continue
            depth = ndimage.distance_transform_edt(np.pad(mask, 1), sampling=spacing)[1:-1, 1:-1, 1:-1]
            deepest = np.array(np.unravel_index(depth.argmax(), depth.shape))
            places.append(grid.to_ras((region.low + deepest * region.step)[::-1][None].astype(float))[0])
        return places

    def _local(self, region: Region) -> NDArray[np.float64]:
        """(voxels, 3) mm along the box's axes from its center."""
        grid = region.grid(self.pyramid.grid)
        k, j, i = np.indices(region.shape).reshape(3, -1)
        return (grid.to_ras(np.stack([i, j, k], axis=1)) - self.box.center_ras) @ self.box.axes.T
