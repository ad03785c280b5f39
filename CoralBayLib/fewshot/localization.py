"""Where in another patient the structures of a probe surely are.

The samples that the probe keeps are laid over the body (see `matching`), and a linear discriminant with the place as prior
chance says what each place is likest to be. In a basis that all scans share the features are compared as they are; in the
first scan's own they are set to the same mean and spread before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from CoralBayLib.features.pyramid import FeaturePyramid
from CoralBayLib.imaging.grid import Grid

from .alignment import Placement, place
from .prompts import BACKGROUND, Prompts

if TYPE_CHECKING:
    from .transfer import Memory

_SPACING_MM = 4.0
_PLACES = 3000
_MATCHED = 32
"""Components, the most varied first, that places are matched by: of a scan's own, those that vary little in a small part
of the body are ruled by chance, and many times as large in another."""
_SHARED_MM = 20.0
_LEAST_DEVIATION, _LEAST_MATCHED_DEVIATION = 0.2, 0.3
_SHRINKAGE = 0.5
_TEMPERATURE = 4.0
"""Discriminants are too sure of themselves in another patient."""
_BLUR_MM, _CELL_MM, _PLACE_WEIGHT = 8.0, 6.0, 1.5
_SURE = 0.8
_LEAST_MM3 = 300.0
_PROMPTS, _APART_MM = 10, 4.0
_BACKGROUND_PROMPTS, _NEAR_MM = 600, (3.0, 30.0)
_CHUNK = 1 << 16


def suggest(memory: Memory, pyramid: FeaturePyramid) -> Prompts:
    """Places where the structures, and what is none of them, surely are in another scan.

    Args:
        memory: of the first scan.
        pyramid: of the other, with the same features.

    Returns:
        A few points of each structure that was found, with the memory's labels, and background around them.
    """
    kji = np.argwhere(pyramid.body.array)
    random = np.random.default_rng(0)
    drawn = kji[random.choice(len(kji), min(_PLACES, len(kji)), replace=False)]
    points = pyramid.grid.to_ras(drawn[:, ::-1])
    there = pyramid.sample(points) @ memory.projection.T + memory.offset
    here, here_ras = memory.vectors[memory.body].float(), memory.places[memory.body.numpy()]
    if memory.shared:
        placement = place(here_ras, here[:, :_MATCHED], points, there[:, :_MATCHED])
        gain, bias = torch.ones(here.shape[1]), torch.zeros(here.shape[1])
    else:
        alike = (there - there.mean(dim=0)) / there.std(dim=0).clamp_min(_LEAST_MATCHED_DEVIATION)
        placement = place(here_ras, here[:, :_MATCHED], points, alike[:, :_MATCHED])
        gain, bias = _same_spread(placement, here_ras, here, points, there)
    grid = pyramid.grid.with_spacing(np.maximum(_SPACING_MM, pyramid.grid.spacing_mm))
    return _sure_places(_chances(memory, pyramid, grid, placement, gain, bias), memory, grid)


def _same_spread(
    placement: Placement,
    here_ras: NDArray[np.float64],
    here: torch.Tensor,
    there_ras: NDArray[np.float64],
    there: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Gain and bias that give features of the second scan the mean and spread of the first, over what both show."""
    shared = [
        torch.from_numpy(cKDTree(others).query(points)[0] < _SHARED_MM)
        for points, others in ((placement.to(here_ras), there_ras), (there_ras, placement.to(here_ras)))
    ]
    if min(int(each.sum()) for each in shared) >= 100:
        here, there = here[shared[0]], there[shared[1]]
    gain = here.std(dim=0) / there.std(dim=0).clamp_min(_LEAST_DEVIATION)
    return gain, here.mean(dim=0) - gain * there.mean(dim=0)


def _chances(
    memory: Memory, pyramid: FeaturePyramid, grid: Grid, placement: Placement, gain: torch.Tensor, bias: torch.Tensor
) -> NDArray[np.float32]:
    """(L, K, J, I) chance of each label of the memory on a grid; the first is background and certain outside the body."""
    known = _known(memory)
    weights, constant = _discriminant(memory, known)
    on_deep, on_tissue = weights.split([memory.vectors.shape[1], memory.tissue.shape[1]], dim=1)
    constant = constant + on_deep @ (gain * memory.offset + bias)
    logits = pyramid.linear_map((on_deep * gain) @ memory.projection, constant, grid).flatten(1).numpy()
    k, j, i = np.indices(grid.shape)
    points = grid.to_ras(np.stack([i, j, k], axis=-1).reshape(-1, 3))
    inside = pyramid.body.values_at(points) > 0
    out = np.zeros_like(logits)
    out[0] = 1
    table = _PlaceTable(memory, known)
    for start in range(0, len(points), _CHUNK):
        some = start + np.flatnonzero(inside[start : start + _CHUNK])
        tissue = pyramid.image_features.sample(points[some])[:, : memory.tissue.shape[1]]
        values = logits[:, some] + (on_tissue @ tissue.T).numpy()
        values += _PLACE_WEIGHT * np.log(table.at(placement.back(points[some])))
        values -= values.max(axis=0)
        np.exp(values, out=values)
        out[:, some] = values / values.sum(axis=0)
    return out.reshape(-1, *grid.shape)


def _discriminant(memory: Memory, known: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights (L, D + T) and constants (L,) of a linear discriminant with one shrunk covariance, classes weighing alike."""
    samples = torch.cat([memory.vectors, memory.tissue], dim=1).double()
    means = torch.stack([samples[memory.labels == label].mean(dim=0) for label in known])
    spread = torch.zeros(samples.shape[1], samples.shape[1], dtype=torch.float64)
    for label, mean in zip(known, means, strict=True):
        rest = samples[memory.labels == label] - mean
        spread += rest.T @ rest / (len(rest) * len(known))
    own = spread.diagonal()
    spread = (1 - _SHRINKAGE) * spread + torch.diag(_SHRINKAGE * own + 1e-3 * own.mean())
    weights = torch.linalg.solve(spread, means.T).T / _TEMPERATURE
    return weights.float(), (-0.5 * (weights * means).sum(dim=1)).float()


class _PlaceTable:
    """The share of each label around a place of the first scan, blurred."""

    def __init__(self, memory: Memory, known: list[int]) -> None:
        points, labels = memory.places, memory.labels.numpy()
        margin = 5 * _BLUR_MM
        self._low = points.min(axis=0) - margin
        size = np.ceil((points.max(axis=0) + margin - self._low) / _CELL_MM).astype(int)
        cells = ((points - self._low) / _CELL_MM).astype(int)
        maps = []
        for label in known:
            one = np.zeros(size, np.float32)
            np.add.at(one, tuple(cells[labels == label].T), memory.share.numpy()[labels == label])
            maps.append(ndimage.gaussian_filter(one, _BLUR_MM / _CELL_MM, mode="constant"))
        self._maps = maps
        self._least = 1e-6 * max(float(one.max()) for one in maps)

    def at(self, points: NDArray[np.float64]) -> NDArray[np.float32]:
        """(L, N) shares; where nothing is known it is background."""
        where = ((points - self._low) / _CELL_MM - 0.5).T
        found = np.stack([ndimage.map_coordinates(one, where, order=1, mode="nearest") for one in self._maps])
        found = found.clip(min=0) + self._least
        found[0] += 1e3 * self._least
        return found / found.sum(axis=0)


def _sure_places(chances: NDArray[np.float32], memory: Memory, grid: Grid) -> Prompts:
    """Spread over the surest half of each structure's main pieces; and background around all that may be structures."""
    likeliest = chances.argmax(axis=0)
    spacing = grid.spacing_mm[::-1]
    points, labels = [np.empty((0, 3))], [np.empty(0, np.int64)]
    for number, label in enumerate(_known(memory)):
        mask = (likeliest == number) & (chances[number] > _SURE)
        if label == BACKGROUND or (likeliest == number).sum() * grid.voxel_volume_mm3 < _LEAST_MM3 or not mask.any():
            continue
        pieces, count = ndimage.label(mask)
        sizes = ndimage.sum_labels(chances[number], pieces, np.arange(1, count + 1))
        mask = np.isin(pieces, 1 + np.flatnonzero(sizes >= 0.3 * sizes.max()))
        depth = ndimage.distance_transform_edt(np.pad(mask, 1), sampling=spacing)[1:-1, 1:-1, 1:-1]
        score = chances[number][mask] + depth[mask].clip(max=6.0) / 6.0
        best = np.argwhere(mask)[score >= np.median(score)]
        chosen = _spread(grid.to_ras(best[:, ::-1]), int(score[score >= np.median(score)].argmax()))
        points.append(chosen)
        labels.append(np.full(len(chosen), label))
    if len(points) > 1:
        away = ndimage.distance_transform_edt(likeliest == 0, sampling=spacing)
        inside = chances[0] < 1
        rest = np.argwhere(inside & (chances[0] > _SURE) & (away > _NEAR_MM[0]) & (away < _NEAR_MM[1]))
        random = np.random.default_rng(0)
        rest = rest[random.choice(len(rest), min(_BACKGROUND_PROMPTS, len(rest)), replace=False)]
        points.append(grid.to_ras(rest[:, ::-1]))
        labels.append(np.zeros(len(rest), np.int64))
    return Prompts(np.concatenate(points), np.concatenate(labels))


def _spread(points: NDArray[np.float64], first: int) -> NDArray[np.float64]:
    """A few of the points, each as far from those before it as can be."""
    chosen = [first]
    distance = np.linalg.norm(points - points[first], axis=1)
    while len(chosen) < _PROMPTS and distance.max() >= _APART_MM:
        chosen.append(int(distance.argmax()))
        distance = np.minimum(distance, np.linalg.norm(points - points[chosen[-1]], axis=1))
    return points[chosen]


def _known(memory: Memory) -> list[int]:
    """Labels that have samples, background first."""
    return sorted(set(memory.labels.tolist()))
