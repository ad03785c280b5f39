"""Dice and surface distances against values that are known from the shapes."""

import numpy as np
import pytest

from CoralBayLib.evaluation.agreement import Agreement, compare
from CoralBayLib.imaging.grid import Grid, Volume

GRID = Grid((20, 24, 28), np.diag([1.0, 2.0, 5.0, 1.0]))


def box(k, j, i, grid=GRID, label=1):
    array = np.zeros(grid.shape, np.uint8)
    array[slice(*k), slice(*j), slice(*i)] = label
    return Volume(array, grid)


@pytest.mark.parametrize("shift", [(1, 0, 0), (0, 1, 0), (0, 0, 1)])
def test_a_shifted_plate_is_as_far_away_as_it_was_shifted(shift):
    """The plate is one voxel thick across the shift, so that all of its voxels are surface."""
    span = [(4, 14) if not moved else (8, 9) for moved in shift]
    moved = [(low + step, high + step) for (low, high), step in zip(span, shift, strict=True)]
    found = compare(box(*moved), box(*span), 1)
    expected = float(np.dot(shift, GRID.spacing_mm[::-1]))
    assert found.dice == 0
    assert found.mean_mm == pytest.approx(expected, abs=1e-4)
    assert found.p95_mm == pytest.approx(expected, abs=1e-4)


def test_geometry_counts_and_the_order_of_axes_does_not():
    """The same two shapes in a scan with other axes."""
    one, other = box((4, 9), (5, 12), (6, 20)), box((5, 9), (5, 14), (6, 21))
    first = compare(one, other, 1)
    axes = Grid(GRID.shape[::-1], np.array([[0, 0, 1.0, 0], [0, -2.0, 0, 7], [5.0, 0, 0, 3], [0, 0, 0, 1]]))
    second = compare(*(Volume(volume.array.transpose(2, 1, 0), axes) for volume in (one, other)), 1)
    assert first.dice == pytest.approx(2 * 4 * 7 * 14 / (5 * 7 * 14 + 4 * 9 * 15))
    assert second.dice == first.dice
    assert (second.mean_mm, second.p95_mm) == pytest.approx((first.mean_mm, first.p95_mm), rel=1e-6)
    assert 0 < first.mean_mm < first.p95_mm <= 5
    assert compare(other, one, 1).p95_mm == first.p95_mm


def test_the_same_is_perfect():
    assert compare(box((4, 9), (5, 12), (6, 20)), box((4, 9), (5, 12), (6, 20)), 1) == Agreement(1.0, 0.0, 0.0, True, True)


def test_what_is_not_there_or_not_found():
    some, none = box((4, 9), (5, 12), (6, 20), label=3), box((0, 0), (0, 0), (0, 0))
    assert compare(none, none, 3) == Agreement(None, None, None, found=False, present=False)
    assert compare(none, some, 3) == Agreement(0.0, None, None, found=False, present=True)
    assert compare(some, none, 3) == Agreement(0.0, None, None, found=True, present=False)


def test_a_sheared_scan_has_no_distances():
    sheared = Grid(GRID.shape, np.array([[1, 0.3, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]))
    found = compare(box((4, 9), (5, 12), (6, 20), sheared), box((4, 9), (5, 12), (6, 20), sheared), 1)
    assert (found.dice, found.mean_mm, found.p95_mm) == (1.0, None, None)
