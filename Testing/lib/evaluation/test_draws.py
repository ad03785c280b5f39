"""Draws of labeled patients: reproducible, nested, apart from the test, complete first."""

from itertools import pairwise

import pytest

from CoralBayLib.core.errors import EvaluationError
from CoralBayLib.evaluation.draws import choose_test, make_draws

NAMES = [f"p{n:02}" for n in range(30)]


def test_patients_of_the_test_are_never_learned_from():
    test = choose_test(NAMES, 0.2, seed=5)
    assert len(test) == 6
    draws = make_draws(NAMES, NAMES, [1, 5, 24], 3, test, seed=5)
    assert {draw.test for draw in draws} == {test}
    assert not any(set(draw.train) & set(test) for draw in draws)
    # All 24 patients that are left can be drawn in one way only.
    assert [(draw.number, draw.shots) for draw in draws] == [(1, 1), (1, 5), (1, 24), (2, 1), (2, 5), (3, 1), (3, 5)]


def test_without_patients_kept_for_the_test_all_others_are_tested():
    for draw in make_draws(NAMES, NAMES, [3, 29, 30], 2):
        assert sorted([*draw.train, *draw.test]) == NAMES and len(draw.train) == draw.shots < 30


def test_fewer_patients_are_among_more():
    by_draw = {}
    for draw in make_draws(NAMES, NAMES, [1, 2, 5, 10], 3):
        by_draw.setdefault(draw.number, []).append(set(draw.train))
    assert all(small < large for sets in by_draw.values() for small, large in pairwise(sets))
    assert len({frozenset(sets[3]) for sets in by_draw.values()}) == 3


def test_patients_without_structures_are_tested_and_never_drawn():
    empty = ["p02", "p07"]
    for draw in make_draws(NAMES, [], [1, 28], 2, only_test=empty):
        assert not set(draw.train) & set(empty) and set(empty) <= set(draw.test)
    for draw in make_draws(NAMES, [], [10], 2, ["p01", "p02"], only_test=empty):
        assert draw.test == ("p01", "p02") and "p07" not in draw.train


def test_the_first_patient_has_all_structures_labeled():
    complete = ["p03", "p17", "p21"]
    firsts = {draw.train[0] for draw in make_draws(NAMES, complete, [1, 4], 10)}
    assert firsts <= set(complete) and len(firsts) > 1
    assert make_draws(NAMES, [], [1], 1)[0].shots == 1


def test_the_seed_decides():
    assert make_draws(NAMES, NAMES, [4], 2, seed=1) == make_draws(NAMES[::-1], NAMES, [4], 2, seed=1)
    assert make_draws(NAMES, NAMES, [4], 2, seed=1) != make_draws(NAMES, NAMES, [4], 2, seed=2)
    assert choose_test(NAMES, 5, seed=1) != choose_test(NAMES, 5, seed=2)


@pytest.mark.parametrize("test", [0, 30, 31, 2.5, 0.001, -1, 0.99])
def test_numbers_of_test_patients_that_do_not_fit(test):
    with pytest.raises(EvaluationError, match="cannot be kept"):
        choose_test(NAMES, test)


def test_too_few_patients():
    with pytest.raises(EvaluationError, match="2 patients, of which one"):
        make_draws(NAMES[:2], [], [2, 5], 1)
    with pytest.raises(EvaluationError, match="2 patients besides 3"):
        make_draws(NAMES[:5], [], [3], 1, NAMES[:3])
    for shots, draws in (([0], 1), ([], 1), ([1], 0)):
        with pytest.raises(EvaluationError, match="at least 1"):
            make_draws(NAMES, [], shots, draws)
