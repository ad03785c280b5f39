"""What a probe keeps of one patient that it learnt from: a few megabytes, from which the scan cannot be restored in full."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from CoralBayLib.core.errors import ProbeError
from CoralBayLib.features.pyramid import FeaturePyramid
from CoralBayLib.features.shared_basis import shared_basis
from CoralBayLib.fewshot.evidence import evidence_of
from CoralBayLib.imaging.grid import Grid, Volume
from CoralBayLib.imaging.resampling import interpolate, resample

from .coarse import CoarseScan

COMPONENTS = 96
"""Components of a projection; of a basis those of the largest variance."""
_STRUCTURE_SAMPLES, _MOST_STRUCTURE_SAMPLES = 450, 4000
"""Points drawn from each structure, and from all together."""
_NEAR_SAMPLES, _NEAR_MM, _FAR_SAMPLES = 2000, 15.0, 2500
"""Points drawn from the background near the structures, and from the rest of the body."""
_SAMPLED = ("points_ras", "labels", "volume_mm3", "vectors", "hu_index")
_TENSORS = (*_SAMPLED, "mean", "spread", "voxels", "voxel_labels", "voxel_shares")
_MOST = 60_000.0
"""The largest number that is kept of a vector, in half precision."""
_LEAST_SPREAD, _LEAST_SHARE = 0.2, 0.02
"""Least standard deviation of a component in a scan: of a basis, and as a share of the largest of a random projection."""


@dataclass(frozen=True, eq=False)
class Projection:
    """A linear map of features that the patients of a probe share: `z = weights @ features + offset`.

    Attributes:
        weights: (D, channels) float32.
        offset: (D,) float32.
        shared: whether it is a basis, so that vectors of two scans are compared as they are; else they are standardized.
    """

    weights: torch.Tensor
    offset: torch.Tensor
    shared: bool

    @classmethod
    def of(cls, pyramid: FeaturePyramid) -> Projection:
        """Leading components of the basis that all scans of the encoder share, or else a random projection.

        A basis of one scan could not be compared with that of another probe, and was no better (DECISIONS.md). The entries
        of the random projection are 1 or -1, scaled (Achlioptas, JCSS 2003): it keeps distances, and is the same everywhere.
        """
        basis = shared_basis(pyramid)
        if basis is not None:
            return cls(basis.projection[:COMPONENTS].clone(), basis.offset[:COMPONENTS].clone(), True)
        signs = np.random.default_rng(0).integers(2, size=(COMPONENTS, pyramid.channels)) * 2 - 1
        return cls(torch.from_numpy(signs / np.sqrt(pyramid.channels)).float(), torch.zeros(COMPONENTS), False)

    def spread(self, variance: torch.Tensor) -> torch.Tensor:
        """Standard deviations (D,) of a variance, none of them so small that noise would be enlarged."""
        deviation = variance.sqrt()
        return deviation.clamp_min(_LEAST_SPREAD if self.shared else _LEAST_SHARE * float(deviation.max()) or 1.0)

    def same_as(self, other: Projection) -> bool:
        """Whether vectors of both can be compared."""
        return self.weights.shape == other.weights.shape and torch.allclose(self.weights, other.weights)


@dataclass(frozen=True, eq=False)
class PatientRecord:
    """Samples of a patient's features and labels, and the scan and the labels on a coarse grid.

    Attributes:
        key: of the scan's features in the store.
        names: of the structures that were looked for, by their label in this record; a structure that is not named may be
            there all the same.
        about: what is known of the annotation, for `coralbay probe info`; values that JSON can represent.
        coarse: the scan.
        points_ras: (N, 3) float32 RAS mm of the samples.
        labels: (N,) int32, 0 is background.
        volume_mm3: (N,) float32 that a sample represents.
        vectors: (N, D) half precision, projected features.
        hu_index: (N, 2) int16, HU and smoothed HU (see `voxel_features.hu_index`).
        mean, spread: (D,) float32, of the body's vectors.
        voxels, voxel_labels, voxel_shares: (M,) int32, int32 and uint8: flat index of a coarse voxel, a label, and the share of
            the voxel that it fills, of 255.
    """

    key: str
    names: dict[int, str]
    about: dict[str, Any]
    coarse: CoarseScan
    points_ras: torch.Tensor
    labels: torch.Tensor
    volume_mm3: torch.Tensor
    vectors: torch.Tensor
    hu_index: torch.Tensor
    mean: torch.Tensor
    spread: torch.Tensor
    voxels: torch.Tensor
    voxel_labels: torch.Tensor
    voxel_shares: torch.Tensor

    @classmethod
    def of(
        cls,
        pyramid: FeaturePyramid,
        labelmap: Volume,
        names: Mapping[int, str],
        projection: Projection,
        about: Mapping[str, Any] | None = None,
        seed: int = 0,
    ) -> PatientRecord:
        """Draw samples from a scan and its labels.

        Args:
            pyramid: of the scan.
            labelmap: on any grid.
            names: of the structures that were looked for, by label; other labels of the labelmap are ignored.
            projection: of the probe.
            about: see the attribute.
            seed: of the draw.

        Raises:
            ProbeError: no structure was looked for, or none has a voxel in the scan.
        """
        grid = pyramid.grid
        labels = labelmap.array if labelmap.grid is grid else resample(labelmap, grid, "nearest").array
        labels = np.where(np.isin(labels, list(names)), labels, 0).astype(np.int32)
        body = (pyramid.body.array > 0) | (labels > 0)
        found = [n for n in names if (labels == n).any()]
        if not found:
            raise ProbeError("None of the structures has a voxel in this scan. Check that the labels belong to it.")
        voxels, represented = _drawn(labels, body, found, grid, seed)
        points = grid.to_ras(np.stack(np.unravel_index(voxels, grid.shape), axis=1)[:, ::-1])
        vectors = pyramid.sample_linear(points, projection.weights, projection.offset)
        everywhere = represented * (labels.ravel()[voxels] == 0)
        weights = torch.from_numpy(everywhere / max(everywhere.sum(), 1e-9)).float()[:, None]
        mean = (weights * vectors).sum(dim=0)
        spread = projection.spread((weights * (vectors - mean) ** 2).sum(dim=0))
        coarse = CoarseScan.of(pyramid)
        where, which, shares = _on_coarse(labels, found, grid, coarse.grid)
        return cls(
            pyramid.key,
            {int(n): str(name) for n, name in names.items()},
            dict(about or {}),
            coarse,
            torch.from_numpy(points).float(),
            torch.from_numpy(labels.ravel()[voxels]),
            torch.from_numpy(represented * grid.voxel_volume_mm3).float(),
            vectors.clamp(-_MOST, _MOST).half(),
            hu_indices(pyramid, points),
            mean,
            spread,
            where,
            which,
            shares,
        )

    def nbytes(self) -> int:
        """Size in bytes."""
        return sum(each.nbytes for each in self.tensors().values())

    def tensors(self) -> dict[str, torch.Tensor]:
        """The parts by name, as `from_parts` takes them."""
        return {name: getattr(self, name) for name in _TENSORS} | {"image": self.coarse.image}

    def header(self) -> dict[str, Any]:
        """The rest, as `from_parts` takes it."""
        named = {str(label): name for label, name in self.names.items()}
        matrix = self.coarse.grid.ijk_to_ras.tolist()
        return {"key": self.key, "names": named, "about": self.about, "ijk_to_ras": matrix}

    @classmethod
    def from_parts(cls, header: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> PatientRecord:
        """The record of `header` and `tensors`.

        Raises:
            KeyError, TypeError, ValueError: a part is missing, or does not fit the others.
        """
        parts = dict(tensors)
        image = parts.pop("image")
        coarse = CoarseScan(Grid((image.shape[0], image.shape[1], image.shape[2]), np.array(header["ijk_to_ras"])), image)
        names = {int(label): str(name) for label, name in header["names"].items()}
        if len(parts["voxels"]) and int(parts["voxels"].max()) >= image.numel():
            raise ValueError("a voxel lies outside of the coarse scan")
        return cls(str(header["key"]), names, dict(header["about"]), coarse, **parts)


def hu_indices(pyramid: FeaturePyramid, points_ras: NDArray[np.float64]) -> torch.Tensor:
    """HU and smoothed HU at the working voxels nearest to (N, 3) RAS mm points, as indices of tables; (N, 2) int16."""
    return torch.from_numpy(evidence_of(pyramid).voxel_features.hu_indices(points_ras).astype(np.int16))


def _drawn(
    labels: NDArray[np.int32], body: NDArray[np.bool_], found: list[int], grid: Grid, seed: int
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Flat indices of the sampled voxels, and the number of voxels that each represents."""
    random = np.random.default_rng(seed)
    each = max(1, min(_STRUCTURE_SAMPLES, _MOST_STRUCTURE_SAMPLES // len(found)))
    away_mm = ndimage.distance_transform_edt(labels == 0, sampling=grid.spacing_mm[::-1])
    groups = [(np.flatnonzero(labels == n), each) for n in found]
    groups.append((np.flatnonzero(body & (labels == 0) & (away_mm < _NEAR_MM)), _NEAR_SAMPLES))
    groups.append((np.flatnonzero(body & (away_mm >= _NEAR_MM)), _FAR_SAMPLES))
    drawn = [(random.choice(all_, min(most, len(all_)), replace=False), len(all_)) for all_, most in groups if len(all_)]
    voxels = np.concatenate([some for some, _ in drawn])
    return voxels, np.concatenate([np.full(len(some), count / len(some)) for some, count in drawn])


def _on_coarse(
    labels: NDArray[np.int32], found: list[int], grid: Grid, coarse: Grid
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The share of coarse voxels that each structure fills, where there is any."""
    where, which, shares = [], [], []
    for label in found:
        share = interpolate(torch.from_numpy((labels == label)[None].astype(np.float32)), grid, coarse)[0].ravel()
        kept = torch.nonzero(share >= 1 / 255)[:, 0]
        where.append(kept.int())
        which.append(torch.full((len(kept),), label, dtype=torch.int32))
        shares.append((share[kept] * 255).round().to(torch.uint8))
    return torch.cat(where), torch.cat(which), torch.cat(shares)
