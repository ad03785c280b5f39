"""Boxes around structures, and the points that stand for them. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from CoralBayLib.core.errors import PromptError
from CoralBayLib.core.schemas import MAX_LABEL
from CoralBayLib.imaging.grid import Grid, Volume

MARGIN_MM = 2.0
"""A structure may reach this far out of its box, because a box is drawn by hand."""
_CORE = 0.6
"""Size of the central ellipsoid whose points count as prompts, as a fraction of the box."""
_CONTRADICTED_MM = (10.0, 20.0)
"""Distances of prompts of anything else within which points of that ellipsoid no longer count; see `core_of`."""
_SHELL_MM = (2.5, 4.0, 5.5)
"""Distances from the faces of the points that count as background."""
_SHELL_POINTS = 7
"""Points along each edge of a face."""
_NEIGHBOR_MM = 8.0
"""A prompt of another structure this close to a point of the shell shows that the point need not be background."""
_ORTHONORMAL = 1e-3
_MAX_MM = 1e6


@dataclass(frozen=True, eq=False)
class Box:
    """A box that was drawn tightly around a structure; it may be rotated.

    Attributes:
        center_ras: (3,) RAS mm.
        axes: (3, 3), each row the direction of one axis of the box in RAS; orthonormal.
        size_mm: (3,) lengths along these axes, mm.
        label: of the structure, 1 or more.

    Raises:
        PromptError: a number is missing or not finite, the axes are not orthonormal, a length is not positive, or the label
            is not that of a structure.
    """

    center_ras: NDArray[np.float64]
    axes: NDArray[np.float64]
    size_mm: NDArray[np.float64]
    label: int

    def __post_init__(self) -> None:
        center, axes = _numbers(self.center_ras, (3,), "center"), _numbers(self.axes, (3, 3), "axes")
        size = _numbers(self.size_mm, (3,), "size")
        if not np.allclose(axes @ axes.T, np.eye(3), atol=_ORTHONORMAL):
            raise PromptError("The axes of a box must have length 1 and be at right angles. Draw the box again.")
        if size.min() <= 0:
            raise PromptError(f"A box has the size {_mm(size)} mm. Every length must be more than 0: draw the box again.")
        if type(self.label) is not int and not isinstance(self.label, np.integer):
            raise PromptError(f"The label of a box must be a whole number, got {self.label!r}.")
        if not 1 <= self.label <= MAX_LABEL:
            raise PromptError(
                f"A box has the label {self.label}. A box marks a structure, so its label must be from 1 to {MAX_LABEL}."
            )
        for name, value in (("center_ras", center), ("axes", axes), ("size_mm", size), ("label", int(self.label))):
            object.__setattr__(self, name, value)

    def same_as(self, other: Box) -> bool:
        """Whether all numbers are equal."""
        return self.label == other.label and all(
            np.array_equal(getattr(self, name), getattr(other, name)) for name in ("center_ras", "axes", "size_mm")
        )

    def distance_mm(self, points_ras: ArrayLike) -> NDArray[np.float64]:
        """Distance of (N, 3) RAS mm points from the box, (N,) mm; 0 inside."""
        local = (np.asarray(points_ras, np.float64).reshape(-1, 3) - self.center_ras) @ self.axes.T
        return np.linalg.norm(np.maximum(np.abs(local) - self.size_mm / 2, 0), axis=1)

    def contains(self, points_ras: ArrayLike, margin_mm: float = 0.0) -> NDArray[np.bool_]:
        """Whether each of (N, 3) RAS mm points lies in the box or within a margin of it; returns (N,)."""
        return self.distance_mm(points_ras) <= margin_mm + 1e-6

    def corners(self, margin_mm: float = 0.0) -> NDArray[np.float64]:
        """The corners of the box with a margin on each side, (8, 3) RAS mm."""
        signs = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) / 2
        return self.center_ras + (signs * (self.size_mm + 2 * margin_mm)) @ self.axes

    def mask_on(self, grid: Grid, margin_mm: float = 0.0) -> NDArray[np.bool_]:
        """[k, j, i] which voxels of a grid have their centers in the box or within a margin of it, as `contains` says."""
        ijk = grid.to_ijk(self.corners(margin_mm))
        low = np.clip(np.floor(ijk.min(axis=0)).astype(int), 0, grid.size)
        high = np.clip(np.ceil(ijk.max(axis=0)).astype(int) + 1, low, grid.size)
        part = tuple(slice(a, b) for a, b in zip(low[::-1], high[::-1], strict=True))
        k, j, i = np.meshgrid(*(np.arange(side.start, side.stop) for side in part), indexing="ij")
        mask = np.zeros(grid.shape, dtype=bool)
        mask[part] = self.contains(grid.to_ras(np.stack([i, j, k], axis=-1).reshape(-1, 3)), margin_mm).reshape(k.shape)
        return mask

    def core_points(self) -> NDArray[np.float64]:
        """Points on a lattice in the ellipsoid in the middle of the box, (N, 3) RAS mm; the center is one of them."""
        steps = np.arange(-3, 4) * 0.3
        unit = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(-1, 3)
        unit = unit[np.linalg.norm(unit, axis=1) <= 1]
        return self.center_ras + (unit * self.size_mm * _CORE / 2) @ self.axes

    def shell_points(self) -> NDArray[np.float64]:
        """Points 2 to 6 mm outside of the faces, (N, 3) RAS mm."""
        half, parts = self.size_mm / 2, []
        n, m = np.meshgrid(np.arange(_SHELL_POINTS), np.arange(_SHELL_POINTS), indexing="ij")
        along = np.linspace(-1, 1, _SHELL_POINTS)
        away = np.array(_SHELL_MM)[(n + m) % len(_SHELL_MM)]
        for axis in range(3):
            u, v = (other for other in range(3) if other != axis)
            for side in (-1, 1):
                local = np.empty((*n.shape, 3))
                local[..., axis] = side * (half[axis] + away)
                local[..., u], local[..., v] = along[n] * (half[u] + MARGIN_MM), along[m] * (half[v] + MARGIN_MM)
                parts.append(local.reshape(-1, 3))
        return self.center_ras + np.concatenate(parts) @ self.axes

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as `from_dict` takes them."""
        center, axes, size = (part.tolist() for part in (self.center_ras, self.axes, self.size_mm))
        return {"label": self.label, "center": center, "axes": axes, "size": size}

    @classmethod
    def from_dict(cls, values: Any) -> Box:
        """The box of plain values.

        Raises:
            PromptError: a value is missing or cannot be used.
        """
        if not isinstance(values, dict):
            raise PromptError("a box is not an object in braces.")
        for key in ("label", "center", "axes", "size"):
            if key not in values:
                raise PromptError(f'a box has no "{key}".')
        return cls(values["center"], values["axes"], values["size"], values["label"])


def core_of(
    boxes: Iterable[Box],
    points_ras: NDArray[np.float64],
    labels: NDArray[np.int64],
    name: Callable[[int], str],
    body: Volume,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The points in the middle of boxes, which count as prompts of their structures.

    Points near a prompt of anything else are left out: within the first of `_CONTRADICTED_MM`, and within the second unless a
    prompt of the structure is nearer.

    Args:
        boxes: of all structures.
        points_ras: (N, 3) RAS mm of the user's prompts.
        labels: (N,) of them.
        name: of a structure, by label.
        body: mask of the patient.

    Returns:
        (M, 3) RAS mm points and their (M,) labels.

    Raises:
        PromptError: a box has no part of the patient in its middle, and its structure has no prompts of its own.
    """
    # Imported here, because the Slicer module loads without SciPy, which takes long to import.
    from scipy.spatial import cKDTree

    points, kinds = [np.empty((0, 3))], [np.empty(0, np.int64)]
    for box in boxes:
        own, others = points_ras[labels == box.label], points_ras[labels != box.label]
        core = box.core_points()
        core = core[_in_body(core, body)]
        if not len(core) and not len(own):
            raise PromptError(
                f"The middle of the box of '{name(box.label)}' lies outside the patient. Move the box onto the structure."
            )
        if len(others) and len(core):
            away = cKDTree(others).query(core)[0]
            nearest = cKDTree(own).query(core)[0] if len(own) else np.full(len(core), np.inf)
            close, near = _CONTRADICTED_MM
            keep = (away > close) & ((nearest < away) | (away > near))
            # Without any point, the structure would be unknown.
            core = core[keep if keep.any() or len(own) else away >= np.quantile(away, 0.8)]
        points.append(core)
        kinds.append(np.full(len(core), box.label))
    return np.concatenate(points), np.concatenate(kinds)


def shell_of(
    boxes: Sequence[Box], points_ras: NDArray[np.float64], labels: NDArray[np.int64], body: Volume
) -> NDArray[np.float64]:
    """Points outside of boxes that count as background, (N, 3) RAS mm.

    Points in other boxes are left out, and those near a prompt of another structure, which may reach there.

    Args:
        boxes: of all structures.
        points_ras: (N, 3) RAS mm of all prompts.
        labels: (N,) of them.
        body: mask of the patient.
    """
    from scipy.spatial import cKDTree  # as in `core_of`

    parts = [np.empty((0, 3))]
    for box in boxes:
        shell = box.shell_points()
        keep = _in_body(shell, body)
        for other in boxes:
            if other is not box:
                keep &= ~other.contains(shell, MARGIN_MM)
        others = points_ras[(labels != box.label) & (labels > 0)]
        if len(others):
            keep &= cKDTree(others).query(shell)[0] > _NEIGHBOR_MM
        parts.append(shell[keep])
    return np.concatenate(parts)


def outside_of(boxes: Sequence[Box], grid: Grid) -> NDArray[np.bool_]:
    """[k, j, i] where a grid's voxels lie farther than `MARGIN_MM` outside of every box."""
    outside = np.ones(grid.shape, dtype=bool)
    for box in boxes:
        outside &= ~box.mask_on(grid, MARGIN_MM)
    return outside


def _in_body(points_ras: NDArray[np.float64], body: Volume) -> NDArray[np.bool_]:
    return body.grid.contains(points_ras) & (body.nearest_values(points_ras) > 0)


def _numbers(values: Any, shape: tuple[int, ...], what: str) -> NDArray[np.float64]:
    try:
        array = np.array(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise PromptError(f"The {what} of a box must be numbers, got {str(values)[:60]}.") from error
    if array.shape != shape or not np.isfinite(array).all() or np.abs(array).max() > _MAX_MM:
        counts = " x ".join(map(str, shape))
        raise PromptError(f"The {what} of a box must be {counts} finite numbers, got {str(values)[:60]}.")
    return array


def _mm(values: NDArray[np.float64]) -> str:
    return " x ".join(f"{value:g}" for value in values)
