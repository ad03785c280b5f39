"""Which of the described regions becomes the answer to a click."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .level_sets import NAMES

CAUTION = 0.25
"""Expected Dice that a region must gain for each unit of Dice by which it differs from a good previous answer. With more,
fewer clicks make an answer worse, and answers improve more slowly; see DECISIONS.md."""
GOOD_DICE = (0.6, 0.85)
"""Expected Dice of the previous answer at which caution begins, and at which it is whole."""
SAME_SIDE = 3
"""After so many clicks of one kind in succession there is no caution: the answer as a whole is too large or too small."""
STUCK_CLICKS, POOR_DICE, STUCK_FACTOR = 5, 0.72, 1.3
"""After so many clicks of one kind in succession an answer of at most this expected Dice changes its size by this factor or
more: small corrections did not help."""
STUCK_LOSS = 0.2
"""Expected Dice that such a change may cost at most."""
EXTENTS = (0, -1, 1)
"""Answers to a first click: the most probable region, a part of it, and a larger region around it."""
EXTENT_FACTOR = 2.0
"""Least ratio of the volumes of two of these."""
_LOG_ML, _KEPT = NAMES.index("log_ml"), NAMES.index("dice_with_previous")


@dataclass(frozen=True, eq=False)
class Candidate:
    """A region that the clicks may mean.

    Attributes:
        kind: "whole", "addition", "removal" or "strokes"; see `ClickSession.propose`.
        number: of its level in `LEVELS`.
        dice: expected.
        ml: volume.
        score: by which it is chosen: the expected Dice, and what speaks for or against it beside that.
    """

    kind: str
    number: int
    dice: float
    ml: float
    score: float


def candidates_of(
    kind: str, rows: NDArray[np.float32], dice: NDArray[np.float32], bonus: NDArray[np.float64], caution: float
) -> list[Candidate]:
    """The candidates of one kind.

    Args:
        kind: of the regions.
        rows: (levels, len(NAMES)) their descriptions.
        dice: (levels,) expected.
        bonus: (levels,) added to the expected Dice.
        caution: subtracted for each unit of Dice by which a region differs from the previous answer.
    """
    scores = dice + bonus - caution * (1 - rows[:, _KEPT])
    volumes = np.exp(rows[:, _LOG_ML])
    return [Candidate(kind, n, *map(float, values)) for n, values in enumerate(zip(dice, volumes, scores, strict=True))]


def caution_at(clicked_own: Sequence[bool], own: bool, dice: float) -> float:
    """The caution at a further click.

    Args:
        clicked_own: which of the clicks so far are on the structure.
        own: whether the further one is.
        dice: that the answer so far is expected to have.
    """
    last = [*clicked_own[1:], own][-SAME_SIDE:]
    if len(last) == SAME_SIDE and len(set(last)) == 1:
        return 0.0
    low, high = GOOD_DICE
    return CAUTION * float(np.clip((dice - low) / (high - low), 0, 1))


def best_of(candidates: Sequence[Candidate], clicked_own: Sequence[bool], dice_before: float, ml_before: float) -> Candidate:
    """The candidate of the largest score among those that change the answer enough.

    Args:
        candidates: at least one.
        clicked_own: which of the clicks, with the newest, are on the structure.
        dice_before: that the previous answer was expected to have.
        ml_before: its volume; 0 if there was none.
    """
    run = next((n for n, own in enumerate(reversed(clicked_own)) if own != clicked_own[-1]), len(clicked_own))
    if ml_before and run >= STUCK_CLICKS and dice_before <= POOR_DICE:
        larger = clicked_own[-1]
        limit = ml_before * STUCK_FACTOR if larger else ml_before / STUCK_FACTOR
        least = max(each.score for each in candidates) - STUCK_LOSS
        enough = [each for each in candidates if (each.ml >= limit if larger else each.ml <= limit) and each.score >= least]
        candidates = enough or candidates
    return max(candidates, key=lambda each: each.score)


def of_extent(candidates: Sequence[Candidate], best: Candidate, extent: int) -> Candidate:
    """The most probable candidate of half the volume of the best one or less, or of twice its volume or more.

    Args:
        candidates: of the first click.
        best: the most probable of them, which is returned if there is no other.
        extent: one of `EXTENTS`.
    """
    fits = [
        each
        for each in candidates
        if (each.ml <= best.ml / EXTENT_FACTOR if extent < 0 else each.ml >= best.ml * EXTENT_FACTOR)
    ]
    return max(fits, key=lambda each: each.dice, default=best)
