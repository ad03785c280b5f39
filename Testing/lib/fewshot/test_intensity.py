"""The HU of a structure compared with its neighbors, and borders that move onto edges."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from CoralBayLib.fewshot.evidence.intensity import IntensityEvidence, guided_filter
from CoralBayLib.imaging.grid import Grid, Volume


@pytest.fixture
def image():
    """60 HU up to I = 19, 110 from there on, with noise, on a flipped anisotropic grid."""
    matrix = np.diag([-2.0, 2.0, 3.0, 1.0])
    matrix[:3, 3] = (30, -10, 50)
    hu = np.full((12, 14, 40), 60.0)
    hu[..., 19:] = 110
    hu += np.random.default_rng(0).normal(0, 8, hu.shape)
    return Volume(np.round(hu).astype(np.int16), Grid(hu.shape, matrix))


WITHIN = (slice(0, 12), slice(0, 14), slice(0, 40))


def points(image, columns, own):
    """A line of prompts along J in each of some columns I."""
    ijk = [[i, j, 6] for i in columns for j in range(2, 12)]
    return image.grid.to_ras(ijk), np.repeat(own, 10)


def test_log_odds_rise_for_own_hu_and_fall_for_hu_of_neighbors(image):
    out = torch.zeros(image.grid.shape)
    IntensityEvidence(image).refine(*points(image, [16, 22], [True, False]), out, WITHIN)
    assert out[:, :, 2:17].mean() > 1
    assert out[:, :, 21:38].mean() < -1


def test_a_border_moves_onto_a_nearby_edge(image):
    """A slow fall of the log-odds becomes a step where the CT has one."""
    ramp = torch.linspace(3, -3, 40).expand(image.grid.shape).contiguous()
    IntensityEvidence(image).refine(*points(image, [15, 23], [True, True]), ramp, WITHIN)
    steps = -ramp.mean(dim=(0, 1)).diff()
    assert steps[18] > 1.5 * max(steps[16], steps[20])


def test_nothing_outside_the_surroundings_is_changed(image):
    out = torch.zeros(image.grid.shape)
    within = (slice(2, 9), slice(0, 14), slice(5, 30))
    IntensityEvidence(image).refine(*points(image, [16, 22], [True, False]), out, within)
    changed = out != 0
    assert changed[within].any()
    changed[within] = False
    assert not changed.any()


def test_distant_prompts_are_no_neighbors(image):
    image.array[:] = 60
    image.array[..., 35:] = 900
    out = torch.zeros(image.grid.shape)
    IntensityEvidence(image).refine(*points(image, [5, 38], [True, False]), out, WITHIN)
    assert out[6, 7, 10] < 0  # only the reserve


def test_intensity_is_unused_without_other_prompts(image):
    out = torch.full(image.grid.shape, 0.5)
    IntensityEvidence(image).refine(*points(image, [15], [True]), out, WITHIN)
    torch.testing.assert_close(out, torch.full(image.grid.shape, 0.5))


def test_negligible_log_odds_are_not_changed(image):
    out = torch.full(image.grid.shape, -20.0)
    IntensityEvidence(image).refine(*points(image, [16, 22], [True, False]), out, WITHIN)
    assert (out == -20).all()


def test_thick_slices_do_not_blur_each_other(image):
    """Only voxels of a slice affect its borders."""
    thick = Volume(image.array, image.grid.subgrid((0, 0, 0), (1, 1, 3), image.grid.shape))
    values = torch.linspace(3, -3, 40).expand(image.grid.shape).contiguous()
    told = points(thick, [15, 23], [True, True])
    before = values.clone()
    IntensityEvidence(thick).refine(*told, before, WITHIN)
    values[6] = 4
    IntensityEvidence(thick).refine(*told, values, WITHIN)
    assert (values[5] == before[5]).all() and (values[7] == before[7]).all()


@pytest.mark.parametrize("axes", [(0, 1, 2), (1, 2), (0,)])
def test_the_guided_filter_equals_its_definition(axes):
    """Compared with the definition, with box filters of another library."""
    random = np.random.default_rng(1)
    guide, values = random.normal(size=(2, 7, 8, 9)).astype(np.float32)
    found = guided_filter(torch.from_numpy(guide), torch.from_numpy(values), 0.2, axes)

    def mean(a):
        size = [3 if axis in axes else 1 for axis in range(3)]
        return ndimage.uniform_filter(a.astype(np.float64), size, mode="nearest")

    a = (mean(guide * values) - mean(guide) * mean(values)) / (mean(guide * guide) - mean(guide) ** 2 + 0.2)
    b = mean(values) - a * mean(guide)
    np.testing.assert_allclose(found, mean(a) * guide + mean(b), atol=1e-5)
