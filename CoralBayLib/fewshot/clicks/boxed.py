"""Clicks on a structure that the user drew a box around.

What the structure looks like is not known before the first click in it: regions are flooded from several beginnings inside the
box, and networks tell which of them the box means.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from CoralBayLib.features.pyramid import FeaturePyramid
from CoralBayLib.fewshot.constraints.boxes import MARGIN_MM, Box

from .box_regions import BoxRegions, local_mm
from .inputs import ClickScan, Region
from .level_sets import LEVELS
from .locks import Locks
from .networks import ClickNetworks, packaged_box_networks
from .session import OUTSIDE, ClickSession

EXTENT_WEIGHT = 1.0
"""Expected Dice that a region loses if it has no extent beside that of the box; see DECISIONS.md."""
FACES_WEIGHT = 1.0
"""Expected Dice that a region loses if it covers all faces of the box: what fills a tight box up to its faces is what lies
around the structure."""
_WRONG_DICE = 0.4
"""An answer of at most this expected Dice is guessed again when a click contradicts it."""
_DENIED_MM = 6.0
"""A click on anything else takes away the places this near to it at which the answer began."""


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
        self.n_implied = self._n_shell = len(self.own)
        self._regions = BoxRegions(pyramid, scan, box)

    def start(self) -> float:
        """Answer from the box, and from the clicks so far; returns the Dice that is expected."""
        best: tuple[float, int, BoxedSession, int] | None = None
        for name, places in self._regions.beginnings().items():
            session = copy(self)
            session.points = np.vstack([self.points, places[:-1]])
            session.own = np.append(self.own, np.ones(len(places) - 1, bool))
            rows = session.propose(places[-1], True, ("whole",))["whole"]
            described = np.hstack([rows, self._regions.describe(session._fields["whole"], name)])
            dice = packaged_box_networks().expected_dice(torch.from_numpy(described)).numpy()
            number = int(dice.argmax())
            if best is None or dice[number] > best[0]:
                best = float(dice[number]), number, session, len(places)
        assert best is not None
        dice_expected, number, session, n_places = best
        self.__dict__.update(session.__dict__)
        self.choose("whole", number, dice_expected)
        # The places are no clicks of the user's.
        n = self._n_shell
        order = np.concatenate([np.arange(n), np.arange(len(self.own) - n_places, len(self.own))])
        order = np.concatenate([order, np.arange(n, len(self.own) - n_places)])
        self.points, self.own = self.points[order], self.own[order]
        self.n_implied = n + n_places
        return self.dice

    def add(self, ras: ArrayLike, own: bool, rank: Callable[[NDArray[np.float32]], NDArray] | None = None) -> float:
        """As in `ClickSession`; an answer that is probably wrong is guessed again from what is known now."""
        point = np.reshape(np.asarray(ras, float), (1, 3))
        if self._agrees(point, own):
            return super().add(ras, own, rank)
        wrong = self.dice <= _WRONG_DICE
        places = np.arange(self._n_shell, self.n_implied)
        near = np.linalg.norm(self.points[places] - point, axis=1) <= _DENIED_MM
        # Without any place nothing would be known of the structure.
        denied = places if wrong else places[near & (not own) & (not near.all())]
        self.points, self.own = np.delete(self.points, denied, axis=0), np.delete(self.own, denied)
        self.n_implied -= len(denied)
        if wrong and not own and not self.own.any():
            self.points, self.own = np.vstack([self.points, point]), np.append(self.own, own)
            self._answer, self.dice = None, 0.0
            return self.start()
        return super().add(ras, own, rank)

    def _near(self, previous: NDArray[np.float32] | None) -> Region:
        """The box with its surroundings."""
        region = self._regions.region
        return region if region.contains(self.clicks.kji[self.own]).all() else super()._near(previous)

    def bounded(self, log_odds: NDArray[np.float32], region: Region) -> NDArray[np.float32]:
        """As in `ClickSession`; nothing outside of the box belongs to the structure."""
        inside = self.box.mask_on(region.grid(self.pyramid.grid), MARGIN_MM)
        return np.where(inside, super().bounded(log_odds, region), OUTSIDE)

    def bonus(self, field: NDArray[np.float32]) -> NDArray[np.float64]:
        """By level: what a region lacks of the box's extent, and what it covers of its faces, as expected Dice; 0 or less."""
        assert self.region is not None
        local = local_mm(self.region, self.pyramid.grid, self.box)
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
