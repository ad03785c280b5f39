"""Deformable registration of two patients on coarse grids.

Bodies are first aligned by matched features (see `alignment`). A discrete search on MIND-SSC descriptors (Heinrich and
others, MICCAI 2013) with coupled convex regularization, then gradient descent, follow ConvexAdam (Siebert, Hansen and
Heinrich, IEEE TMI 2024), written anew and for CPUs.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional

from CoralBayLib.core.progress import CancelToken, raise_if_cancelled
from CoralBayLib.features.alignment import AxisAlignment

from .coarse import CoarseScan

_SEARCH_STRIDE, _SEARCH_STEPS = 3, 3
"""Of the discrete search: spacing of its nodes in voxels, and the most steps of that size along an axis."""
_COUPLINGS = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
"""Weights of smoothness in its rounds, as in ConvexAdam."""
_CONSISTENCY_ROUNDS = 10
_STRIDE, _ROUNDS, _STIFFNESS = 2, 40, 0.6
"""Of the gradient descent: spacing of its nodes in voxels, steps, and weight of smoothness."""
_LEAST_NODES = 3
_SIX = ((0, 1, 1), (1, 1, 0), (1, 0, 1), (1, 1, 2), (2, 1, 1), (1, 2, 1))
"""Neighbors of a voxel in its 3 x 3 x 3 surroundings."""
_OPPOSITE = ({_SIX[0], _SIX[5]}, {_SIX[1], _SIX[3]}, {_SIX[2], _SIX[4]})
_PAIRS = tuple(
    (a, b) for a in range(6) for b in range(a) if sum((x - y) ** 2 for x, y in zip(_SIX[a], _SIX[b], strict=True)) == 2
)
_REACH, _PATCH = 2, 1
"""Distance in voxels of the patches that MIND-SSC compares, and their radius."""


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


def sample(maps: torch.Tensor, kji: torch.Tensor) -> torch.Tensor:
    """Linear interpolation of (C, K, J, I) maps at (N, 3) or (k, j, i, 3) indices, clamped; (C, N) or (C, k, j, i)."""
    size = torch.tensor(maps.shape[1:], dtype=torch.float32)
    where = ((2 * kji + 1) / size - 1).flip(-1)
    lead = where.shape[:-1]
    where = where.reshape(1, *lead, 3) if len(lead) == 3 else where.reshape(1, 1, 1, -1, 3)
    return functional.grid_sample(maps[None], where, padding_mode="border", align_corners=False).reshape(len(maps), *lead)


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
    scale, shift = (torch.from_numpy(part).float() for part in (alignment.scale, alignment.shift))
    aligned = moving.kji_of((fixed.ras_of(_indices(fixed.grid.shape)) - shift) / scale)
    inside = ((aligned > -0.5) & (aligned < torch.tensor(moving.grid.shape) - 0.5)).all(dim=-1)
    warped = torch.where(inside, sample(moving.image[None].float(), aligned)[0], 0.0)
    raise_if_cancelled(cancel)
    descriptors = [_mind(image) for image in (fixed.image.float(), warped)]
    raise_if_cancelled(cancel)
    with torch.no_grad():
        found = _searched(*(functional.avg_pool3d(each[None], _SEARCH_STRIDE)[0] for each in descriptors))
    raise_if_cancelled(cancel)
    ours, theirs = (functional.avg_pool3d(each[None], _STRIDE)[0] for each in descriptors)
    start = functional.interpolate(found[None] * (_SEARCH_STRIDE / _STRIDE), size=ours.shape[1:], mode="trilinear")
    moved = _descended(ours, theirs, start, cancel)
    first = fixed.origin_ras + fixed.spacing_mm * (_STRIDE - 1) / 2
    return Deformation(alignment, first, fixed.spacing_mm * _STRIDE, (moved * fixed.spacing_mm * _STRIDE).half())


def _indices(shape: tuple[int, ...]) -> torch.Tensor:
    """(K, J, I, 3) the indices (k, j, i) of every voxel."""
    return torch.stack(torch.meshgrid(*[torch.arange(n, dtype=torch.float32) for n in shape], indexing="ij"), dim=-1)


def _mind(image: torch.Tensor) -> torch.Tensor:
    """MIND-SSC descriptors of a (K, J, I) image, (12, K, J, I)."""
    padded = functional.pad(image[None, None], (_REACH,) * 6, mode="replicate")[0, 0]

    def shifted(offset: tuple[int, int, int]) -> torch.Tensor:
        return padded[tuple(slice(o * _REACH, o * _REACH + n) for o, n in zip(offset, image.shape, strict=True))]

    def distance(a: int, b: int) -> torch.Tensor:
        squared = functional.pad(((shifted(_SIX[a]) - shifted(_SIX[b])) ** 2)[None, None], (_PATCH,) * 6, mode="replicate")
        return functional.avg_pool3d(squared, 2 * _PATCH + 1, stride=1)[0, 0]

    distances = torch.stack([distance(a, b) for a, b in _PAIRS])
    distances -= distances.amin(dim=0)
    variance = distances.mean(dim=0)
    mean = float(variance.mean()) or 1.0
    return torch.exp(-distances / variance.clamp(mean * 1e-3, mean * 1e3))


def _smooth(maps: torch.Tensor) -> torch.Tensor:
    """Mean over 3 x 3 x 3 voxels of (C, K, J, I) maps."""
    return functional.avg_pool3d(functional.pad(maps[None], (1,) * 6, mode="replicate"), 3, stride=1)[0]


def _searched(fixed: torch.Tensor, moving: torch.Tensor) -> torch.Tensor:
    """Displacements (3, K, J, I) in nodes that bring descriptors together, consistent in both directions."""
    steps = _indices((2 * _SEARCH_STEPS + 1,) * 3).reshape(-1, 3) - _SEARCH_STEPS
    there, back = (_coupled(_costs(a, b, steps), steps) for a, b in ((fixed, moving), (moving, fixed)))
    nodes = _indices(fixed.shape[1:])
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
    nodes = _indices(fixed.shape[1:])

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
            loss = difference.mean() * len(_PAIRS) + _STIFFNESS * bending
            descent.zero_grad()
            loss.backward()
            descent.step()
    return smooth(free.detach())[0]
