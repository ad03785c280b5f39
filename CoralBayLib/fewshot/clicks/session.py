"""A session of clicks on one structure: the answer after each click.

The first click chooses among nested regions that contain it. Each further click chooses again, and may also only add to
the previous answer around the click, or only remove from it, so that a click changes the answer where it speaks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from CoralBayLib.features.pyramid import FeaturePyramid
from CoralBayLib.fewshot.probe import Probe
from CoralBayLib.fewshot.prompts import Prompts
from CoralBayLib.imaging.cropping import bounding_box
from CoralBayLib.imaging.resampling import interpolate

from .choice import best_of, candidates_of, caution_at, of_extent
from .evaluation import Evaluated, Evaluation
from .inputs import KNOTS, Clicks, ClickScan, Region, contrast_by_hu, distance_mm
from .level_sets import BEYOND, LEVELS, Surroundings, describe, flood
from .locks import Locks
from .networks import ClickNetworks

REACH_MM = 120.0
"""How far from the clicks a structure may reach."""
NEW_REGION_CLICKS = 3
"""So many clicks look for the structure in the wide surroundings."""
KINDS = ("whole", "addition", "removal", "strokes")
"""Kinds of regions that a click may mean; see `ClickSession.propose`."""
STROKE_CLICKS = 4
"""From so many clicks on, the regions that strokes at the same places would give are candidates, too."""
MOST_OTHERS = 8
"""Larger numbers of other clicks are not told apart: sessions of training had no more."""
OUTSIDE = np.float32(-9)
"""Log-odds of voxels that cannot belong to the structure."""
_WIDE_VOXELS, _NEAR_VOXELS = 100_000, 200_000
"""Most voxels of the wide surroundings, and of the box in which regions are described."""
MARGIN_MM = 10.0
"""Of that box, around what may belong to the structure."""
_BORDER = 0.02
"""On the full grid, voxels of which a larger part than this lies on each side of the border are decided by their log-odds."""
_MAX_PREVIOUS = 4.0
"""Log-odds of the previous answer are cut off here as inputs."""
_LEAST_MARGIN = np.float32(0.2)
"""Least log-odds inside of an answer, and their negative outside."""


class ClickSession:
    """The clicks on one structure of a scan.

    Args:
        pyramid: of the scan.
        scan: of the same scan; sessions of several structures share it.
        networks: the shipped ones.
        extent: of the answer to the first click, see `choice.EXTENTS`.
        locks: voxels that never belong to the structure.

    Attributes:
        points: (N, 3) RAS mm of all points so far.
        own: (N,) which of them are on the structure.
        n_implied: number of the first points, which no user clicked.
        dice: that the answer is expected to have.
        extent: of the answer to the first click that was given: 0 if no region of the wanted extent was found.
    """

    is_cautious = True
    """Whether a good answer changes only for a gain; see `choice.caution_at`."""

    def __init__(
        self, pyramid: FeaturePyramid, scan: ClickScan, networks: ClickNetworks, extent: int = 0, locks: Locks | None = None
    ) -> None:
        self.pyramid, self.scan, self.networks = pyramid, scan, networks
        self.points = np.empty((0, 3))
        self.own = np.empty(0, bool)
        self._answer: tuple[Region, NDArray[np.bool_], NDArray[np.float32]] | None = None
        self._level = 0.0
        self.extent = extent
        self.locks = locks or Locks()
        self.n_implied = 0
        self.region: Region | None = None
        self.score = 0.0
        self.dice = 0.0

    @property
    def clicked_own(self) -> list[bool]:
        """Which of the user's clicks are on the structure."""
        return [bool(own) for own in self.own[self.n_implied :]]

    @property
    def mask(self) -> NDArray[np.bool_]:
        """The answer on the working grid, [k, j, i]."""
        out = np.zeros(self.pyramid.grid.shape, bool)
        if self._answer is not None:
            out[self._answer[0].slices] = self._answer[1]
        return out

    @property
    def log_odds(self) -> NDArray[np.float32]:
        """Log-odds that a voxel belongs to the structure, on the working grid; `answer_log_odds` are those of the answer."""
        out = np.full(self.pyramid.grid.shape, OUTSIDE, np.float32)
        if self._answer is not None:
            out[self._answer[0].slices] = self._answer[2]
        return out

    def answer_log_odds(self) -> NDArray[np.float32]:
        """Log-odds on the working grid that are positive inside of the answer and negative outside."""
        mask, margin = self.mask, self.log_odds - np.float32(self._level)
        return np.where(mask, np.maximum(margin, _LEAST_MARGIN), np.minimum(margin, -_LEAST_MARGIN))

    def propose(self, ras: ArrayLike, own: bool, kinds: Sequence[str] = KINDS) -> dict[str, NDArray[np.float32]]:
        """Take a click, and describe the regions that it may mean.

        Args:
            ras: (3,) RAS mm.
            own: whether it is on the structure.
            kinds: of the regions to describe.

        Returns:
            By kind the descriptions of its level sets; see `level_sets.NAMES`.
        """
        mask = self.mask
        self._mask, had_answer = mask, bool(mask.any())
        self.points = np.vstack([self.points, np.reshape(ras, (1, 3))])
        self.own = np.append(self.own, own)
        self.clicks = Clicks(self.pyramid.grid.nearest_ijk(self.points)[:, ::-1], self.own)
        prompts = Prompts(self.points, self.own.astype(int), {1: "clicked"})
        probe = Probe().fit(self.pyramid, prompts, self.locks.points_ras)
        previous = np.clip(self.log_odds, -_MAX_PREVIOUS, _MAX_PREVIOUS) if had_answer else None
        self._evaluation = Evaluation(self.pyramid, self.scan, self.networks, self.clicks, probe, previous)
        found = self._found = self.evaluate(self._near(previous))
        region = self.region = found.region
        around = self._surroundings(found, had_answer)
        at, inside = region.nearest(self.clicks.kji), region.contains(self.clicks.kji)
        open_to = found.log_odds.copy()
        open_to[tuple(at[~self.own & inside].T)] = -BEYOND
        self._as_strokes = np.empty(0, np.float32)
        fields = {"whole": flood(open_to, at[self.own])}
        if around.previous is not None and inside[-1]:
            # On the coarser voxels here the answer may already agree with the click: it may change nevertheless.
            newest, before = at[-1:], around.previous
            if own:
                fields["addition"] = np.where(before, BEYOND, flood(open_to, newest, ~before))
            else:
                against = -found.log_odds
                against[tuple(at[self.own & inside].T)] = -BEYOND
                fields["removal"] = np.where(before, -flood(against, newest, before), -BEYOND)
        if "strokes" in kinds and len(self.own) >= STROKE_CLICKS:
            full = region.full()
            self._as_strokes = self.bounded(probe.logits(self.pyramid)[0].numpy()[full.slices], full)
            part = self._as_strokes[tuple(slice(None, None, int(n)) for n in region.step)].copy()
            part[tuple(at[~self.own & inside].T)] = -BEYOND
            fields["strokes"] = flood(part, at[self.own])
        self._fields = fields
        return {kind: describe(field, around, kind) for kind, field in fields.items()}

    def _agrees(self, point: NDArray[np.float64], own: bool) -> bool:
        """Whether there is an answer, and it says of a (1, 3) RAS mm point what a click on it would."""
        if self._answer is None or not self._answer[1].any():
            return False
        region, mask, _ = self._answer
        kji = self.pyramid.grid.nearest_ijk(point)[:, ::-1]
        return bool(region.contains(kji)[0] and mask[tuple((kji - region.low)[0])]) == own

    def _ml(self) -> float:
        """Volume of the answer."""
        return 0.0 if self._answer is None else np.count_nonzero(self._answer[1]) * self.pyramid.grid.voxel_volume_mm3 / 1000

    def bounded(self, log_odds: NDArray[np.float32], region: Region) -> NDArray[np.float32]:
        """Log-odds on a region without what cannot belong to the structure."""
        free = self.scan.body[region.slices]
        if self.locks.mask is not None:
            free = free & ~self.locks.mask[region.slices]
        return np.where(free, log_odds, OUTSIDE)

    def bonus(self, field: NDArray[np.float32]) -> NDArray[np.float64]:
        """What counts for or against a field's level sets beside their descriptions, as expected Dice; (levels,)."""
        return np.zeros(len(LEVELS))

    def _near(self, previous: NDArray[np.float32] | None) -> Region:
        """The box that may belong to the structure."""
        grid, own = self.pyramid.grid, self.clicks.kji[self.own]
        if self._answer is None or previous is None or self.own.sum() <= NEW_REGION_CLICKS:
            wide = Region.around(grid, own.min(axis=0), own.max(axis=0), REACH_MM, _WIDE_VOXELS)
            active, low, step = self.evaluate(wide).log_odds > LEVELS[0], wide.low, wide.step
        else:
            last_region, _, last_log_odds = self._answer
            active, low, step = last_log_odds > LEVELS[0], last_region.low, last_region.step
        box = bounding_box(active)
        first, last = own.min(axis=0), own.max(axis=0)
        if box is not None:
            first = np.minimum(first, low + step * np.array([side.start for side in box]))
            last = np.maximum(last, low + step * np.array([side.stop - 1 for side in box]))
        known = bounding_box(self._mask)
        if known is not None:
            first = np.minimum(first, [side.start for side in known])
            last = np.maximum(last, [side.stop - 1 for side in known])
        return Region.around(grid, first, np.minimum(last, np.array(grid.shape) - 1), MARGIN_MM, _NEAR_VOXELS)

    def evaluate(self, region: Region) -> Evaluated:
        """Log-odds on a region, without what cannot belong to the structure, and what they are made of."""
        found = self._evaluation.on(region)
        return replace(found, log_odds=self.bounded(found.log_odds, region))

    def _surroundings(self, found: Evaluated, had_answer: bool) -> Surroundings:
        region = found.region
        own = self.clicks.kji[self.own]
        smooth = KNOTS[self.scan.smooth_index[tuple(own.T)]]
        contrast = contrast_by_hu(smooth)[self.scan.smooth_index[region.slices]]
        return Surroundings(
            found.log_odds,
            self.scan.intensity(region),
            self.scan.edges[region.slices],
            found.appearance,
            contrast,
            distance_mm(region, self.pyramid.grid, own),
            self.scan.body[region.slices],
            self._mask[region.slices] if had_answer else None,
            region.spacing_mm(self.pyramid.grid),
            (float(self.scan.smooth[tuple(own.T)].mean()), float(smooth.mean())),
            int(self.own.sum()),
            min(int((~self.own).sum()), MOST_OTHERS),
            bool(self.own[-1]),
        )

    def choose(self, kind: str, number: int, dice: float) -> None:
        """Make a region the answer.

        Args:
            kind: of those of `propose`.
            number: of its level in `LEVELS`.
            dice: that it is expected to have.
        """
        assert self.region is not None
        region = self.region
        full = region.full()
        chosen = self._fields[kind] >= LEVELS[number]
        if kind == "strokes":
            fine = self._as_strokes
        elif region.is_full:
            fine = self._found.log_odds
        else:
            fine = self.bounded(self._evaluation.refined(self._found), full)
        if not region.is_full:
            chosen = self._sharpened(chosen, fine, full, kind, LEVELS[number])
        inside = full.contains(self.clicks.kji)
        chosen[tuple((self.clicks.kji[inside] - full.low).T)] = self.own[inside]
        self._answer, self._level = (full, chosen, fine), float(LEVELS[number])
        # What the next click does not need.
        del self._fields, self._found, self._evaluation, self._mask, self._as_strokes
        self.dice = dice

    def _sharpened(
        self, coarse: NDArray[np.bool_], fine: NDArray[np.float32], full: Region, kind: str, level: np.float32
    ) -> NDArray[np.bool_]:
        """A region on every voxel: as the coarse one, and near its border as the fine log-odds.

        Of a removal, the border of what is removed counts: a thin structure, which is border everywhere, would lose voxels far
        from the click.
        """
        assert self.region is not None
        before = self._mask[full.slices]
        if kind == "removal":
            removed = self._mask[self.region.slices] & ~coarse
            return before & ~self._on_every_voxel(removed, fine < level, full)
        out = self._on_every_voxel(coarse, fine >= level, full)
        return before | out if kind == "addition" else out

    def _on_every_voxel(self, coarse: NDArray[np.bool_], at_border: NDArray[np.bool_], full: Region) -> NDArray[np.bool_]:
        """A coarse mask on every voxel, with other values near its border."""
        assert self.region is not None
        values, grid = torch.from_numpy(coarse[None].astype(np.float32)), self.pyramid.grid
        share = interpolate(values, self.region.grid(grid), full.grid(grid))[0].numpy()
        return (share > 1 - _BORDER) | ((share > _BORDER) & at_border)

    def add(self, ras: ArrayLike, own: bool, rank: Callable[[NDArray[np.float32]], NDArray] | None = None) -> float:
        """Take a click and answer.

        Args:
            ras: (3,) RAS mm.
            own: whether it is on the structure.
            rank: expected Dice of described regions; the network's by default.

        Returns:
            The Dice that the answer is expected to have.
        """
        point = np.reshape(np.asarray(ras, float), (1, 3))
        if self._agrees(point, own):
            self.points, self.own = np.vstack([self.points, point]), np.append(self.own, own)
            return self.dice
        rank = rank or (lambda rows: self.networks.expected_dice(torch.from_numpy(rows)).numpy())
        caution = caution_at(self.clicked_own, own, self.dice) if self.is_cautious else 0.0
        dice, ml = self.dice, self._ml()
        candidates = [
            each
            for kind, rows in self.propose(ras, own).items()
            for each in candidates_of(kind, rows, rank(rows), self.bonus(self._fields[kind]), caution)
        ]
        best = best_of(candidates, self.clicked_own, dice, ml)
        self.score = best.score
        if len(self.own) == 1 and self.extent:
            most_probable, best = best, of_extent(candidates, best, self.extent)
            self.extent = 0 if best is most_probable else self.extent
        self.choose(best.kind, best.number, best.dice)
        return best.dice
