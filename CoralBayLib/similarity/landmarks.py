"""Landmarks that are learned from a few scans with named points, and placed in others.

A landmark is searched where three things agree: the features and the self-similarity of the CT look as in the examples, the
aligned bodies of the examples put it there, and so do the other landmarks, relative to which it lies as in the examples.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch.nn.functional import conv3d, interpolate

from CoralBayLib.core.errors import ProbeError, QueryError
from CoralBayLib.core.names import fold
from CoralBayLib.core.progress import CancelToken, Progress, raise_if_cancelled, report
from CoralBayLib.features.pyramid import FeaturePyramid

from .comparable import BODY_POINTS, FeatureSpace
from .landmark_examples import AROUND, COARSE_MM, FINE_MM, PATCH, Example, Patient
from .landmark_io import load, save
from .match_scores import Evidence, match_score
from .patches import cube, gaussian_window, lattice, mind_ssc, peak, sample_hu, squared_difference

_REACH, _FINE_REACH = 8, 4
"""How far the searches by features and by self-similarity go, in steps."""
_PRIOR_MM = (40.0, 25.0)
"""Standard deviation of the place that the alignment gives, before and after the other landmarks are known."""
_PRIOR = 0.1
"""What one standard deviation costs, in cosine."""
_FEATURE_SHARE = 0.3
"""Weight of the cosine of the features beside the self-similarity."""
_MOST_ALIGNED = 8
"""Patients that a scan is aligned with."""
_PRIOR_ERROR_MM, _PRIOR_ERRORS = 8.0, 2.0
"""Error assumed before there are measured ones, and how many of these it counts for; see DECISIONS.md."""


@dataclass(frozen=True)
class Landmark:
    """A landmark in a scan.

    Attributes:
        point_ras: position, RAS mm.
        expected_error_mm: error to expect, mm: the mean error in examples that were placed by the others, with two errors of
            8 mm added; with one example 8 mm, or how far the features alone and all evidence disagree if that is more.
        score: 0 to 1, as that of a match between two patients (`match_scores`), with how far the evidence disagrees in place
            of the way back.
    """

    point_ras: tuple[float, float, float]
    expected_error_mm: float
    score: float


class Landmarks:
    """Learns landmarks from examples and places them in other scans.

    Attributes:
        names: of the landmarks, in the order in which they were learned.
        errors_mm: by name, the errors in examples that were placed without their own patient.

    Example::

        landmarks = cb.Landmarks().fit([(pyramid, {"carina": [3, -20, 110]}), (other, {"carina": [1, -35, 96]})])
        landmarks.place(third)["carina"].point_ras
    """

    def __init__(self) -> None:
        self.names: list[str] = []
        self.errors_mm: dict[str, list[float]] = {}
        self._space: FeatureSpace | None = None
        self._patients: list[Patient] = []

    def __len__(self) -> int:
        return len(self._patients)

    def fit(
        self,
        examples: Sequence[tuple[FeaturePyramid, Mapping[str, ArrayLike]]],
        progress: Progress | None = None,
        cancel: CancelToken | None = None,
    ) -> Landmarks:
        """Learn from scans with named points; what was learned before is forgotten.

        Args:
            examples: scans of different patients, each with (3,) RAS mm by name. Not every scan needs every landmark. Names
                that look alike are of one landmark (see `CoralBayLib.core.names.fold`), named as in the first of them.
            progress: called with the fraction done and a message.
            cancel: checked between the scans; then nothing has changed.

        Raises:
            QueryError: there is no example, a point is not in its scan, or two points of a scan have names that look alike.
            EncoderError: the scans were embedded in different ways.
            Cancelled: `cancel` was called.
        """
        if not examples:
            raise QueryError("Expected at least one scan with landmarks.")
        fitted = Landmarks()
        fitted._space = FeatureSpace.of([pyramid for pyramid, _ in examples])
        fitted._patients = [fitted._sampled(pyramid, points) for pyramid, points in examples]
        for n, (pyramid, _) in enumerate(examples):
            raise_if_cancelled(cancel)
            report(progress, n / len(examples), f"Testing on example {n + 1} of {len(examples)}")
            others = [patient for m, patient in enumerate(fitted._patients) if m != n]
            fitted._measure(others, pyramid, fitted._patients[n])
        self.__dict__.update(fitted.__dict__)
        return self

    def learn(self, pyramid: FeaturePyramid, points: Mapping[str, ArrayLike]) -> Landmarks:
        """Add a scan, without the earlier scans at hand; raises as `fit`."""
        if self._space is None:
            return self.fit([(pyramid, points)])
        patient = self._sampled(pyramid, points)
        self._measure(self._patients, pyramid, patient)
        self._patients.append(patient)
        return self

    def place(
        self, pyramid: FeaturePyramid, progress: Progress | None = None, cancel: CancelToken | None = None
    ) -> dict[str, Landmark]:
        """Place all landmarks in a scan.

        Raises:
            ProbeError: no landmark was learned.
            EncoderError: the scan was embedded in another way than the examples.
            Cancelled: `cancel` was called.
        """
        if self._space is None:
            raise ProbeError("These landmarks have no example yet. Learn them from a scan with named points first.")
        self._space.require_fit(pyramid)
        search = _Search(self._space, pyramid, self._patients, cancel)
        found = search.run(progress)
        placed = {}
        for name in self.names:
            ras, cosine = found[name]
            apart_mm = search.disagreement_mm(name, ras)
            outside_mm = float(np.linalg.norm(search.starts[name] - search.inside(search.starts[name])))
            score = match_score(Evidence(apart_mm, cosine, outside_mm, False))
            r, a, s = (float(value) for value in ras)
            placed[name] = Landmark((r, a, s), self._expected_mm(name, apart_mm), score)
        return placed

    def save(self, path: str | os.PathLike) -> None:
        """Write a safetensors file.

        Raises:
            ProbeError: no landmark was learned.
            StoreError: the file could not be written.
        """
        if self._space is None:
            raise ProbeError("These landmarks have no example yet, so there is nothing to save.")
        save(path, self._space, self._patients, self.names, self.errors_mm)

    @classmethod
    def load(cls, path: str | os.PathLike) -> Landmarks:
        """Read a file that `save` wrote.

        Raises:
            ProbeError: the file is missing, damaged, or no landmarks.
        """
        landmarks = cls()
        landmarks._space, landmarks._patients, landmarks.names, landmarks.errors_mm = load(path)
        return landmarks

    def _sampled(self, pyramid: FeaturePyramid, points: Mapping[str, ArrayLike]) -> Patient:
        assert self._space is not None
        self._space.require_fit(pyramid)
        if not points:
            raise QueryError("A scan has no landmarks. Give at least one named point for each scan.")
        known = {fold(name): name for name in self.names}
        checked = {known.setdefault(fold(name), name): np.asarray(ras, np.float64).reshape(-1) for name, ras in points.items()}
        if len(checked) < len(points):
            raise QueryError("Two landmarks of a scan have names that look alike. Give each landmark a name of its own.")
        for name, ras in checked.items():
            if ras.shape != (3,) or not np.isfinite(ras).all() or not pyramid.source_grid.contains(ras)[0]:
                raise QueryError(f"The landmark '{name[:60]}' is not a point inside its scan. Check that they belong together.")
        patient = Patient.of(self._space, pyramid, checked)
        for name in checked:
            if name not in self.names:
                self.names.append(name)
                self.errors_mm[name] = []
        return patient

    def _measure(self, others: list[Patient], pyramid: FeaturePyramid, patient: Patient) -> None:
        """Place the landmarks of a patient by other patients, and keep the errors."""
        assert self._space is not None
        if not others:
            return
        found = _Search(self._space, pyramid, others).run()
        for name, example in patient.examples.items():
            if name in found:
                self.errors_mm[name].append(float(np.linalg.norm(found[name][0] - example.ras)))

    def _expected_mm(self, name: str, apart_mm: float) -> float:
        errors = self.errors_mm[name]
        if not errors:
            return max(_PRIOR_ERROR_MM, apart_mm)
        return (sum(errors) + _PRIOR_ERRORS * _PRIOR_ERROR_MM) / (len(errors) + _PRIOR_ERRORS)


class _Search:
    """The search for landmarks in one scan."""

    def __init__(
        self, space: FeatureSpace, pyramid: FeaturePyramid, patients: list[Patient], cancel: CancelToken | None = None
    ) -> None:
        self._space, self._pyramid, self._cancel = space, pyramid, cancel
        self._examples: dict[str, list[Example]] = {}
        points = pyramid.body_points(BODY_POINTS)
        vectors = space.sample(pyramid, points)
        starts: dict[str, list[NDArray[np.float64]]] = {}
        self._patients = patients
        for n, patient in enumerate(patients):
            raise_if_cancelled(cancel)
            for name, example in patient.examples.items():
                self._examples.setdefault(name, []).append(example)
            # A landmark that few patients have is aligned with one that has it.
            if n < _MOST_ALIGNED or patient.examples.keys() - starts.keys():
                alignment = patient.align(points, vectors)
                for name, example in patient.examples.items():
                    starts.setdefault(name, []).append(alignment.to(example.ras[None])[0])
        self.starts = {name: np.median(each, axis=0) for name, each in starts.items()}

    def run(self, progress: Progress | None = None) -> dict[str, tuple[NDArray[np.float64], float]]:
        """By name the place, (3,) RAS mm, and the mean cosine of the features there."""
        names = list(self._examples)
        coarse = {}
        for n, name in enumerate(names):
            raise_if_cancelled(self._cancel)
            report(progress, 0.2 + 0.4 * n / len(names), f"Searching {name}")
            coarse[name] = self._by_features(name, self.inside(self.starts[name]), _PRIOR_MM[0])
        found = {}
        for n, name in enumerate(names):
            raise_if_cancelled(self._cancel)
            report(progress, 0.6 + 0.4 * n / len(names), f"Placing {name}")
            expected = self._by_others(name, coarse)
            place = coarse[name]
            if expected is not None:
                place = self._by_features(name, self.inside(expected), _PRIOR_MM[1])
            found[name] = self._by_self_similarity(name, place)
        return found

    def inside(self, ras: NDArray[np.float64]) -> NDArray[np.float64]:
        """The point (3,) RAS mm, or the nearest one of the working grid along its axes."""
        grid = self._pyramid.grid
        return grid.to_ras(np.clip(grid.to_ijk(ras), 0, np.array(grid.size) - 1))[0]

    def disagreement_mm(self, name: str, place: NDArray[np.float64]) -> float:
        """How far the evidence disagrees: mm from the place to that of the features of one example alone, median over five."""
        alone = [self._by_features(name, self.inside(place), _PRIOR_MM[0], [each]) for each in self._examples[name][:5]]
        return float(np.median([np.linalg.norm(each - place) for each in alone]))

    def _by_others(self, name: str, coarse: dict[str, NDArray[np.float64]]) -> NDArray[np.float64] | None:
        """Half way between what the features say and where the other landmarks put a landmark, a median over them all."""
        votes = []
        for patient in self._patients:
            if name in patient.examples:
                own = patient.examples[name].ras
                votes += [coarse[n] + own - example.ras for n, example in patient.examples.items() if n != name]
        return (np.median(votes, axis=0) + coarse[name]) / 2 if votes else None

    def _cosines(self, name: str, center: NDArray, reach: int, examples: list[Example] | None = None) -> torch.Tensor:
        """Mean cosine of the features around places of a lattice and around the examples, (2 reach + 1,) * 3."""
        examples = examples or self._examples[name]
        template = torch.stack([example.appearance.float() for example in examples]).mean(dim=0)
        places = self._space.directions(self._pyramid, center + lattice(reach + AROUND, COARSE_MM))
        return conv3d(cube(places), cube(template) * gaussian_window(AROUND, 1.5))[0, 0]

    def _by_features(
        self, name: str, center: NDArray[np.float64], prior_mm: float, examples: list[Example] | None = None
    ) -> NDArray[np.float64]:
        offsets = lattice(_REACH, COARSE_MM)
        values = self._cosines(name, center, _REACH, examples).reshape(-1).numpy()
        values = values - _PRIOR / (2 * prior_mm**2) * (offsets**2).sum(axis=1)
        values[~self._pyramid.grid.contains(center + offsets)] = -np.inf
        return center + offsets[int(values.argmax())]

    def _by_self_similarity(self, name: str, center: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
        # The mean of squared differences from several patches is the one from their mean, up to a constant.
        patch = torch.stack([example.texture.float() for example in self._examples[name]]).mean(dim=0)[None]
        region = mind_ssc(cube(sample_hu(self._pyramid, center + lattice(_FINE_REACH + PATCH + 2, FINE_MM))))
        difference = squared_difference(patch, region, gaussian_window(PATCH, 3.0))
        coarse = self._cosines(name, center, round(_FINE_REACH * FINE_MM / COARSE_MM))
        cosine = interpolate(coarse[None, None], difference.shape, mode="trilinear", align_corners=True)[0, 0]
        values = _FEATURE_SHARE * cosine - difference
        return self.inside(center + peak(values, FINE_MM)), float(cosine.reshape(-1)[int(values.argmax())])
