"""Peers of a probe of several patients: established methods that learn from labeled patients (see `patients`).

They see the CT on the working grid of the features, not the features.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from sklearn.ensemble import RandomForestClassifier

from CoralBayLib.core.errors import EvaluationError
from CoralBayLib.core.progress import CancelToken, raise_if_cancelled
from CoralBayLib.evaluation.method import Lesson
from CoralBayLib.features.pyramid import FeaturePyramid
from CoralBayLib.fewshot.patients.record import _drawn
from CoralBayLib.imaging.cropping import bounding_box
from CoralBayLib.imaging.grid import Grid, Volume
from CoralBayLib.imaging.resampling import interpolate, resample

from .peers import TREES, Forest

REGISTRATION_MM = 4.0
"""Spacing of the isotropic grid for registration."""
MOST_VOXELS = 1_500_000
"""Larger bodies get a coarser grid for registration."""
_AFFINE_MM, _LEAST_VOXELS = 8.0, 24
_REGISTRATION_HU = (-500.0, 1000.0)
_SHIFTS_MM = range(-120, 121, 20)
"""Shifts along S from which the affine registration may start: scans of the same region end at different heights."""
_SHARE_MOST = 255


def isotropic(grid: Grid, spacing_mm: float, most_voxels: int = MOST_VOXELS) -> Grid:
    """The grid with the same spacing along all axes, larger than `spacing_mm` where there would be too many voxels."""
    spacing = max(spacing_mm, float(np.cbrt(np.prod(grid.shape) * grid.voxel_volume_mm3 / most_voxels)))
    return grid.with_spacing([spacing] * 3)


def largest_pieces(labels: NDArray, labels_of: Sequence[int]) -> NDArray:
    """The labelmap with only the largest connected piece of each structure."""
    kept = np.zeros_like(labels)
    for label in labels_of:
        pieces, count = ndimage.label(labels == label)
        if count:
            kept[pieces == 1 + np.argmax(np.bincount(pieces.ravel())[1:])] = label
    return kept


class _PlacedForest(Forest):
    """The filters and the place about the middle of the body, and the place in the box of the body."""

    def describe(self) -> NDArray[np.float32]:
        """(voxels, features)."""
        made, shape = super().describe(), self.working.grid.shape
        box = np.stack([axis / max(n - 1, 1) for axis, n in zip(np.indices(shape, np.float32), shape, strict=True)], axis=-1)
        return np.concatenate([made, box.reshape(-1, 3)], axis=1, dtype=np.float32)


@dataclass(frozen=True, eq=False)
class Samples:
    """Voxels of a patient: (N, features), (N,) labels, and (N,) numbers of voxels that each represents."""

    features: NDArray[np.float32]
    labels: NDArray[np.int32]
    represented: NDArray[np.float64]


class FilterForest:
    """A random forest on multi-scale filters and the place in the body; of each structure the largest piece is kept.

    It learns from as many voxels of each patient as the probe does. A structure that was not looked for in a patient counts as
    background there.
    """

    version = "forest 1"

    def learn(self, lesson: Lesson, cancel: CancelToken | None = None) -> Samples:
        """See `Method`."""
        pyramid, labelmap = lesson.load()
        scan = _PlacedForest(pyramid.image)
        grid = scan.working.grid
        labels = resample(labelmap, grid, "nearest").array.astype(np.int32)
        labels[~np.isin(labels, list(lesson.names))] = 0
        found = [label for label in lesson.names if (labels == label).any()]
        voxels, represented = _drawn(labels, scan.working.body | (labels > 0), found, grid, seed=0)
        return Samples(scan.features[voxels], labels.ravel()[voxels], represented)

    def combine(self, parts: Sequence[Samples], cancel: CancelToken | None = None) -> RandomForestClassifier:
        """See `Method`."""
        features, labels, represented = (
            np.concatenate([getattr(part, name) for part in parts]) for name in ("features", "labels", "represented")
        )
        # As MANY in `appearance`: between all structures alike, and each by its volume.
        forest = RandomForestClassifier(TREES, min_samples_leaf=5, random_state=0)
        return forest.fit(features, labels, sample_weight=np.sqrt(represented))

    def predict(
        self, model: RandomForestClassifier, pyramid: FeaturePyramid, grid: Grid, cancel: CancelToken | None = None
    ) -> Volume:
        """See `Method`."""
        found = _PlacedForest(pyramid.image).classified(model)(grid)
        return Volume(largest_pieces(found, [int(label) for label in model.classes_ if label]), grid)


Share = tuple[tuple[slice, ...], NDArray[np.uint8]]
"""The box of a structure on a grid, and in it the share of each voxel that it fills, of 255."""


@dataclass(frozen=True, eq=False)
class Atlas:
    """A labeled patient that is registered with others.

    Attributes:
        image: the CT on an isotropic grid.
        labels: on the same grid.
        names: of the structures that were looked for, by label.
    """

    image: Volume
    labels: Volume
    names: Mapping[int, str]


class Registration:
    """Labeled patients are registered with the scan and vote: an affine registration (SimpleITK), then ConvexAdam.

    ConvexAdam: Siebert, Hansen and Heinrich (2021), "Fast 3D registration with accurate optimisation and little learning for
    Learn2Reg 2021"; the authors' package, with its settings for two scans without labels.
    """

    version = "convexadam 1"

    def __init__(self) -> None:
        self._warped: dict[tuple[int, str], dict[int, Share]] = {}
        self._atlases: list[Atlas] = []

    def learn(self, lesson: Lesson, cancel: CancelToken | None = None) -> Atlas:
        """See `Method`."""
        pyramid, labelmap = lesson.load()
        grid = isotropic(pyramid.grid, REGISTRATION_MM)
        atlas = Atlas(resample(pyramid.image, grid), resample(labelmap, grid, "nearest"), dict(lesson.names))
        # Kept, so that no other one gets its id.
        self._atlases.append(atlas)
        return atlas

    def combine(self, parts: Sequence[Atlas], cancel: CancelToken | None = None) -> list[Atlas]:
        """See `Method`."""
        return list(parts)

    def predict(self, model: list[Atlas], pyramid: FeaturePyramid, grid: Grid, cancel: CancelToken | None = None) -> Volume:
        """See `Method`."""
        fixed = resample(pyramid.image, isotropic(pyramid.grid, REGISTRATION_MM))
        labels = sorted({label for atlas in model for label in atlas.names})
        votes = torch.zeros(len(labels), *fixed.grid.shape)
        for atlas in model:
            raise_if_cancelled(cancel)
            key = (id(atlas), pyramid.key)
            if key not in self._warped:
                self._warped[key] = warp(fixed, atlas)
            for label, (box, share) in self._warped[key].items():
                asked = sum(label in each.names for each in model)
                votes[labels.index(label)][box] += torch.from_numpy(share.astype(np.float32)) / (_SHARE_MOST * asked)
        shares = interpolate(votes, fixed.grid, grid)
        shares = torch.cat([1 - shares.sum(dim=0, keepdim=True), shares])
        return Volume(np.array([0, *labels], np.uint8)[shares.argmax(dim=0).numpy()], grid)


def warp(fixed: Volume, atlas: Atlas) -> dict[int, Share]:
    """The structures of a labeled patient on the isotropic grid of another scan, by label."""
    places = registered(fixed, atlas.image)
    shares: dict[int, Share] = {}
    for label in atlas.names:
        mask = (atlas.labels.array == label).astype(np.float32)
        if mask.any():
            found = ndimage.map_coordinates(mask, places, order=1)
            share = np.round(found * _SHARE_MOST).astype(np.uint8)
            box = bounding_box(share > 0)
            if box is not None:
                shares[label] = box, share[box]
    return shares


def registered(fixed: Volume, moving: Volume) -> NDArray[np.float64]:
    """(3, K, J, I) the indices (k, j, i) in the moving scan of every voxel of the fixed one; both isotropic.

    Raises:
        EvaluationError: ConvexAdam is not installed, or a scan is too small to be registered.
    """
    try:
        with warnings.catch_warnings():  # the package turns all warnings off when it is imported
            from convexAdam.convex_adam_MIND import convex_adam_pt
    except ImportError:
        raise EvaluationError(
            "Registration needs ConvexAdam. Install it with: pip install convexAdam==0.2.0. Or leave out registration with "
            "--methods."
        ) from None
    if min(fixed.grid.shape) < _LEAST_VOXELS:
        raise EvaluationError(
            f"A scan is too small to be registered: at least {_LEAST_VOXELS} voxels of 4 mm along each axis are needed."
        )
    matrix, offset = affine(fixed, moving)
    centers = np.moveaxis(np.indices(fixed.grid.shape, float), 0, -1)
    aligned = ndimage.map_coordinates(moving.array, _moved(centers, fixed, moving, matrix, offset), order=1, cval=-1000.0)
    images = [np.clip(each, *_REGISTRATION_HU).astype(np.float32) for each in (fixed.array, aligned)]
    with warnings.catch_warnings():  # of a default of PyTorch, at each call
        warnings.simplefilter("ignore", UserWarning)
        found = convex_adam_pt(*images, dtype=torch.float32, device=torch.device("cpu"))
    return _moved(centers + found, fixed, moving, matrix, offset)


def _moved(
    kji: NDArray[np.float64], fixed: Volume, moving: Volume, matrix: NDArray[np.float64], offset: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(3, ...) indices (k, j, i) in the moving scan of (..., 3) indices in the fixed one, through an affine map of RAS mm."""
    ras = fixed.grid.to_ras(kji.reshape(-1, 3)[:, ::-1]) @ matrix.T + offset
    return moving.grid.to_ijk(ras)[:, ::-1].T.reshape(3, *kji.shape[:-1])


def affine(fixed: Volume, moving: Volume) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(3, 3) and (3,): the affine map of points of the fixed scan into the moving one, RAS mm, by mutual information."""
    import SimpleITK as sitk

    images = [_coarse_image(volume) for volume in (fixed, moving)]
    middles = [_middle(volume) for volume in (fixed, moving)]
    method = sitk.ImageRegistrationMethod()
    method.SetNumberOfThreads(1)  # the sums of several threads differ in the last digits
    method.SetMetricAsMattesMutualInformation(32)
    method.SetMetricSamplingStrategy(method.NONE)
    method.SetInterpolator(sitk.sitkLinear)

    def start(shift_mm: float) -> Any:
        made = sitk.AffineTransform(3)
        made.SetCenter(middles[0].tolist())
        made.SetTranslation((middles[1] - middles[0] + [0, 0, shift_mm]).tolist())
        return made

    def metric(shift_mm: float) -> float:
        method.SetInitialTransform(start(shift_mm))
        try:
            return method.MetricEvaluate(*images)
        except RuntimeError:
            return np.inf  # the scans do not overlap

    found = start(min(_SHIFTS_MM, key=metric))
    method.SetOptimizerAsRegularStepGradientDescent(4.0, 0.05, 100)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetInitialTransform(found, inPlace=True)
    method.Execute(*images)
    matrix, center = np.array(found.GetMatrix()).reshape(3, 3), np.array(found.GetCenter())
    return matrix, np.array(found.GetTranslation()) + center - matrix @ center


def _coarse_image(volume: Volume) -> Any:
    """A coarse SimpleITK image whose points are RAS mm: the frame does not matter as long as it is the same for both."""
    import SimpleITK as sitk

    spacing = np.maximum(_AFFINE_MM, volume.grid.spacing_mm)
    grid = volume.grid.with_spacing(spacing) if min(volume.grid.size * volume.grid.spacing_mm) > 64 else volume.grid
    image = sitk.GetImageFromArray(np.clip(resample(volume, grid).array, *_REGISTRATION_HU).astype(np.float32))
    image.SetSpacing(grid.spacing_mm.tolist())
    image.SetOrigin(grid.ijk_to_ras[:3, 3].tolist())
    image.SetDirection((grid.ijk_to_ras[:3, :3] / grid.spacing_mm).ravel().tolist())
    return image


def _middle(volume: Volume) -> NDArray[np.float64]:
    """Of tissue, RAS mm."""
    kji = np.argwhere(volume.array > _REGISTRATION_HU[0])
    return volume.grid.to_ras(kji.mean(axis=0)[::-1])[0] if len(kji) else volume.grid.center_ras
