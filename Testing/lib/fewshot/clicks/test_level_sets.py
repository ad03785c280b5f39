"""Level sets around clicks, and what describes them."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from CoralBayLib.fewshot.clicks.level_sets import BEYOND, LEVELS, NAMES, Surroundings, describe, flood


def surroundings(log_odds, previous=None, intensity=None):
    zero = np.zeros(log_odds.shape, np.float32)
    return Surroundings(
        log_odds=log_odds,
        intensity=zero if intensity is None else intensity,
        edges=zero,
        appearance=zero,
        contrast=zero,
        mm=zero,
        body=np.ones(log_odds.shape, bool),
        previous=previous,
        spacing_mm=np.array([3.0, 2.0, 1.0]),
        clicked=(0.0, 0.0),
        own=1,
        other=0,
        newest_is_own=True,
    )


def column(rows, name):
    return rows[:, NAMES.index(name)]


def test_level_sets_of_the_flood_are_the_components_with_a_seed():
    values = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(14, 15, 16)), 3).astype(np.float32) * 200
    seed = np.array([np.unravel_index(values.argmax(), values.shape)])
    level = flood(values, seed)
    for threshold in np.quantile(values, [0.5, 0.7, 0.9]):
        components, _ = ndimage.label(values >= threshold)
        exact = components == components[tuple(seed[0])]
        # Paths with more turns than there are sweeps are not found, and no other voxel is.
        assert not ((level >= threshold) & ~exact).any()
        assert (level >= threshold).sum() > 0.9 * exact.sum()
    assert level[tuple(seed[0])] == BEYOND


def test_paths_of_the_flood_stay_within_the_mask():
    values = np.ones((1, 1, 7), np.float32)
    within = np.array([[[1, 1, 1, 0, 1, 1, 1]]], bool)
    level = flood(values, np.array([[0, 0, 0]]), within)
    assert (level[0, 0, 1:3] == 1).all() and (level[0, 0, 3:] == -BEYOND).all()


def test_volume_and_border_of_a_box():
    """A box of 2 x 3 x 4 voxels of 3 x 2 x 1 mm has 6 x 6 x 4 mm."""
    field = np.full((8, 9, 10), -BEYOND, np.float32)
    field[2:4, 3:6, 4:8] = BEYOND
    intensity = np.where(field > 0, np.float32(2), np.float32(0.5))
    rows = describe(field, surroundings(np.full(field.shape, -3, np.float32), intensity=intensity))
    assert rows.shape == (len(LEVELS), len(NAMES))
    assert np.allclose(np.exp(column(rows, "log_ml")), 24 * 6 / 1000, rtol=1e-5)
    k, j, i = 2 * 3, 3 * 2, 4 * 1
    assert np.allclose(np.exp(column(rows, "log_area")), 2 * (k * j + k * i + j * i), rtol=1e-5)
    assert np.allclose(column(rows, "border_contrast"), 1.5)
    assert np.allclose(column(rows, "mean_intensity"), 2)
    assert (column(rows, "is_first") == 1).all() and (column(rows, "growth_1") == 0).all()


def test_the_difference_to_the_previous_answer():
    previous = np.zeros((6, 6, 6), bool)
    previous[1:3, 1:3, 1:3] = True
    field = np.full(previous.shape, -BEYOND, np.float32)
    field[1:3, 1:3, 1:5] = BEYOND
    rows = describe(field, surroundings(np.zeros(previous.shape, np.float32), previous), "addition")
    assert np.allclose(column(rows, "dice_with_previous"), 2 * 8 / (8 + 16))
    assert np.allclose(column(rows, "gain"), np.log1p(1)) and not column(rows, "loss").any()
    assert (column(rows, "is_addition") == 1).all() and not column(rows, "is_removal").any()
    assert not column(rows, "is_first").any()


def test_larger_regions_come_first():
    values = np.linspace(-6, 6, 1000, dtype=np.float32).reshape(10, 10, 10)
    volume = column(describe(values, surroundings(values)), "log_ml")
    assert (np.diff(volume) <= 0).all() and volume[0] > volume[-1]
