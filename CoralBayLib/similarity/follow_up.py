"""Recognizes two scans of one patient, and how the first lies in the second: an affine transform from small patches.

Patches spread over the body are searched in the other scan. In two scans of one patient most of the places found agree on one
affine transform; in scans of two patients few do.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from CoralBayLib.core.progress import CancelToken, raise_if_cancelled
from CoralBayLib.features.alignment import AxisAlignment
from CoralBayLib.features.pyramid import FeaturePyramid

from .patches import correlation, cube, gaussian_window, lattice, mind_ssc, peak, sample_hu, squared_difference

_PATCHES = 60
"""Patches that are searched."""
_CORNERS = 0.15
"""Share of the points drawn from the body that may become patches: those with edges in all directions."""
_CONTRAST_HU = 150.0
"""HU are compressed beyond this, so that bone and air do not decide alone what has structure."""
_AGREE_MM, _AGREE_CORRELATION = 6.0, 0.6
"""A patch agrees with the transform when it is as near as this and correlates as much."""
_FIRST_SHARE, _SHARE = 0.3, 0.4
"""Share of the patches that must agree after the first round and after the others; see DECISIONS.md."""
_STIFFNESS_MM = 12.0
"""Prior on the matrix (towards the unit matrix), as a spread of the patches in mm."""
_NARROWING = 0.8
"""Factor from step to step of the width of the Gaussian that weights patches by their residual."""
_PRECISE_MM = 1.0
"""Least standard deviation that is assumed of places that the transform gives, per axis."""
_FINE_MM, _FINE_REACH = 2.0, 2
"""Steps of the search by correlation, and how many of them it goes."""
_NEARBY_MM = 40.0
"""Sigma of the weights by which patches around a point correct the transform there."""


@dataclass(frozen=True)
class _Search:
    """One round of searching all patches.

    Attributes:
        step_mm, reach_mm: steps, and how far the search goes around what the transform gives.
        radius, sigma: of a patch and of its weights, in steps.
        prior: what a square millimeter away from the start costs, in squared difference.
        widest_mm, narrowest_mm: width of the Gaussian that weights patches by their residual in the fit, first and last.
    """

    step_mm: float
    reach_mm: float
    radius: int
    sigma: float
    prior: float
    widest_mm: float
    narrowest_mm: float


_SEARCHES = (
    _Search(4.0, 24.0, 4, 2.0, 0.0, 24.0, 6.0),
    _Search(3.0, 12.0, 6, 3.0, 0.0, 16.0, 4.0),
    _Search(3.0, 9.0, 6, 3.0, 0.0005, 8.0, 2.5),
)


@dataclass(frozen=True, eq=False)
class FollowUp:
    """How the scan of a patient lies in another scan of the same patient.

    Attributes:
        matrix: (3, 4) from RAS mm of the first scan to RAS mm of the second.
        patches_ras: (N, 3) RAS mm in the first scan, of patches that agree with the matrix.
        residuals: (N, 3) mm, where they were found less where the matrix puts them.
    """

    matrix: NDArray[np.float64]
    patches_ras: NDArray[np.float64]
    residuals: NDArray[np.float64]

    def to(self, points_ras: NDArray[np.float64]) -> NDArray[np.float64]:
        """Map (N, 3) RAS points of the first scan into the second."""
        weights = np.exp(-0.5 * (cdist(points_ras, self.patches_ras) / _NEARBY_MM) ** 2)
        corrections = weights @ self.residuals / (weights.sum(axis=1, keepdims=True) + 1.0)
        return _apply(self.matrix, points_ras) + corrections

    @property
    def deviation_mm(self) -> float:
        """Typical distance along an axis between what the transform gives and the right place, mm."""
        return max(_PRECISE_MM, float(np.median(np.abs(self.residuals))))

    def back(self) -> FollowUp:
        """From the second scan to the first."""
        linear = np.linalg.inv(self.matrix[:, :3])
        matrix = np.column_stack([linear, -linear @ self.matrix[:, 3]])
        found = _apply(self.matrix, self.patches_ras) + self.residuals
        return FollowUp(matrix, found, self.patches_ras - _apply(matrix, found))


def find_follow_up(
    source: FeaturePyramid, target: FeaturePyramid, alignment: AxisAlignment, cancel: CancelToken | None = None
) -> FollowUp | None:
    """The transform between two scans of one patient; None when they do not look like that.

    Args:
        source: the first scan.
        target: the second scan.
        alignment: from the first to the second, right to two or three centimeters.
        cancel: checked between the patches.

    Raises:
        Cancelled: `cancel` was called.
    """
    patches = _corners(source)
    matrix = np.column_stack([np.diag(alignment.scale), alignment.shift])
    for search in _SEARCHES:
        starts = _apply(matrix, patches)
        inside = target.grid.contains(starts)
        if inside.sum() < _PATCHES // 4:
            return None
        patches = patches[inside]
        found, agreement = _search_all(source, target, patches, starts[inside], search, cancel)
        matrix = _fit(patches, found, agreement.clip(min=0) ** 4, matrix, search)
        residuals = found - _apply(matrix, patches)
        agree = (np.linalg.norm(residuals, axis=1) < _AGREE_MM) & (agreement > _AGREE_CORRELATION)
        # Later rounds start from what the first found, so patients who differ are told apart after it.
        if agree.mean() < (_FIRST_SHARE if search is _SEARCHES[0] else _SHARE):
            return None
    return FollowUp(matrix, patches[agree], residuals[agree])


def _corners(pyramid: FeaturePyramid) -> NDArray[np.float64]:
    """(N, 3) RAS mm points spread over the body, chosen by the least eigenvalue of the structure tensor around them."""
    points = pyramid.body_points(2000, np.random.default_rng(1))
    around = sample_hu(pyramid, (points[:, None] + lattice(2, 4.0)).reshape(-1, 3)).reshape(len(points), 5, 5, 5)
    values = (around / _CONTRAST_HU).tanh().numpy()
    gradients = np.stack(np.gradient(values, axis=(1, 2, 3)), axis=-1)[:, 1:-1, 1:-1, 1:-1].reshape(len(points), -1, 3)
    least = np.linalg.eigvalsh(gradients.transpose(0, 2, 1) @ gradients)[:, 0]
    points = points[np.argsort(-least)[: max(1, round(_CORNERS * len(points)))]]
    chosen, distance = [0], np.linalg.norm(points - points[0], axis=1)
    while len(chosen) < min(_PATCHES, len(points)):
        chosen.append(int(distance.argmax()))
        distance = np.minimum(distance, np.linalg.norm(points - points[chosen[-1]], axis=1))
    return points[chosen]


def _search_all(
    source: FeaturePyramid,
    target: FeaturePyramid,
    points: NDArray[np.float64],
    starts: NDArray[np.float64],
    search: _Search,
    cancel: CancelToken | None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Where patches are found around starts, (N, 3) RAS mm, and how well they correlate there, (N,)."""
    found, agreement = np.empty_like(points), np.empty(len(points))
    step, radius, reach = search.step_mm, search.radius, round(search.reach_mm / search.step_mm)
    window = gaussian_window(radius, search.sigma)
    far = search.prior * torch.from_numpy((lattice(reach, step) ** 2).sum(axis=1)).float()
    for n, (point, start) in enumerate(zip(points, starts, strict=True)):
        raise_if_cancelled(cancel)
        patch = mind_ssc(cube(sample_hu(source, point + lattice(radius + 2, step))))
        region = mind_ssc(cube(sample_hu(target, start + lattice(reach + radius + 2, step))))
        cost = squared_difference(patch, region, window).reshape(-1) + far
        place = start + lattice(reach, step)[int(cost.argmin())]
        found[n], agreement[n] = by_correlation(source, target, point, place)
    return found, agreement


def by_correlation(
    source: FeaturePyramid, target: FeaturePyramid, point: NDArray[np.float64], place: NDArray[np.float64], prior: float = 0.0
) -> tuple[NDArray[np.float64], float]:
    """Move a place to where the CT correlates best with that around the point, up to fractions of a voxel.

    Args:
        source: of the scan of the point.
        target: of the scan of the place.
        point: (3,) RAS mm.
        place: (3,) RAS mm.
        prior: what a square millimeter away from the place costs, in correlation.

    Returns:
        The place (3,) RAS mm, and the correlation there.
    """
    patch = cube(sample_hu(source, point + lattice(6, _FINE_MM)))
    region = cube(sample_hu(target, place + lattice(_FINE_REACH + 6, _FINE_MM)))
    values = correlation(patch, region, gaussian_window(6, 3.0))
    far = torch.from_numpy((lattice(_FINE_REACH, _FINE_MM) ** 2).sum(axis=1)).float().reshape(values.shape)
    return place + peak(values - prior * far, _FINE_MM), float(values.max())


def _fit(
    points: NDArray[np.float64],
    onto: NDArray[np.float64],
    trust: NDArray[np.float64],
    matrix: NDArray[np.float64],
    search: _Search,
) -> NDArray[np.float64]:
    """Affine transform (3, 4) by weighted least squares; points that disagree lose their weight step by step."""
    width, prior = search.widest_mm, _STIFFNESS_MM**2 * np.eye(3)
    while width >= search.narrowest_mm:
        squares = ((_apply(matrix, points) - onto) ** 2).sum(axis=1)
        weight = trust * np.exp(-0.5 * squares / width**2) + 1e-9
        weight /= weight.sum()
        mean, onto_mean = weight @ points, weight @ onto
        rest, onto_rest = points - mean, onto - onto_mean
        linear = ((onto_rest.T * weight) @ rest + prior) @ np.linalg.inv((rest.T * weight) @ rest + prior)
        matrix = np.column_stack([linear, onto_mean - linear @ mean])
        width *= _NARROWING
    return matrix


def _apply(matrix: NDArray[np.float64], points: NDArray[np.float64]) -> NDArray[np.float64]:
    return points @ matrix[:, :3].T + matrix[:, 3]
