"""A session of clicks on one structure: the answer after each click.

The first click chooses among nested regions that contain it. Each further click chooses again, and may also only add to
the previous answer around the click, or only remove from it, so that a click changes the answer where it speaks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from CoralBayLib.features.pyramid import FeaturePyramid
from CoralBayLib.fewshot.probe import Probe
from CoralBayLib.fewshot.prompts import Prompts
from CoralBayLib.imaging.cropping import bounding_box
from CoralBayLib.imaging.resampling import interpolate

from .inputs import _KNOTS, Clicks, ClickScan, Distances, Region, appearance_on, click_inputs, distance_mm
from .level_sets import BEYOND, LEVELS, NAMES, Surroundings, describe, flood
from .networks import ClickNetworks

REACH_MM = 120.0
"""How far from the clicks a structure may reach."""
_MARGIN_MM = 10.0
_WIDE_VOXELS = 100_000
_NEAR_VOXELS = 200_000
_FINE_VOXELS = 1_500_000
_BORDER = 0.02
_MAX_PREVIOUS = 4.0
_OUTSIDE = np.float32(-9)
_LEAST_MARGIN = np.float32(0.2)
NEW_REGION_CLICKS = 3
"""So many clicks look for the structure in the wide surroundings."""


CAUTION, CAUTION_LATER = 0.1, 0.2
"""Expected Dice that a region must gain for each unit of Dice by which it differs from the previous answer: in the first
`EARLY_CLICKS` clicks, and later. With more, fewer clicks make an answer worse, and answers improve more slowly; see
DECISIONS.md."""
EARLY_CLICKS = 5
EXTENTS = (0, -1, 1)
"""Answers to a first click: the most probable region, a part of it, and a larger region around it."""
EXTENT_FACTOR = 2.0
"""Least ratio of the volumes of two of these."""
_LOG_ML, _KEPT = NAMES.index("log_ml"), NAMES.index("dice_with_previous")


@dataclass(frozen=True, eq=False)
class Candidate:
    """A region that the clicks may mean.

    Attributes:
        kind: "whole", "addition" or "removal".
        number: of its level in `LEVELS`.
        dice: expected.
        ml: volume.
    """

    kind: str
    number: int
    dice: float
    ml: float


class ClickSession:
    """The clicks on one structure of a scan.

    Args:
        pyramid: of the scan.
        scan: of the same scan; sessions of several structures share it.
        networks: the shipped ones.
        extent: of the answer to the first click, see `EXTENTS`.

    Attributes:
        extent: of the answer to the first click that was given: 0 if no region of the wanted extent was found.
    """

    def __init__(self, pyramid: FeaturePyramid, scan: ClickScan, networks: ClickNetworks, extent: int = 0) -> None:
        self.pyramid, self.scan, self.networks = pyramid, scan, networks
        self.points = np.empty((0, 3))
        self.own = np.empty(0, bool)
        self._answer: tuple[Region, NDArray[np.bool_], NDArray[np.float32]] | None = None
        self._level = 0.0
        self.extent = extent
        self.region: Region | None = None
        self.dice = 0.0

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
        out = np.full(self.pyramid.grid.shape, _OUTSIDE, np.float32)
        if self._answer is not None:
            out[self._answer[0].slices] = self._answer[2]
        return out

    def answer_log_odds(self) -> NDArray[np.float32]:
        """Log-odds on the working grid that are positive inside of the answer and negative outside."""
        mask, margin = self.mask, self.log_odds - np.float32(self._level)
        return np.where(mask, np.maximum(margin, _LEAST_MARGIN), np.minimum(margin, -_LEAST_MARGIN))

    def propose(self, ras: ArrayLike, own: bool) -> dict[str, NDArray[np.float32]]:
        """Take a click, and describe the regions that it may mean.

        Args:
            ras: (3,) RAS mm.
            own: whether it is on the structure.

        Returns:
            By kind the descriptions of its level sets; see `level_sets.NAMES`.
        """
        mask = self.mask
        self._mask, had_answer = mask, bool(mask.any())
        self.points = np.vstack([self.points, np.reshape(ras, (1, 3))])
        self.own = np.append(self.own, own)
        grid = self.pyramid.grid
        ijk = np.clip(np.round(grid.to_ijk(self.points)).astype(int), 0, np.array(grid.size) - 1)
        self.clicks = Clicks(ijk[:, ::-1], self.own)
        prompts = Prompts(self.points, self.own.astype(int), {1: "clicked"})
        self._probe = Probe().fit(self.pyramid, prompts)
        previous = np.clip(self.log_odds, -_MAX_PREVIOUS, _MAX_PREVIOUS) if had_answer else None
        region = self._near(previous)
        log_odds, appearance = self._evaluate(region, previous)
        self.region, self._coarse, self._previous = region, log_odds, previous
        around = self._surroundings(region, log_odds, appearance, had_answer)
        at, inside = region.nearest(self.clicks.kji), region.contains(self.clicks.kji)
        open_to = log_odds.copy()
        open_to[tuple(at[~self.own & inside].T)] = -BEYOND
        fields = {"whole": flood(open_to, at[self.own])}
        if around.previous is not None and inside[-1]:
            newest, before = at[-1:], around.previous
            if own and not before[tuple(newest[0])]:
                fields["addition"] = np.where(before, BEYOND, flood(open_to, newest, ~before))
            elif not own and before[tuple(newest[0])]:
                against = -log_odds
                against[tuple(at[self.own & inside].T)] = -BEYOND
                fields["removal"] = np.where(before, -flood(against, newest, before), -BEYOND)
        self._fields = fields
        return {kind: describe(field, around, kind) for kind, field in fields.items()}

    def _near(self, previous: NDArray[np.float32] | None) -> Region:
        """The box that may belong to the structure."""
        grid, own = self.pyramid.grid, self.clicks.kji[self.own]
        if previous is None or self.own.sum() <= NEW_REGION_CLICKS:
            wide = Region.around(grid, own.min(axis=0), own.max(axis=0), REACH_MM, _WIDE_VOXELS)
            log_odds, _ = self._evaluate(wide, previous)
            active, low, step = log_odds > LEVELS[0], wide.low, wide.step
        else:
            active, low, step = self.log_odds > LEVELS[0], np.zeros(3, int), np.ones(3, int)
        box = bounding_box(active)
        first, last = own.min(axis=0), own.max(axis=0)
        if box is not None:
            first = np.minimum(first, low + step * np.array([side.start for side in box]))
            last = np.maximum(last, low + step * np.array([side.stop - 1 for side in box]))
        known = bounding_box(self._mask)
        if known is not None:
            first = np.minimum(first, [side.start for side in known])
            last = np.maximum(last, [side.stop - 1 for side in known])
        return Region.around(grid, first, np.minimum(last, np.array(grid.shape) - 1), _MARGIN_MM, _NEAR_VOXELS)

    def _evaluate(
        self, region: Region, previous: NDArray[np.float32] | None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Log-odds and appearance on a region."""
        appearance = appearance_on(self._probe, self.pyramid, region)
        self._distances = Distances.on(self.scan, region, self.clicks)
        inputs = click_inputs(self.scan, region, self.clicks, self._distances, appearance, previous)
        self.last_inputs = inputs
        log_odds = self.networks.voxels(inputs).numpy().reshape(region.shape)
        log_odds[~self.scan.body[region.slices]] = _OUTSIDE
        return log_odds, appearance

    def _surroundings(
        self, region: Region, log_odds: NDArray[np.float32], appearance: NDArray[np.float32], had_answer: bool
    ) -> Surroundings:
        own = self.clicks.kji[self.own]
        smooth = _KNOTS[self.scan.smooth_index[tuple(own.T)]]
        index = self.scan.smooth_index[region.slices]
        contrast = np.abs(_KNOTS[:, None] - smooth[None]).min(axis=1)[index]
        return Surroundings(
            log_odds,
            self.scan.intensity(region),
            self.scan.edges[region.slices],
            appearance,
            contrast,
            distance_mm(region, self.pyramid.grid, own),
            self.scan.body[region.slices],
            self._mask[region.slices] if had_answer else None,
            region.spacing_mm(self.pyramid.grid),
            (float(self.scan.smooth[tuple(own.T)].mean()), float(smooth.mean())),
            int(self.own.sum()),
            int((~self.own).sum()),
            bool(self.own[-1]),
        )

    def choose(self, kind: str, number: int, dice: float) -> None:
        """Make a region the answer.

        Args:
            kind: of the fields of `propose`.
            number: of its level in `LEVELS`.
            dice: that it is expected to have.
        """
        assert self.region is not None
        region = self.region
        full = region.full()
        chosen = self._fields[kind] >= LEVELS[number]
        fine = self._coarse
        if not region.is_full:
            fine = self._refined(full)
            chosen = self._sharpened(chosen, fine, full, kind, LEVELS[number])
        inside = full.contains(self.clicks.kji)
        chosen[tuple((self.clicks.kji[inside] - full.low).T)] = self.own[inside]
        self._answer, self._level = (full, chosen, fine), float(LEVELS[number])
        # What the next click does not need.
        del self._fields, self._coarse, self._distances, self._previous, self._mask
        self.dice = dice

    def _sharpened(
        self, coarse: NDArray[np.bool_], fine: NDArray[np.float32], full: Region, kind: str, level: np.float32
    ) -> NDArray[np.bool_]:
        """A region on every voxel: as the coarse one, and near its border as the fine log-odds."""
        assert self.region is not None
        grid = self.pyramid.grid
        share = interpolate(torch.from_numpy(coarse[None].astype(np.float32)), self.region.grid(grid), full.grid(grid))[
            0
        ].numpy()
        out = (share > 1 - _BORDER) | ((share > _BORDER) & (fine >= level))
        before = self._mask[full.slices]
        return out if kind == "whole" else before | out if kind == "addition" else before & out

    def _refined(self, full: Region) -> NDArray[np.float32]:
        """Log-odds on every voxel of the region: distances are interpolated, the rest is evaluated again."""
        assert self.region is not None
        grid = self.pyramid.grid
        source, target = self.region.grid(grid), full.grid(grid)
        if np.prod(full.shape) > _FINE_VOXELS:
            fine = interpolate(torch.from_numpy(self._coarse)[None], source, target)[0].numpy()
        else:
            both = torch.from_numpy(np.stack([self._distances.own, self._distances.other]))
            distances = Distances(*interpolate(both, source, target).numpy())
            appearance = appearance_on(self._probe, self.pyramid, full)
            inputs = click_inputs(self.scan, full, self.clicks, distances, appearance, self._previous)
            fine = self.networks.voxels(inputs).numpy().reshape(full.shape)
        fine[~self.scan.body[full.slices]] = _OUTSIDE
        return fine

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
        mask = self.mask
        if mask.any():
            grid = self.pyramid.grid
            ijk = np.clip(np.round(grid.to_ijk(point)[0]).astype(int), 0, np.array(grid.size) - 1)
            if mask[tuple(ijk[::-1])] == own:
                # The answer agrees with this click already.
                self.points, self.own = np.vstack([self.points, point]), np.append(self.own, own)
                return self.dice
        rank = rank or (lambda rows: self.networks.expected_dice(torch.from_numpy(rows)).numpy())
        caution = CAUTION if len(self.own) < EARLY_CLICKS else CAUTION_LATER
        scored = [
            (float(dice) - caution * float(1 - row[_KEPT]), Candidate(kind, number, float(dice), float(np.exp(row[_LOG_ML]))))
            for kind, rows in self.propose(ras, own).items()
            for number, (dice, row) in enumerate(zip(rank(rows), rows, strict=True))
        ]
        best = max(scored, key=lambda each: each[0])[1]
        if len(self.own) == 1 and self.extent:
            most_probable, best = best, _of_extent([each for _, each in scored], best, self.extent)
            self.extent = 0 if best is most_probable else self.extent
        self.choose(best.kind, best.number, best.dice)
        return best.dice


def _of_extent(candidates: list[Candidate], best: Candidate, extent: int) -> Candidate:
    """The most probable candidate of half the volume of the best one or less, or of twice its volume or more."""
    fits = [
        each
        for each in candidates
        if (each.ml <= best.ml / EXTENT_FACTOR if extent < 0 else each.ml >= best.ml * EXTENT_FACTOR)
    ]
    return max(fits, key=lambda each: each.dice, default=best)
