"""The map of doubt and the place to look at next."""

import numpy as np
import pytest
import torch

from CoralBayLib.errors import PromptError
from CoralBayLib.geometry import Grid, Volume
from CoralBayLib.uncertainty import most_uncertain, uncertainty_map


@pytest.fixture
def grid() -> Grid:
    return Grid((20, 24, 28), np.diag([2.0, 2, 2, 1]))


def test_doubt_is_one_at_even_odds_and_zero_when_certain(grid: Grid) -> None:
    probability = torch.zeros(2, *grid.shape)
    probability[0, 3, 4, 5], probability[1, 3, 4, 6], probability[0, 7, 7, 7] = 0.5, 0.75, 1.0
    body = Volume(np.ones(grid.shape, np.uint8), grid)
    before = probability.clone()
    doubt = uncertainty_map(probability, body).array
    assert doubt[3, 4, 5] == 1
    assert doubt[3, 4, 6] == pytest.approx(0.5)
    assert doubt[7, 7, 7] == 0
    assert torch.equal(probability, before)


def test_there_is_no_doubt_outside_the_body(grid: Grid) -> None:
    body = Volume(np.zeros(grid.shape, np.uint8), grid)
    assert not uncertainty_map(torch.full((1, *grid.shape), 0.5), body).array.any()


def test_a_region_in_doubt_wins_over_a_lone_voxel_and_prompts_are_avoided(grid: Grid) -> None:
    doubt = np.zeros(grid.shape, np.float32)
    doubt[2, 2, 2] = 1.0
    doubt[8:13, 8:13, 18:23] = 0.6
    doubt[14:18, 14:18, 4:8] = 0.5
    first = most_uncertain(Volume(doubt, grid))
    assert first == pytest.approx(grid.to_ras([20, 10, 10])[0], abs=2.1)
    second = most_uncertain(Volume(doubt, grid), [first], min_distance_mm=14)
    assert second == pytest.approx(grid.to_ras([5.5, 15.5, 15.5])[0], abs=4.1)
    third = most_uncertain(Volume(doubt, grid), [first], 14, avoid_ras=[second])
    assert np.linalg.norm(third - second) >= 14
    assert np.linalg.norm(third - first) >= 14


def test_certainty_everywhere_is_said(grid: Grid) -> None:
    with pytest.raises(PromptError, match="certain everywhere"):
        most_uncertain(Volume(np.zeros(grid.shape, np.float32), grid))
