"""Registration finds where points of one patient are in another."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from CoralBayLib.core.errors import Cancelled
from CoralBayLib.core.progress import CancelToken
from CoralBayLib.features.alignment import AxisAlignment
from CoralBayLib.fewshot.patients.coarse import CoarseScan
from CoralBayLib.fewshot.patients.coarse_shift import corrected
from CoralBayLib.fewshot.patients.registration import Deformation, register
from CoralBayLib.imaging.grid import Grid

SHAPE = (30, 32, 34)
SPACING = 5.0


def texture(points):
    """A smooth pattern in space without a repeat within the image."""
    x, y, z = (points / 12.0).T
    return 128 + 40 * (np.sin(x + 0.3 * z) + np.cos(1.3 * y - 0.4 * x) + np.sin(0.9 * z + 0.5 * y))


def scan(move, origin=(0.0, 0.0, 0.0)):
    """The pattern, so that what is at p in the pattern is at p + move(p)."""
    matrix = np.diag([SPACING] * 3 + [1.0])
    matrix[:3, 3] = origin
    grid = Grid(SHAPE, matrix)
    points = grid.centers()
    return CoarseScan(grid, torch.from_numpy(np.clip(texture(points - move(points)), 1, 255).astype(np.uint8).reshape(SHAPE)))


def middle(grid):
    points = grid.centers()
    return points[(np.abs(points - grid.center_ras) < 45).all(axis=1)]


def test_a_bent_patient_is_followed():
    moving = scan(lambda p: np.zeros_like(p))
    fixed = scan(lambda p: np.stack([9 * np.sin(p[:, 1] / 60), 8 * np.cos(p[:, 2] / 70), -7 * np.sin(p[:, 0] / 80)], axis=1))
    points = middle(fixed.grid)
    expected = points - np.stack(
        [9 * np.sin(points[:, 1] / 60), 8 * np.cos(points[:, 2] / 70), -7 * np.sin(points[:, 0] / 80)], axis=1
    )
    before = np.linalg.norm(points - expected, axis=1)
    found = register(fixed, moving, AxisAlignment.identity()).to_other(torch.from_numpy(points).float()).numpy()
    after = np.linalg.norm(found - expected, axis=1)
    assert np.median(before) > 7
    assert np.median(after) < 2.5


def test_the_alignment_of_bodies_is_undone():
    moving = scan(lambda p: np.zeros_like(p))
    shift = np.array([60.0, -45.0, 100.0])
    fixed = scan(lambda p: shift, origin=shift)
    points = middle(fixed.grid)
    found = register(fixed, moving, AxisAlignment(np.ones(3), shift)).to_other(torch.from_numpy(points).float()).numpy()
    assert np.median(np.linalg.norm(found - (points - shift), axis=1)) < 1.0


@pytest.mark.parametrize("along", [(0.0, 0.0, 60.0), (0.0, 0.0, -75.0)])
def test_bodies_that_were_aligned_far_off_are_shifted(along):
    """By more than the deformable registration finds: what the scans share is not in the middle of either."""
    moving, fixed = scan(lambda p: np.zeros_like(p)), scan(lambda p: np.zeros_like(p))
    wrong = AxisAlignment(np.ones(3), np.array(along))
    assert np.allclose(corrected(fixed, moving, wrong).shift, 0)
    points = middle(fixed.grid)
    found = register(fixed, moving, wrong).to_other(torch.from_numpy(points).float()).numpy()
    assert np.median(np.linalg.norm(found - points, axis=1)) < 1.0


def test_a_right_alignment_stays():
    moving, fixed = scan(lambda p: np.zeros_like(p)), scan(lambda p: np.zeros_like(p))
    alignment = AxisAlignment.identity()
    assert corrected(fixed, moving, alignment) is alignment


def test_no_deformation_keeps_points():
    points = torch.tensor([[3.0, -5.0, 70.0]])
    assert torch.equal(Deformation.none().to_other(points), points)


def test_a_scan_of_few_slices_is_only_aligned():
    thin = CoarseScan(Grid((2, 30, 30), np.diag([5.0, 5, 5, 1])), torch.ones(2, 30, 30, dtype=torch.uint8))
    shift = np.array([10.0, 0.0, -5.0])
    found = register(thin, scan(lambda p: np.zeros_like(p)), AxisAlignment(np.ones(3), shift))
    assert np.allclose(found.to_other(torch.zeros(1, 3)).numpy(), -shift)


def test_it_can_be_cancelled():
    token = CancelToken()
    token.cancel()
    one = scan(lambda p: np.zeros_like(p))
    with pytest.raises(Cancelled):
        register(one, one, AxisAlignment.identity(), token)
