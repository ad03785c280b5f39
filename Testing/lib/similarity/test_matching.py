"""The same place in another scan: within a voxel in a scan of the same patient, whatever its grid."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

import CoralBayLib as cb
from CoralBayLib.core.errors import Cancelled, EncoderError, QueryError
from CoralBayLib.features.alignment import AxisAlignment
from CoralBayLib.imaging.grid import Grid, Volume
from CoralBayLib.similarity.match_scores import Evidence, match_score, score_in_words
from CoralBayLib.similarity.patches import correlation, cube, gaussian_window, lattice, mind_ssc, peak, sample_hu

pytestmark = pytest.mark.slow

SHIFT = np.array([31.0, -17.0, 45.0])
"""Where the second scan's table was, mm."""


def body(seed: int, radii_mm=(60.0, 52.0, 66.0)) -> Volume:
    """A patient: an ellipsoid of fine and coarse texture."""
    grid = Grid((100, 90, 100), np.diag([1.5, 1.5, 1.5, 1.0]))
    noise = np.random.default_rng(seed).normal(size=(3, *grid.shape))
    texture = sum(ndimage.gaussian_filter(n, s) * s**1.5 for n, s in zip(noise, (2.0, 4.0, 9.0), strict=True))
    texture *= 150 / texture.std()
    k, j, i = np.indices(grid.shape)
    ras = grid.to_ras(np.stack([i, j, k], -1).reshape(-1, 3)) - grid.center_ras
    inside = ((ras / np.array(radii_mm)) ** 2).sum(axis=1).reshape(grid.shape) < 1
    return Volume(np.where(inside, 40 + texture.clip(-500, 500), -1000).astype(np.int16), grid)


def moved(volume: Volume, grid: Grid, shift_mm: np.ndarray) -> Volume:
    """The patient on another grid, shifted by some mm."""
    k, j, i = np.indices(grid.shape)
    ras = grid.to_ras(np.stack([i, j, k], -1).reshape(-1, 3)) - shift_mm
    kji = volume.grid.to_ijk(ras)[:, ::-1].T
    values = ndimage.map_coordinates(volume.array.astype(np.float32), kji, order=1, cval=-1000.0)
    return Volume(np.round(values).astype(np.int16).reshape(grid.shape), grid)


@pytest.fixture(scope="module")
def patient():
    from Testing.lib.conftest import PoolingEncoder

    volume = body(0)
    return volume, cb.embed(volume, PoolingEncoder(strides=(2, 4, 8)))


def points_in(volume: Volume) -> np.ndarray:
    return volume.grid.center_ras + np.array([[0, 0, 0], [25, -12, 18], [-22, 14, -26], [8, 26, 22]], dtype=float)


@pytest.mark.parametrize("kind", ["axial", "flipped", "permuted", "anisotropic", "oblique", "sheared"])
def test_a_follow_up_is_matched_within_a_voxel_on_any_grid(patient, make_grid, pooling, kind):
    volume, pyramid = patient
    grid = make_grid(kind, extent_mm=160.0, centre=volume.grid.center_ras + SHIFT, spacing=1.6)
    other = cb.embed(moved(volume, grid, SHIFT), pooling(strides=(2, 4, 8)))
    points = points_in(volume)
    matches = cb.match_points(pyramid, other, points)
    assert matches.same_patient
    missed = np.linalg.norm(matches.points_ras - points - SHIFT, axis=1)
    assert missed.max() < max(2.0, grid.spacing_mm.max())
    assert matches.scores.min() > 0.8
    assert matches.cycle_mm.max() < 3


def test_a_scan_matches_itself(patient):
    volume, pyramid = patient
    matches = cb.match_points(pyramid, pyramid, points_in(volume)[1])
    assert matches.points_ras.shape == (1, 3)
    assert np.linalg.norm(matches.points_ras - points_in(volume)[1]) < 0.2


def test_another_patient_is_not_taken_for_the_same_and_scores_less(patient, pooling):
    volume, pyramid = patient
    stranger = cb.embed(body(7, (48.0, 60.0, 44.0)), pooling(strides=(2, 4, 8)))
    matches = cb.match_points(pyramid, stranger, points_in(volume))
    assert not matches.same_patient
    assert matches.scores.mean() < 0.6
    assert stranger.grid.contains(matches.points_ras).all()


def test_progress_is_told_and_cancelling_stops(patient):
    volume, pyramid = patient
    told: list[float] = []
    cb.match_points(pyramid, pyramid, points_in(volume)[:2], lambda fraction, message: told.append(fraction))
    assert told == sorted(told) and told[-1] == 1.0
    cancel = cb.CancelToken()
    cancel.cancel()
    with pytest.raises(Cancelled):
        cb.match_points(pyramid, pyramid, points_in(volume), cancel=cancel)


def test_points_and_scans_that_do_not_fit_are_refused(patient, pooling):
    volume, pyramid = patient
    with pytest.raises(QueryError, match="outside the volume"):
        cb.match_points(pyramid, pyramid, [900, 0, 0])
    with pytest.raises(QueryError):
        cb.match_points(pyramid, pyramid, np.empty((0, 3)))
    with pytest.raises(EncoderError, match="different encoders"):
        cb.match_points(pyramid, cb.embed(volume, pooling(strides=(4, 8))), points_in(volume))


def test_patches_of_a_ramp_have_its_values_whatever_the_grid(make_grid, make_phantom, pooling):
    grid = make_grid("oblique")
    k, j, i = np.indices(grid.shape)
    ras = grid.to_ras(np.stack([i, j, k], -1).reshape(-1, 3))
    ramp = Volume((ras @ [2.0, 3.0, -4.0]).round().astype(np.int16).reshape(grid.shape), grid)
    scan = cb.FeaturePyramid((), ramp, ramp, {}, grid)
    points = grid.center_ras + lattice(2, 3.0)
    assert np.allclose(sample_hu(scan, points)[:, 0].numpy(), points @ [2.0, 3.0, -4.0], atol=1.0)


def test_correlation_finds_a_shifted_patch_between_the_points_of_the_lattice():
    import torch

    centers = np.random.default_rng(0).uniform(-8, 8, (40, 3))

    def image(offset):
        points = lattice(10, 1.0) - offset
        squares = ((points[:, None] - centers) ** 2).sum(axis=-1)
        return cube(torch.from_numpy(200 * np.exp(-squares / 12).sum(axis=1)).float()[:, None])

    offset = np.array([1.3, -0.6, 2.2])
    patch = image(np.zeros(3))[:, :, 5:-5, 5:-5, 5:-5]
    values = correlation(patch, image(offset), gaussian_window(5, 2.5))
    assert values.shape == (11, 11, 11)
    assert np.allclose(peak(values, 1.0), offset, atol=0.3)
    flat = correlation(torch.zeros_like(patch), image(offset), gaussian_window(5, 2.5))
    assert flat.abs().max() < 0.2


def test_self_similarity_does_not_see_contrast():
    import torch

    image = torch.from_numpy(np.random.default_rng(0).normal(0, 100, (1, 1, 9, 9, 9))).float()
    assert mind_ssc(image).shape == (1, 12, 5, 5, 5)
    assert torch.allclose(mind_ssc(image), mind_ssc(200 - image), atol=1e-4)


def test_the_way_back_of_an_alignment_undoes_it():
    there = AxisAlignment(np.array([0.9, 1.2, 1.0]), np.array([4.0, -3.0, 50.0]))
    points = np.array([[1.0, 2, 3], [-40, 5, 6]])
    assert np.allclose(there.inverse().to(there.to(points)), points)
    assert np.allclose(there.inverse().to(points), there.back(points))


def test_scores_fall_with_what_speaks_against_a_match():
    good = Evidence(0.5, 0.9, 0.0, True)
    assert match_score(good) > 0.9
    for worse in (Evidence(30.0, 0.9, 0.0, True), Evidence(0.5, 0.1, 0.0, True), Evidence(0.5, 0.9, 80.0, True)):
        assert match_score(worse) < match_score(good)
    assert match_score(Evidence(60.0, 0.1, 100.0, False)) < 0.05
    assert len({score_in_words(score) for score in (0.9, 0.6, 0.1)}) == 3
