"""Embedding gives features at the right positions for any grid and any windows, and handles failures."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import CoralBayLib as cb
from CoralBayLib.core.errors import Cancelled, EncoderError, MemoryLimitError, Remedy, VolumeError
from CoralBayLib.features.identity import content_hash
from CoralBayLib.features.preprocessing import body_mask, prepare
from CoralBayLib.features.windows import make_plan
from CoralBayLib.imaging.grid import Grid, Volume

pytestmark = pytest.mark.slow

GEOMETRIES = ["axial", "flipped", "permuted", "anisotropic", "oblique", "sheared"]


@pytest.mark.parametrize("kind", GEOMETRIES)
def test_features_of_a_ramp_have_the_right_positions(kind, make_grid, pooling):
    """With intensity rising linearly along a direction, a block's average is the intensity at the block's centre."""
    grid = make_grid(kind)
    direction = np.array([3.0, -2.0, 4.0])
    k, j, i = np.indices(grid.shape)
    ras = grid.to_ras(np.stack([i, j, k], -1).reshape(-1, 3))
    hu = (ras - grid.center_ras) @ direction
    volume = Volume(hu.reshape(grid.shape), grid)
    pyramid = cb.embed(volume, pooling(), assume_hu=True)
    for level in pyramid.levels:
        k, j, i = np.indices(level.grid.shape)
        at = level.grid.to_ras(np.stack([i, j, k], -1).reshape(-1, 3))
        expected = (at - grid.center_ras) @ direction
        # Blocks that reach over the border hold extrapolated or padded voxels.
        from_centre = np.abs(grid.to_ijk(at) - (np.array(grid.size) - 1) / 2) * grid.spacing_mm
        inner = (from_centre < np.array(grid.size) * grid.spacing_mm / 2 - level.grid.spacing_mm.max()).all(1)
        found = level.features[0].float().numpy().ravel() * 2000 - 1000
        # One HU here is 0.2 mm; half a voxel would show as 3 or more. Half precision resolves 0.5 HU.
        assert inner.sum() > 8
        assert np.abs(found - expected)[inner].max() < 1.0


@pytest.mark.parametrize("kind", GEOMETRIES)
def test_a_blob_has_the_right_position(kind, make_grid, make_phantom, pooling):
    grid = make_grid(kind)
    centre = grid.center_ras + [5.3, -7.1, 4.7]
    volume = make_phantom(grid, [(centre, 6.0, 800.0)])
    pyramid = cb.embed(volume, pooling(strides=(2, 4)))
    maps = pyramid.linear_map(torch.eye(pyramid.channels)[:1])[0].numpy().copy()
    maps -= np.median(maps[pyramid.body.array > 0])
    maps[(maps < 0.1) | (pyramid.body.array == 0)] = 0
    kji = np.array([np.average(index, weights=maps) for index in np.indices(maps.shape)])
    assert np.abs(kji[::-1] - pyramid.grid.to_ijk(centre)[0]).max() < 0.5


def test_canonical_order_of_the_tensor(make_grid, make_phantom, pooling):
    """The network's input is in R, A, S order for any order of the array, so that the same anatomy has the same features."""
    blobs = [([30.0, -30, 45], 8.0, 500.0), ([12.0, -10, 45], 5.0, -300.0), ([12.0, -30, 70], 6.0, 300.0)]
    straight = cb.embed(make_phantom(make_grid("axial"), blobs, seed=1), pooling())
    turned = cb.embed(make_phantom(make_grid("permuted"), blobs, seed=1), pooling())
    points = straight.grid.center_ras + np.random.default_rng(0).uniform(-20, 20, (40, 3))
    # Noise differs from voxel to voxel between the two; 2 HU of it is 0.001 of the window.
    torch.testing.assert_close(straight.sample(points), turned.sample(points), atol=0.02, rtol=0)


def test_windows_equal_the_whole_scan(make_grid, make_phantom, pooling):
    """Block averages do not depend on the window, so any blending of windows must return them unchanged."""
    volume = make_phantom(make_grid("oblique", extent_mm=140), [([12, -30, 45], 9.0, 400.0)], radius_mm=60)
    whole = cb.embed(volume, pooling())
    tiled = cb.embed(volume, pooling(window=(32, 32, 32), step=(16, 16, 16)))
    assert whole.identity != tiled.identity
    for one, other in zip(whole.levels, tiled.levels, strict=True):
        inside = cb.resample(whole.body, one.grid, "nearest").array > 0
        assert (one.features.float() - other.features.float()).abs()[:, torch.from_numpy(inside)].max() < 2e-3


def test_windows_of_air_are_skipped(make_grid, make_phantom, pooling):
    grid = make_grid(extent_mm=200)
    encoder = pooling(window=(16, 16, 16), step=(16, 16, 16))
    volume = make_phantom(grid, radius_mm=40)
    cb.embed(volume, encoder)
    plan = make_plan(prepare(volume, encoder.input), encoder, ("pool2",))
    assert 0 < encoder.calls < len(plan.starts)


def test_working_grid_is_cropped_to_the_patient(make_grid, make_phantom, pooling):
    volume = make_phantom(make_grid(extent_mm=200), radius_mm=30)
    pyramid = cb.embed(volume, pooling())
    extent = np.array(pyramid.grid.size) * pyramid.grid.spacing_mm
    assert (extent < 95).all()
    assert pyramid.body.array.mean() > 0.15


@pytest.mark.parametrize("kind", ["axial", "flipped", "permuted", "oblique", "sheared"])
def test_thick_slices_are_not_resampled(make_grid, make_phantom, pooling, kind):
    """The working grid has the scan's own voxels where their spacing is larger than the network's."""
    grid = make_grid(kind, spacing=3.0)
    volume = make_phantom(grid, [(grid.center_ras + [9, 0, 0], 7.0, 300.0)])
    encoder = pooling(spacing_mm=(2.0, 2.0, 2.0))
    pyramid = cb.embed(volume, encoder)
    k, j, i = np.indices(pyramid.grid.shape)
    points = pyramid.grid.to_ras(np.stack([i, j, k], -1).reshape(-1, 3))
    np.testing.assert_allclose(grid.to_ijk(points) % 1 % (1 - 1e-6), 0, atol=1e-5)
    assert (pyramid.image.array.ravel() == volume.nearest_values(points)).all()
    assert (pyramid.body.array.ravel() == prepare(volume, encoder.input).body.nearest_values(points)).mean() > 0.99


def test_only_thick_axes_keep_the_scans_voxels(make_grid, make_phantom, pooling):
    grid = make_grid("anisotropic", spacing=2.5)
    pyramid = cb.embed(make_phantom(grid), pooling(spacing_mm=(3.0, 3.0, 3.0)))
    np.testing.assert_allclose(pyramid.grid.spacing_mm, [3.25, 2.0, 6.5])


@pytest.mark.parametrize("network_mm", [1.0, 1.5, 2.0])
def test_the_working_grid_has_two_millimeters_for_every_network(make_grid, make_phantom, pooling, network_mm):
    grid = make_grid("oblique", spacing=0.8)
    pyramid = cb.embed(make_phantom(grid), pooling(spacing_mm=(network_mm,) * 3))
    np.testing.assert_allclose(pyramid.grid.spacing_mm, 2.0)
    network = prepare(make_phantom(grid), pooling(spacing_mm=(network_mm,) * 3).input).image.grid
    extents = [np.array(g.size) * g.spacing_mm for g in (pyramid.grid, network)]
    assert np.abs(extents[0] - extents[1]).max() < 4.0
    np.testing.assert_allclose(pyramid.grid.center_ras, network.center_ras, atol=2.0)


def test_the_body_includes_inner_air_but_no_table(make_grid):
    grid = make_grid(extent_mm=120)
    k, j, i = np.indices(grid.shape)
    hu = np.full(grid.shape, -1000.0)
    hu[((j - 30) ** 2 + (i - 30) ** 2) < 20**2] = 40
    hu[((j - 30) ** 2 + (i - 30) ** 2) < 8**2] = -850
    hu[:, 56:58, :] = 100
    body = body_mask(hu, grid.spacing_mm)
    assert body[:, 30, 30].all()
    assert not body[:, 57, :].any()


def test_a_field_of_view_inside_the_body_is_all_body():
    assert body_mask(np.full((8, 9, 10), 40.0), np.ones(3)).all()


def test_levels_are_chosen_by_name(make_grid, make_phantom, pooling):
    volume = make_phantom(make_grid())
    encoder = pooling(strides=(1, 2, 4))
    assert [level.name for level in cb.embed(volume, encoder).levels] == ["pool2", "pool4"]
    every = cb.embed(volume, encoder, levels=["pool4", "pool1", "pool2"])
    assert [level.name for level in every.levels] == ["pool1", "pool2", "pool4"]
    assert cb.embed(volume, encoder).scan_embedding is None
    assert every.scan_embedding.shape == (15,)
    with pytest.raises(EncoderError, match="pool1, pool2, pool4"):
        cb.embed(volume, encoder, levels=["enc9"])


def test_the_key_depends_on_content_geometry_and_settings(make_grid, make_phantom):
    volume = make_phantom(make_grid())
    moved = Volume(volume.array, make_grid(centre=(12.5, -30, 45)))
    changed = volume.array.copy()
    changed[0, 0, 0] += 1
    keys = {
        content_hash(volume, {"encoder": "a"}, ["x"]),
        content_hash(volume, {"encoder": "b"}, ["x"]),
        content_hash(volume, {"encoder": "a"}, ["x", "y"]),
        content_hash(moved, {"encoder": "a"}, ["x"]),
        content_hash(Volume(changed, volume.grid), {"encoder": "a"}, ["x"]),
    }
    assert len(keys) == 5
    as_float = Volume(volume.array.astype(np.float32), volume.grid)
    assert content_hash(as_float, {"encoder": "a"}, ["x"]) in keys
    fortran = Volume(np.asfortranarray(volume.array), volume.grid)
    assert content_hash(fortran, {"encoder": "a"}, ["x"]) in keys
    matrix = volume.grid.ijk_to_ras * (1 + 1e-12)
    matrix[matrix == 0] = -0.0
    reread = Volume(volume.array, Grid(volume.grid.shape, matrix))
    assert content_hash(reread, {"encoder": "a"}, ["x"]) in keys


@pytest.mark.parametrize("bad", ["nan", "constant", "thin", "8-bit"])
def test_volumes_that_are_no_ct_are_refused(bad, make_grid, make_phantom, pooling):
    volume = make_phantom(make_grid())
    array, grid = volume.array.astype(np.float32), volume.grid
    if bad == "nan":
        array[3, 3, 3] = np.nan
    elif bad == "constant":
        array[:] = 40
    elif bad == "8-bit":
        array = np.clip((array + 1000) / 8, 0, 255)
    else:
        array, grid = array[:1], grid.subgrid((0, 0, 0), 1, (1, *grid.shape[1:]))
    encoder = pooling()
    with pytest.raises(VolumeError):
        cb.embed(Volume(array, grid), encoder)
    assert encoder.calls == 0


def test_dimensions_other_than_three_are_refused(make_grid):
    for shape in ((4, 5), (2, 4, 5, 6)):
        with pytest.raises(VolumeError, match="3D"):
            Volume(np.zeros(shape), make_grid())


def test_cancel_in_the_middle_keeps_nothing(make_grid, make_phantom, pooling, tmp_path):
    volume = make_phantom(make_grid(extent_mm=140), radius_mm=60)
    store = cb.Store(tmp_path / "store")
    cancel = cb.CancelToken()
    encoder = pooling(window=(16, 16, 16), step=(16, 16, 16))

    def progress(fraction, message):
        if fraction > 0.3:
            cancel.cancel()

    with pytest.raises(Cancelled):
        cb.embed(volume, encoder, progress, cancel, store=store)
    plan = make_plan(prepare(volume, encoder.input), encoder, ("pool2",))
    assert encoder.calls < len(plan.starts) / 2
    assert not list((tmp_path / "store").glob("**/*"))
    assert not any(module._forward_pre_hooks for module in encoder.network.modules())


def test_progress_rises_to_one(make_grid, make_phantom, pooling):
    seen = []
    encoder = pooling(window=(16, 16, 16), step=(16, 16, 16))
    cb.embed(make_phantom(make_grid()), encoder, lambda fraction, message: seen.append((fraction, message)))
    fractions = [fraction for fraction, _ in seen]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert all(message for _, message in seen)


def test_too_little_memory_raises_before_the_start(make_grid, make_phantom, pooling, monkeypatch):
    encoder = pooling()
    monkeypatch.setattr("CoralBayLib.features.windows.available_bytes", lambda device: 1000)
    with pytest.raises(MemoryLimitError, match=r"needs about .* GB") as caught:
        cb.embed(make_phantom(make_grid()), encoder)
    assert caught.value.remedy is Remedy.FREE_MEMORY
    assert "Crop" in Remedy.FREE_MEMORY.value
    assert encoder.calls == 0


def test_out_of_gpu_memory_halves_the_batch_then_uses_the_cpu(make_grid, make_phantom, pooling, monkeypatch):
    encoder = pooling(window=(16, 16, 16), step=(16, 16, 16))
    moved = []
    honest = encoder.forward_features

    def scarce(x, names):
        if not moved:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return honest(x, names)

    encoder.forward_features = scarce
    encoder.to = moved.append
    with pytest.warns(UserWarning, match="The CPU is used instead"):
        pyramid = cb.embed(make_phantom(make_grid()), encoder)
    assert [str(device) for device in moved] == ["cpu"]
    expected = cb.embed(make_phantom(make_grid()), pooling(window=(16, 16, 16), step=(16, 16, 16)))
    assert torch.equal(pyramid.levels[0].features, expected.levels[0].features)


def test_a_gpu_too_small_for_one_window_is_replaced_by_the_cpu(make_grid, make_phantom, pooling, monkeypatch):
    encoder = pooling()
    encoder.device = torch.device("cuda")
    monkeypatch.setattr(
        "CoralBayLib.features.windows.available_bytes", lambda device: 1000 if device.type == "cuda" else 10**12
    )
    with pytest.warns(UserWarning, match="The CPU is used instead"):
        pyramid = cb.embed(make_phantom(make_grid()), encoder)
    assert encoder.device.type == "cpu"
    assert pyramid.levels
