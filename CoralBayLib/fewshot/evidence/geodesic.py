"""Geodesic distances from prompts: along paths that stay within a tissue.

Deep features describe what a voxel looks like; the geodesic distance tells whether it is connected with a stroke. A step
between neighbors costs its length and the change of tissue, as in seeded segmentation by geodesic distances (Bai and
Sapiro 2007) and "Grow from seeds" (Zhu et al. 2014). The log-odds of a structure are the weighted log of the ratio of two
such distances: to the nearest prompt of anything else, and to the nearest prompt of the structure itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch.nn.functional import pad

from CoralBayLib.imaging.grid import Grid, Volume
from CoralBayLib.imaging.resampling import interpolate

from .voxel_features import KNOTS_BY_HU, hu_index

COST_PER_KNOT = 2.5
"""Cost of a step for each of `KNOTS_HU` (see `voxel_features`) that it crosses. With a cost per HU, noise in lungs and the
grain of bone would block paths, and edges between soft tissues would not."""
COST_PER_MM = 0.05
"""Cost of a step for each mm of its length."""
BACKGROUND_DISTANCE = (5.0, 15.0)
"""Least and largest geodesic distance at which the background begins where no other prompt is nearer."""
BACKGROUND_DISTANCE_PER_MM = 0.1
"""That distance for each mm between the ends of the structure's prompts: long strokes indicate large structures."""
PLANAR_FACTOR = 0.5
"""Extra background distance, as a fraction, when all prompts lie in one plane, because the through-plane extent is
unknown."""
_MIN_DEPTH = 1 / 3
"""Prompts are planar if their least spread is below this fraction of the next larger one."""
_SPOT_MM = 0.1
"""Prompts of less spread count as one point."""
BACKGROUND_DISTANCE_FIRST_CLICK = 8.0
"""Least background distance while only the structure has prompts, as after the first click."""
BACKGROUND_DISTANCE_UNBOUNDED = 2.0
"""Background distance of an unbounded structure: each prompt affects only its own surroundings."""
WEIGHT = 8.0
"""Weight of the log ratio of distances."""
MIN_FRAGMENTS = 10
"""A structure whose prompts lie in this many components or more (all ribs, all vessels of a lung) has more of them than a
user would click; see DECISIONS.md."""
_GROUP_MM = 8.0
"""Edge length of the cells by which prompts are grouped."""
_DISTANCE_OFFSET = 0.5
"""Added to distances before the logarithm."""
_MAX_LOG_ODDS = 12.0
_SMOOTHING = 0.6
"""Standard deviation in voxels along `Grid.isotropic_axes`; paths through noise make ragged borders."""
_REACH_MM = 40.0
"""Margin around a structure's prompts within which paths are followed."""
_MAX_VOXELS = 2_000_000
_SWEEPS = 3
_WALL = np.float32(1e4)


@dataclass(frozen=True, eq=False)
class GeodesicOdds:
    """Log-odds of a structure from geodesic distances, around its prompts.

    Attributes:
        odds: (k, j, i) float32 log-odds in the surroundings of the structure's prompts.
        box: (k, j, i) slices of the working grid that the surroundings cover.
        unbounded: whether the structure may have parts outside of them.
    """

    odds: torch.Tensor
    box: tuple[slice, ...]
    unbounded: bool

    def add_to(self, out: torch.Tensor) -> tuple[slice, ...]:
        """Add to a (K, J, I) map on the working grid, in place.

        Outside the box the values at its faces are continued if they are negative. Positive values are not continued, because
        no path was followed there.

        Returns:
            (k, j, i) slices of where the structure may be: the box, or the whole grid if unbounded.
        """
        k, j, i = self.box
        _, rows, columns = out.shape
        margins = (i.start, columns - i.stop, j.start, rows - j.stop)
        planes = pad(self.odds[None], margins, mode="replicate")[0].clamp_(max=0)
        out[: k.start] += planes[0]
        out[k.stop :] += planes[-1]
        planes[:, j, i] = self.odds
        out[k] += planes
        return (slice(None),) * 3 if self.unbounded else self.box


class GeodesicEvidence:
    """Geodesic distances on one scan.

    Args:
        image: int16 HU on the working grid.
        body: mask on the same grid; no path leaves it.
    """

    def __init__(self, image: Volume, body: Volume) -> None:
        self.grid = image.grid
        self.tissue: NDArray[np.float32] = (COST_PER_KNOT * KNOTS_BY_HU).astype(np.float32)[hu_index(image.array)]
        self.tissue[body.array == 0] = _WALL

    def log_odds(self, points_ras: NDArray[np.float64], own: NDArray[np.bool_], unbounded: bool = False) -> GeodesicOdds:
        """Log-odds of a structure by geodesic distance.

        Only the surroundings of the structure's prompts are computed, on a coarser grid where they are large, so that the
        time does not grow with the size of the scan.

        Args:
            points_ras: (N, 3) RAS mm of all prompts.
            own: (N,) which of them are the structure's; at least one.
            unbounded: whether the structure may have parts far from its prompts; the log-odds far from all prompts are
                then 0.
        """
        _, low, high = self._surroundings(points_ras, own)
        shape = tuple((high - low)[::-1].tolist())
        step = max(1, int(np.ceil((float(np.prod(shape)) / _MAX_VOXELS) ** (1 / 3))))
        odds, grid = self._log_odds_on(points_ras, own, step, 1 + PLANAR_FACTOR * _planarity(points_ras[own]), unbounded)
        if step > 1:
            odds = interpolate(odds[None], grid, self.grid.subgrid(low, 1, shape))[0]
        box = tuple(slice(a, b) for a, b in zip(low[::-1].tolist(), high[::-1].tolist(), strict=True))
        return GeodesicOdds(odds, box, unbounded)

    def is_fragmented(self, points_ras: NDArray[np.float64], own: NDArray[np.bool_]) -> bool:
        """Whether a structure's prompts lie in many components that no path within a tissue connects.

        Arguments are those of `log_odds`; the limit is `MIN_FRAGMENTS`.
        """
        own_points = points_ras[own]
        if _groups(own_points) < MIN_FRAGMENTS:
            return False
        odds, grid = self._log_odds_on(points_ras, own, 2)
        components, _ = ndimage.label(odds.numpy() > 0)
        prompted = set(Volume(components, grid).nearest_values(own_points).tolist()) - {0}
        return len(prompted) >= MIN_FRAGMENTS

    def _log_odds_on(
        self,
        points_ras: NDArray[np.float64],
        own: NDArray[np.bool_],
        step: int,
        distance_factor: float = 1.0,
        unbounded: bool = False,
    ) -> tuple[torch.Tensor, Grid]:
        """(k, j, i) log-odds on every `step`-th voxel of the surroundings, and their grid.

        The background distance is multiplied by `distance_factor`.
        """
        ijk, low, high = self._surroundings(points_ras, own)
        i, j, k = (slice(a, b, step) for a, b in zip(low, high, strict=True))
        tissue = self.tissue[k, j, i]
        grid = self.grid.subgrid(low, step, tissue.shape)
        walls = step_costs(tissue, grid.spacing_mm)
        inside = ((ijk >= low) & (ijk < high)).all(axis=1)
        at = ((ijk - low) / step + 0.5).astype(int).clip(max=np.array(grid.size) - 1)
        limit = BACKGROUND_DISTANCE_UNBOUNDED if unbounded else _background_distance(points_ras, own, distance_factor)
        to_own = path_lengths(tissue.shape, at[own], walls)
        if unbounded:
            np.minimum(to_own, limit, out=to_own)
        others = inside & ~own
        to_other = path_lengths(tissue.shape, at[others], walls) if others.any() else np.full_like(to_own, limit)
        odds = WEIGHT * (np.log(np.minimum(to_other, limit) + _DISTANCE_OFFSET) - np.log(to_own + _DISTANCE_OFFSET))
        sigma = [_SMOOTHING if axis in grid.isotropic_axes else 0.0 for axis in range(3)]
        odds = ndimage.gaussian_filter(odds.clip(-_MAX_LOG_ODDS, _MAX_LOG_ODDS), sigma, truncate=3.0)
        return torch.from_numpy(odds), grid

    def _surroundings(
        self, points_ras: NDArray[np.float64], own: NDArray[np.bool_]
    ) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
        """IJK of all prompts, and the start and stop (IJK) of the box around a structure's own prompts."""
        ijk = self.grid.nearest_ijk(points_ras)
        reach = np.ceil(_REACH_MM / self.grid.spacing_mm).astype(int)
        low = np.maximum(ijk[own].min(axis=0) - reach, 0)
        return ijk, low, np.minimum(ijk[own].max(axis=0) + reach + 1, self.grid.size)


def _background_distance(points_ras: NDArray[np.float64], own: NDArray[np.bool_], factor: float) -> float:
    """Geodesic distance at which the background begins where no other prompt is nearer."""
    least = BACKGROUND_DISTANCE_FIRST_CLICK if own.all() else BACKGROUND_DISTANCE[0]
    span_mm = np.linalg.norm(np.ptp(points_ras[own], axis=0))
    return float(np.clip(factor * BACKGROUND_DISTANCE_PER_MM * span_mm, least, factor * BACKGROUND_DISTANCE[1]))


def _planarity(points_ras: NDArray[np.float64]) -> float:
    """From 0 for (N, 3) points that spread in all directions, to 1 for points on a plane, a line or a spot."""
    least, middle, _ = np.sqrt(np.linalg.eigvalsh(np.cov(points_ras.T, bias=True)).clip(1e-6))
    return max(0.0, 1 - float(least / middle) / _MIN_DEPTH) if middle > _SPOT_MM else 1.0


def _groups(points_ras: NDArray[np.float64]) -> int:
    """Number of groups of points that are separated by empty cells of `_GROUP_MM`."""
    cells = np.unique(np.floor(points_ras / _GROUP_MM).astype(int), axis=0)
    filled = np.zeros(np.ptp(cells, axis=0) + 1, bool)
    filled[tuple((cells - cells.min(axis=0)).T)] = True
    return int(ndimage.label(filled, np.ones((3, 3, 3)))[1])


def step_costs(tissue: NDArray[np.float32], spacing_mm: NDArray[np.float64]) -> list[NDArray[np.float32]]:
    """Cost of the step to each voxel from the one before it, along K, J and I; that axis comes first in each array."""
    out = []
    for axis, mm in enumerate(spacing_mm[::-1]):
        cost = np.zeros_like(tissue)
        turned, moved = np.moveaxis(cost, axis, 0), np.moveaxis(tissue, axis, 0)
        np.abs(moved[1:] - moved[:-1], out=turned[1:])
        turned += np.float32(COST_PER_MM * mm)
        # Outside the body the tissue does not change, and no path may run there either.
        turned[1:][moved[1:] == _WALL] = _WALL
        out.append(np.ascontiguousarray(turned))
    return out


def path_lengths(shape: tuple[int, ...], ijk: NDArray[np.intp], steps: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Length of the cheapest path to each voxel from the nearest of some voxels.

    Sweeps in both directions along each axis find every path that turns back no more often than there are sweeps.
    """
    distance = np.full(shape, _WALL, np.float32)
    distance[tuple(ijk[:, ::-1].T)] = 0
    for _ in range(_SWEEPS):
        for axis, cost in enumerate(steps):
            planes = np.ascontiguousarray(np.moveaxis(distance, axis, 0))
            through = np.empty_like(planes[0])
            for n in range(1, len(planes)):
                np.add(planes[n - 1], cost[n], out=through)
                np.minimum(planes[n], through, out=planes[n])
            for n in range(len(planes) - 2, -1, -1):
                np.add(planes[n + 1], cost[n + 1], out=through)
                np.minimum(planes[n], through, out=planes[n])
            distance = np.moveaxis(planes, 0, axis)
    return np.ascontiguousarray(distance)
