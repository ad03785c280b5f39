"""Peers: established methods that segment from strokes, for the same sessions (see `protocol`)."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

import CoralBayLib as cb
from CoralBayLib.features.preprocessing import body_mask
from CoralBayLib.fewshot.labeling import rasterize
from CoralBayLib.imaging.grid import Grid, Volume

from .protocol import Answer

SPACING_MM = 2.0
"""Spacing of the peers' grid; a finer one takes minutes a click. Their borders are interpolated to the finer grid."""
TREES = 100
SIGMA_MM = (1.0, 16.0)
_WINDOW_HU = (-1000.0, 1000.0)
_CHUNK = 1 << 18


class PatientGrid:
    """A CT on the peers' grid, cropped to the patient."""

    def __init__(self, volume: Volume) -> None:
        canonical = volume.canonical()
        spacing = np.maximum(SPACING_MM, canonical.grid.spacing_mm)
        whole = cb.resample(canonical, canonical.grid.with_spacing(spacing))
        body = body_mask(whole.array, whole.grid.spacing_mm)
        box = tuple(slice(w[0], w[-1] + 1) for w in (np.flatnonzero(body.any(axis=a)) for a in ((1, 2), (0, 2), (0, 1))))
        self.grid = whole.grid.subgrid([s.start for s in reversed(box)], 1, body[box].shape)
        self.hu = np.ascontiguousarray(whole.array[box])
        self.body = body[box]

    def index(self, prompts: cb.Prompts) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
        """Flat index and label of each marked voxel; a voxel that was marked more than once has its last label."""
        flat = np.ravel_multi_index(tuple(self.grid.nearest_ijk(prompts.points_ras)[:, ::-1].T), self.grid.shape)
        voxels, last = np.unique(flat[::-1], return_index=True)
        return voxels, prompts.labels[::-1][last]


def _answer(margins: dict[int, NDArray[np.float32]], working: Grid) -> Answer:
    """Borders where the margins, interpolated to the grid wanted, are zero; where several are positive, the largest."""

    def on(grid: Grid) -> NDArray:
        labels, best = np.zeros(grid.shape, np.uint8), np.zeros(grid.shape, np.float16)
        for label, margin in margins.items():
            rasterize(labels, best, grid, torch.from_numpy(margin), working, label)
        return labels

    return on


class GrowFromSeeds:
    """The Segment Editor's "Grow from seeds" (Zhu and others 2014), by Slicer's own code."""

    def __init__(self, volume: Volume) -> None:
        self.working = PatientGrid(volume)

    def __call__(self, prompts: cb.Prompts) -> Answer:
        """Grow all seeds, background included, until they meet."""
        import slicer
        import vtk
        from vtk.util.numpy_support import numpy_to_vtk, vtk_to_numpy

        def image(array: NDArray, kind: int):
            made = slicer.vtkOrientedImageData()
            made.SetDimensions(*self.working.grid.size)
            made.SetSpacing(*self.working.grid.spacing_mm)
            made.GetPointData().SetScalars(numpy_to_vtk(np.ascontiguousarray(array).ravel(), deep=True, array_type=kind))
            return made

        voxels, labels = self.working.index(prompts)
        background = int(prompts.labels.max()) + 1
        seeds = np.zeros(self.working.grid.shape, np.int16)
        seeds.ravel()[voxels] = np.where(labels == 0, background, labels)
        grow = slicer.vtkImageGrowCutSegment()
        # Referenced here, since the filter may not keep a reference.
        intensity = image(self.working.hu.astype(np.int16), vtk.VTK_SHORT)
        seeded = image(seeds, vtk.VTK_SHORT)
        grow.SetIntensityVolume(intensity)
        grow.SetSeedLabelVolume(seeded)
        grow.Update()
        grown = vtk_to_numpy(grow.GetOutput().GetPointData().GetScalars()).reshape(self.working.grid.shape)
        found = np.where(self.working.body, grown, 0)
        return _answer({n: (found == n).astype(np.float32) - 0.5 for n in prompts.structures}, self.working.grid)


class _Classified:
    """Features of body voxels, and a classifier that is fitted on the prompts."""

    def __init__(self, volume: Volume) -> None:
        self.working = PatientGrid(volume)
        self.inside = np.flatnonzero(self.working.body.ravel())
        self.features = self.describe()

    def describe(self) -> NDArray[np.float32]:
        """(voxels, features) of all voxels."""
        raise NotImplementedError

    def fitted(self, features: NDArray[np.float32], labels: NDArray[np.int64]):
        """A scikit-learn classifier."""
        raise NotImplementedError

    def __call__(self, prompts: cb.Prompts) -> Answer:
        """Fit and classify every voxel of the patient."""
        voxels, labels = self.working.index(prompts)
        return self.classified(self.fitted(self.features[voxels], labels))

    def classified(self, model) -> Answer:
        """Every voxel of the patient by a fitted classifier."""
        shape = self.working.grid.shape
        margins = {int(n): np.full(shape, -1.0, np.float32) for n in model.classes_ if n}
        for start in range(0, len(self.inside), _CHUNK):
            part = self.inside[start : start + _CHUNK]
            probability = model.predict_proba(self.features[part]).astype(np.float32)
            order = np.partition(probability, -2, axis=1)
            for column, n in enumerate(model.classes_):
                if n:
                    own = probability[:, column]
                    others = np.where(own == order[:, -1], order[:, -2], order[:, -1])
                    margins[int(n)].ravel()[part] = own - others
        return _answer(margins, self.working.grid)


class Forest(_Classified):
    """As ilastik does it (Berg and others 2019): a random forest on multi-scale filters; with position, which it lacks."""

    def describe(self) -> NDArray[np.float32]:
        """Intensity, gradient and Hessian eigenvalues from fine to coarse, and the place in the body."""
        from skimage.feature import multiscale_basic_features

        grid = self.working.grid
        image = (np.clip(self.working.hu, *_WINDOW_HU) / _WINDOW_HU[1]).astype(np.float32)
        mean = float(grid.spacing_mm.mean())
        sigmas = [sigma / mean for sigma in SIGMA_MM]
        made = multiscale_basic_features(image, sigma_min=sigmas[0], sigma_max=sigmas[1])
        k, j, i = np.indices(grid.shape, dtype=np.float32)
        middle = [np.average(axis[self.working.body]) for axis in (k, j, i)]
        place = np.stack([(a - m) * mm / 100 for a, m, mm in zip((k, j, i), middle, grid.spacing_mm[::-1], strict=True)], -1)
        return np.concatenate([made, place], axis=-1, dtype=np.float32).reshape(-1, made.shape[-1] + 3)

    def fitted(self, features: NDArray[np.float32], labels: NDArray[np.int64]) -> RandomForestClassifier:
        """As many trees as ilastik grows."""
        return RandomForestClassifier(TREES, random_state=0).fit(features, labels)


class LinearFilters(Forest):
    """The same filters with a linear classifier."""

    def describe(self) -> NDArray[np.float32]:
        """Standardised."""
        features = super().describe()
        return StandardScaler().fit(features[self.inside]).transform(features).astype(np.float32)

    def fitted(self, features: NDArray[np.float32], labels: NDArray[np.int64]) -> LogisticRegression:
        """Multinomial."""
        return LogisticRegression(C=1.0, max_iter=200, class_weight="balanced").fit(features, labels)


class NearestIntensity(_Classified):
    """Each voxel goes to the structure whose mean HU is nearest."""

    def describe(self) -> NDArray[np.float32]:
        """HU."""
        return self.working.hu.reshape(-1, 1).astype(np.float32)

    def fitted(self, features: NDArray[np.float32], labels: NDArray[np.int64]) -> _Prototypes:
        """Means."""
        return _Prototypes(features, labels)


class _Prototypes:
    """Soft nearest mean, in scikit-learn's form."""

    def __init__(self, features: NDArray[np.float32], labels: NDArray[np.int64]) -> None:
        self.classes_ = np.unique(labels)
        self.means = np.stack([features[labels == n].mean(axis=0) for n in self.classes_])

    def predict_proba(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """(N, classes)."""
        distance = np.linalg.norm(features[:, None] - self.means, axis=2)
        return (1 / (distance + 1)) / (1 / (distance + 1)).sum(axis=1, keepdims=True)
