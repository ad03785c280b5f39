"""How near each voxel is to what the user marked, along paths that stay within a tissue.

Features say what a place looks like; this says whether it hangs together with a stroke. A step between neighbours costs
its length and the change of tissue, as in the seeded methods (geodesic distances, Bai and Sapiro 2007; "Grow from
seeds", Zhu and others 2014). A place leans to a structure by the log of the ratio of two such distances: to the nearest
prompt of anything else, and to the structure's own nearest.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch.nn.functional import pad

from CoralBayLib.imaging.grid import Grid, Volume, interpolate

from .voxel_features import KNOTS_BY_HU, hu_index

STEP_PER_KNOT = 2.5
STEP_PER_MM = 0.05
"""Cost of a step: so much for each of `KNOTS_HU` (see `image_features`) it crosses, so much for each mm. HU alone would make
the noise of lungs and the grain of bones walls, and an edge between two soft tissues none."""
FAR = (5.0, 15.0)
"""Where nothing else was marked nearer, the rest of the body is taken to begin at a distance between these two: one for
every `FAR_PER_MM` that the structure's prompts are apart, since long strokes tell of large structures."""
FAR_PER_MM = 0.1
FLAT = 0.5
"""So much farther it begins where a structure was marked on one plane only: how far it goes on across, nobody has said."""
_LEAST_DEPTH = 1 / 3
"""Prompts whose least spread is this share of the next, or more, are not flat."""
_SPOT_MM = 0.1
FAR_AT_FIRST = 8.0
"""The same at the least while nothing but the structure has been marked, as after the first click."""
FAR_ANYWHERE = 2.0
"""Of a structure that may be anywhere, what is farther than this from a prompt is near to none: each speaks for its own
surroundings alone."""
WEIGHT = 8.0
MANY = 10
"""A structure whose prompts lie in so many pieces has more of them than anyone would point at: all ribs, all vessels of a
lung. Ribs that were marked as one gave 16 to 25 after strokes on three slices; of 68 other structures of five scans none gave
more than 8."""
_APART_MM = 8.0
_NEAR = 0.5
_MOST = 12.0
_SMOOTH = 0.6
"""In voxels along `Grid.close_axes`: paths through noise make ragged borders."""
_REACH_MM = 40.0
_MOST_VOXELS = 2_000_000
_SWEEPS = 3
_WALL = np.float32(1e4)


@dataclass(frozen=True, eq=False)
class Leaning:
    """How much each place leans to a structure.

    Attributes:
        odds: (k, j, i) float32 log-odds in the surroundings of the structure's prompts.
        around: (k, j, i) slices of the working grid that these are.
        anywhere: whether the structure may have parts outside of them.
    """

    odds: torch.Tensor
    around: tuple[slice, ...]
    anywhere: bool

    def add_to(self, out: torch.Tensor) -> tuple[slice, ...]:
        """Add to a (K, J, I) map on the working grid, in place.

        Beyond the surroundings the values at their border go on where they speak against the structure. Where they speak
        for it, appearance alone decides: no path was followed there.

        Returns:
            (k, j, i) slices of where the structure may be: of the surroundings, in which paths were followed, or all.
        """
        k, j, i = self.around
        _, rows, columns = out.shape
        beside = (i.start, columns - i.stop, j.start, rows - j.stop)
        planes = pad(self.odds[None], beside, mode="replicate")[0].clamp_(max=0)
        out[: k.start] += planes[0]
        out[k.stop :] += planes[-1]
        planes[:, j, i] = self.odds
        out[k] += planes
        return (slice(None),) * 3 if self.anywhere else self.around


class Nearness:
    """Geodesic distances on one scan.

    Args:
        image: int16 HU on the working grid.
        body: mask on the same grid; no path leaves it.
    """

    def __init__(self, image: Volume, body: Volume) -> None:
        self.grid = image.grid
        self._tissue = (STEP_PER_KNOT * KNOTS_BY_HU).astype(np.float32)[hu_index(image.array)]
        self._tissue[body.array == 0] = _WALL

    def leaning(self, points_ras: NDArray[np.float64], own: NDArray[np.bool_], anywhere: bool = False) -> Leaning:
        """How much each place leans to a structure.

        Only the surroundings of the structure's prompts are looked at, more coarsely where they are large, so that an
        answer takes as long in a large scan as in a small one.

        Args:
            points_ras: (N, 3) RAS mm of all prompts.
            own: (N,) which of them are the structure's; at least one.
            anywhere: whether the structure may have parts far from its prompts: what is far from all prompts then leans
                neither way.
        """
        _, low, high = self._around(points_ras, own)
        shape = tuple((high - low)[::-1].tolist())
        step = max(1, int(np.ceil((float(np.prod(shape)) / _MOST_VOXELS) ** (1 / 3))))
        odds, grid = self._log_odds(points_ras, own, step, 1 + FLAT * _flatness(points_ras[own]), anywhere)
        if step > 1:
            odds = interpolate(odds[None], grid, self.grid.sub(low, 1, shape))[0]
        around = tuple(slice(a, b) for a, b in zip(low[::-1].tolist(), high[::-1].tolist(), strict=True))
        return Leaning(odds, around, anywhere)

    def in_many_pieces(self, points_ras: NDArray[np.float64], own: NDArray[np.bool_]) -> bool:
        """Whether a structure's prompts lie in many places that no path within a tissue connects (see `MANY`).

        Args:
            points_ras, own: as in `leaning`.
        """
        mine = points_ras[own]
        if _groups(mine) < MANY:
            return False
        odds, grid = self._log_odds(points_ras, own, 2)
        pieces, count = ndimage.label(odds.numpy() > 0)
        return count >= MANY and len(set(Volume(pieces, grid).values_at(mine).tolist()) - {0}) >= MANY

    def _log_odds(
        self,
        points_ras: NDArray[np.float64],
        own: NDArray[np.bool_],
        step: int,
        farther: float = 1.0,
        anywhere: bool = False,
    ) -> tuple[torch.Tensor, Grid]:
        """(k, j, i) log-odds on every `step`th voxel of the surroundings and their grid, the rest of the body beginning so
        many times farther away."""
        ijk, low, high = self._around(points_ras, own)
        i, j, k = (slice(a, b, step) for a, b in zip(low, high, strict=True))
        tissue = self._tissue[k, j, i]
        grid = self.grid.sub(low, step, tissue.shape)
        walls = _steps(tissue, grid.spacing_mm)
        inside = ((ijk >= low) & (ijk < high)).all(axis=1)
        at = ((ijk - low) / step + 0.5).astype(int).clip(max=np.array(grid.size) - 1)
        least, span = FAR_AT_FIRST if own.all() else FAR[0], np.linalg.norm(np.ptp(points_ras[own], axis=0))
        far = FAR_ANYWHERE if anywhere else float(np.clip(farther * FAR_PER_MM * span, least, farther * FAR[1]))
        to_own = _distances(tissue.shape, at[own], walls)
        if anywhere:
            np.minimum(to_own, far, out=to_own)
        others = inside & ~own
        to_other = _distances(tissue.shape, at[others], walls) if others.any() else np.full_like(to_own, far)
        odds = WEIGHT * (np.log(np.minimum(to_other, far) + _NEAR) - np.log(to_own + _NEAR))
        sigma = [_SMOOTH if axis in grid.close_axes else 0.0 for axis in range(3)]
        odds = ndimage.gaussian_filter(odds.clip(-_MOST, _MOST), sigma, truncate=3.0)
        return torch.from_numpy(odds), grid

    def _around(
        self, points_ras: NDArray[np.float64], own: NDArray[np.bool_]
    ) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
        """IJK of all prompts, and the first and one past the last of the surroundings of a structure's own."""
        ijk = np.clip(np.round(self.grid.to_ijk(points_ras)).astype(int), 0, np.array(self.grid.size) - 1)
        reach = np.ceil(_REACH_MM / self.grid.spacing_mm).astype(int)
        low = np.maximum(ijk[own].min(axis=0) - reach, 0)
        return ijk, low, np.minimum(ijk[own].max(axis=0) + reach + 1, self.grid.size)


def _flatness(points_ras: NDArray[np.float64]) -> float:
    """From 0 for (N, 3) points that spread to all sides, to 1 for such as lie on a plane, a line or a spot."""
    least, middle, _ = np.sqrt(np.linalg.eigvalsh(np.cov(points_ras.T, bias=True)).clip(1e-6))
    return max(0.0, 1 - float(least / middle) / _LEAST_DEPTH) if middle > _SPOT_MM else 1.0


def _groups(points_ras: NDArray[np.float64]) -> int:
    """How many there are of groups of points that cells of `_APART_MM` between them part."""
    cells = np.unique(np.floor(points_ras / _APART_MM).astype(int), axis=0)
    filled = np.zeros(np.ptp(cells, axis=0) + 1, bool)
    filled[tuple((cells - cells.min(axis=0)).T)] = True
    return int(ndimage.label(filled, np.ones((3, 3, 3)))[1])


def _steps(tissue: NDArray[np.float32], spacing_mm: NDArray[np.float64]) -> list[NDArray[np.float32]]:
    """The cost of the step to each voxel from the one before it along K, J and I, that axis first."""
    out = []
    for axis, mm in enumerate(spacing_mm[::-1]):
        cost = np.zeros_like(tissue)
        turned, moved = np.moveaxis(cost, axis, 0), np.moveaxis(tissue, axis, 0)
        np.abs(moved[1:] - moved[:-1], out=turned[1:])
        turned += np.float32(STEP_PER_MM * mm)
        # From outside to outside the tissue does not change, but there is no way all the same.
        turned[1:][moved[1:] == _WALL] = _WALL
        out.append(np.ascontiguousarray(turned))
    return out


def _distances(shape: tuple[int, ...], ijk: NDArray[np.intp], steps: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Length of the cheapest path to each voxel from the nearest of some, by sweeps to and fro along each axis, which
    find any path that turns back no more often than there are sweeps."""
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
