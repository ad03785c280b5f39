"""What the click networks learn from: voxels with their truth, and regions with their Dice."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from CoralBayLib.fewshot.clicks import inputs, level_sets
from CoralBayLib.fewshot.clicks.inputs import Region
from CoralBayLib.fewshot.clicks.level_sets import LEVELS

NEAR_MM = 12.0
"""Background within this distance of a structure is sampled apart from the rest."""
SAMPLED = (80, 80, 40, 40)
"""Voxels to sample of the structure, the background near it, what the previous answer has too much, and the rest."""


@dataclass(frozen=True, eq=False)
class Samples:
    """Samples of some sessions, all float32.

    Attributes:
        inputs: (N, 17) of voxels, in the order of `inputs.NAMES`.
        inside: (N,) 1 where a voxel belongs to the structure, else 0.
        weights: (N,) voxels that a sample stands for, as a share of the structure's volume.
        descriptions: (M, 36) of regions, in the order of `level_sets.NAMES`.
        dice: (M,) their true Dice.
        scores: (S, 3) of each click its number in the session, the Dice of the answer, and that of the best region.
    """

    inputs: NDArray[np.float32]
    inside: NDArray[np.float32]
    weights: NDArray[np.float32]
    descriptions: NDArray[np.float32]
    dice: NDArray[np.float32]
    scores: NDArray[np.float32]

    @classmethod
    def none(cls) -> Samples:
        """No samples."""
        empty = np.empty(0, np.float32)
        voxels, regions = np.empty((0, len(inputs.NAMES)), np.float32), np.empty((0, len(level_sets.NAMES)), np.float32)
        return cls(voxels, empty, empty, regions, empty, np.empty((0, 3), np.float32))

    @classmethod
    def joined(cls, parts: Iterable[Samples]) -> Samples:
        """All samples of some parts."""
        parts = [cls.none(), *parts]
        return cls(*(np.concatenate([getattr(part, each.name) for part in parts]) for each in fields(cls)))

    def save(self, path: Path) -> None:
        """Write to a file, which is there only when it is complete."""
        part = path.with_suffix(".part.npz")
        np.savez(part, **{each.name: getattr(self, each.name) for each in fields(self)})
        part.replace(path)

    @classmethod
    def load(cls, path: Path) -> Samples:
        """Read what `save` wrote."""
        with np.load(path) as file:
            return cls(**{each.name: file[each.name] for each in fields(cls)})

    def by_click(self) -> str:
        """A line for each click of the sessions: mean Dice of the answers and of the best regions."""
        numbers = self.scores[:, 0]
        means = [(int(n), *self.scores[numbers == n, 1:].mean(axis=0)) for n in np.unique(numbers)]
        return "\n".join(f"click {n}: Dice {chosen:.3f}, of the best region {best:.3f}" for n, chosen, best in means)


def sample_voxels(
    region: Region,
    values: NDArray[np.float32],
    structure: tuple[NDArray[np.bool_], int],
    before: NDArray[np.bool_],
    body: NDArray[np.bool_],
    spacing_mm: NDArray[np.float64],
    random: np.random.Generator,
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Draw voxels of a region.

    Args:
        region: of the working grid.
        values: (inputs, voxels of the region).
        structure: mask on the working grid, and its number of voxels.
        before: the previous answer, on the same grid.
        body: mask of the patient, on the same grid.
        spacing_mm: of the region's voxels along k, j, i.
        random: source of the draw.

    Returns:
        `inputs`, `inside` and `weights` of `Samples`.
    """
    truth, wrong, body = structure[0][region.slices], before[region.slices], body[region.slices]
    near = np.zeros(truth.shape, bool)
    if truth.any():
        near = ndimage.distance_transform_edt(~truth, sampling=spacing_mm) <= NEAR_MM
    outside = body & ~truth & ~wrong
    drawn, weights = [np.empty(0, np.intp)], [np.empty(0, np.float32)]
    for group, most in zip((truth, near & outside, wrong & ~truth, ~near & outside), SAMPLED, strict=True):
        at = np.flatnonzero(group)
        if len(at):
            chosen = random.choice(at, min(most, len(at)), replace=False)
            drawn.append(chosen)
            weights.append(np.full(len(chosen), len(at) / len(chosen) * np.prod(region.step) / structure[1], np.float32))
    chosen = np.concatenate(drawn)
    return values[:, chosen].T, truth.ravel()[chosen].astype(np.float32), np.concatenate(weights)


def dice_of_levels(field: NDArray[np.float32], region: Region, structure: tuple[NDArray[np.bool_], int]) -> NDArray[np.float32]:
    """Dice of the regions `field >= level` for each of `LEVELS`.

    Args:
        field: levels of a region's voxels.
        region: of the working grid; each of its voxels stands for `step` of that grid.
        structure: mask on the working grid, and its number of voxels.

    Returns:
        (levels,) float32.
    """

    def voxels(values: NDArray[np.float32]) -> NDArray[np.float64]:
        counts = np.bincount(np.searchsorted(LEVELS, values, side="right"), minlength=len(LEVELS) + 1)
        return np.cumsum(counts[::-1])[::-1][1:] * float(np.prod(region.step))

    shared = voxels(field[structure[0][region.slices]])
    return (2 * shared / (voxels(field.ravel()) + structure[1])).astype(np.float32)
