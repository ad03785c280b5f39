"""Corrects the alignment of two bodies by the shift at which their descriptors agree best.

Matched features align bodies to two or three centimetres, and worse where scans cover different parts of the body. The
deformable registration finds less than 45 mm, so a larger error is corrected first.
"""

from __future__ import annotations

import itertools

import numpy as np
import torch
from torch.nn import functional

from CoralBayLib.features.alignment import AxisAlignment

from .coarse import CoarseScan
from .descriptors import indices, mind

_CELL = 3
"""Coarse voxels along the edge of the cells that are compared, 15 mm."""
_MOST_CELLS = (6, 1, 1)
"""Largest shift along (k, j, i): scans that cover different parts of the body are wrong along the body above all."""
_LEAST_CELLS = 2
"""Smaller shifts are left to the deformable registration."""
_LEAST_GAIN = 0.07
"""By this share the descriptors must differ less; see DECISIONS.md."""
_LEAST_OVERLAP = 0.25
"""Of the smaller body."""


def corrected(fixed: CoarseScan, moving: CoarseScan, alignment: AxisAlignment) -> AxisAlignment:
    """The alignment, shifted if the bodies agree clearly better so.

    Args:
        fixed: a patient.
        moving: another one.
        alignment: maps the body of the other one onto the first.
    """
    margin = [_CELL * most for most in _MOST_CELLS]
    shape = tuple(n + 2 * m for n, m in zip(fixed.grid.shape, margin, strict=True))
    where = indices(shape) - torch.tensor(margin, dtype=torch.float32)
    warped = moving.warped(fixed.ras_of(where), alignment)
    ours, theirs = _Cells(fixed.image.float()), _Cells(warped)
    if not ours.body.any() or not theirs.body.any():
        return alignment
    least = _LEAST_OVERLAP * float(min(ours.body.sum(), theirs.body.sum()))
    costs: dict[tuple[int, ...], float] = {}
    for shift in itertools.product(*(range(-most, most + 1) for most in _MOST_CELLS)):
        part = tuple(
            slice(most + step, most + step + n) for most, step, n in zip(_MOST_CELLS, shift, ours.body.shape, strict=True)
        )
        both = ours.body & theirs.body[part]
        if both.sum() >= least:
            costs[shift] = float((ours.differences(theirs, part))[both].mean())
    if not costs:
        return alignment
    best = min(costs, key=lambda shift: costs[shift])
    before = costs.get((0, 0, 0), np.inf)
    if max(map(abs, best)) < _LEAST_CELLS or costs[best] > (1 - _LEAST_GAIN) * before:
        return alignment
    by_mm = np.array(best[::-1]) * _CELL * fixed.spacing_mm
    return AxisAlignment(alignment.scale, alignment.shift - by_mm)


class _Cells:
    """Mean descriptors of cells, (12, K, J, I), and which of them are body."""

    def __init__(self, image: torch.Tensor) -> None:
        self.mind = functional.avg_pool3d(mind(image)[None], _CELL)[0]
        self.body = functional.avg_pool3d((image > 0).float()[None, None], _CELL)[0, 0] > 0.5

    def differences(self, other: _Cells, part: tuple[slice, ...]) -> torch.Tensor:
        """Mean squared differences from a part of other cells, (K, J, I)."""
        return ((self.mind - other.mind[(slice(None), *part)]) ** 2).mean(dim=0)
