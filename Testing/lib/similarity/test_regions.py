"""Extents of similar regions, and queries in another scan."""

import numpy as np
import pytest

from CoralBayLib.core.errors import EncoderError
from CoralBayLib.features.embedding import embed
from CoralBayLib.imaging.grid import Grid, Volume
from CoralBayLib.similarity.regions import extents, in_basis_of
from CoralBayLib.similarity.search import Query, Region, find_regions, similarity_map


def test_each_region_has_its_component_and_volume() -> None:
    grid = Grid((10, 12, 14), np.diag([2.0, 2, 2.5, 1]))
    values = np.full(grid.shape, 0.1, np.float32)
    values[2:4, 2:4, 2:4] = 0.9
    values[6:9, 6:8, 8:12] = 0.8
    regions = [Region(tuple(grid.to_ras([2, 2, 2])[0]), 0.9), Region(tuple(grid.to_ras([9, 7, 7])[0]), 0.8)]
    regions += [Region(tuple(grid.to_ras([11, 7, 8])[0]), 0.8), Region(tuple(grid.to_ras([0, 0, 9])[0]), 0.1)]
    result = extents(Volume(values, grid), regions, 0.5)
    assert result.volumes_ml == pytest.approx((8 * 0.01, 24 * 0.01, 24 * 0.01, 0))
    assert np.bincount(result.labelmap.array.ravel()).tolist() == [grid.shape[0] * 12 * 14 - 32, 8, 24]


def test_a_query_finds_a_similar_region_in_another_scan(pooling, make_phantom, make_grid) -> None:
    one, two = make_grid(), make_grid("oblique")
    spot, place = one.center_ras + np.array([15, 5, 0]), two.center_ras - np.array([10, 15, 5])
    encoder = pooling()
    first = embed(make_phantom(one, [(spot, 6, 400)]), encoder)
    second = embed(make_phantom(two, [(place, 6, 400)], seed=1), encoder)
    vector = Query.point(spot).vector(first)
    regions = find_regions(similarity_map(in_basis_of(second, first), vector), k=3)
    assert np.linalg.norm(np.array(regions[0].ras) - place) < 8
    with pytest.raises(EncoderError, match="different encoders"):
        in_basis_of(second.select_levels(["pool2"]), first)
