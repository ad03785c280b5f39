"""Similarity maps and their peaks: a query finds itself and similar regions, and the peaks keep their distance."""

from __future__ import annotations

import numpy as np
import pytest

import CoralBayLib as cb
from CoralBayLib.core.errors import QueryError
from CoralBayLib.imaging.grid import Grid, Volume


@pytest.fixture
def twins(make_grid, make_phantom, pooling):
    """Two bright blobs and a dark one in an oblique scan."""
    grid = make_grid("oblique")
    places = [grid.center_ras + shift for shift in ([20, 4, 0], [-20, -4, 6], [0, 18, -10])]
    volume = make_phantom(grid, [(places[0], 6.0, 300.0), (places[1], 6.0, 300.0), (places[2], 6.0, -250.0)])
    return volume, cb.embed(volume, pooling(strides=(2, 4, 8))), places


def test_query_finds_itself_and_its_twin(twins):
    _, pyramid, places = twins
    simmap = cb.similarity_map(pyramid, cb.Query.sphere(places[0], 3.0))
    assert simmap.grid.same_as(pyramid.grid)
    regions = cb.find_regions(simmap, k=2, min_distance_mm=20)
    for place in places[:2]:
        assert min(np.linalg.norm(np.subtract(region.ras, place)) for region in regions) < 8
    assert regions[0].score >= regions[1].score


def test_map_is_within_its_bounds_and_minus_one_outside_the_body(twins):
    _, pyramid, places = twins
    simmap = cb.similarity_map(pyramid, cb.Query.point(places[2]))
    assert simmap.array.min() >= -1
    assert simmap.array.max() <= 1
    assert (simmap.array[pyramid.body.array == 0] == -1).all()
    assert simmap.array.dtype == np.float32


def test_query_by_segment_is_the_average_of_its_voxels(twins):
    volume, pyramid, places = twins
    labels = np.zeros(volume.array.shape, np.uint8)
    kji = np.round(volume.grid.to_ijk(places[0])).astype(int)[0, ::-1]
    labels[kji[0], kji[1] : kji[1] + 3, kji[2]] = 4
    query = cb.Query.segment(Volume(labels, volume.grid), 4)
    assert len(query.points_ras) == 3
    parts = [cb.Query.point(point).vector(pyramid) for point in query.points_ras]
    assert np.allclose(query.vector(pyramid), sum(parts) / 3, atol=1e-5)


def test_sphere_lies_within_its_radius():
    points = cb.Query.sphere([10, 20, 30], 7.0).points_ras
    distance = np.linalg.norm(points - [10, 20, 30], axis=1)
    assert distance.max() <= 7.0
    assert distance.max() > 5.5
    assert np.allclose(points.mean(axis=0), [10, 20, 30])


def test_regions_are_peaks_in_mm_in_the_order_of_falling_score():
    grid = Grid((12, 14, 40), np.array([[0, 0, 2.0, 5], [3, 0.4, 0, -7], [0, 1.0, 0, 9], [0, 0, 0, 1]]))
    values = np.full(grid.shape, -0.5, np.float32)
    peaks = {(2, 3, 4): 0.9, (2, 3, 7): 0.8, (9, 10, 30): 0.7, (6, 6, 18): 0.6}
    for kji, score in peaks.items():
        values[kji] = score
    # Peaks 1 and 2 are 9 mm apart along i.
    near = cb.find_regions(Volume(values, grid), k=3, min_distance_mm=8.0)
    assert [round(region.score, 2) for region in near] == [0.9, 0.8, 0.7]
    assert np.allclose(near[0].ras, grid.to_ras([4, 3, 2])[0])
    apart = cb.find_regions(Volume(values, grid), k=3, min_distance_mm=10.0)
    assert [round(region.score, 2) for region in apart] == [0.9, 0.7, 0.6]


def test_outside_the_body_there_are_no_regions():
    values = np.full((4, 4, 4), -1.0, np.float32)
    assert cb.find_regions(Volume(values, Grid((4, 4, 4), np.eye(4)))) == []


@pytest.mark.parametrize(
    "make",
    [
        lambda: cb.Query.point([np.nan, 0, 0]),
        lambda: cb.Query.stroke(np.empty((0, 3))),
        lambda: cb.Query.point([1, 2]),
        lambda: cb.Query.sphere([0, 0, 0], 0),
        lambda: cb.Query.segment(Volume(np.zeros((2, 2, 2)), Grid((2, 2, 2), np.eye(4))), 1),
    ],
)
def test_invalid_queries_are_refused(make):
    with pytest.raises(QueryError):
        make()


def test_query_outside_the_scan_is_refused(twins):
    _, pyramid, _ = twins
    with pytest.raises(QueryError, match="outside the volume"):
        cb.similarity_map(pyramid, cb.Query.point([900, 0, 0]))


def test_invalid_limits_are_refused(twins):
    _, pyramid, places = twins
    simmap = cb.similarity_map(pyramid, cb.Query.point(places[0]))
    with pytest.raises(QueryError):
        cb.find_regions(simmap, k=0)


@pytest.mark.parametrize("distance", [float("nan"), float("inf"), -1.0])
def test_distances_that_are_none(distance):
    simmap = Volume(np.zeros((4, 4, 4), np.float32), Grid((4, 4, 4), np.eye(4)))
    with pytest.raises(QueryError, match="distance"):
        cb.find_regions(simmap, 3, distance)
