"""Properties of grids and resampling over oblique, flipped, anisotropic and sheared geometries."""

from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from CoralBayLib.core.errors import VolumeError
from CoralBayLib.imaging.grid import Grid, Volume
from CoralBayLib.imaging.resampling import _interpolate_affine, interpolate, resample, sum_interpolated

FEW = settings(max_examples=40, deadline=None)

sizes = st.tuples(*[st.integers(2, 7)] * 3)


@st.composite
def grids(draw, shear=True):
    """Any grid that a scanner or a person may produce: permuted, flipped, turned, stretched, sheared."""
    order = draw(st.permutations(range(3)))
    signs = draw(st.tuples(*[st.sampled_from([-1.0, 1.0])] * 3))
    angles = draw(st.tuples(*[st.floats(-40, 40)] * 3))
    spacing = draw(st.tuples(*[st.floats(0.4, 5)] * 3))
    matrix = np.eye(4)
    turned = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() @ np.eye(3)[list(order)] * signs
    if shear:
        turned = turned @ np.array([[1, draw(st.floats(-0.2, 0.2)), 0], [0, 1, draw(st.floats(-0.2, 0.2))], [0, 0, 1]])
    matrix[:3, :3] = turned * spacing
    matrix[:3, 3] = draw(st.tuples(*[st.floats(-300, 300)] * 3))
    return Grid(draw(sizes), matrix)


def all_ijk(grid):
    return np.stack(np.meshgrid(*(np.arange(n) for n in grid.size), indexing="ij"), axis=-1).reshape(-1, 3)


def ramp(grid, slope, offset):
    """A volume whose value at every voxel centre is `slope . RAS + offset`."""
    ijk = all_ijk(grid)
    array = np.empty(grid.shape, dtype=np.float32)
    array[ijk[:, 2], ijk[:, 1], ijk[:, 0]] = grid.to_ras(ijk) @ slope + offset
    return Volume(array, grid)


@given(grids(), st.lists(st.tuples(*[st.floats(-50, 50)] * 3), min_size=1, max_size=5))
@FEW
def test_to_ras_and_to_ijk_are_inverse(grid, points):
    np.testing.assert_allclose(grid.to_ijk(grid.to_ras(points)), points, atol=1e-8)
    np.testing.assert_allclose(grid.to_ras([0, 0, 0])[0], grid.ijk_to_ras[:3, 3])


@given(grids())
@FEW
def test_canonical_keeps_where_every_value_is(grid):
    array = np.arange(np.prod(grid.shape)).reshape(grid.shape)
    turned = Volume(array, grid).canonical()
    ijk = all_ijk(turned.grid)
    back = np.rint(grid.to_ijk(turned.grid.to_ras(ijk))).astype(int)
    np.testing.assert_allclose(grid.to_ijk(turned.grid.to_ras(ijk)), back, atol=1e-6)
    np.testing.assert_array_equal(turned.array[ijk[:, 2], ijk[:, 1], ijk[:, 0]], array[back[:, 2], back[:, 1], back[:, 0]])
    assert sorted(turned.array.ravel().tolist()) == sorted(array.ravel().tolist())


@given(grids())
@FEW
def test_canonical_axes_point_to_r_a_s(grid):
    canonical = grid.canonical()
    cosines = canonical.ijk_to_ras[:3, :3] / canonical.spacing_mm
    assert (np.diag(cosines) >= 0).all()
    best = max(sum(abs(cosines[w, p[w]]) for w in range(3)) for p in permutations(range(3)))
    assert np.trace(cosines) == pytest.approx(best)
    assert canonical.canonical().same_as(canonical)


@given(grids(), st.tuples(*[st.floats(0.5, 6)] * 3))
@FEW
def test_with_spacing_keeps_centre_and_extent(grid, spacing):
    other = grid.with_spacing(spacing)
    np.testing.assert_allclose(other.center_ras, grid.center_ras, atol=1e-6)
    np.testing.assert_allclose(other.spacing_mm, spacing, rtol=1e-9)
    cosines = grid.ijk_to_ras[:3, :3] / grid.spacing_mm
    np.testing.assert_allclose(other.ijk_to_ras[:3, :3] / other.spacing_mm, cosines, atol=1e-9)
    before, after = np.array(grid.size) * grid.spacing_mm, np.array(other.size) * other.spacing_mm
    held = np.array(other.size) > 1  # a field smaller than one voxel of the new spacing still needs that voxel
    assert (np.abs(after - before)[held] <= 0.5 * np.array(spacing)[held] + 1e-6).all()


@given(grids(), st.tuples(*[st.floats(-3, 3)] * 3), st.tuples(*[st.floats(0.5, 3)] * 3), sizes)
@FEW
def test_sub_places_its_voxels(grid, start, step, shape):
    sub = grid.subgrid(start, step, shape)
    ijk = all_ijk(sub)
    np.testing.assert_allclose(sub.to_ras(ijk), grid.to_ras(np.array(start) + ijk * np.array(step)), atol=1e-6)


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


@given(grids())
@FEW
def test_values_at_and_contains(grid):
    volume = Volume(np.arange(np.prod(grid.shape)).reshape(grid.shape), grid)
    ijk = all_ijk(grid)
    near = grid.to_ras(ijk + np.random.default_rng(0).uniform(-0.45, 0.45, ijk.shape))
    np.testing.assert_array_equal(volume.nearest_values(near), volume.array[ijk[:, 2], ijk[:, 1], ijk[:, 0]])
    assert grid.contains(near).all()
    assert not grid.contains(grid.to_ras([-0.6, 0, 0])).any()
    assert not grid.contains(grid.to_ras(np.array(grid.size) - [1, 1, 0.4])).any()


def test_same_as_sees_a_small_difference_at_the_far_corner():
    grid = Grid((10, 10, 100), np.eye(4))
    matrix = np.eye(4)
    matrix[0, 0] = 1.0001
    assert grid.same_as(Grid((10, 10, 100), np.eye(4)))
    assert not grid.same_as(Grid((10, 10, 100), matrix))
    assert not grid.same_as(Grid((10, 10, 99), np.eye(4)))


@pytest.mark.parametrize(
    ("shape", "matrix"),
    [
        ((0, 2, 2), np.eye(4)),
        ((2, 2), np.eye(4)),
        ((2, 2, 2), np.diag([1, 0, 1, 1])),
        ((2, 2, 2), np.diag([1, np.nan, 1, 1])),
        ((2, 2, 2), np.eye(3)),
        ((2, 2, 2), np.diag([1, 1, 1, 2])),
        ((2, 2, 2), [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]),
    ],
)
def test_impossible_grids_are_refused(shape, matrix):
    with pytest.raises(VolumeError):
        Grid(shape, matrix)


def test_a_volume_must_be_3d_and_fit_its_grid():
    grid = Grid((2, 3, 4), np.eye(4))
    with pytest.raises(VolumeError, match="3D"):
        Volume(np.zeros((2, 3, 4, 5)), grid)
    with pytest.raises(VolumeError, match="shape"):
        Volume(np.zeros((4, 3, 2)), grid)


def test_a_grid_does_not_change_with_the_matrix_it_was_made_from():
    matrix = np.eye(4)
    grid = Grid((2, 2, 2), matrix)
    matrix[0, 3] = 99
    assert grid.to_ras([0, 0, 0])[0, 0] == 0
    with pytest.raises(ValueError, match="read-only"):
        grid.ijk_to_ras[0, 0] = 2


@pytest.mark.parametrize("floats", [1, 500, 4000, 1 << 21])
def test_a_sum_is_the_same_however_it_is_cut(monkeypatch, floats):
    """Slices and channels are worked on some at a time; how many must not show."""
    monkeypatch.setattr("CoralBayLib.imaging.resampling._SLAB_FLOATS", floats)
    target = Grid((11, 9, 10), np.diag([2.0, 2.0, 2.0, 1.0]))
    generator = torch.Generator().manual_seed(0)
    parts = []
    for step in (2, 3):
        grid = target.subgrid((0.5, 0.5, 0.5), step, (5, 4, 4))
        parts.append((torch.randn(7, *grid.shape, generator=generator), grid))
    expected = torch.stack([interpolate(maps, grid, target) for maps, grid in parts]).sum(dim=0)
    torch.testing.assert_close(sum_interpolated(parts, target), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("spacing", "close"), [((2, 2, 3.9), (0, 1, 2)), ((2, 2, 5), (1, 2)), ((5, 0.8, 0.8), (0, 1)), ((3, 1, 3), (1,))]
)
def test_thick_slices_are_no_neighbours(spacing, close):
    assert Grid((4, 5, 6), np.diag([*spacing, 1.0])).isotropic_axes == close
