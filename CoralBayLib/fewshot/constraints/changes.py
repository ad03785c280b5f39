"""Accepts a new answer only where a prompt contradicts the old one. Imports no torch."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from CoralBayLib.imaging.cropping import bounding_box

_GROWTH = 2
"""Voxels by which an accepted part grows into the rim that the opening removed."""
_THIN_REACH = 3
"""Voxels around a prompt within which a change that is too thin to survive the opening is accepted."""


def accept_changes(
    previous: NDArray[np.integer],
    proposal: NDArray[np.integer],
    kji: NDArray[np.integer],
    labels: NDArray[np.integer],
    structures: Collection[int] | None = None,
    axes: tuple[int, ...] = (0, 1, 2),
) -> NDArray[np.bool_]:
    """Where to take a proposal: in the parts of the difference that hold a prompt which contradicts the previous answer.

    A part is a connected component of the voxels that change from one label to one other label. Two answers of which one
    has slightly other borders everywhere differ by a thin rim that connects parts far from each other, so components are
    found after an opening by one voxel. A prompt in a rim alone changes the rim around it.

    Args:
        previous: [k, j, i] labels of the answer so far.
        proposal: labels of a new answer, of the same shape.
        kji: (N, 3) voxels of the user's prompts; those outside of the array are ignored.
        labels: (N,) of the prompts; 0 is background.
        structures: labels whose voxels are kept unless a prompt contradicts them; all by default. Changes between other
            labels are none of this function's.
        axes: array axes along which slices are not thick; components are opened along these only.

    Returns:
        [k, j, i], True in voxels that change and whose change is accepted; the new answer is
        `np.where(accepted, proposal, previous)`.

    Raises:
        ValueError: the arrays have different shapes.
    """
    if previous.shape != proposal.shape:
        raise ValueError(f"The answers have the shapes {previous.shape} and {proposal.shape}.")
    accepted = np.zeros(previous.shape, dtype=bool)
    changed = previous != proposal
    if structures is not None:
        changed &= np.isin(previous, list(structures)) | np.isin(proposal, list(structures))
    box = bounding_box(changed)
    if box is None or not len(kji):
        return accepted
    points = [
        where
        for voxel, label in zip(np.asarray(kji), labels, strict=True)
        if (where := _contradicted(voxel, int(label), previous, proposal, changed)) is not None
    ]
    before, after, part = previous[box], proposal[box], changed[box]
    pairs = {(int(previous[where]), int(proposal[where])) for where in points}
    for old, new in pairs:
        seeds = [
            tuple(v - side.start for v, side in zip(where, box, strict=True))
            for where in points
            if (previous[where], proposal[where]) == (old, new)
        ]
        accepted[box] |= _parts_at(part & (before == old) & (after == new), seeds, axes)
    return accepted


_NEARBY = sorted(np.ndindex(3, 3, 3), key=lambda step: sum(abs(part - 1) for part in step))
"""A voxel and its neighbors, the voxel first; 1 is no step."""


def _contradicted(
    voxel: NDArray[np.integer],
    label: int,
    previous: NDArray[np.integer],
    proposal: NDArray[np.integer],
    changed: NDArray[np.bool_],
) -> tuple[int, ...] | None:
    """The changed voxel at a prompt, or next to it, where the previous answer contradicts it; None if it does not."""
    at = tuple(voxel.tolist())
    if not _is_in(at, changed.shape) or previous[at] == label:
        return None
    for step in _NEARBY:
        where = tuple(v + s - 1 for v, s in zip(at, step, strict=True))
        if not _is_in(where, changed.shape) or not changed[where]:
            continue
        # What a prompt asks for: its label; and, at the prompt itself, any other label than that of a wrong structure.
        if proposal[where] == label or (where == at and previous[where] > 0):
            return where
    return None


def _is_in(voxel: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    return all(0 <= v < n for v, n in zip(voxel, shape, strict=True))


def _parts_at(mask: NDArray[np.bool_], seeds: list[tuple[int, ...]], axes: tuple[int, ...]) -> NDArray[np.bool_]:
    """The components of a mask that hold one of its voxels, where thin rims do not connect."""
    cross = _cross(axes)
    # Beyond the border of the array a change may go on.
    opened = ndimage.binary_opening(np.pad(mask, 1, mode="edge"), cross)[1:-1, 1:-1, 1:-1] & mask
    components, _ = ndimage.label(opened)
    touched, thin = set(), np.zeros(mask.shape, dtype=bool)
    for seed in seeds:
        near = tuple(slice(max(v - 1, 0), v + 2) for v in seed)
        found = components[seed] or components[near].max()
        if found:
            touched.add(int(found))
        else:
            thin[seed] = True
    everywhere = ndimage.generate_binary_structure(3, 3)
    grown = np.isin(components, list(touched)) if touched else np.zeros(mask.shape, dtype=bool)
    if touched:
        grown = ndimage.binary_dilation(grown, everywhere, _GROWTH, mask=mask)
    if thin.any():
        grown |= ndimage.binary_dilation(thin, everywhere, _THIN_REACH, mask=mask)
    return grown


def _cross(axes: tuple[int, ...]) -> NDArray[np.bool_]:
    """A voxel and its neighbors along some axes, (3, 3, 3)."""
    cross = np.zeros((3, 3, 3), dtype=bool)
    cross[1, 1, 1] = True
    for axis in axes:
        for side in (0, 2):
            at = [1, 1, 1]
            at[axis] = side
            cross[tuple(at)] = True
    return cross
