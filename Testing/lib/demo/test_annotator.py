"""The simulated annotator's answers."""

from __future__ import annotations

import numpy as np
import pytest

from CoralBayLib.demo.annotator import simulate_answer
from CoralBayLib.imaging.grid import Grid, Volume


@pytest.fixture
def reference() -> Volume:
    """Two halves of a volume, 3 from I = 10 on."""
    matrix = np.diag([2.0, 2, 3, 1])
    matrix[:3, 3] = (-10, 5, 40)
    labels = np.zeros((12, 20, 20), np.uint8)
    labels[:, :, 10:] = 3
    return Volume(labels, Grid(labels.shape, matrix))


def test_an_answer_is_a_ball_of_what_lies_there(reference):
    grid = reference.grid
    points, labels = simulate_answer(reference, grid.to_ras([[15, 10, 6]])[0])
    assert (labels == 3).all()
    distance = np.linalg.norm(points - grid.to_ras([[15, 10, 6]])[0], axis=1)
    assert distance.max() < 4.0
    # Every voxel of the ball, on slices 3 mm apart of voxels of 2 mm.
    assert len(points) == 19


def test_an_answer_stops_short_of_anything_else(reference):
    grid = reference.grid
    points, labels = simulate_answer(reference, grid.to_ras([[9, 10, 6]])[0])
    assert (labels == 0).all()
    assert len(points) == 1
    assert points[0] == pytest.approx(grid.to_ras([[9, 10, 6]])[0])


def test_a_place_outside_is_answered_at_the_border(reference):
    points, labels = simulate_answer(reference, reference.grid.to_ras([[-5, 10, 6]])[0])
    assert (labels == 0).all()
    assert reference.grid.contains(points).all()
