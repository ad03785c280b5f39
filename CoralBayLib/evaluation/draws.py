"""Which patients a probe is learned from, and which it is tested on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from CoralBayLib.core.errors import EvaluationError


@dataclass(frozen=True)
class Draw:
    """One probe to learn and test.

    Attributes:
        number: of the draw, from 1.
        shots: number of labeled patients.
        train: names of the patients that the probe is learned from.
        test: names of the patients that it is tested on; none of them is in `train`.
    """

    number: int
    shots: int
    train: tuple[str, ...]
    test: tuple[str, ...]


def choose_test(patients: Sequence[str], test: float, seed: int = 0) -> tuple[str, ...]:
    """Patients to keep for the test, drawn at random.

    Args:
        patients: names of all.
        test: how many, or below 1 which part of all.
        seed: of the draw.

    Raises:
        EvaluationError: none would be left to learn from, or none would be tested.
    """
    count = round(test * len(patients)) if test < 1 else int(test)
    if not 1 <= count < len(patients) or (test >= 1 and test != count):
        raise EvaluationError(
            f"{test:g} of {len(patients)} patients cannot be kept for the test. At least one must be, and at least one must be "
            "left to learn from. Give a whole number, or a part such as 0.25."
        )
    chosen = np.random.default_rng([seed, 1]).permutation(sorted(patients))[:count]
    return tuple(sorted(chosen.tolist()))


def make_draws(
    patients: Sequence[str],
    complete: Sequence[str],
    shots: Sequence[int],
    draws: int,
    test: Sequence[str] = (),
    seed: int = 0,
    only_test: Sequence[str] = (),
) -> list[Draw]:
    """Draw the labeled patients.

    Within a draw, the patients of a smaller number are among those of a larger one. The first patient is one in whom all
    structures are labeled, if there is one, so that every number of patients is tested on the same structures. A draw of the
    same patients as an earlier one is left out.

    Args:
        patients: names of all.
        complete: names of those in whom all structures are labeled.
        shots: numbers of labeled patients; those of which there are not enough are left out.
        draws: how often patients are drawn.
        test: names of the patients to test on, the same in all draws; by default all that are not drawn.
        seed: of the draws.
        only_test: names of patients without any of the structures, who teach nothing and are not drawn.

    Raises:
        EvaluationError: a number below 1, or too few patients for all of the numbers.
    """
    if min(shots, default=0) < 1 or draws < 1:
        raise EvaluationError("Expected numbers of labeled patients and of draws of at least 1.")
    pool = sorted(set(patients) - set(test) - set(only_test))
    possible = sorted({n for n in shots if n <= len(pool) - (not test and not only_test)})
    if not possible:
        kept = f" besides {len(test)} to test on" if test else ", of which one must be left to test on"
        raise EvaluationError(f"There are {len(pool)} patients{kept}: too few to learn from {min(shots)}.")
    drawn: list[Draw] = []
    known: set[frozenset[str]] = set()
    for number in range(1, draws + 1):
        order = np.random.default_rng([seed, 2, number]).permutation(pool).tolist()
        first = next((name for name in order if name in set(complete)), order[0])
        order = [first, *(name for name in order if name != first)]
        for count in possible:
            train = tuple(order[:count])
            if frozenset(train) not in known:
                known.add(frozenset(train))
                drawn.append(Draw(number, count, train, tuple(test) or tuple(sorted([*order[count:], *only_test]))))
    return drawn
