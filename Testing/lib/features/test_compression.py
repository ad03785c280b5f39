"""Packed features are accurate to half a step at the voxels that are kept."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import CoralBayLib as cb
from CoralBayLib.features.compression import deflate, inflate, pack, support_mask, unpack
from CoralBayLib.imaging.grid import Grid, Volume


@pytest.fixture
def random():
    return np.random.default_rng(5)


def test_round_trip_is_within_half_a_step(random):
    features = torch.from_numpy(random.normal(3.0, [[[[1.0]]], [[[50.0]]]], (2, 6, 7, 8)).astype(np.float32))
    kept = random.random((6, 7, 8)) < 0.4
    again = unpack(pack(features, kept), (6, 7, 8))
    assert again.dtype == torch.float16
    for channel in range(2):
        step = np.ptp(features[channel].numpy()[kept]) / 96
        off = (again[channel].float() - features[channel]).numpy()[kept]
        half_precision = np.abs(features[channel].numpy()[kept]) * 2**-11
        assert (np.abs(off) <= step / 2 + half_precision + 1e-6).all()
        assert np.abs(off).max() > step / 8


def test_large_numbers_give_no_warning(recwarn):
    features = torch.tensor([-6e4, 0.0, 6e4, 3e4]).reshape(1, 1, 1, 4)
    again = unpack(pack(features, np.ones((1, 1, 4), bool)), (1, 1, 4))
    assert torch.allclose(again.float(), features, atol=700) and not recwarn.list


def test_dropped_voxels_become_their_average(random):
    features = torch.from_numpy(random.normal(size=(3, 4, 4, 4)).astype(np.float32))
    kept = np.zeros((4, 4, 4), bool)
    kept[:2] = True
    again = unpack(pack(features, kept), (4, 4, 4))
    average = features[:, 2:].mean(dim=(1, 2, 3))
    assert torch.allclose(again[:, 2:].float(), average[:, None, None, None].expand(-1, 2, 4, 4), atol=1e-3)


@pytest.mark.parametrize("kept", [np.ones((2, 3, 4), bool), np.arange(24).reshape(2, 3, 4) == 7])
def test_a_constant_channel_and_a_single_voxel_are_exact(kept):
    features = torch.full((2, 2, 3, 4), 0.25)
    again = unpack(pack(features, kept), (2, 3, 4))
    assert torch.equal(again.float(), features)


def test_voxels_for_interpolation_in_the_body_are_kept(make_grid, make_phantom, pooling):
    """Dropped features do not affect interpolation at body voxels and up to half a voxel beside them."""
    pyramid = cb.embed(make_phantom(make_grid("oblique"), [([12, -30, 45], 8.0, 500.0)]), pooling(strides=(2, 4)))
    kji = np.argwhere(pyramid.body.array)
    points = np.concatenate([pyramid.grid.to_ras(kji[:, ::-1] + shift) for shift in (-0.5, 0.0, 0.5)])
    for level in pyramid.levels:
        kept = support_mask(pyramid.body, level.grid)
        spoilt = level.features.clone()
        spoilt[:, torch.from_numpy(~kept)] = 1e4
        assert torch.equal(type(level)("spoilt", level.grid, spoilt).sample(points), level.sample(points))


def test_air_is_dropped():
    body = np.zeros((40, 40, 40), np.uint8)
    body[10:20, 10:20, 10:20] = 1
    grid = Grid((40, 40, 40), np.diag([1.5, 1.5, 1.5, 1.0]))
    kept = support_mask(Volume(body, grid), grid.subgrid((0.5, 0.5, 0.5), 2, (20, 20, 20)))
    assert kept[5:10, 5:10, 5:10].all()
    assert kept.sum() <= 8**3


def test_deflated_arrays_round_trip_or_raise(random):
    array = random.integers(-1000, 3000, (5, 6, 7)).astype(np.int16)
    packed = deflate(array)
    assert np.array_equal(inflate(packed, "<i2", (5, 6, 7)), array)
    with pytest.raises(ValueError, match="not of an array of shape"):
        inflate(packed, "<i2", (5, 6, 8))
    damaged = packed.clone()
    damaged[10:30] = 0
    with pytest.raises(ValueError, match="Error"):
        inflate(damaged, "<i2", (5, 6, 7))
