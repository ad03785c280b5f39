"""The retrieval loss: places are compared as `find_regions` compares them, across two crops and with earlier scans.

A place is described by the student's features at all levels, whitened together, and compared by cosine. The similarities of
a place in one crop to the places of the other crop and to remembered places are made a distribution (softmax). It is to equal
the mean of two others: one around the corresponding place, and one of the teacher's similarities. The first makes features
the same in both crops (of one patient, or of two). The second keeps tissues similar that are similar to the teacher, so that
the two kidneys or two vertebrae are not pushed apart for being at different places.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from CoralBayLib.encoders.base import LevelSpec
from CoralBayLib.features.whitening import COMPONENTS, whitening

from .crops import Example

POINTS = 192
"""Most places of a pair of crops that are compared."""
_LEAST_POINTS = 8
REMEMBERED = 6000
_COMPARED = 2048
"""How many of the remembered places, drawn at random, a step compares with."""
_BASIS_EVERY = 50
"""Steps."""
_STUDENT_TEMPERATURE, _TEACHER_TEMPERATURE = 0.1, 0.1
_SHARE_OF_PLACE = 0.5
"""Of the distribution around the corresponding place, beside that of the teacher's similarities."""


@dataclass(frozen=True, eq=False)
class Places:
    """Places of one crop.

    Attributes:
        ijk: (N, 3) voxels of the crop along R, A, S.
        features: (N, C) of the student at all levels.
        targets: (N, D) of the teacher at all layers.
    """

    ijk: torch.Tensor
    features: torch.Tensor
    targets: torch.Tensor


def sampled(maps: list[torch.Tensor], specs: list[LevelSpec], ijk: torch.Tensor) -> torch.Tensor:
    """(N, C) of (C, r, a, s) maps at (N, 3) voxels of the crop, interpolated linearly and held to the border."""
    rows = []
    for each, spec in zip(maps, specs, strict=True):
        offset, stride = (torch.tensor(part, dtype=torch.float32, device=each.device) for part in (spec.offset, spec.stride))
        sides = torch.tensor(each.shape[1:], device=each.device)
        where = ((ijk - offset) / stride * 2 + 1) / sides - 1
        # grid_sample takes the last axis first.
        found = functional.grid_sample(
            each.float()[None], where.flip(-1)[None, :, None, None], padding_mode="border", align_corners=False
        )
        rows.append(found[0, :, :, 0, 0].T)
    return torch.cat(rows, dim=1)


def places(maps: list[torch.Tensor], example: Example, specs: list[LevelSpec], ijk: NDArray[np.float64]) -> Places:
    """What student and teacher have at (N, 3) voxels of a crop.

    Args:
        maps: the student's levels, (C, r, a, s) each.
        example: the crop.
        specs: of all the student's levels, those with a teacher's layer first.
        ijk: along R, A, S.
    """
    where = torch.from_numpy(ijk).float()
    taught = sampled(example.targets, specs[: len(example.targets)], where)
    device = maps[0].device
    return Places(where.to(device), sampled(maps, specs, where.to(device)), taught.to(device))


class Memory:
    """Places of earlier steps, and the whitening of their features.

    Args:
        width: channels of the student at all levels.
        targets: dimensions of the teacher at all layers.
        device: where both are kept.
    """

    def __init__(self, width: int, targets: int, device: torch.device) -> None:
        self.features = torch.zeros(REMEMBERED, width, device=device)
        self.targets = torch.zeros(REMEMBERED, targets, device=device)
        self.projection = torch.zeros(COMPONENTS, width, device=device)
        self.offset = torch.zeros(COMPONENTS, device=device)
        self.added = 0

    @property
    def filled(self) -> int:
        """How many places there are."""
        return min(self.added, REMEMBERED)

    def add(self, some: Places) -> None:
        """Remember places in place of the oldest ones."""
        rows = (self.added + torch.arange(len(some.features))) % REMEMBERED
        self.features[rows] = some.features.detach()
        self.targets[rows] = some.targets
        self.added += len(rows)

    def renew(self, step: int) -> None:
        """Fit the whitening anew every so many steps."""
        if step % _BASIS_EVERY == 0:
            projection, offset = whitening(self.features[: self.filled].cpu(), COMPONENTS)
            self.projection.zero_()[: len(projection)] = projection
            self.offset.zero_()[: len(offset)] = offset

    def directions(self, features: torch.Tensor) -> torch.Tensor:
        """(N, C) features whitened and scaled to length one."""
        return functional.normalize(features @ self.projection.T + self.offset, dim=1)

    def state(self) -> dict[str, torch.Tensor]:
        """For a checkpoint."""
        added = torch.tensor(self.added)
        parts = ("features", "targets", "projection", "offset")
        return {"added": added, **{name: getattr(self, name).cpu() for name in parts}}

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        """From what `state` gave."""
        self.added = int(state["added"])
        for name in ("features", "targets", "projection", "offset"):
            getattr(self, name).copy_(state[name])


def retrieval_loss(
    one: Places, other: Places, spacings_mm: tuple[float, float], sigma_mm: float, memory: Memory, random: np.random.Generator
) -> torch.Tensor:
    """Kullback-Leibler divergence of the student's similarities from the wanted ones, both ways, averaged over the places.

    Args:
        one: places of a crop.
        other: the corresponding places of the other crop, in the same order.
        spacings_mm: of the two crops.
        sigma_mm: how exact the correspondence is.
        memory: of earlier places.
        random: draws those that are compared with.
    """
    if len(one.ijk) < _LEAST_POINTS:
        return one.features.sum() * 0
    rows = torch.from_numpy(random.permutation(memory.filled)[:_COMPARED]).to(one.features.device)
    known = memory.directions(memory.features[rows])
    taught = functional.normalize(memory.targets[rows], dim=1)
    both = [(memory.directions(p.features), functional.normalize(p.targets, dim=1)) for p in (one, other)]
    total = one.features.new_zeros(())
    for asked, found, lattice, spacing in ((0, 1, other, spacings_mm[1]), (1, 0, one, spacings_mm[0])):
        distance = torch.cdist(lattice.ijk, lattice.ijk) * spacing
        wanted = _wanted(both[asked][1], torch.cat([both[found][1], taught]), distance / sigma_mm)
        scores = both[asked][0] @ torch.cat([both[found][0], known]).T / _STUDENT_TEMPERATURE
        total = total + functional.kl_div(scores.log_softmax(dim=1), wanted, reduction="batchmean") / 2
    return total


def _wanted(asked: torch.Tensor, known: torch.Tensor, apart: torch.Tensor) -> torch.Tensor:
    """The distribution over places that each place is to have, (N, N + remembered).

    Args:
        asked: (N, D) the teacher's directions at the places.
        known: (N + remembered, D) at those that they are compared with.
        apart: (N, N) distances of the first of these from the corresponding place, in standard deviations.
    """
    similar = (asked @ known.T / _TEACHER_TEMPERATURE).softmax(dim=1)
    near = (-(apart**2) / 2).softmax(dim=1)
    near = functional.pad(near, (0, known.shape[0] - near.shape[1]))
    return _SHARE_OF_PLACE * near + (1 - _SHARE_OF_PLACE) * similar
