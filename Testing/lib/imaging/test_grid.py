"""Properties of oblique, flipped, anisotropic and sheared grids."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from CoralBayLib.core.errors import VolumeError
from CoralBayLib.imaging.grid import Grid, Volume
from Testing.lib.conftest import phantom_grid, rotation

from .grids import FEW, all_ijk, grids, sizes


@given(grids(), st.lists(st.tuples(*[st.floats(-50, 50)] * 3), min_size=1, max_size=5))
@FEW
def test_to_ras_and_to_ijk_are_inverse(grid, points):
    np.testing.assert_allclose(grid.to_ijk(grid.to_ras(points)), points, atol=1e-8)
    np.testing.assert_allclose(grid.to_ras([0, 0, 0])[0], grid.ijk_to_ras[:3, 3])


@given(grids())
@FEW
def test_canonical_keeps_the_position_of_every_value(grid):
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
def test_subgrid_voxels_have_the_right_positions(grid, start, step, shape):
    sub = grid.subgrid(start, step, shape)
    ijk = all_ijk(sub)
    np.testing.assert_allclose(sub.to_ras(ijk), grid.to_ras(np.array(start) + ijk * np.array(step)), atol=1e-6)


@given(grids())
@FEW
def test_nearest_voxels_and_contains(grid):
    volume = Volume(np.arange(np.prod(grid.shape)).reshape(grid.shape), grid)
    ijk = all_ijk(grid)
    near = grid.to_ras(ijk + np.random.default_rng(0).uniform(-0.45, 0.45, ijk.shape))
    np.testing.assert_array_equal(volume.nearest_values(near), volume.array[ijk[:, 2], ijk[:, 1], ijk[:, 0]])
    np.testing.assert_array_equal(grid.nearest_ijk(near), ijk)
    # A point outside has the voxel of the border that is nearest to it along each axis.
    far = grid.to_ras([[-7, 0, 0], np.array(grid.size) + 7])
    np.testing.assert_array_equal(grid.nearest_ijk(far), [[0, 0, 0], np.array(grid.size) - 1])
    assert grid.contains(near).all()
    assert not grid.contains(grid.to_ras([-0.6, 0, 0])).any()
    assert not grid.contains(grid.to_ras(np.array(grid.size) - [1, 1, 0.4])).any()


def test_same_as_detects_a_small_difference_at_the_far_corner():
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


@pytest.mark.parametrize(
    ("spacing", "close"), [((2, 2, 3.9), (0, 1, 2)), ((2, 2, 5), (1, 2)), ((5, 0.8, 0.8), (0, 1)), ((3, 1, 3), (1,))]
)
def test_thick_slices_are_not_isotropic_axes(spacing, close):
    assert Grid((4, 5, 6), np.diag([*spacing, 1.0])).isotropic_axes == close


def test_orientation_in_words():
    axial = phantom_grid("axial")
    assert (axial.directions, axial.slice_plane, axial.obliqueness_deg, axial.shear_deg) == ("RAS", "axial", 0, 0)
    assert phantom_grid("flipped").directions == "LAI"
    permuted = phantom_grid("permuted")
    assert (permuted.directions, permuted.slice_plane) == ("AIR", "sagittal")
    tilted = np.eye(4)
    tilted[:3, :3] = rotation(20, 0, 0) @ np.diag([1, 2, 3])
    assert Grid((4, 5, 6), tilted).obliqueness_deg == pytest.approx(20)
    assert Grid((4, 5, 6), tilted).shear_deg == pytest.approx(0, abs=1e-6)
    sheared = np.eye(4)
    sheared[0, 2] = np.tan(np.radians(10))
    assert Grid((4, 5, 6), sheared).shear_deg == pytest.approx(10)
    coronal = np.eye(4)
    coronal[:3, :3] = np.array([[-1, 0, 0], [0, 0, 1], [0, -1, 0]])
    assert (Grid((4, 5, 6), coronal).directions, Grid((4, 5, 6), coronal).slice_plane) == ("LIA", "coronal")
