"""Masks that a segmentation respects: voxels that are locked, and a labelmap that it starts from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from CoralBayLib.core.errors import PromptError, VolumeError
from CoralBayLib.core.schemas import MAX_LABEL
from CoralBayLib.imaging.cropping import bounding_box
from CoralBayLib.imaging.grid import Grid, Volume

from .boxes import MARGIN_MM, Box, outside_of, shell_of
from .changes import accept_changes
from .sampling import Points, labels_in, labels_on, misses, points_of_locks, points_of_start, values_at

_EXCLUDED = -10.0
"""Greatest log-odds of a structure where it must not be."""


@dataclass(frozen=True, eq=False)
class Constraints:
    """Locked voxels, a start, and boxes.

    Attributes:
        locked: on any grid; voxels that are not 0 never get a label.
        start: on any grid; labels of structures, 0 for background. The answer begins as this, and differs from it only where
            a prompt contradicts it (see `accept_changes`).
        boxes: no structure reaches farther than `MARGIN_MM` out of its boxes.

    Raises:
        VolumeError: the start has values that are no labels.
    """

    locked: Volume | None = None
    start: Volume | None = None
    boxes: tuple[Box, ...] = ()

    def __post_init__(self) -> None:
        if self.start is not None and self.start.array.size:
            array = self.start.array
            whole = array.dtype.kind in "biu" or bool((array == np.rint(array)).all())
            if not whole or array.min() < 0 or array.max() > MAX_LABEL:
                raise VolumeError(
                    f"The mask to start from must hold whole numbers from 0 to {MAX_LABEL}: 0 where there is no structure, and "
                    "the labels of the structures elsewhere."
                )
            if array.dtype.kind not in "iu":
                object.__setattr__(self, "start", Volume(array.astype(np.int32), self.start.grid))

    def __bool__(self) -> bool:
        return self.locked is not None or self.start is not None or bool(self.boxes)

    def has_masks(self, locked: Volume | None, start: Volume | None) -> bool:
        """Whether the masks are equal to these."""
        return _same(self.locked, locked) and _same(self.start, start)

    @cached_property
    def started(self) -> list[int]:
        """Labels of the structures in the start, sorted."""
        return [] if self.start is None else list(labels_in(self.start))

    def require_consistent(
        self, points_ras: NDArray[np.float64], labels: NDArray[np.int64], name: Callable[[int], str], scan: Grid
    ) -> None:
        """Check that prompts and masks do not contradict each other.

        Args:
            points_ras: (N, 3) RAS mm of the user's prompts.
            labels: (N,) of them.
            name: of a structure, by label.
            scan: grid of the scan.

        Raises:
            PromptError: a prompt of a structure is locked, or outside of the structure's boxes.
            VolumeError: a mask has no voxel in the scan.
        """
        for mask, what in ((self.locked, "locked"), (self.start, "to start from")):
            if mask is not None and misses(mask, scan):
                raise VolumeError(
                    f"The mask {what} has no voxel inside the scan. Check that it was made on this scan, and that it is saved "
                    "with the right position."
                )
        for label in np.unique(labels[labels > 0]).tolist():
            own = points_ras[labels == label]
            if self.locked is not None:
                held = values_at(self.locked, own) != 0
                if held.any():
                    raise PromptError(
                        f"{_count(held, name(label))} in a locked segment; the first is at RAS {_mm(own[held][0])}. "
                        "Unlock the segment or move the prompt."
                    )
            boxes = [box for box in self.boxes if box.label == label]
            outside = np.all([~box.contains(own, MARGIN_MM) for box in boxes], axis=0) if boxes else np.zeros(len(own), bool)
            if outside.any():
                raise PromptError(
                    f"{_count(outside, name(label))} outside of the box around it; the first is at RAS "
                    f"{_mm(own[outside][0])}. Enlarge the box or remove the prompt."
                )

    def implied(self, points_ras: NDArray[np.float64], labels: NDArray[np.int64], body: Volume) -> Points:
        """Points that count as prompts in a fit, in addition to those of the user: around boxes, in and around the start.

        Args:
            points_ras: (N, 3) RAS mm of the user's prompts and of the middle of boxes.
            labels: (N,) of them.
            body: mask of the patient on the working grid.
        """
        shell = shell_of(self.boxes, points_ras, labels, body)
        marked, marked_labels = np.empty((0, 3)), np.empty(0, np.int64)
        if self.start is not None:
            marked, marked_labels = points_of_start(self.start, points_ras, labels, body)
            shell = shell[values_at(self.start, shell) == 0]
        if self.locked is not None:
            free = values_at(self.locked, marked) == 0
            marked, marked_labels = marked[free], marked_labels[free]
        return np.concatenate([marked, shell]), np.concatenate([marked_labels, np.zeros(len(shell), np.int64)])

    def locked_points(self, near_ras: NDArray[np.float64], grid: Grid) -> NDArray[np.float64] | None:
        """Points in locked voxels, (N, 3) RAS mm; None if none are.

        They show what the structures do not look like. They say nothing of how far a structure reaches, as background that
        the user marks beside it does, so they are no prompts; see DECISIONS.md.

        Args:
            near_ras: (N, 3) RAS mm; points nearest to these are preferred.
            grid: the working grid.
        """
        return None if self.locked is None else points_of_locks(self.locked, grid, near_ras)

    def locked_on(self, grid: Grid) -> NDArray[np.bool_] | None:
        """[k, j, i] which voxels of a grid are locked, by their centers; None if none are."""
        return None if self.locked is None else labels_on(self.locked, grid) != 0

    def settled(self, points_ras: NDArray[np.float64], labels: NDArray[np.int64]) -> frozenset[int]:
        """Labels of the structures in the start that no prompt extends.

        Args:
            points_ras: (N, 3) RAS mm of the user's prompts.
            labels: (N,) of them.
        """
        if self.start is None:
            return frozenset()
        outside = labels[values_at(self.start, points_ras) != labels]
        return frozenset(self.started) - frozenset(outside.tolist())

    def bound(self, label: int, logits: torch.Tensor, grid: Grid, settled: bool = False) -> torch.Tensor:
        """Exclude a structure from outside of its boxes and, if it is settled, from outside of its start.

        Args:
            label: of the structure.
            logits: (K, J, I) on the grid; changed in place.
            grid: of the log-odds.
            settled: whether no prompt extends its start, so that its voxels elsewhere are free for other structures.
        """
        boxes = [box for box in self.boxes if box.label == label]
        if settled and self.start is not None:
            _exclude(logits, labels_on(self.start, grid) != label)
        if boxes:
            _exclude(logits, outside_of(boxes, grid))
        return logits

    def clear(self, labels: NDArray[np.unsignedinteger], grid: Grid) -> None:
        """Remove labels from locked voxels, and those of structures from outside of their boxes, in place.

        Args:
            labels: [k, j, i] on the grid.
            grid: of the labels.
        """
        for label in {box.label for box in self.boxes}:
            kji = np.argwhere(labels == label)
            points = grid.to_ras(kji[:, ::-1])
            outside = np.all([~box.contains(points, MARGIN_MM) for box in self.boxes if box.label == label], axis=0)
            labels[tuple(kji[outside].T)] = 0
        locked = self.locked_on(grid)
        if locked is not None:
            labels[locked] = 0

    def changes(self, proposal: Volume, points_ras: NDArray[np.float64], labels: NDArray[np.int64]) -> Volume:
        """Where an answer may differ from the start.

        Args:
            proposal: labels of an answer on the working grid.
            points_ras: (N, 3) RAS mm of the user's prompts.
            labels: (N,) of them.

        Returns:
            uint8 on the working grid: 1 in changes that a prompt asks for, and in a margin of one voxel around them.
        """
        assert self.start is not None
        grid, axes = proposal.grid, proposal.grid.isotropic_axes
        previous = labels_on(self.start, grid)
        kji = np.round(grid.to_ijk(points_ras)).astype(int)[:, ::-1]
        accepted = accept_changes(previous, proposal.array, kji, labels, self.started, axes)
        if accepted.any():
            # The border between voxels is drawn anew on a finer grid, and may lie beyond the voxels that changed.
            part = _grown(bounding_box(accepted), accepted.shape)
            accepted[part] |= ndimage.binary_dilation(accepted[part]) & (previous[part] == proposal.array[part])
        return Volume(accepted.astype(np.uint8), grid)

    def keep_start(self, labels: NDArray[np.unsignedinteger], grid: Grid, changes: Volume) -> NDArray[np.unsignedinteger]:
        """An answer in which the structures of the start have their voxels of the start, but for the changes.

        Args:
            labels: [k, j, i] of an answer on the grid.
            grid: of the labels.
            changes: as `changes` returns it.
        """
        assert self.start is not None
        previous = labels_on(self.start, grid)
        theirs = np.zeros(MAX_LABEL + 1, dtype=bool)
        theirs[self.started] = True
        keep = (theirs[previous] | theirs[labels]) & (labels_on(changes, grid) == 0)
        largest = max(self.started, default=0)
        return np.where(keep, previous, labels).astype(np.promote_types(labels.dtype, np.min_scalar_type(largest)))


def _exclude(logits: torch.Tensor, where: NDArray[np.bool_]) -> None:
    """Make log-odds negligible in some voxels, in place."""
    part = bounding_box(~where)
    inside = logits[part].clone() if part is not None else None
    logits.clamp_(max=_EXCLUDED)
    if part is not None and inside is not None:
        logits[part] = torch.where(torch.from_numpy(where[part]), logits[part], inside)


def _grown(box: tuple[slice, slice, slice] | None, shape: tuple[int, ...]) -> tuple[slice, ...]:
    """A box with one voxel more on each side."""
    assert box is not None
    return tuple(slice(max(side.start - 1, 0), min(side.stop + 1, n)) for side, n in zip(box, shape, strict=True))


def _same(one: Volume | None, other: Volume | None) -> bool:
    if one is other or one is None or other is None:
        return one is other
    return one.grid.same_as(other.grid) and np.array_equal(one.array, other.array)


def _count(which: NDArray[np.bool_], name: str) -> str:
    return f"A prompt of '{name}' lies" if which.sum() == 1 else f"{which.sum()} prompts of '{name}' lie"


def _mm(point: NDArray[np.float64]) -> str:
    return "(" + ", ".join(f"{v:.1f}" for v in point) + ")"
