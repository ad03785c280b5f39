"""Each encoder's features lie where its levels say, whatever axes its network was trained on and whatever the scan's grid.

The networks are set up to average: each feature then tells the mean intensity around its place. In a scan whose HU rise
linearly along a direction that is the HU at its place, so a feature gives its own position away.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

import CoralBayLib as cb
from CoralBayLib.encoders.base import InputSpec, LevelSpec, Tiling
from CoralBayLib.features.preprocessing import prepare
from CoralBayLib.imaging.grid import Volume

pytestmark = pytest.mark.slow

pytest.importorskip("monai")

DIRECTION = np.array([3.0, -2.0, 4.0])
GRIDS = ["anisotropic", "flipped", "oblique"]


def average_ctfm(network):
    """Every convolution with a stride averages its 27 voxels; the residual blocks add nothing."""
    for name, parameter in network.named_parameters():
        if name == "conv_init.weight" or "downsample" in name:
            torch.nn.init.constant_(parameter, 1 / parameter[0].numel())
        elif "conv" in name:
            torch.nn.init.zeros_(parameter)


def average_transformer(network):
    """Channels 0 and 1 hold a patch's mean and its negative, 2 and 3 a constant, so that normalising keeps their ratio;
    the blocks add nothing."""
    for name, parameter in network.named_parameters():
        if name.startswith("blocks") or "position" in name or name.endswith("bias"):
            torch.nn.init.zeros_(parameter)
    torch.nn.init.ones_(network.norm.weight)
    embed = next(module for module in network.modules() if isinstance(module, torch.nn.Conv3d))
    torch.nn.init.zeros_(embed.weight)
    embed.weight[0, -1], embed.weight[1, -1] = 1 / 14**3, -1 / 14**3
    embed.bias[2], embed.bias[3] = 10.0, -10.0


def hu_of_ctfm(level):
    return level.features[0].float() * 3072 - 1024


def hu_of_voxelfm(level):
    return 10 * level.features[0].float() / level.features[2].float() * 461.3 - 573.8


def hu_of_fmct(level):
    return 10 * level.features[0].float() / level.features[2].float() * 14**3 / 12**3 * 2800 - 800


FAMILIES = {
    "ct-fm": (average_ctfm, hu_of_ctfm, 17),
    "voxelfm": (average_transformer, hu_of_voxelfm, 0),
    "fm-ct": (average_transformer, hu_of_fmct, 0),
}


def ramp(grid):
    k, j, i = np.indices(grid.shape)
    ras = grid.to_ras(np.stack([i, j, k], -1).reshape(-1, 3))
    return Volume(((ras - grid.center_ras) @ DIRECTION).reshape(grid.shape).astype(np.float32), grid)


def averaging(family, make_network):
    network = make_network(family)
    with torch.no_grad():
        FAMILIES[family][0](network)
    return network


@pytest.mark.parametrize("kind", GRIDS)
@pytest.mark.parametrize("family", FAMILIES)
def test_features_tell_their_own_position(family, kind, make_grid, make_network, make_encoder):
    grid = make_grid(kind, extent_mm=120 if family == "voxelfm" else 90)
    encoder = make_encoder(family, averaging(family, make_network))
    pyramid = cb.embed(ramp(grid), encoder, assume_hu=True)
    _, hu, reach = FAMILIES[family]
    specs = [spec for spec in encoder.levels if not spec.optional]
    for level, spec in zip(pyramid.levels, specs, strict=True):
        k, j, i = np.indices(level.grid.shape)
        at = level.grid.to_ras(np.stack([i, j, k], -1).reshape(-1, 3))
        expected = (at - grid.center_ras) @ DIRECTION
        # Features that see beyond the border see extrapolated or padded voxels.
        network_mm = level.grid.spacing_mm / spec.stride
        margin = network_mm * (reach if reach else max(spec.stride) / 2) + grid.spacing_mm.max()
        from_centre = np.abs(grid.to_ijk(at) - (np.array(grid.size) - 1) / 2) * grid.spacing_mm
        inner = (from_centre < np.array(grid.size) * grid.spacing_mm / 2 - margin.max()).all(1)
        assert inner.sum() > 8, level.name
        # Half a voxel of the working grid is 1.5 HU or more; a flip left out would cost a whole stride.
        assert np.abs(hu(level).numpy().ravel() - expected)[inner].max() < 1.2, level.name


def test_windows_of_a_flipped_network_join_without_a_seam(make_grid, make_network, make_encoder):
    encoder = make_encoder("ct-fm", averaging("ct-fm", make_network))
    volume = ramp(make_grid("axial", extent_mm=90))
    names = ["stage2", "stage3"]
    whole = cb.embed(volume, encoder, assume_hu=True, levels=names)
    encoder.tiling = Tiling("windows-64", (64, 64, 64), (32, 32, 32))
    tiled = cb.embed(volume, encoder, assume_hu=True, levels=names)
    for one, other in zip(whole.levels, tiled.levels, strict=True):
        assert one.grid.same_as(other.grid)
        inner = (slice(None), *(slice(n // 4, n - n // 4) for n in one.grid.shape))
        # Zeros beyond a window's border reach a few voxels in, where its share in the blend is small.
        assert float((hu_of_ctfm(one) - hu_of_ctfm(other)).abs()[inner[1:]].median()) < 1.0


@pytest.mark.parametrize("stride", [2, 4, 16])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_receptive_fields_of_ctfm_are_centred(stride, axis, make_network, make_encoder):
    """The centre of mass of what feeds a feature is at stride * index + offset, for more than one size."""
    encoder = make_encoder("ct-fm", averaging("ct-fm", make_network))
    level = next(level for level in encoder.levels if level.stride[0] == stride)
    for length in (96, 112):
        size = [64, 64, 64]
        size[axis] = length
        x = torch.rand(1, 1, *size, requires_grad=True)
        with torch.enable_grad():
            (made,) = encoder.network.forward_features(x, (level.name,))
        index = [n // stride // 2 for n in size]
        (gradient,) = torch.autograd.grad(made[0, :, index[0], index[1], index[2]].sum(), x)
        profile = gradient[0, 0].sum(dim=[a for a in range(3) if a != axis]).double()
        assert profile[0] == profile[-1] == 0, "the receptive field reaches the border: the test is too small"
        centre = float((profile * torch.arange(length)).sum() / profile.sum())
        assert centre == pytest.approx(stride * index[axis] + level.offset[axis], abs=1e-3)


@pytest.mark.parametrize("kind", GRIDS)
def test_a_fitted_box_holds_the_patient_and_nothing_else(kind, make_grid, make_phantom):
    """A ball brought to a size is as many voxels wide along every axis, and its voxels lie where they were."""
    grid = make_grid(kind, extent_mm=110)
    blob = grid.center_ras + [9.0, -6.0, 4.0]
    volume = make_phantom(grid, [(blob, 8.0, 900.0)], radius_mm=40)
    made = prepare(volume, InputSpec((1.0, 1.0, 1.0), (-1000.0, 1000.0), (8, 8, 8), fit=(32, 40, 48)))
    assert made.image.grid.size == (32, 40, 48)
    extent = made.image.grid.spacing_mm * made.image.grid.size
    np.testing.assert_allclose(extent, 80, atol=4)
    np.testing.assert_allclose(made.image.grid.center_ras, grid.center_ras, atol=2)
    assert made.body.array.mean() == pytest.approx(np.pi / 6, abs=0.04)
    weight = np.clip(made.image.array - 100, 0, None)
    found = made.image.grid.to_ras([[np.average(index, weights=weight) for index in np.indices(weight.shape)][::-1]])
    assert np.abs(found - blob).max() < 0.3


def test_averages_lie_at_the_middle_of_their_blocks(make_grid):
    volume = ramp(make_grid("axial", extent_mm=70, spacing=1.0))
    made = prepare(volume, InputSpec((1.0, 1.0, 1.0), (-1000.0, 1000.0), (8, 8, 8), fit=(24, 33, 70)))
    grid = made.image.grid
    k, j, i = np.indices(grid.shape)
    expected = (grid.to_ras(np.stack([i, j, k], -1).reshape(-1, 3)) - volume.grid.center_ras) @ DIRECTION
    inner = (slice(1, -1),) * 3  # beyond the border the edge values go on
    np.testing.assert_allclose(made.image.array[inner], expected.reshape(grid.shape)[inner], atol=2e-3)


@pytest.mark.parametrize(("spacing", "expected"), [(2.0, 2.0), (0.5, 1.0)])
def test_a_lower_bound_keeps_a_coarser_scan_as_it_is(spacing, expected, make_grid, make_phantom):
    """Isotropic at the scan's finest spacing, but no finer than the bound."""
    volume = make_phantom(make_grid("axial", extent_mm=40, spacing=spacing), radius_mm=15)
    coarser = Volume(volume.array[::2], volume.grid.subgrid((0, 0, 0), (1, 1, 2), volume.array[::2].shape))
    made = prepare(coarser, InputSpec((1.0, 1.0, 1.0), (-1000.0, 1000.0), (8, 8, 8), at_least=True))
    np.testing.assert_allclose(made.image.grid.spacing_mm, expected)


def test_a_level_offset_is_one_of_the_two_kinds(make_encoder):
    """Blocks that tile the input are symmetric under a flip; strided convolutions are not."""
    for family in FAMILIES:
        for level in make_encoder(family).levels:
            assert isinstance(level, LevelSpec)
            s = level.stride[0]
            assert level.offset == ((s - 1, s - 1, 0) if family == "ct-fm" else ((s - 1) / 2,) * 3)
