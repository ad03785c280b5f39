"""Maps computed at native stride equal the dense maps."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from CoralBayLib.core.errors import EncoderError
from CoralBayLib.features.pyramid import FeaturePyramid, Level
from CoralBayLib.imaging.grid import Grid, Volume
from CoralBayLib.imaging.resampling import interpolate


def random_pyramid(strides=(2, 4, 8, 16), channels=(6, 12, 24, 40), shape=(32, 48, 40), seed=0, offset=None):
    generator = torch.Generator().manual_seed(seed)
    matrix = np.array([[1.5, 0, 0.2, -7], [0, 1.5, 0, 3], [0, 0.1, 3, 11], [0, 0, 0, 1.0]])
    grid = Grid(shape, matrix)
    levels = []
    for s, c in zip(strides, channels, strict=True):
        size = tuple(-(-n // s) for n in shape)
        start = (s - 1) / 2 if offset is None else offset
        features = (torch.randn(c, *size, generator=generator) * 3 + 1).half()
        levels.append(Level(f"s{s}", grid.subgrid([start] * 3, s, size), features))
    image = Volume(np.random.default_rng(seed).integers(-1000, 1000, shape).astype(np.int16), grid)
    body = Volume(np.ones(shape, np.uint8), grid)
    return FeaturePyramid(tuple(levels), image, body, {"encoder": "random"}, grid)


def dense(pyramid):
    """Every channel at full resolution, which the library itself never computes."""
    return torch.cat([interpolate(level.features.float(), level.grid, pyramid.grid) for level in pyramid.levels])


@pytest.mark.parametrize("offset", [None, 0.0])
def test_linear_map_equals_the_dense_product(offset):
    pyramid = random_pyramid(offset=offset)
    weights = torch.randn(5, pyramid.channels)
    bias = torch.randn(5)
    expected = torch.einsum("mc,ckji->mkji", weights, dense(pyramid)) + bias[:, None, None, None]
    torch.testing.assert_close(pyramid.linear_map(weights, bias), expected, atol=1e-4, rtol=1e-5)


def test_cosine_map_with_the_kept_norm_equals_the_dense_one():
    pyramid = random_pyramid()
    basis = pyramid.basis
    vectors = torch.einsum("dc,ckji->dkji", basis.projection, dense(pyramid)) + basis.offset[:, None, None, None]
    for seed in range(2):
        query = torch.randn(len(basis.projection), generator=torch.Generator().manual_seed(seed))
        expected = torch.nn.functional.cosine_similarity(vectors, query[:, None, None, None].expand_as(vectors), dim=0)
        found = pyramid.cosine_map(query)
        assert (found - expected).abs().max() < 1e-4
        assert expected.abs().max() > 0.1


def test_interpolated_norms_would_be_wrong():
    pyramid = random_pyramid(strides=(8,), channels=(24,))
    level, basis = pyramid.levels[0], pyramid.basis
    native = level.project(basis.projection) + basis.offset[:, None, None, None]
    wrong = interpolate(native.norm(dim=0)[None], level.grid, pyramid.grid)[0]
    assert ((wrong - pyramid.whitened_norm) / pyramid.whitened_norm).abs().max() > 0.1


def test_samples_agree_with_maps():
    pyramid = random_pyramid()
    random = np.random.default_rng(1)
    kji = random.integers(0, pyramid.grid.shape, (50, 3))
    points = pyramid.grid.to_ras(kji[:, ::-1])
    torch.testing.assert_close(
        pyramid.sample(points), dense(pyramid)[:, kji[:, 0], kji[:, 1], kji[:, 2]].T, atol=1e-4, rtol=1e-4
    )
    whitened = pyramid.sample(points) @ pyramid.basis.projection.T + pyramid.basis.offset
    torch.testing.assert_close(pyramid.sample_whitened(points), whitened, atol=1e-3, rtol=1e-3)


def test_sample_between_voxels_is_linear():
    grid = Grid((3, 3, 3), np.diag([2.0, 2, 2, 1]))
    ramp = torch.arange(3.0).expand(3, 3, 3)
    level = Level("ramp", grid, ramp[None].half())
    assert level.sample([[1.0, 2.0, 2.0], [3.5, 0.3, 0.1], [-9.0, 0, 0], [99.0, 0, 0]]).ravel().tolist() == pytest.approx(
        [0.5, 1.75, 0.0, 2.0]
    )


def test_whitened_body_voxels_have_unit_covariance():
    pyramid = random_pyramid(channels=(6, 6, 6, 6))
    vectors = pyramid.basis.vectors
    covariance = torch.cov(vectors.T)
    assert (covariance - torch.eye(len(covariance))).abs().max() < 0.25
    assert vectors.mean(0).abs().max() < 0.15


def test_basis_is_reproducible_and_leaves_the_random_state_alone():
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    first, second = random_pyramid().basis, random_pyramid().basis
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(first.projection, second.projection)


def test_basis_of_features_without_variation_is_finite():
    pyramid = random_pyramid()
    flat = tuple(Level(level.name, level.grid, torch.ones_like(level.features)) for level in pyramid.levels)
    constant = FeaturePyramid(flat, pyramid.image, pyramid.body, pyramid.identity, pyramid.grid)
    assert torch.isfinite(constant.basis.projection).all()
    assert torch.isfinite(constant.cosine_map(torch.ones(len(constant.basis.projection)))).all()


def test_similarity_uses_the_middle_levels():
    pyramid = random_pyramid()
    names = [level.name for level in pyramid.for_similarity.levels]
    assert names == ["s4", "s8"]  # 12 and 24 mm along the 3 mm axis
    assert len(pyramid.for_similarity.basis.projection) <= 64


def test_weights_for_other_channels_are_refused():
    with pytest.raises(EncoderError, match="channels"):
        random_pyramid().linear_map(torch.ones(1, 7))


def test_unknown_level_is_refused():
    with pytest.raises(EncoderError, match="no_such"):
        random_pyramid().select_levels(["no_such"])
