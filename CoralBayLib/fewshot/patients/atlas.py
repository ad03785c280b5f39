"""Where the structures of several patients lie, in the space of one of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from .coarse import CoarseScan
from .descriptors import sample
from .record import PatientRecord
from .registration import Deformation

BLUR_MM = 5.0
"""Standard deviation that allows for errors of registration."""
WIDE_BLUR_MM, WIDE_SHARE = 12.0, 0.004
"""Places where a structure is not expected at all have less than this share with this standard deviation."""
_LEAST_VOXELS = 0.01
"""Added to the number of voxels that were looked at, so that places that no patient shows have probability 0."""
_TRUNCATE = 3.0


class Atlas:
    """Probability of each structure at a place, from the patients that were mapped onto a template.

    Args:
        template: the scan whose space is used.
        names: of the structures, in the order of the results.
        records: patients.
        deformations: of each, onto the template.
    """

    def __init__(
        self, template: CoarseScan, names: Sequence[str], records: Sequence[PatientRecord], deformations: Sequence[Deformation]
    ) -> None:
        self.template, self.names = template, list(names)
        self._seen, self._filled = [], []
        for record, deformation in zip(records, deformations, strict=True):
            everywhere = self._cells(record.coarse, deformation)
            inside = (record.coarse.image.flatten() > 0).numpy()
            weight = (record.coarse.spacing_mm / template.spacing_mm) ** 3
            self._seen.append(self._counted(everywhere[inside], weight))
            labels = {name: label for label, name in record.names.items()}
            of_voxel, voxels = record.voxel_labels.numpy(), record.voxels.numpy()
            shares = record.voxel_shares.numpy() * (weight / 255)
            self._filled.append(
                {
                    name: (everywhere[voxels[mine]], shares[mine])
                    for name in self.names
                    if name in labels
                    for mine in [of_voxel == labels[name]]
                }
            )
        self._maps: dict[tuple[str, float], tuple[NDArray[np.intp], torch.Tensor] | None] = {}

    def probabilities(self, kji: torch.Tensor, blur_mm: float = BLUR_MM, without: int | None = None) -> torch.Tensor:
        """Probability of each structure at places of the template.

        Args:
            kji: (N, 3) indices (k, j, i) of the template.
            blur_mm: standard deviation of a Gaussian blur.
            without: number of a patient that is left out.

        Returns:
            (S, N) float32.
        """
        return torch.stack([self._sampled(self._map(name, blur_mm, without), kji) for name in self.names])

    def _map(self, name: str, blur_mm: float, without: int | None) -> tuple[NDArray[np.intp], torch.Tensor] | None:
        """As `_blurred`; that of all patients is kept, because it is sampled in parts."""
        if without is not None:
            return self._blurred(name, blur_mm, without)
        if (name, blur_mm) not in self._maps:
            self._maps[name, blur_mm] = self._blurred(name, blur_mm, None)
        return self._maps[name, blur_mm]

    def _blurred(self, name: str, blur_mm: float, without: int | None) -> tuple[NDArray[np.intp], torch.Tensor] | None:
        """First index (k, j, i) and values of a box of the template; outside of it, or for None, the probability is 0."""
        looked = [n for n, filled in enumerate(self._filled) if n != without and name in filled]
        cells = [self._filled[n][name][0] for n in looked]
        used = np.concatenate(cells) if cells else np.empty(0, np.int64)
        used = used[used >= 0]
        if not len(used):
            return None
        sigma = blur_mm / self.template.spacing_mm
        margin, shape = int(np.ceil(_TRUNCATE * sigma)) + 1, self.template.grid.shape
        at = np.stack(np.unravel_index(used, shape), axis=1)
        low, high = np.maximum(at.min(axis=0) - margin, 0), np.minimum(at.max(axis=0) + margin + 1, shape)
        box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        filled, seen = np.zeros(shape, np.float32), np.zeros(tuple(high - low), np.float32)
        for n in looked:
            where, shares = self._filled[n][name]
            kept = where >= 0
            np.add.at(filled.reshape(-1), where[kept], shares[kept])
            seen += self._seen[n][box]
        blurred = [ndimage.gaussian_filter(each, sigma, truncate=_TRUNCATE) for each in (filled[box], seen)]
        return low, torch.from_numpy(np.clip(blurred[0] / (blurred[1] + _LEAST_VOXELS), 0, 1))

    def _sampled(self, found: tuple[NDArray[np.intp], torch.Tensor] | None, kji: torch.Tensor) -> torch.Tensor:
        out = torch.zeros(len(kji))
        if found is None:
            return out
        low, share = found
        at_points = kji - torch.from_numpy(low.astype(np.float32))
        inside = ((at_points > -0.5) & (at_points < torch.tensor(share.shape) - 0.5)).all(dim=1)
        out[inside] = sample(share[None], at_points[inside])[0]
        return out

    def _cells(self, coarse: CoarseScan, deformation: Deformation) -> NDArray[np.int64]:
        """Flat index on the template of every voxel of a coarse scan; -1 outside of it."""
        kji = torch.stack(torch.meshgrid(*[torch.arange(n) for n in coarse.grid.shape], indexing="ij"), dim=-1).reshape(-1, 3)
        there = self.template.kji_of(deformation.to_other(coarse.ras_of(kji.float()))).round().long().numpy()
        shape = self.template.grid.shape
        inside = ((there >= 0) & (there < shape)).all(axis=1)
        return np.where(inside, np.ravel_multi_index(tuple(np.clip(there, 0, np.array(shape) - 1).T), shape), -1)

    def _counted(self, cells: NDArray[np.int64], weight: float) -> NDArray[np.float32]:
        shape = self.template.grid.shape
        counts = np.bincount(cells[cells >= 0], minlength=int(np.prod(shape)))
        return (counts.reshape(shape) * weight).astype(np.float32)
