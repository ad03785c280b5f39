"""Search for regions of a scan that are similar to a query: a map of cosine similarity and its peaks."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from CoralBayLib.core.errors import QueryError
from CoralBayLib.features.pyramid import FeaturePyramid
from CoralBayLib.imaging.grid import Grid, Volume

_MAX_POINTS = 2000
"""Voxels of a segment that are averaged; a larger segment is sampled."""

_LARGEST_RADIUS_MM = 300.0
"""Largest radius of a ball, mm; its number of points grows with the cube of the radius."""


def require_limits(k: int, min_distance_mm: float) -> None:
    """Check the limits of a search.

    Raises:
        QueryError: `k` is below 1, or the distance is negative or not finite.
    """
    if k < 1 or not 0 <= min_distance_mm < math.inf:
        raise QueryError(f"Expected k of at least 1 and a distance of at least 0 mm, got {k} and {min_distance_mm}.")


@dataclass(frozen=True, eq=False)
class Query:
    """A location to search for; the features at several points are averaged.

    Attributes:
        points_ras: (N, 3) RAS mm.
        around: (3,) RAS mm, the center that the user gave when the points lie around it; points outside the scan are
            ignored then.

    Raises:
        QueryError: there are no points, or their coordinates are not finite.

    Example::

        Query.point([10, 20, 30])
        Query.sphere([10, 20, 30], radius_mm=8)
        Query.segment(labelmap, label=5)
    """

    points_ras: NDArray[np.float64]
    around: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        points = np.array(self.points_ras, dtype=np.float64)
        if points.ndim != 2 or points.shape[1:] != (3,) or not len(points):
            raise QueryError(f"A query needs at least one point in RAS mm, an (N, 3) array; got shape {points.shape}.")
        if not np.isfinite(points).all():
            raise QueryError("A query point has a NaN or infinite coordinate.")
        object.__setattr__(self, "points_ras", points)

    @classmethod
    def point(cls, ras: ArrayLike) -> Query:
        """A query at a point, (3,) RAS mm."""
        return cls(np.reshape(np.asarray(ras, dtype=np.float64), (1, -1)))

    @classmethod
    def stroke(cls, points_ras: ArrayLike) -> Query:
        """A query by the points of a stroke, (N, 3) RAS mm."""
        return cls(np.asarray(points_ras, dtype=np.float64))

    @classmethod
    def sphere(cls, ras: ArrayLike, radius_mm: float, step_mm: float = 2.0) -> Query:
        """A query by a ball.

        Args:
            ras: (3,) center, RAS mm.
            radius_mm: of the ball.
            step_mm: distance between the points in it.

        Raises:
            QueryError: the radius is not positive, or larger than a body.
        """
        if not 0 < radius_mm < math.inf:
            raise QueryError(f"The radius must be positive and finite, got {radius_mm} mm.")
        if radius_mm > _LARGEST_RADIUS_MM:
            raise QueryError(f"The radius must be at most {_LARGEST_RADIUS_MM:g} mm, got {radius_mm:g}.")
        reach = int(radius_mm / step_mm)
        steps = np.stack(np.meshgrid(*[np.arange(-reach, reach + 1) * step_mm] * 3, indexing="ij"), -1).reshape(-1, 3)
        center = cls.point(ras).points_ras
        return cls(center + steps[np.linalg.norm(steps, axis=1) <= radius_mm], center[0])

    @classmethod
    def around_point(cls, ras: ArrayLike, radius_mm: float) -> Query:
        """A query by a ball, or by its center alone where the radius is 0; raises as `sphere`."""
        return cls.point(ras) if radius_mm == 0 else cls.sphere(ras, radius_mm)

    @classmethod
    def segment(cls, labelmap: Volume, label: int = 1) -> Query:
        """A query by the voxels of a label; a large segment is sampled at random with a fixed seed.

        Args:
            labelmap: of integers [k, j, i].
            label: value of the segment's voxels.

        Raises:
            QueryError: no voxel has that value.
        """
        kji = np.argwhere(labelmap.array == label)
        if not len(kji):
            raise QueryError(f"The segment is empty: no voxel of the labelmap has the value {label}.")
        if len(kji) > _MAX_POINTS:
            kji = kji[np.random.default_rng(0).choice(len(kji), _MAX_POINTS, replace=False)]
        return cls(labelmap.grid.to_ras(kji[:, ::-1]))

    def inside(self, pyramid: FeaturePyramid) -> NDArray[np.float64]:
        """The query's points inside the scan, (N, 3) RAS mm.

        Raises:
            QueryError: a point that the user gave lies outside the scan.
        """
        given = self.points_ras if self.around is None else self.around[None]
        outside = ~pyramid.source_grid.contains(given)
        if outside.any():
            raise QueryError(
                f"{int(outside.sum())} of {len(outside)} query points lie outside the volume, the first at RAS "
                f"{np.round(given[outside][0], 1).tolist()}. Choose a point inside the scan; its center is at RAS "
                f"{np.round(pyramid.source_grid.center_ras, 1).tolist()}."
            )
        return self.points_ras[pyramid.source_grid.contains(self.points_ras)]

    def vector(self, pyramid: FeaturePyramid) -> torch.Tensor:
        """The query's (D,) vector in the whitening basis of `pyramid.for_similarity`.

        Raises:
            QueryError: a point lies outside the scan.
        """
        return pyramid.for_similarity.sample_whitened(self.inside(pyramid)).mean(dim=0)


@dataclass(frozen=True)
class Region:
    """A peak of a similarity map.

    Attributes:
        ras: its position, RAS mm.
        score: its cosine similarity, at most 1.
    """

    ras: tuple[float, float, float]
    score: float


def similarity_map(pyramid: FeaturePyramid, query: Query | torch.Tensor) -> Volume:
    """Cosine similarity of every voxel in the body with a query.

    Args:
        pyramid: the scan's features.
        query: a location in this scan, or a (D,) vector from `Query.vector`.

    Returns:
        float32 [k, j, i] on the working grid, in [-1, 1]; -1 outside the body.

    Raises:
        QueryError: the query lies outside the scan.
    """
    vector = query.vector(pyramid) if isinstance(query, Query) else query
    similarity = pyramid.for_similarity.cosine_map(vector).numpy()
    similarity[pyramid.body.array == 0] = -1.0
    return Volume(similarity, pyramid.grid)


def find_regions(simmap: Volume, k: int = 10, min_distance_mm: float = 20.0) -> list[Region]:
    """The highest peaks of a similarity map that keep a distance from each other, chosen greedily.

    Args:
        simmap: from `similarity_map`.
        k: the largest number of regions.
        min_distance_mm: between any two of them.

    Returns:
        Regions in the order of falling score; fewer than k when no other voxel of the body is far enough from them.

    Raises:
        QueryError: `k` is below 1, or the distance is negative or not finite.
    """
    require_limits(k, min_distance_mm)
    values = simmap.array.copy()
    ball = _ball(simmap.grid, min_distance_mm)
    regions: list[Region] = []
    while len(regions) < k:
        peak = np.unravel_index(int(values.argmax()), values.shape)
        score = float(values[peak])
        if score <= -1:
            break
        regions.append(Region(tuple(simmap.grid.to_ras(peak[::-1])[0].tolist()), score))
        near = ball + peak
        near = near[((near >= 0) & (near < values.shape)).all(axis=1)]
        values[tuple(near.T)] = -1
    return regions


def _ball(grid: Grid, radius_mm: float) -> NDArray[np.int64]:
    """(N, 3) steps [k, j, i] to the voxels within a radius, zero among them."""
    directions = grid.ijk_to_ras[:3, :3]
    # Along the axes of a sheared grid, the rows of the inverse tell the extent of a ball.
    reach = np.floor(radius_mm * np.linalg.norm(np.linalg.inv(directions), axis=1)).astype(int)
    steps = np.stack(np.meshgrid(*[np.arange(-r, r + 1) for r in reach], indexing="ij"), -1).reshape(-1, 3)
    inside = np.linalg.norm(steps @ directions.T, axis=1) < max(radius_mm, 1e-9)
    return steps[inside][:, ::-1]
