"""Crops have the physical size, place and orientation that they claim."""

from __future__ import annotations

import numpy as np
import pytest

from CoralBayLib.imaging.grid import Grid
from CoralBayLib.pretraining.views.augment import change, random_window
from CoralBayLib.pretraining.views.crops import (
    AIR_HU,
    ANISOTROPY,
    MOST_DEGREES,
    SCALES,
    CropSizes,
    PreparedScan,
    draw_grids,
    sample,
)

SIZES = CropSizes(spacing_mm=3.0, global_size=64, local_size=48, local_crops=3)


def linear_scan(size=(110, 100, 90), axes=None) -> PreparedScan:
    """A scan whose HU is a linear function of the position, so that interpolation must return it exactly."""
    matrix = np.eye(4)
    matrix[:3, :3] = (np.eye(3) if axes is None else axes) * 3.0
    matrix[:3, 3] = (-150, -120, 40)
    grid = Grid(size[::-1], matrix)
    hu = hu_at(grid.centers()).reshape(grid.shape)
    points = np.random.default_rng(0).integers(20, 80, (500, 3)).astype(np.int16)
    return PreparedScan(hu, grid, points)


def hu_at(ras: np.ndarray) -> np.ndarray:
    return ras @ np.array([1.0, -0.7, 0.4]) + 100


def inside(scan: PreparedScan, grid: Grid) -> np.ndarray:
    ijk = scan.grid.to_ijk(grid.centers())
    return ((ijk >= 0) & (ijk <= np.array(scan.grid.size) - 1)).all(axis=1)


@pytest.mark.parametrize("oblique", [False, True])
def test_values_are_those_of_the_places_that_the_grid_claims(oblique):
    from scipy.spatial.transform import Rotation

    scan = linear_scan(axes=Rotation.from_euler("xyz", (8, -5, 12), degrees=True).as_matrix() if oblique else None)
    for grid in draw_grids(scan, SIZES, np.random.default_rng(3)):
        values, within = sample(scan, grid).ravel(), inside(scan, grid)
        assert within.mean() > 0.3
        np.testing.assert_allclose(values[within], hu_at(grid.centers())[within], atol=0.05)
        beyond = (scan.grid.to_ijk(grid.centers()) < -1).any(axis=1)
        assert (values[beyond] == AIR_HU).all()


def test_size_spacing_and_rotation_are_within_their_limits():
    scan, random = linear_scan(), np.random.default_rng(0)
    factors = []
    for _ in range(50):
        grids = draw_grids(scan, SIZES, random)
        assert [grid.shape[0] for grid in grids] == [64, 64, 48, 48, 48]
        for grid in grids:
            factors.append(grid.spacing_mm / 3.0)
            cosines = grid.ijk_to_ras[:3, :3] / grid.spacing_mm
            assert np.linalg.det(cosines) == pytest.approx(1.0)  # no reflection
            angle = np.degrees(np.arccos((np.trace(cosines) - 1) / 2))
            assert angle <= np.sqrt(3) * MOST_DEGREES + 0.5
            extent = np.linalg.norm(grid.to_ras([[grid.size[0] - 1, 0, 0]]) - grid.to_ras([[0, 0, 0]]))
            assert extent == pytest.approx((grid.size[0] - 1) * grid.spacing_mm[0])
    slack = np.exp(ANISOTROPY / 2)
    assert np.min(factors) >= SCALES[0] / slack and np.max(factors) <= SCALES[1] * slack
    assert np.min(factors) < 0.85 and np.max(factors) > 1.18
    assert np.ptp(np.array(factors), axis=1).max() > 0.02


def test_local_crops_show_a_part_of_the_global_region():
    scan, random = linear_scan(size=(220, 220, 220)), np.random.default_rng(1)
    for _ in range(4):
        first, second, *others = draw_grids(scan, SIZES, random)
        assert np.abs(first.center_ras - second.center_ras).max() <= 0.4 * 64 * 3.0 + 1e-6
        for each in others:
            shares = [inside(PreparedScan(scan.hu, grid, scan.points), each).mean() for grid in (first, second)]
            assert max(shares) > 0.5


def test_a_scan_smaller_than_a_crop_is_in_its_middle_with_air_around():
    scan = linear_scan(size=(50, 60, 40))
    scan = PreparedScan(scan.hu, scan.grid, np.array([[25, 30, 20]], dtype=np.int16))
    grid = draw_grids(scan, CropSizes(3.0, 96, 48, 1), np.random.default_rng(0))[0]
    np.testing.assert_allclose(grid.center_ras, scan.grid.center_ras, atol=1e-6)
    assert (sample(scan, grid)[0] == AIR_HU).all()


def test_the_same_seed_gives_the_same_views():
    scan = linear_scan()

    def views(seed):
        random = np.random.default_rng(seed)
        return np.stack([change(sample(scan, grid), random) for grid in draw_grids(scan, SIZES, random)[:2]])

    np.testing.assert_array_equal(views(5), views(5))
    assert not np.array_equal(views(5), views(6))
    assert views(5).min() >= 0 and views(5).max() <= 1 and views(5).dtype == np.float32


def test_windows_are_about_that_of_inference_or_a_narrower_one():
    random = np.random.default_rng(0)
    windows = np.array([random_window(random) for _ in range(300)])
    assert (windows[:, 1] - windows[:, 0] > 200).all()
    near = np.abs(windows - (-1000, 1000)).max(axis=1) < 150
    assert 0.4 < near.mean() < 0.6
