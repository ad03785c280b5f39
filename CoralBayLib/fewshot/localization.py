"""Locates the structures of a probe in another patient, as prompts at confident locations.

The samples that the probe keeps are aligned with the body (see `alignment`), and a linear discriminant with the position
as prior gives the posterior of each structure. Features in a basis that all scans share are compared as they are;
features in the first scan's own basis are first brought to the same mean and standard deviation.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from CoralBayLib.features.alignment import AxisAlignment, align
from CoralBayLib.features.pyramid import FeaturePyramid
from CoralBayLib.imaging.grid import Grid

from .evidence import evidence_of
from .memory import TransferMemory
from .prompts import BACKGROUND, Prompts

_SPACING_MM = 4.0
"""Least spacing of the grid on which posteriors are computed."""
_BODY_POINTS = 3000
"""Points of the second body that are matched with the memory's."""
_MATCHED = 32
"""Components used for matching, those of the largest variance first: in a basis fitted on a small part of the body, the
components of small variance are noise and grow large in another scan."""
_OVERLAP_MM = 20.0
"""Points with one of the other scan within this distance count as shown by both."""
_MIN_DEVIATION, _MIN_MATCHED_DEVIATION = 0.2, 0.3
"""Least standard deviations of features when scans are standardized, for the gain and for matching."""
_SHRINKAGE = 0.5
"""Shrinkage of the covariance matrix towards its diagonal."""
_TEMPERATURE = 4.0
"""Calibration temperature of the discriminant, which is overconfident in another patient (Guo et al. 2017)."""
_BLUR_MM, _CELL_MM, _POSITION_WEIGHT = 8.0, 6.0, 1.5
"""Of the position prior: its standard deviation, its grid spacing, and its weight."""
_CONFIDENT = 0.8
"""Posterior from which a voxel may become a prompt."""
_MIN_VOLUME_MM3 = 300.0
"""Structures of less volume in the other scan get no prompts."""
_PROMPTS, _PROMPT_DISTANCE_MM = 10, 4.0
"""Most prompts of a structure, and the least distance between them."""
_BACKGROUND_PROMPTS, _BACKGROUND_DISTANCE_MM = 600, (3.0, 30.0)
"""Number of background prompts, and the range of their distance to the nearest structure."""
_CHUNK = 1 << 16


def localize(memory: TransferMemory, pyramid: FeaturePyramid) -> Prompts:
    """Prompts for the structures of a probe, and for the background, at confident locations of another scan.

    Args:
        memory: samples of the first scan.
        pyramid: of the other scan, with features of the same signature.

    Returns:
        A few points of each structure that was found, with the memory's labels, and background points around them.
    """
    points = pyramid.body_points(_BODY_POINTS)
    target = pyramid.sample(points) @ memory.projection.T + memory.offset
    source, source_ras = memory.vectors[memory.body].float(), memory.positions[memory.body.numpy()]
    if memory.shared:
        alignment = align(source_ras, source[:, :_MATCHED], points, target[:, :_MATCHED])
        gain, bias = torch.ones(source.shape[1]), torch.zeros(source.shape[1])
    else:
        standardized = (target - target.mean(dim=0)) / target.std(dim=0).clamp_min(_MIN_MATCHED_DEVIATION)
        alignment = align(source_ras, source[:, :_MATCHED], points, standardized[:, :_MATCHED])
        gain, bias = _moment_matching(alignment, source_ras, source, points, target)
    grid = pyramid.grid.with_spacing(np.maximum(_SPACING_MM, pyramid.grid.spacing_mm))
    return confident_prompts(_posterior(memory, pyramid, grid, alignment, gain, bias), _labels_of(memory), grid)


def _moment_matching(
    alignment: AxisAlignment,
    source_ras: NDArray[np.float64],
    source: torch.Tensor,
    target_ras: NDArray[np.float64],
    target: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Gain and bias (D,) that match mean and standard deviation of the features over the part that both scans show."""
    shared = [
        torch.from_numpy(cKDTree(others).query(points)[0] < _OVERLAP_MM)
        for points, others in ((alignment.to(source_ras), target_ras), (target_ras, alignment.to(source_ras)))
    ]
    if min(int(each.sum()) for each in shared) >= 100:
        source, target = source[shared[0]], target[shared[1]]
    gain = source.std(dim=0) / target.std(dim=0).clamp_min(_MIN_DEVIATION)
    return gain, source.mean(dim=0) - gain * target.mean(dim=0)


def _posterior(
    memory: TransferMemory,
    pyramid: FeaturePyramid,
    grid: Grid,
    alignment: AxisAlignment,
    gain: torch.Tensor,
    bias: torch.Tensor,
) -> NDArray[np.float32]:
    """(L, K, J, I) posterior of each label of the memory on a grid; the first is background, which is 1 outside the body."""
    structures = _labels_of(memory)
    weights, constant = _discriminant(memory, structures)
    on_deep, on_tissue = weights.split([memory.vectors.shape[1], memory.tissue.shape[1]], dim=1)
    constant = constant + on_deep @ (gain * memory.offset + bias)
    logits = pyramid.linear_map((on_deep * gain) @ memory.projection, constant, grid).flatten(1).numpy()
    points = grid.centers()
    inside = pyramid.body.nearest_values(points) > 0
    out = np.zeros_like(logits)
    out[0] = 1
    table = _PositionPrior(memory, structures)
    for start in range(0, len(points), _CHUNK):
        some = start + np.flatnonzero(inside[start : start + _CHUNK])
        tissue = evidence_of(pyramid).voxel_features.sample(points[some])[:, : memory.tissue.shape[1]]
        values = logits[:, some] + (on_tissue @ tissue.T).numpy()
        values += _POSITION_WEIGHT * np.log(table.at(alignment.back(points[some])))
        values -= values.max(axis=0)
        np.exp(values, out=values)
        out[:, some] = values / values.sum(axis=0)
    return out.reshape(-1, *grid.shape)


def _discriminant(memory: TransferMemory, structures: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights (L, D + T) and constants (L,) of a linear discriminant with a shared shrunk covariance and equal priors."""
    samples = torch.cat([memory.vectors, memory.tissue], dim=1).double()
    means = torch.stack([samples[memory.labels == label].mean(dim=0) for label in structures])
    spread = torch.zeros(samples.shape[1], samples.shape[1], dtype=torch.float64)
    for label, mean in zip(structures, means, strict=True):
        rest = samples[memory.labels == label] - mean
        spread += rest.T @ rest / (len(rest) * len(structures))
    variance = spread.diagonal()
    spread = (1 - _SHRINKAGE) * spread + torch.diag(_SHRINKAGE * variance + 1e-3 * variance.mean())
    weights = torch.linalg.solve(spread, means.T).T / _TEMPERATURE
    return weights.float(), (-0.5 * (weights * means).sum(dim=1)).float()


class _PositionPrior:
    """Prior probability of each label by position in the first scan, from its samples, blurred."""

    def __init__(self, memory: TransferMemory, structures: list[int]) -> None:
        points, labels = memory.positions, memory.labels.numpy()
        margin = 5 * _BLUR_MM
        self._low = points.min(axis=0) - margin
        size = np.ceil((points.max(axis=0) + margin - self._low) / _CELL_MM).astype(int)
        cells = ((points - self._low) / _CELL_MM).astype(int)
        maps = []
        for label in structures:
            one = np.zeros(size, np.float32)
            np.add.at(one, tuple(cells[labels == label].T), memory.volume_mm3.numpy()[labels == label])
            maps.append(ndimage.gaussian_filter(one, _BLUR_MM / _CELL_MM, mode="constant"))
        self._maps = maps
        self._least = 1e-6 * max(float(one.max()) for one in maps)

    def at(self, points: NDArray[np.float64]) -> NDArray[np.float32]:
        """(L, N) probabilities at (N, 3) RAS mm points; far from all samples the background is most probable."""
        cells = ((points - self._low) / _CELL_MM - 0.5).T
        density = np.stack([ndimage.map_coordinates(one, cells, order=1, mode="nearest") for one in self._maps])
        density = density.clip(min=0) + self._least
        density[0] += 1e3 * self._least
        return density / density.sum(axis=0)


def confident_prompts(posterior: NDArray[np.float32], labels_of: list[int], grid: Grid) -> Prompts:
    """Prompts over the more confident half of each structure's main components, and background around them.

    Args:
        posterior: (L, K, J, I), background first, which is 1 outside the body.
        labels_of: the labels of its rows.
        grid: of the posterior.
    """
    argmax = posterior.argmax(axis=0)
    spacing = grid.spacing_mm[::-1]
    points: list[NDArray[np.float64]] = [np.empty((0, 3))]
    labels = [np.empty(0, np.int64)]
    for number, label in enumerate(labels_of):
        mask = (argmax == number) & (posterior[number] > _CONFIDENT)
        if label == BACKGROUND or (argmax == number).sum() * grid.voxel_volume_mm3 < _MIN_VOLUME_MM3 or not mask.any():
            continue
        components, count = ndimage.label(mask)
        sizes = ndimage.sum_labels(posterior[number], components, np.arange(1, count + 1))
        mask = np.isin(components, 1 + np.flatnonzero(sizes >= 0.3 * sizes.max()))
        depth = ndimage.distance_transform_edt(np.pad(mask, 1), sampling=spacing)[1:-1, 1:-1, 1:-1]
        score = posterior[number][mask] + depth[mask].clip(max=6.0) / 6.0
        best = np.argwhere(mask)[score >= np.median(score)]
        chosen = _farthest_points(grid.to_ras(best[:, ::-1]), int(score[score >= np.median(score)].argmax()))
        points.append(chosen)
        labels.append(np.full(len(chosen), label))
    if len(points) > 1:
        away = ndimage.distance_transform_edt(argmax == 0, sampling=spacing)
        inside = posterior[0] < 1
        rest = np.argwhere(
            inside & (posterior[0] > _CONFIDENT) & (away > _BACKGROUND_DISTANCE_MM[0]) & (away < _BACKGROUND_DISTANCE_MM[1])
        )
        random = np.random.default_rng(0)
        rest = rest[random.choice(len(rest), min(_BACKGROUND_PROMPTS, len(rest)), replace=False)]
        points.append(grid.to_ras(rest[:, ::-1]))
        labels.append(np.zeros(len(rest), np.int64))
    return Prompts(np.concatenate(points), np.concatenate(labels))


def _farthest_points(points: NDArray[np.float64], first: int) -> NDArray[np.float64]:
    """A few of the points by farthest-point sampling."""
    chosen = [first]
    distance = np.linalg.norm(points - points[first], axis=1)
    while len(chosen) < _PROMPTS and distance.max() >= _PROMPT_DISTANCE_MM:
        chosen.append(int(distance.argmax()))
        distance = np.minimum(distance, np.linalg.norm(points - points[chosen[-1]], axis=1))
    return points[chosen]


def _labels_of(memory: TransferMemory) -> list[int]:
    """Labels that have samples, background first."""
    return sorted(set(memory.labels.tolist()))
