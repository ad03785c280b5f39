"""A new answer is taken only where a prompt contradicts the old one."""

from __future__ import annotations

import numpy as np
import pytest

from CoralBayLib.fewshot.constraints.changes import accept_changes

SHAPE = (12, 20, 30)


def block(*sides: tuple[int, int], label: int = 1) -> np.ndarray:
    """Labels of a block; (start, stop) along k, j and i."""
    labels = np.zeros(SHAPE, np.uint8)
    labels[tuple(slice(*side) for side in sides)] = label
    return labels


def taken(previous, proposal, points, **options):
    kji = np.array([point[:3] for point in points]).reshape(-1, 3)
    accepted = accept_changes(previous, proposal, kji, np.array([point[3] for point in points]), **options)
    assert not accepted[previous == proposal].any()
    return np.where(accepted, proposal, previous)


BEFORE = block((2, 10), (4, 12), (4, 12))
HERE = block((3, 9), (5, 11), (12, 18))
THERE = block((3, 9), (14, 19), (5, 11))


def test_only_the_part_with_the_click_is_added():
    proposal = BEFORE | HERE | THERE
    assert np.array_equal(taken(BEFORE, proposal, [(6, 8, 15, 1)]), BEFORE | HERE)
    assert np.array_equal(taken(BEFORE, proposal, [(6, 8, 15, 1), (6, 16, 8, 1)]), proposal)


def test_only_the_part_with_the_click_is_removed():
    before = BEFORE | HERE | THERE
    assert np.array_equal(taken(before, BEFORE, [(6, 16, 8, 0)]), BEFORE | HERE)


@pytest.mark.parametrize("points", [[], [(6, 8, 8, 1)], [(6, 17, 27, 0)], [(6, 17, 27, 1)], [(6, 8, 8, 1), (0, 0, 0, 0)]])
def test_prompts_that_agree_change_nothing(points):
    """The fourth contradicts, but the proposal does not follow it."""
    assert np.array_equal(taken(BEFORE, BEFORE | HERE | THERE, points), BEFORE)


def test_a_rim_does_not_connect_parts():
    rim = block((1, 11), (3, 13), (3, 13))
    proposal = rim | HERE | THERE
    result = taken(BEFORE, proposal, [(6, 8, 15, 1)])
    assert (result[HERE > 0] == 1).all()
    assert not result[(THERE > 0) & (rim == 0)].any()
    # Of the rim, only what is within two voxels of the part.
    assert not result[:, :, :9][(BEFORE == 0)[:, :, :9]].any()


def test_a_click_in_a_rim_changes_the_rim_around_it():
    rim = block((1, 11), (3, 13), (3, 13))
    changed = np.argwhere(taken(BEFORE, rim, [(6, 8, 12, 1)]) != BEFORE)
    assert len(changed) and np.abs(changed - [6, 8, 12]).max() <= 3
    assert [6, 8, 12] in changed.tolist()


def test_a_click_beside_a_part_means_that_part():
    """Positions are rounded to voxels, and the border of a part may be a voxel away."""
    assert np.array_equal(taken(BEFORE, BEFORE | HERE, [(6, 8, 18, 1)]), BEFORE | HERE)
    # A click for the background beside a part that is added does not ask for it.
    assert np.array_equal(taken(BEFORE, BEFORE | HERE, [(6, 8, 18, 0)]), BEFORE)


def test_thick_slices_are_not_opened():
    part = block((5, 6), (5, 11), (12, 18))
    assert np.array_equal(taken(BEFORE, BEFORE | part, [(5, 8, 15, 1)], axes=(1, 2)), BEFORE | part)


def test_parts_of_other_labels_are_apart():
    left, right = block((2, 10), (4, 12), (4, 9)), block((2, 10), (4, 12), (9, 14), label=2)
    before = left | right
    moved = before.copy()
    moved[3:9, 5:11, 9:13] = 1
    moved[3:9, 5:11, 4:8] = 0
    result = taken(before, moved, [(6, 8, 11, 1)])
    assert (result[3:9, 5:11, 9:13] == 1).all() and (result[3:9, 5:11, 4:8] == 1).all()
    # A click for the background takes what the proposal has there, if that is not what was there before.
    result = taken(before, moved, [(6, 8, 6, 0)])
    assert not result[3:9, 5:11, 4:8].any() and (result[right > 0] == 2).all()


def test_other_structures_are_not_held():
    """Voxels that neither belong nor belonged to the structures in question are the caller's."""
    proposal = BEFORE | HERE * 2
    accepted = accept_changes(BEFORE, proposal, np.array([[6, 8, 15]]), np.array([2]), structures=[1])
    assert not accepted.any()


def test_points_outside_are_ignored():
    assert np.array_equal(taken(BEFORE, BEFORE | HERE, [(-5, 8, 15, 1), (6, 8, 99, 1)]), BEFORE)
    with pytest.raises(ValueError, match="shapes"):
        accept_changes(BEFORE, BEFORE[1:], np.zeros((0, 3), int), np.zeros(0, int))
