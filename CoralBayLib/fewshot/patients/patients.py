"""What a probe knows from several patients: records, how they lie to each other, and a network that learnt from all.

One patient is the template. Another scan is registered with it once, so that the time does not grow with the patients. Then
the appearance network and the atlas of all patients together give the probability of each structure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from CoralBayLib.core.errors import ProbeError
from CoralBayLib.core.progress import CancelToken, Progress, raise_if_cancelled, report
from CoralBayLib.features.alignment import AxisAlignment, align
from CoralBayLib.features.pyramid import FeaturePyramid
from CoralBayLib.imaging.grid import Grid
from CoralBayLib.imaging.resampling import interpolate

from .appearance import FEW, MANY, AppearanceNetwork, inputs_of
from .atlas import WIDE_BLUR_MM, WIDE_SHARE, Atlas
from .coarse import CoarseScan
from .record import PatientRecord, Projection, hu_indices
from .registration import Deformation, register

SPACING_MM = 3.0
"""Least spacing of the grid on which suggestions are computed."""
MANY_PATIENTS = 6
"""From so many patients on, the network gets the atlas as an input, computed without the patient that it learns from."""
_WEIGHTS = {False: (0.6, 1.0), True: (1.0, 0.5)}
"""Of the log-probabilities of network and atlas; True from `MANY_PATIENTS` on."""
_LEAST_PROBABILITY = 0.01
_MATCHED, _BODY_POINTS = 32, 3000
"""Components and points by which bodies are aligned."""
_ABSENT = -12.0
"""Log-odds of a structure where it is not expected at all."""
_CHUNK = 1 << 16


@dataclass(frozen=True, eq=False)
class SuggestedStructures:
    """Where the structures of a probe are in a scan.

    Attributes:
        grid: of the log-odds.
        log_odds: by name, (K, J, I) float32.
    """

    grid: Grid
    log_odds: dict[str, torch.Tensor]

    def on(self, name: str, grid: Grid) -> torch.Tensor:
        """Log-odds of a structure on another grid, (K, J, I) float32."""
        return interpolate(self.log_odds[name][None], self.grid, grid)[0]


@dataclass(frozen=True, eq=False)
class Patients:
    """The patients of a probe.

    Attributes:
        projection: of the features of all.
        records: in the order in which they were learnt; the first is the template.
        deformations: of each, onto the template.
    """

    projection: Projection
    records: tuple[PatientRecord, ...]
    deformations: tuple[Deformation, ...]
    _network: list[AppearanceNetwork] = field(default_factory=list, repr=False)
    _suggested: dict[str, SuggestedStructures] = field(default_factory=dict, repr=False)

    @classmethod
    def of_one(cls, record: PatientRecord, projection: Projection) -> Patients:
        """One patient."""
        return cls(projection, (record,), (Deformation.none(),))

    def joined(self, others: Sequence[Patients], cancel: CancelToken | None = None) -> Patients:
        """These patients and those of others; a scan that is in both counts as annotated last.

        Raises:
            ProbeError: they were made with features that cannot be compared.
            Cancelled: `cancel` was called.
        """
        records = {record.key or str(id(record)): record for record in self.records}
        known = {id(record): deformation for record, deformation in zip(self.records, self.deformations, strict=True)}
        for other in others:
            if not self.projection.same_as(other.projection):
                raise ProbeError(
                    "These probes were made with different projections of the features, which cannot be compared. Teach the "
                    "scans to one probe, one after another."
                )
            for record in other.records:
                records[record.key or str(id(record))] = record
        merged = tuple(records.values())
        if merged[0] is not self.records[0]:
            known = {}
        deformations = []
        for record in merged:
            raise_if_cancelled(cancel)
            deformations.append(known.get(id(record)) or _mapped(record, merged[0], self.projection.shared, cancel))
        return Patients(self.projection, merged, tuple(deformations))

    @property
    def names(self) -> list[str]:
        """Of all structures, in the order in which they were learnt."""
        return list(dict.fromkeys(name for record in self.records for name in record.names.values()))

    @property
    def many(self) -> bool:
        """Whether there are `MANY_PATIENTS`."""
        return len(self.records) >= MANY_PATIENTS

    def atlas(self) -> Atlas:
        """Where the structures lie."""
        return Atlas(self.records[0].coarse, self.names, self.records, self.deformations)

    def network(self, atlas: Atlas | None = None, cancel: CancelToken | None = None) -> AppearanceNetwork:
        """The network, which is trained at first use: seconds.

        Raises:
            Cancelled: `cancel` was called.
        """
        if not self._network:
            self._network.append(self._trained(atlas or self.atlas(), cancel))
        return self._network[0]

    def with_network(self, network: AppearanceNetwork) -> Patients:
        """The same, with a network that was trained before."""
        return Patients(self.projection, self.records, self.deformations, [network])

    def suggest(
        self, pyramid: FeaturePyramid, progress: Progress | None = None, cancel: CancelToken | None = None
    ) -> SuggestedStructures:
        """Where the structures are in a scan; kept for the last scan.

        Args:
            pyramid: of a scan with features of the same signature.
            progress: called with the fraction done and a message.
            cancel: checked between steps.

        Raises:
            Cancelled: `cancel` was called.
        """
        if not pyramid.key or pyramid.key not in self._suggested:
            found = self._suggestion(pyramid, progress, cancel)
            self._suggested.clear()
            self._suggested[pyramid.key] = found
        return self._suggested[pyramid.key]

    def _suggestion(
        self, pyramid: FeaturePyramid, progress: Progress | None, cancel: CancelToken | None
    ) -> SuggestedStructures:
        atlas = self.atlas()
        report(progress, 0.0, "Learning from the annotated patients")
        network = self.network(atlas, cancel)
        report(progress, 0.4, "Aligning the patients")
        template = self.records[0]
        points = pyramid.body_points(_BODY_POINTS)
        vectors = pyramid.sample_linear(points, self.projection.weights, self.projection.offset)
        mean, spread = vectors.mean(dim=0), self.projection.spread(vectors.var(dim=0, correction=0))
        alignment = _aligned(template, points, vectors, mean, spread, self.projection.shared)
        deformation = register(CoarseScan.of(pyramid), template.coarse, alignment, cancel)
        report(progress, 0.7, "Finding the structures")
        grid = pyramid.grid.with_spacing(np.maximum(SPACING_MM, pyramid.grid.spacing_mm))
        in_body = pyramid.body.nearest_values(grid.centers()) > 0
        flat = np.flatnonzero(in_body)
        wide = self._expected(atlas, deformation, grid, flat)
        maps = torch.full((len(self.names), int(np.prod(grid.shape))), _ABSENT)
        candidates = flat[wide]
        for start in range(0, len(candidates), _CHUNK):
            raise_if_cancelled(cancel)
            some = candidates[start : start + _CHUNK]
            places = grid.to_ras(np.stack(np.unravel_index(some, grid.shape), axis=1)[:, ::-1])
            where = self._on_template(deformation, places)
            probabilities = atlas.probabilities(where)
            logs = network(
                inputs_of(
                    pyramid.sample_linear(places, self.projection.weights, self.projection.offset),
                    mean,
                    spread,
                    hu_indices(pyramid, places),
                    self._place(where),
                    probabilities if self.many else None,
                )
            )
            maps[:, torch.from_numpy(some)] = _combined(logs, probabilities, *_WEIGHTS[self.many])
        report(progress, 1.0, "Found the structures")
        return SuggestedStructures(grid, {name: one.reshape(grid.shape) for name, one in zip(self.names, maps, strict=True)})

    def _expected(self, atlas: Atlas, deformation: Deformation, grid: Grid, flat: NDArray[np.intp]) -> NDArray[np.bool_]:
        """Which of some voxels any structure is expected in."""
        places = grid.to_ras(np.stack(np.unravel_index(flat, grid.shape), axis=1)[:, ::-1])
        return (atlas.probabilities(self._on_template(deformation, places), WIDE_BLUR_MM) > WIDE_SHARE).any(dim=0).numpy()

    def _on_template(self, deformation: Deformation, places: NDArray[np.float64]) -> torch.Tensor:
        return self.records[0].coarse.kji_of(deformation.to_other(torch.from_numpy(places).float()))

    def _place(self, kji: torch.Tensor) -> torch.Tensor:
        """Coordinates of about unit variance of (N, 3) indices of the template."""
        body = torch.nonzero(self.records[0].coarse.image).float()
        return (kji - body.mean(dim=0)) / body.std(dim=0).clamp_min(1.0)

    def _trained(self, atlas: Atlas, cancel: CancelToken | None) -> AppearanceNetwork:
        number = {name: n + 1 for n, name in enumerate(self.names)}
        inputs, classes, volumes, looked_for = [], [], [], []
        for n, (record, deformation) in enumerate(zip(self.records, self.deformations, strict=True)):
            raise_if_cancelled(cancel)
            where = self._on_template(deformation, record.points_ras.double().numpy())
            probabilities = atlas.probabilities(where, without=n) if self.many else None
            place = self._place(where)
            inputs.append(inputs_of(record.vectors, record.mean, record.spread, record.hu_index, place, probabilities))
            table = torch.zeros(1 + max([0, *record.names]), dtype=torch.int64)
            for label, name in record.names.items():
                table[label] = number[name]
            classes.append(table[record.labels.long()])
            volumes.append(record.volume_mm3)
            looked = torch.zeros(1 + len(number), dtype=torch.bool)
            looked[[0, *(number[name] for name in record.names.values())]] = True
            looked_for.append(looked.expand(len(record.labels), -1))
        how = MANY if self.many else FEW
        components = len(self.projection.offset)
        return AppearanceNetwork.fit(
            torch.cat(inputs), torch.cat(classes), torch.cat(volumes), torch.cat(looked_for), components, how, cancel
        )


def _aligned(
    template: PatientRecord,
    points_ras: NDArray[np.float64],
    vectors: torch.Tensor,
    mean: torch.Tensor,
    spread: torch.Tensor,
    shared: bool,
) -> AxisAlignment:
    """Maps the body of a template onto that of a scan, of which there are points with their vectors."""
    body = template.labels == 0
    source, target = template.vectors[body].float(), vectors
    if not shared:
        source, target = (source - template.mean) / template.spread, (target - mean) / spread
    return align(template.points_ras[body].double().numpy(), source[:, :_MATCHED], points_ras, target[:, :_MATCHED])


def _mapped(record: PatientRecord, template: PatientRecord, shared: bool, cancel: CancelToken | None) -> Deformation:
    """Of a patient onto the template."""
    if record is template:
        return Deformation.none()
    body = record.labels == 0
    points, vectors = record.points_ras[body].double().numpy(), record.vectors[body].float()
    alignment = _aligned(template, points, vectors, record.mean, record.spread, shared)
    return register(record.coarse, template.coarse, alignment, cancel)


def _combined(logs: torch.Tensor, probabilities: torch.Tensor, of_network: float, of_atlas: float) -> torch.Tensor:
    """Log-odds (S, N) of the structures from (N, 1 + S) log-probabilities and (S, N) probabilities of the atlas."""
    nothing = (1 - probabilities.sum(dim=0, keepdim=True)).clamp(_LEAST_PROBABILITY, 1)
    prior = torch.cat([nothing, probabilities.clamp(_LEAST_PROBABILITY, 1)]).log().T
    scores = torch.log_softmax(of_network * logs + of_atlas * prior, dim=1)
    probability = scores[:, 1:].exp().clamp(1e-6, 1 - 1e-6)
    return torch.logit(probability).T
