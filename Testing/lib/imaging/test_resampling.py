"""Properties of resampling between oblique, flipped, anisotropic and sheared grids."""

from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from CoralBayLib.imaging.grid import Grid, Volume
from CoralBayLib.imaging.resampling import _interpolate_affine, interpolate, resample, sum_interpolated

from .grids import FEW, all_ijk, grids, sizes


def ramp(grid, slope, offset):
    """A volume whose value at every voxel centre is `slope . RAS + offset`."""
    ijk = all_ijk(grid)
    array = np.empty(grid.shape, dtype=np.float32)
    array[ijk[:, 2], ijk[:, 1], ijk[:, 0]] = grid.to_ras(ijk) @ slope + offset
    return Volume(array, grid)


def inner(grid, offset, step):
    """A finer grid, shifted by fractions of a voxel, that stays between the outermost voxel centres of `grid`."""
    step = np.array(step)
    start = np.array(offset) * 0.4
    size = np.maximum(1, np.floor((np.array(grid.size) - 1 - start) / step)).astype(int)
    return grid.subgrid(start, step, tuple(size[::-1]))


unit = st.floats(0, 1)
slopes = st.tuples(*[st.floats(-3, 3)] * 3)


@given(grids(), st.tuples(unit, unit, unit), st.tuples(*[st.floats(0.3, 0.9)] * 3), slopes)
@FEW
def test_linear_ramp_is_exact_inside(grid, offset, step, slope):
    target = inner(grid, offset, step)
    source, wanted = ramp(grid, slope, 7.0), ramp(target, slope, 7.0)
    np.testing.assert_allclose(resample(source, target).array, wanted.array, atol=2e-3)


@given(grids(), st.tuples(unit, unit, unit), st.tuples(*[st.floats(0.3, 0.9)] * 3), slopes)
@FEW
def test_linear_ramp_is_exact_on_a_turned_grid(grid, offset, step, slope):
    target = inner(grid, offset, step)
    middle = np.eye(4)
    middle[:3, :3] = Rotation.from_euler("z", 0.3, degrees=True).as_matrix()
    middle[:3, 3] = target.center_ras - middle[:3, :3] @ target.center_ras
    turned = Grid(target.shape, middle @ target.ijk_to_ras)
    ijk = grid.to_ijk(turned.to_ras(all_ijk(turned)))
    inside = ((ijk >= 0) & (ijk <= np.array(grid.size) - 1)).all(axis=1)
    where = all_ijk(turned)[inside]
    got = resample(ramp(grid, slope, 7.0), turned).array[where[:, 2], where[:, 1], where[:, 0]]
    np.testing.assert_allclose(got, turned.to_ras(where) @ slope + 7.0, atol=2e-3)


@given(grids(), st.integers(0, 47), st.tuples(*[st.floats(-1, 1)] * 3), st.tuples(*[st.floats(0.4, 2.5)] * 3), sizes)
@FEW
def test_separable_path_equals_the_general_one(grid, turn, start, step, shape):
    """Also beyond the border, and for permuted and flipped targets."""
    order, signs = list(permutations(range(3)))[turn // 8], [1 - 2 * (turn >> bit & 1) for bit in range(3)]
    local = np.eye(4)
    local[:3, :3] = np.eye(3)[list(order)] * signs * step
    local[:3, 3] = np.array(start) + [(n - 1) if s < 0 else 0 for n, s in zip(grid.size, signs, strict=True)]
    target = Grid(shape, grid.ijk_to_ras @ local)
    maps = torch.randn(2, *grid.shape, generator=torch.Generator().manual_seed(0))
    general = _interpolate_affine(maps, grid, target)
    got = interpolate(maps, grid, target)
    torch.testing.assert_close(sum_interpolated([(maps, grid), (maps, grid)], target), 2 * general, atol=2e-4, rtol=0)
    assert got.shape == (2, *target.shape)
    torch.testing.assert_close(got, general, atol=1e-4, rtol=0)


@given(grids())
@FEW
def test_nearest_round_trip(grid):
    labels = Volume(np.arange(np.prod(grid.shape), dtype=np.int16).reshape(grid.shape), grid)
    fine = grid.subgrid((-1 / 3, -1 / 3, -1 / 3), 1 / 3, tuple(3 * n for n in grid.shape))
    there = resample(labels, fine, "nearest")
    assert there.array.dtype == np.int16
    np.testing.assert_array_equal(there.array, labels.array.repeat(3, 0).repeat(3, 1).repeat(3, 2))
    np.testing.assert_array_equal(resample(there, grid, "nearest").array, labels.array)


@given(grids())
@FEW
def test_resampling_a_canonical_view_back_changes_nothing(grid):
    volume = Volume(np.random.default_rng(0).normal(size=grid.shape).astype(np.float32), grid)
    for mode in ("linear", "nearest"):
        back = resample(volume.canonical(), grid, mode)
        np.testing.assert_allclose(back.array, volume.array, atol=1e-4)


@pytest.mark.parametrize("floats", [1, 500, 4000, 1 << 21])
def test_a_sum_does_not_depend_on_the_slabs(monkeypatch, floats):
    """The number of slices and channels computed at a time does not change the result."""
    monkeypatch.setattr("CoralBayLib.imaging.resampling._SLAB_FLOATS", floats)
    target = Grid((11, 9, 10), np.diag([2.0, 2.0, 2.0, 1.0]))
    generator = torch.Generator().manual_seed(0)
    parts = []
    for step in (2, 3):
        grid = target.subgrid((0.5, 0.5, 0.5), step, (5, 4, 4))
        parts.append((torch.randn(7, *grid.shape, generator=generator), grid))
    expected = torch.stack([interpolate(maps, grid, target) for maps, grid in parts]).sum(dim=0)
    torch.testing.assert_close(sum_interpolated(parts, target), expected, atol=1e-5, rtol=0)
