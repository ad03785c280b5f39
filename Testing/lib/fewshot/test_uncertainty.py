"""The uncertainty map, the suggested click and the estimated Dice."""

import numpy as np
import pytest
import torch

import CoralBayLib as cb
from CoralBayLib.core.errors import PromptError
from CoralBayLib.demo.annotator import dice
from CoralBayLib.fewshot.uncertainty import DICE_ERROR, dice_from_probabilities, suggest_click, uncertainty_map
from CoralBayLib.imaging.grid import Grid, Volume


@pytest.fixture
def grid() -> Grid:
    matrix = np.diag([4.0, 4, 5, 1])
    matrix[:3, 3] = (-30, 10, 50)
    return Grid((20, 24, 28), matrix)


def nothing(grid: Grid) -> np.ndarray:
    return np.zeros(grid.shape, np.float32)


def test_uncertainty_is_one_at_one_half_and_zero_when_certain(grid: Grid) -> None:
    probability = torch.zeros(2, *grid.shape)
    probability[0, 3, 4, 5], probability[1, 3, 4, 6], probability[0, 7, 7, 7] = 0.5, 0.75, 1.0
    body = Volume(np.ones(grid.shape, np.uint8), grid)
    before = probability.clone()
    doubt = uncertainty_map(probability, body).array
    assert doubt[3, 4, 5] == 1
    assert doubt[3, 4, 6] == pytest.approx(0.5)
    assert doubt[7, 7, 7] == 0
    assert torch.equal(probability, before)


def test_uncertainty_is_zero_outside_the_body(grid: Grid) -> None:
    body = Volume(np.zeros(grid.shape, np.uint8), grid)
    assert not uncertainty_map(torch.full((1, *grid.shape), 0.5), body).array.any()


def test_suggestions_prefer_uncertain_regions_and_avoid_prompts(grid: Grid) -> None:
    one = nothing(grid)
    one[2, 2, 2] = 0.5
    one[8:13, 8:13, 18:23] = 0.3
    one[14:18, 14:18, 4:8] = 0.25
    first = suggest_click({3: one}, grid)
    assert first.label == 3
    assert np.abs(grid.to_ijk(first.ras)[0] - [20, 10, 10]).max() <= 2
    second = suggest_click({3: one}, grid, [first.ras], min_distance_mm=30)
    assert np.abs(grid.to_ijk(second.ras)[0] - [5.5, 15.5, 15.5]).max() <= 2
    third = suggest_click({3: one}, grid, [first.ras], [second.ras], min_distance_mm=30)
    assert min(np.linalg.norm(third.ras - second.ras), np.linalg.norm(third.ras - first.ras)) >= 30


def test_errors_weigh_more_in_a_small_structure(grid: Grid) -> None:
    large, small = nothing(grid), nothing(grid)
    large[:, :, :14] = 1.0
    small[:4, :4, 22:26] = 1.0
    large[8:12, 8:12, 4:8] = small[8:12, 8:12, 18:22] = 0.4
    assert suggest_click({1: large, 2: small}, grid).label == 2
    assert suggest_click({1: large}, grid).label == 1


def test_whole_percents_equal_fractions(grid: Grid) -> None:
    percents = np.random.default_rng(0).integers(0, 101, grid.shape).astype(np.uint8)
    whole, parts = suggest_click({1: percents}, grid), suggest_click({1: percents / np.float32(100)}, grid)
    assert (whole.ras == parts.ras).all()


def test_suggestions_on_a_fine_grid_have_the_right_position(grid: Grid) -> None:
    fine = grid.with_spacing([1.0, 1.0, 1.25])
    one = np.zeros(fine.shape, np.float32)
    one[40:48, 40:48, 80:88] = 0.5
    assert np.abs(fine.to_ijk(suggest_click({1: one}, fine).ras)[0] - [83.5, 43.5, 43.5]).max() <= 4


def test_certainty_everywhere_raises(grid: Grid) -> None:
    with pytest.raises(PromptError, match="certain everywhere"):
        suggest_click({1: nothing(grid)}, grid)


def test_the_dice_estimate_is_right_for_references_drawn_from_the_probabilities():
    random = np.random.default_rng(0)
    log_odds = np.stack([random.normal(-2, 3, (20, 30, 30)), random.normal(-4, 2, (20, 30, 30))]).astype(np.float32)
    probability = 1 / (1 + np.exp(-log_odds))
    labels = np.where(log_odds.max(axis=0) > 0, log_odds.argmax(axis=0) + 1, 0).astype(np.uint8)
    totals = {n: float(probability[n - 1].sum()) for n in (1, 2)}
    found = dice_from_probabilities(labels, log_odds.max(axis=0), totals)
    for n in (1, 2):
        drawn = [dice(labels == n, random.random((20, 30, 30)) < probability[n - 1]) for _ in range(20)]
        assert found[n][0] == pytest.approx(np.mean(drawn), abs=0.01)
        assert found[n][1] == pytest.approx(DICE_ERROR * (1 - found[n][0]))


def test_the_dice_estimate_of_an_empty_structure_is_zero():
    labels, log_odds = np.zeros((2, 3, 4), np.uint8), np.full((2, 3, 4), -1, np.float32)
    assert dice_from_probabilities(labels, log_odds, {1: 3.0})[1] == (0.0, DICE_ERROR)


def test_the_dice_estimate_rises_with_strokes_and_needs_the_own_scan(make_grid, make_phantom, pooling):
    grid = make_grid()
    pyramid = cb.embed(make_phantom(grid, [(grid.center_ras, 9.0, 300.0)]), pooling())
    along = np.linspace(-6, 6, 9)[:, None] * [1.0, 0, 0]
    offsets = np.array([[0, 16, 0], [0, -16, 0], [16, 0, 0], [-16, 0, 0]], float)
    prompts = cb.Prompts(grid.center_ras + np.concatenate([along, offsets]), [1] * 9 + [0] * 4)
    segmenter = cb.Segmenter(pyramid).fit(prompts)
    estimate, error = segmenter.preview().dice_estimate[1]
    shorter = cb.Segmenter(pyramid).fit(cb.Prompts(grid.center_ras + along[3:7], [1] * 4)).preview().dice_estimate[1][0]
    assert 1 > estimate > shorter > 0
    assert error > 0
    other = cb.embed(make_phantom(grid, [(grid.center_ras, 7.0, 300.0)], seed=5), pooling())
    assert cb.Segmenter(other, segmenter.probe_).fit(None).preview().dice_estimate == {}
