"""Similar regions as masks on the grid of a scan."""

import numpy as np
import pytest

from CoralBayLib.imaging.grid import Grid, Volume
from CoralBayLib.similarity.region_masks import region_masks
from CoralBayLib.similarity.regions import extents
from CoralBayLib.similarity.search import Region


@pytest.mark.parametrize("kind", ["axial", "oblique", "flipped", "anisotropic"])
def test_masks_have_the_shape_volume_and_hu_of_what_was_found(make_grid, kind: str) -> None:
    grid = make_grid(kind)
    centers = (grid.center_ras + np.array([14, 2, 0]), grid.center_ras - np.array([14, 2, 0]))
    away = np.stack([np.linalg.norm(grid.centers() - each, axis=-1).reshape(grid.shape) for each in centers])
    hu = np.where(away[0] < 7, 300, np.where(away[1] < 7, 100, 0)).astype(np.int16)
    coarse = grid.with_spacing(3.0)
    far = np.stack([np.linalg.norm(coarse.centers() - each, axis=-1).reshape(coarse.shape) for each in centers])
    # Falls through one half at 7 mm.
    values = np.clip(1 - far.min(axis=0) / 14, 0, 1).astype(np.float32)
    simmap = Volume(values, coarse)
    regions = [Region(tuple(each), 0.9 - 0.1 * number) for number, each in enumerate(centers)]
    labels = extents(simmap, regions, 0.5).labelmap
    found = region_masks(simmap, labels, centers, [0.9, 0.8], 0.5, Volume(hu, grid))
    assert [each.rank for each in found] == [1, 2]
    for each, distance, mean in zip(found, away, (300, 100), strict=True):
        mask = np.zeros(grid.shape, bool)
        i, j, k = each.mask.start
        size = each.mask.mask.shape
        mask[k : k + size[0], j : j + size[1], i : i + size[2]] = each.mask.mask
        ball = distance < 7
        assert 2 * np.count_nonzero(mask & ball) / (mask.sum() + ball.sum()) > 0.9
        assert each.volume_ml == pytest.approx(mask.sum() * grid.voxel_volume_mm3 / 1000)
        assert each.mean_hu == pytest.approx(hu[mask].mean())
        assert abs(each.mean_hu - mean) < 0.15 * mean


def test_regions_that_touch_do_not_overlap() -> None:
    coarse, fine = Grid((6, 6, 12), np.diag([3.0, 3, 3, 1])), Grid((18, 18, 36), np.diag([1.0, 1, 1, 1]))
    labels = np.zeros(coarse.shape, np.uint16)
    labels[1:5, 1:5, 1:6], labels[1:5, 1:5, 6:11] = 1, 2
    peaks = coarse.to_ras([[3, 2, 2], [8, 2, 2]])
    simmap, scan = Volume(np.full(coarse.shape, 0.9, np.float32), coarse), Volume(np.zeros(fine.shape, np.int16), fine)
    one, two = region_masks(simmap, Volume(labels, coarse), peaks, [0.9, 0.9], 0.5, scan)
    count = np.zeros(fine.shape, int)
    for each in (one, two):
        i, j, k = each.mask.start
        size = each.mask.mask.shape
        count[k : k + size[0], j : j + size[1], i : i + size[2]] += each.mask.mask
    assert count.max() == 1
    assert one.volume_ml > 0.7
    assert two.volume_ml > 0.7


def test_a_region_smaller_than_a_voxel_of_the_scan_has_one_voxel() -> None:
    fine, scan = Grid((8, 8, 8), np.eye(4)), Grid((2, 2, 2), np.diag([4.0, 4, 4, 1]))
    labels, values = np.zeros(fine.shape, np.uint16), np.zeros(fine.shape, np.float32)
    labels[2, 2, 2], values[2, 2, 2] = 1, 0.9
    (found,) = region_masks(
        Volume(values, fine), Volume(labels, fine), [[2, 2, 2]], [0.9], 0.8, Volume(np.full(scan.shape, 50, np.int16), scan)
    )
    assert found.mask.mask.sum() == 1
    assert found.mean_hu == 50
