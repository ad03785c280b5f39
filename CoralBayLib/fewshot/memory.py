"""Samples of features and labels that a probe keeps of its scan, so that it can be adapted to other scans."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields

import numpy as np
import torch
from numpy.typing import NDArray

from CoralBayLib.features.pyramid import FeaturePyramid
from CoralBayLib.features.shared_basis import shared_basis
from CoralBayLib.imaging.grid import Volume

from .evidence import evidence_of
from .evidence.voxel_features import KNOTS_HU
from .prompts import Prompts

BODY_SAMPLES = 4000
"""Points drawn from the whole body."""
STRUCTURE_SAMPLES, MAX_STRUCTURE_SAMPLES = 150, 4000
"""Points drawn from each structure, and from all together: a probe stays within a few megabytes."""
HU_CHANNELS = 2 * len(KNOTS_HU)
"""Channels of the voxel features that are functions of the HU."""
_COMPONENTS = 192
"""Components of the basis that are kept, those of the largest variance first."""
_SMALL_SCAN_MM = 200.0
"""A scan of less height uses the basis that all scans of the encoder share, if there is one: its own basis depends on the
small part of the body that it shows. See DECISIONS.md."""
_NOT_SHARED = torch.tensor(False)
_ON_DISK = {"volume_mm3": "share"}
"""Names of tensors in files where they differ from the attribute's."""


@dataclass(frozen=True, eq=False)
class TransferMemory:
    """Samples of the features of a scan and of a probe's labels.

    Attributes:
        points_ras: (N, 3) float32 RAS mm; the last `BODY_SAMPLES`, or fewer, are drawn from the whole body.
        labels: (N,) int64 label of the structure there; 0 is background.
        body: (N,) whether drawn from the whole body.
        volume_mm3: (N,) float32, the volume that a sample represents.
        vectors: (N, D) half precision, whitened features.
        tissue: (N, T) half precision, functions of the HU.
        projection, offset: the whitening basis, (D, channels) and (D,).
        shared: whether that basis is one that all scans of the encoder share (see `shared_basis`), a boolean. Files of
            versions before there was a shared basis hold the scan's own.
        localized: the prompts that `localize` last found, by the key of their scan: they are the same for every click.
    """

    points_ras: torch.Tensor
    labels: torch.Tensor
    body: torch.Tensor
    volume_mm3: torch.Tensor
    vectors: torch.Tensor
    tissue: torch.Tensor
    projection: torch.Tensor
    offset: torch.Tensor
    shared: torch.Tensor = _NOT_SHARED
    localized: dict[str, Prompts] = field(default_factory=dict, init=False, repr=False)

    @classmethod
    def sample(cls, pyramid: FeaturePyramid, labelmap: Volume, structures: Sequence[int], seed: int = 0) -> TransferMemory:
        """Draw samples from a scan.

        Args:
            pyramid: of the scan.
            labelmap: the probe's labels, on the working grid.
            structures: the labels to draw from.
            seed: of the draw.
        """
        grid, labels = pyramid.grid, labelmap.array.ravel()
        body = np.flatnonzero(pyramid.body.array)
        random = np.random.default_rng(seed)
        each = max(1, min(STRUCTURE_SAMPLES, MAX_STRUCTURE_SAMPLES // len(structures)))
        drawn = [random.choice(voxels, min(each, len(voxels)), replace=False) for voxels in _voxels_of(labels, structures)]
        everywhere = random.choice(body, min(BODY_SAMPLES, len(body)), replace=False)
        voxels = np.concatenate([*drawn, everywhere])
        kji = np.stack(np.unravel_index(voxels, grid.shape), axis=1)
        points = grid.to_ras(kji[:, ::-1])
        sampled = labels[voxels].astype(np.int64)
        size = max(structures) + 1
        voxels_per_sample = np.bincount(labels[body], minlength=size) / np.maximum(np.bincount(sampled, minlength=size), 1)
        common = shared_basis(pyramid) if _height_mm(pyramid) < _SMALL_SCAN_MM else None
        basis = common or pyramid.basis
        projection, offset = basis.projection[:_COMPONENTS].clone(), basis.offset[:_COMPONENTS].clone()
        return cls(
            torch.from_numpy(points).float(),
            torch.from_numpy(sampled),
            torch.arange(len(voxels)) >= len(voxels) - len(everywhere),
            torch.from_numpy(voxels_per_sample[sampled] * grid.voxel_volume_mm3).float(),
            (pyramid.sample(points) @ projection.T + offset).half(),
            evidence_of(pyramid).voxel_features.sample(points)[:, :HU_CHANNELS].half(),
            projection,
            offset,
            torch.tensor(common is not None),
        )

    def tensors(self) -> dict[str, torch.Tensor]:
        """The parts by their name in files, as `from_tensors` takes them."""
        return {_ON_DISK.get(part.name, part.name): getattr(self, part.name) for part in fields(self) if part.init}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, torch.Tensor]) -> TransferMemory:
        """The memory of a file.

        Raises:
            TypeError: a part is missing or unknown.
        """
        attributes = {stored: attribute for attribute, stored in _ON_DISK.items()}
        return cls(**{attributes.get(name, name): tensor for name, tensor in tensors.items()})

    @property
    def positions(self) -> NDArray[np.float64]:
        """(N, 3) RAS mm, the points in double precision."""
        return self.points_ras.double().numpy()


def _height_mm(pyramid: FeaturePyramid) -> float:
    """Extent along S of the part of the patient that was scanned."""
    return float(pyramid.grid.size[2] * pyramid.grid.spacing_mm[2])


def _voxels_of(labels: NDArray, structures: Sequence[int]) -> list[NDArray[np.intp]]:
    """Flat indices of the voxels of each structure that has any."""
    return [voxels for label in structures if len(voxels := np.flatnonzero(labels == label))]
