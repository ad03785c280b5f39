"""Deformable registration of two patients on coarse grids.

Bodies are first aligned by matched features (see `alignment` and `coarse_shift`). A discrete search on MIND-SSC descriptors
(Heinrich and others, MICCAI 2013) with coupled convex regularization, then gradient descent, follow ConvexAdam (Siebert,
Hansen and Heinrich, IEEE TMI 2024), written anew and for CPUs.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional

from CoralBayLib.core.progress import CancelToken, raise_if_cancelled
from CoralBayLib.features.alignment import AxisAlignment
from CoralBayLib.features.mind import CHANNELS

from .coarse import CoarseScan
from .coarse_shift import corrected
from .descriptors import indices, mind, sample

_SEARCH_STRIDE, _SEARCH_STEPS = 3, 3
"""Of the discrete search: spacing of its nodes in voxels, and the most steps of that size along an axis."""
_COUPLINGS = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
"""Weights of smoothness in its rounds, as in ConvexAdam."""
_CONSISTENCY_ROUNDS = 10
_STRIDE, _ROUNDS, _STIFFNESS = 2, 40, 0.6
"""Of the gradient descent: spacing of its nodes in voxels, steps, and weight of smoothness."""
_LEAST_NODES = 3


@dataclass(frozen=True, eq=False)
class Deformation:
    """Where points of one patient are in another.

    Attributes:
        alignment: of the bodies; maps the other patient onto this one.
        origin_ras, step_mm: (3,) RAS mm of the first node of the displacements, and the distance between nodes.
        displacement: (3, K, J, I) along (k, j, i), in mm of this patient, added before the alignment is undone.
    """

    alignment: AxisAlignment
    origin_ras: torch.Tensor
    step_mm: float
    displacement: torch.Tensor

    @classmethod
    def none(cls) -> Deformation:
        """Of a patient onto itself."""
        return cls(AxisAlignment.identity(), torch.zeros(3), 1.0, torch.zeros(3, 1, 1, 1))

    def to_other(self, points_ras: torch.Tensor) -> torch.Tensor:
        """(N, 3) RAS mm in the other patient of (N, 3) float32 points in this one."""
        kji = ((points_ras - self.origin_ras) / self.step_mm).flip(-1)
        moved = points_ras + sample(self.displacement.float(), kji).T.flip(-1)
        scale, shift = (torch.from_numpy(part).float() for part in (self.alignment.scale, self.alignment.shift))
        return (moved - shift) / scale


def register(
    fixed: CoarseScan,
    moving: CoarseScan,
    alignment: AxisAlignment,
    cancel: CancelToken | None = None,
) -> Deformation:
    """Where the points of a patient are in another.

    Args:
        fixed: the patient.
        moving: the other one.
        alignment: maps the other body onto this one.
        cancel: checked between steps.

    Raises:
        Cancelled: `cancel` was called.
    """
    if min(fixed.grid.shape) < _LEAST_NODES * max(_SEARCH_STRIDE, _STRIDE):
        return Deformation(alignment, fixed.origin_ras, fixed.spacing_mm, torch.zeros(3, 1, 1, 1))
    alignment = corrected(fixed, moving, alignment)
    raise_if_cancelled(cancel)
    warped = moving.warped(fixed.ras_of(indices(fixed.grid.shape)), alignment)
    raise_if_cancelled(cancel)
    descriptors = [mind(image) for image in (fixed.image.float(), warped)]
    raise_if_cancelled(cancel)
    with torch.no_grad():
        found = _searched(*(functional.avg_pool3d(each[None], _SEARCH_STRIDE)[0] for each in descriptors))
    raise_if_cancelled(cancel)
    ours, theirs = (functional.avg_pool3d(each[None], _STRIDE)[0] for each in descriptors)
    start = functional.interpolate(found[None] * (_SEARCH_STRIDE / _STRIDE), size=ours.shape[1:], mode="trilinear")
    moved = _descended(ours, theirs, start, cancel)
    first = fixed.origin_ras + fixed.spacing_mm * (_STRIDE - 1) / 2
    return Deformation(alignment, first, fixed.spacing_mm * _STRIDE, (moved * fixed.spacing_mm * _STRIDE).half())


def _smooth(maps: torch.Tensor) -> torch.Tensor:
    """Mean over 3 x 3 x 3 voxels of (C, K, J, I) maps."""
    return functional.avg_pool3d(functional.pad(maps[None], (1,) * 6, mode="replicate"), 3, stride=1)[0]


def _searched(fixed: torch.Tensor, moving: torch.Tensor) -> torch.Tensor:
    """Displacements (3, K, J, I) in nodes that bring descriptors together, consistent in both directions."""
    steps = indices((2 * _SEARCH_STEPS + 1,) * 3).reshape(-1, 3) - _SEARCH_STEPS
    there, back = (_coupled(_costs(a, b, steps), steps) for a, b in ((fixed, moving), (moving, fixed)))
    nodes = indices(fixed.shape[1:])
    for _ in range(_CONSISTENCY_ROUNDS):
        there, back = (
            0.5 * (one - sample(other, nodes + one.permute(1, 2, 3, 0))) for one, other in ((there, back), (back, there))
        )
    return there


def _costs(fixed: torch.Tensor, moving: torch.Tensor, steps: torch.Tensor) -> torch.Tensor:
    """Mean squared difference of descriptors after each step, (steps, K, J, I)."""
    padded = functional.pad(moving[None], (_SEARCH_STEPS,) * 6, mode="replicate")[0]
    first = (steps + _SEARCH_STEPS).long().tolist()
    costs = torch.stack(
        [
            ((fixed - padded[(slice(None), *(slice(o, o + n) for o, n in zip(at, fixed.shape[1:], strict=True)))]) ** 2).mean(0)
            for at in first
        ]
    )
    return _smooth(costs)


def _coupled(costs: torch.Tensor, steps: torch.Tensor) -> torch.Tensor:
    """The steps of least cost, made smooth in rounds of growing weight, (3, K, J, I)."""
    chosen = _smooth(steps[costs.argmin(dim=0)].permute(3, 0, 1, 2))
    squares = (steps**2).sum(dim=1)[:, None, None, None]
    for weight in _COUPLINGS:
        # |step - chosen|^2 without |chosen|^2, which is the same for all steps.
        distance = squares - 2 * torch.einsum("sc,ckji->skji", steps, chosen)
        chosen = _smooth(steps[(costs + weight * distance).argmin(dim=0)].permute(3, 0, 1, 2))
    return chosen


def _descended(
    fixed: torch.Tensor,
    moving: torch.Tensor,
    start: torch.Tensor,
    cancel: CancelToken | None,
) -> torch.Tensor:
    """Displacements (3, K, J, I) in nodes after gradient descent from a (1, 3, K, J, I) start."""
    nodes = indices(fixed.shape[1:])

    def smooth(field: torch.Tensor) -> torch.Tensor:
        for _ in range(3):
            field = functional.avg_pool3d(field, 3, stride=1, padding=1)
        return field

    with torch.enable_grad():
        free = start.clone().requires_grad_(True)
        descent = torch.optim.Adam([free], lr=1.0)
        for _ in range(_ROUNDS):
            raise_if_cancelled(cancel)
            field = smooth(free)
            bending = sum((field.diff(dim=axis) ** 2).mean() for axis in (2, 3, 4))
            difference = (sample(moving, nodes + field[0].permute(1, 2, 3, 0)) - fixed) ** 2
            loss = difference.mean() * CHANNELS + _STIFFNESS * bending
            descent.zero_grad()
            loss.backward()
            descent.step()
    return smooth(free.detach())[0]
