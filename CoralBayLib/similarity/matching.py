"""The same place in another scan: a follow-up of the patient, or another patient.

The bodies are aligned by scale and shift (`features.alignment`), which is right to two or three centimeters.

In two scans of one patient (`follow_up`), an affine transform leads close to the place. The self-similarity of the CT
(MIND-SSC, Heinrich et al. 2013) and then its normalized cross-correlation find it up to a fraction of a voxel.

In scans of two patients, the place is searched whose features, and those around it, agree best with those of the point;
nearby, features and self-similarity decide together. Correlation does not help there.

Then the way back from the found place gives the distance by which the match misses its own starting point.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch.nn.functional import conv3d, interpolate

from CoralBayLib.core.progress import CancelToken, Progress, raise_if_cancelled, report
from CoralBayLib.features.alignment import AxisAlignment, align
from CoralBayLib.features.pyramid import FeaturePyramid

from .comparable import BODY_POINTS, FeatureSpace
from .follow_up import FollowUp, by_correlation, find_follow_up
from .match_scores import Evidence, match_score
from .patches import cube, gaussian_window, lattice, mind_ssc, sample_hu, squared_difference
from .search import Query

_COARSE_MM, _REACH_MM = 6.0, 48.0
"""Steps of the search by features, and how far around the aligned point it goes."""
_AROUND, _AROUND_SIGMA = 2, 1.5
"""Radius of the features around a point that are compared with it, and the sigma of their weights, in coarse steps."""
_PRIOR = 0.1 / (2 * 40.0**2)
"""What a square millimeter away from the aligned point costs, in cosine."""
_MIDDLE_MM, _MIDDLE_REACH_MM = 3.0, 12.0
"""Steps of the search by self-similarity, and how far it goes."""
_PATCH, _PATCH_SIGMA = 6, 3.0
"""Radius of the patches that are compared, and the sigma of their weights, in middle steps."""
_FEATURE_SHARE = 0.3
"""Weight of the cosine of the features beside the self-similarity, between patients."""
_FAR_DIFFERENCE, _FAR_CORRELATION = 0.03, 0.03
"""What one standard deviation away from the place that a follow-up's transform gives costs, in squared difference and in
correlation."""


@dataclass(frozen=True, eq=False)
class Matches:
    """Where points of one scan are in another.

    Attributes:
        points_ras: (N, 3) RAS mm in the other scan.
        scores: (N,) in 0 to 1: the estimated probability that a match is within 10 mm of the right place; near 0 when the
            place is not in the other scan. See `match_scores`.
        cycle_mm: (N,) mm by which the way back from the match misses the point.
        same_patient: whether the scans look like two of one patient.
    """

    points_ras: NDArray[np.float64]
    scores: NDArray[np.float64]
    cycle_mm: NDArray[np.float64]
    same_patient: bool


def match_points(
    source: FeaturePyramid,
    target: FeaturePyramid,
    points_ras: ArrayLike,
    progress: Progress | None = None,
    cancel: CancelToken | None = None,
) -> Matches:
    """Find the places of points of one scan in another scan.

    Args:
        source: of the scan that the points lie in.
        target: of a scan of the same or another patient, embedded in the same way. The patients must lie in about the same
            direction: feet and head, back and front are not exchanged.
        points_ras: (N, 3) or (3,) RAS mm in the first scan.
        progress: called with the fraction done and a message.
        cancel: checked between the points.

    Raises:
        EncoderError: the scans were embedded with different encoders, weights or settings.
        QueryError: a point lies outside the first scan, or there is none.
        Cancelled: `cancel` was called.
    """
    points = Query.stroke(np.atleast_2d(np.asarray(points_ras, dtype=np.float64))).inside(source)
    raise_if_cancelled(cancel)
    report(progress, 0.0, "Aligning the two scans")
    pair = ScanPair.of(source, target, cancel=cancel)
    found = np.empty_like(points)
    scores, cycles = np.empty(len(points)), np.empty(len(points))
    for n, point in enumerate(points):
        raise_if_cancelled(cancel)
        report(progress, 0.3 + 0.7 * n / len(points), f"Finding point {n + 1} of {len(points)}")
        found[n], evidence = pair.match(point)
        scores[n], cycles[n] = match_score(evidence), evidence.cycle_mm
    report(progress, 1.0, "Found")
    return Matches(found, scores, cycles, pair.follow_up is not None)


@dataclass(frozen=True, eq=False)
class ScanPair:
    """Two scans, and how the first lies in the second.

    Attributes:
        source: the scan that points lie in.
        target: the scan that they are searched in.
        space: of the features of both.
        alignment: from the source to the target.
        follow_up: the more exact transform, if the scans look like two of one patient.
    """

    source: FeaturePyramid
    target: FeaturePyramid
    space: FeatureSpace
    alignment: AxisAlignment
    follow_up: FollowUp | None

    @classmethod
    def of(
        cls,
        source: FeaturePyramid,
        target: FeaturePyramid,
        space: FeatureSpace | None = None,
        cancel: CancelToken | None = None,
    ) -> ScanPair:
        """Align two scans; raises `EncoderError` and `Cancelled` as `match_points`."""
        space = space or FeatureSpace.of([source, target])
        points = [scan.body_points(BODY_POINTS) for scan in (source, target)]
        vectors = [space.sample(scan, some) for scan, some in zip((source, target), points, strict=True)]
        raise_if_cancelled(cancel)
        alignment = align(points[0], vectors[0], points[1], vectors[1])
        return cls(source, target, space, alignment, find_follow_up(source, target, alignment, cancel))

    def back(self) -> ScanPair:
        """The same pair in the other direction."""
        follow_up = None if self.follow_up is None else self.follow_up.back()
        return ScanPair(self.target, self.source, self.space, self.alignment.inverse(), follow_up)

    def start(self, point: NDArray[np.float64]) -> NDArray[np.float64]:
        """Where the transform alone puts a point (3,) RAS mm, (3,) RAS mm."""
        transform = self.alignment if self.follow_up is None else self.follow_up
        return transform.to(point[None])[0]

    def match(self, point: NDArray[np.float64]) -> tuple[NDArray[np.float64], Evidence]:
        """Where a point (3,) RAS mm is in the target, (3,) RAS mm, and what speaks for it."""
        place, cosine = self.find(point)
        again, _ = self.back().find(place)
        start = self.start(point)
        outside_mm = float(np.linalg.norm(start - _nearest_inside(self.target, start)))
        cycle_mm = float(np.linalg.norm(again - point))
        return place, Evidence(cycle_mm, cosine, outside_mm, self.follow_up is not None)

    def find(self, point: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
        """One way of `match`: the place, and the mean cosine of the features around it."""
        start = _nearest_inside(self.target, self.start(point))
        if self.follow_up is None:
            start = self._by_features(point, start)
        place, cosine = self._by_self_similarity(point, start)
        if self.follow_up is not None:
            prior = _FAR_CORRELATION / (2 * self.follow_up.deviation_mm**2)
            place, _ = by_correlation(self.source, self.target, point, place, prior)
        return _nearest_inside(self.target, place), cosine

    def _cosines(self, point: NDArray, center: NDArray, reach: int) -> torch.Tensor:
        """Mean cosine of the features around a point and around places of a lattice, (2 reach + 1,) * 3."""
        window = gaussian_window(_AROUND, _AROUND_SIGMA)
        around = self.space.directions(self.source, point + lattice(_AROUND, _COARSE_MM))
        places = self.space.directions(self.target, center + lattice(reach + _AROUND, _COARSE_MM))
        return conv3d(cube(places), cube(around) * window)[0, 0]

    def _by_features(self, point: NDArray, center: NDArray) -> NDArray[np.float64]:
        reach = round(_REACH_MM / _COARSE_MM)
        offsets = lattice(reach, _COARSE_MM)
        values = self._cosines(point, center, reach).reshape(-1).numpy() - _PRIOR * (offsets**2).sum(axis=1)
        values[~self.target.grid.contains(center + offsets)] = -np.inf
        return center + offsets[int(values.argmax())]

    def _by_self_similarity(self, point: NDArray, center: NDArray) -> tuple[NDArray[np.float64], float]:
        reach = round(_MIDDLE_REACH_MM / _MIDDLE_MM)
        offsets = lattice(reach, _MIDDLE_MM)
        patch = mind_ssc(cube(sample_hu(self.source, point + lattice(_PATCH + 2, _MIDDLE_MM))))
        region = mind_ssc(cube(sample_hu(self.target, center + lattice(reach + _PATCH + 2, _MIDDLE_MM))))
        difference = squared_difference(patch, region, gaussian_window(_PATCH, _PATCH_SIGMA))
        coarse = self._cosines(point, center, round(_MIDDLE_REACH_MM / _COARSE_MM))
        cosine = interpolate(coarse[None, None], difference.shape, mode="trilinear", align_corners=True)[0, 0]
        if self.follow_up is None:
            cost = difference - _FEATURE_SHARE * cosine
        else:
            prior = _FAR_DIFFERENCE / (2 * self.follow_up.deviation_mm**2)
            cost = difference + prior * torch.from_numpy((offsets**2).sum(axis=1)).float().reshape(difference.shape)
        best = int(cost.argmin())
        return center + offsets[best], float(cosine.reshape(-1)[best])


def _nearest_inside(pyramid: FeaturePyramid, ras: NDArray[np.float64]) -> NDArray[np.float64]:
    """The point itself, or the nearest one of the working grid along its axes."""
    ijk = np.clip(pyramid.grid.to_ijk(ras), 0, np.array(pyramid.grid.size) - 1)
    return pyramid.grid.to_ras(ijk)[0]
