"""The Dice to expect: right where probabilities are, and of the result that is shown."""

from __future__ import annotations

import numpy as np
import pytest

import CoralBayLib as cb
from CoralBayLib.core.errors import ProbeError
from CoralBayLib.demo.annotator import dice
from CoralBayLib.fewshot.expected import ERROR, agreement, expected_dice


def test_truths_drawn_by_their_probabilities_agree_as_much_as_expected():
    random = np.random.default_rng(0)
    log_odds = np.stack([random.normal(-2, 3, (20, 30, 30)), random.normal(-4, 2, (20, 30, 30))]).astype(np.float32)
    probability = 1 / (1 + np.exp(-log_odds))
    labels = np.where(log_odds.max(axis=0) > 0, log_odds.argmax(axis=0) + 1, 0).astype(np.uint8)
    found = agreement(labels, log_odds.max(axis=0), {n: float(probability[n - 1].sum()) for n in (1, 2)})
    for n in (1, 2):
        drawn = [dice(labels == n, random.random((20, 30, 30)) < probability[n - 1]) for _ in range(20)]
        assert found[n][0] == pytest.approx(np.mean(drawn), abs=0.01)
        assert found[n][1] == pytest.approx(ERROR * (1 - found[n][0]))


def test_a_structure_that_was_given_nothing_is_expected_to_miss():
    labels, log_odds = np.zeros((2, 3, 4), np.uint8), np.full((2, 3, 4), -1, np.float32)
    assert agreement(labels, log_odds, {1: 3.0})[1] == (0.0, ERROR)


def test_clicks_on_a_ball_are_expected_to_find_it_and_another_scan_is_refused(make_grid, make_phantom, pooling):
    grid = make_grid()
    pyramid = cb.embed(make_phantom(grid, [(grid.centre_ras, 9.0, 300.0)]), pooling())
    offsets = np.array([[0, 0, 0], [4, 0, 0], [-4, 0, 0], [0, 16, 0], [0, -16, 0], [16, 0, 0], [-16, 0, 0]], float)
    prompts = cb.Prompts(grid.centre_ras + offsets, [1, 1, 1, 0, 0, 0, 0])
    probe = cb.Probe().fit(pyramid, prompts)
    estimate, error = expected_dice(probe, pyramid, prompts)[1]
    one_click = cb.Probe().fit(pyramid, cb.Prompts([grid.centre_ras], [1]))
    assert 1 > estimate > expected_dice(one_click, pyramid)[1][0] > 0
    assert error > 0
    other = cb.embed(make_phantom(grid, [(grid.centre_ras, 7.0, 300.0)], seed=5), pooling())
    with pytest.raises(ProbeError, match="fitted on"):
        expected_dice(probe, other)
