"""Prompts: labeled points and boxes in RAS mm, from clicks, strokes, segments or files. Imports no torch."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field, replace
from importlib import import_module

import numpy as np
from numpy.typing import ArrayLike, NDArray

from CoralBayLib.core.deprecation import warn_renamed
from CoralBayLib.core.errors import PromptError
from CoralBayLib.core.names import fold, printable_name, unique_names
from CoralBayLib.core.paths import atomic_write
from CoralBayLib.core.schemas import MAX_LABEL
from CoralBayLib.imaging.grid import Grid, Volume

from .constraints.boxes import Box, core_of, shell_of
from .constraints.labelmap_points import spread_points

BACKGROUND = 0
"""Label of negative prompts."""


@dataclass(frozen=True, eq=False)
class Prompts:
    """Points, each with the label of the structure it lies in, and boxes around structures.

    A structure reaches no farther than 2 mm out of its boxes. Points in the middle of a box count as points of the structure,
    but for those near prompts that contradict them; points just outside of a box count as background.

    Attributes:
        points_ras: (N, 3) RAS mm; N may be 0.
        labels: (N,) int64; 0 is background, structures are 1 and above.
        names: of the structures, by label; not all need one (see `name`). A name that is given twice gets a number the
            second time, as in "lesion (2)", so that results listed by name keep both.
        boxes: drawn tightly around structures, none or more of each.

    Raises:
        PromptError: another shape, a NaN or infinite coordinate, a label that is negative,
            not whole or above `MAX_LABEL`, or a name for the background.

    Example::

        prompts = Prompts([[10, 20, 30], [50, 20, 30]], [1, 0], {1: "liver"})
        prompts.require_usable(volume.grid)
    """

    points_ras: NDArray[np.float64]
    labels: NDArray[np.int64]
    names: dict[int, str] = field(default_factory=dict)
    boxes: tuple[Box, ...] = ()

    def __post_init__(self) -> None:
        points, labels = _points(self.points_ras), _labels(self.labels)
        if len(points) != len(labels):
            raise PromptError(f"Expected one label for each point, got {len(points)} points and {len(labels)} labels.")
        names = {int(label): printable_name(str(name)) for label, name in (self.names or {}).items()}
        if max(names, default=1) > MAX_LABEL:
            raise PromptError(f"Expected names for labels of at most {MAX_LABEL}, got {max(names)}.")
        if min(names, default=1) < 1 or not all(map(fold, names.values())):
            raise PromptError(f"Expected a name for each structure (label 1 or more), got {names}. Leave the background out.")
        names = dict(zip(names, unique_names(names.values()), strict=True))
        boxes = tuple(self.boxes)
        for name, value in (("points_ras", points), ("labels", labels), ("names", names), ("boxes", boxes)):
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        return len(self.labels)

    @classmethod
    def none(cls) -> Prompts:
        """An empty set of prompts."""
        return cls(np.empty((0, 3)), np.empty(0, np.int64))

    def same_as(self, other: Prompts | None) -> bool:
        """Whether points, labels, names and boxes are equal, so that a fit on them is the same."""
        return (
            other is not None
            and self.names == other.names
            and np.array_equal(self.labels, other.labels)
            and np.array_equal(self.points_ras, other.points_ras)
            and len(self.boxes) == len(other.boxes)
            and all(one.same_as(two) for one, two in zip(self.boxes, other.boxes, strict=True))
        )

    @property
    def structures(self) -> list[int]:
        """The labels of the structures that have points or a box, sorted, without the background."""
        return sorted({*np.unique(self.labels).tolist(), *(box.label for box in self.boxes)} - {BACKGROUND})

    def name(self, label: int) -> str:
        """Name of a structure; "Structure <label>" if it has none, with a number behind it where another is named so."""
        if label == BACKGROUND:
            return "background"
        return self.names.get(label) or unique_names([*self.names.values(), f"Structure {label}"])[-1]

    def inside(self, grid: Grid) -> Prompts:
        """Only the points that lie inside the grid, and the boxes whose middle does in part."""
        inside = self._only(grid.contains(self.points_ras))
        return replace(inside, boxes=tuple(box for box in self.boxes if grid.contains(box.core_points()).any()))

    def with_points_of_boxes(self, body: Volume, shell: bool = True) -> Prompts:
        """The same prompts with points in place of the boxes (see `core_of` and `shell_of`).

        Args:
            body: mask of the patient, on any grid.
            shell: whether to add the background points just outside of the boxes, too.

        Raises:
            PromptError: the middle of a box lies outside the patient, and its structure has no points of its own.
        """
        if not self.boxes:
            return self
        points, labels = core_of(self.boxes, self.points_ras, self.labels, self.name, body)
        points, labels = np.concatenate([self.points_ras, points]), np.concatenate([self.labels, labels])
        if shell:
            outside = shell_of(self.boxes, points, labels, body)
            points = np.concatenate([points, outside])
            labels = np.concatenate([labels, np.full(len(outside), BACKGROUND)])
        return Prompts(points, labels, self.names)

    def require_usable(self, grid: Grid) -> None:
        """Check that a probe can be fitted on the prompts.

        Raises:
            PromptError: there are no points, some are outside the grid, or all are background.
        """
        if not len(self) and not self.boxes:
            raise PromptError("There are no prompts. Mark the structure with a click or a stroke.")
        self.require_inside(grid)
        if not self.structures:
            raise PromptError("All prompts are background. Add a click or a stroke on the structure to segment.")

    def require_inside(self, grid: Grid) -> None:
        """Check that all points lie inside a grid.

        Raises:
            PromptError: some do not.
        """
        outside = np.flatnonzero(~grid.contains(self.points_ras))
        if len(outside):
            low, high = _bounds(grid)
            raise PromptError(
                f"{len(outside)} of {len(self)} prompts lie outside the volume; the first is at RAS "
                f"{_mm(self.points_ras[outside[0]])}, while the volume reaches from {_mm(low)} to {_mm(high)} mm. "
                "Remove them, or check that they were made on this volume and are not in LPS coordinates."
            )

    def thinned(self, max_per_label: int, cell_mm: float = 2.0) -> Prompts:
        """At most `max_per_label` points of each label, one from each cube of space, in the same order.

        The cubes grow until the number of points is small enough. A long stroke loses most of its points, a single click none,
        so that every marked location still has a point.

        Args:
            max_per_label: most points to keep of one label.
            cell_mm: least edge length of the cubes.

        Raises:
            PromptError: `max_per_label` is less than 1.
        """
        if max_per_label < 1:
            raise PromptError(f"Expected to keep at least one point of each label, got max_per_label={max_per_label}.")
        keep = np.zeros(len(self), dtype=bool)
        for label in np.unique(self.labels):
            rows = np.flatnonzero(self.labels == label)
            edge = cell_mm
            while True:
                cells = np.floor(self.points_ras[rows] / edge).astype(np.int64)
                # The last point of a cube, which is the most recent, is kept.
                _, first = np.unique(cells[::-1], axis=0, return_index=True)
                if len(first) <= max_per_label:
                    break
                edge *= 1.25
            keep[rows[len(rows) - 1 - first]] = True
        return self._only(keep)

    def merged(self, other: Prompts) -> Prompts:
        """The points and boxes of both sets; structures of the same name become one.

        Names are compared with `CoralBayLib.core.names.fold`. Structures of this set keep their labels. A structure of the
        other set whose name does not occur here keeps its label if that is free, and otherwise gets the next free label.
        Structures without names are matched by their labels.
        """
        by_name = {fold(name): label for label, name in self.names.items()}
        namesakes = {label: by_name[fold(name)] for label, name in other.names.items() if fold(name) in by_name}
        table, names = {BACKGROUND: BACKGROUND, **namesakes}, dict(self.names)
        rest = {*other.structures, *other.names} - set(namesakes)
        last = max([*self.structures, *self.names, *rest], default=BACKGROUND)
        for label in sorted(rest):
            name = other.names.get(label)
            if label in table.values() or (name and label in self.names):
                last += 1
                table[label] = last
            else:
                table[label] = label
            if name:
                names[table[label]] = name
        labels = np.array([table[label] for label in other.labels.tolist()], dtype=np.int64)
        points, labels = np.concatenate([self.points_ras, other.points_ras]), np.concatenate([self.labels, labels])
        boxes = [*self.boxes, *(replace(box, label=table[box.label]) for box in other.boxes)]
        return Prompts(points, labels, names, tuple(boxes))

    def __add__(self, other: Prompts) -> Prompts:
        return self.merged(other)

    @classmethod
    def from_labelmap(
        cls,
        labelmap: Volume,
        background: int | None = None,
        names: dict[int, str] | None = None,
        *,
        per_structure: int | None = None,
        body: Volume | None = None,
        seed: int = 0,
    ) -> Prompts:
        """Prompts at the centers of voxels, with their values as labels.

        Without `per_structure` these are all voxels that are not 0: the labelmap holds strokes. With it, the labelmap is a
        complete segmentation, whose zeros are background, and points are drawn from it, spread over each structure and over the
        background.

        Args:
            labelmap: whole numbers; 0 is not painted, or background.
            background: value of voxels that were painted as background, which become label 0.
            names: of the structures, by value.
            per_structure: how many points to draw of each structure, and of the background.
            body: with `per_structure`, a mask of the patient on the labelmap's grid, from which the background is drawn; by
                default it is drawn from the whole scan, air included.
            seed: of the draw.

        Raises:
            PromptError: a value is negative, not whole or above `MAX_LABEL`.

        Example::

            prompts = Prompts.from_labelmap(labelmap, names={1: "liver"}, per_structure=200)
        """
        names = {label: name for label, name in (names or {}).items() if label not in (BACKGROUND, background)}
        if per_structure is not None:
            values = _labels(np.unique(labelmap.array)).tolist()
            points, labels = spread_points(labelmap, sorted({BACKGROUND, *values} - {background}), per_structure, body, seed)
            return cls(points, labels, names)
        k, j, i = np.nonzero(labelmap.array)
        values = _labels(labelmap.array[k, j, i])
        if background is not None:
            values[values == background] = BACKGROUND
        return cls(labelmap.grid.to_ras(np.stack([i, j, k], axis=1)), values, names)

    @classmethod
    def load(cls, *paths: str | os.PathLike) -> Prompts:
        """Deprecated name of `CoralBayLib.read_prompts`."""
        warn_renamed("Prompts.load", "read_prompts")
        # Imported through the facade, because `prompt_io` imports this module.
        return import_module("CoralBayLib").read_prompts(*paths)

    def save(self, path: str | os.PathLike) -> None:
        """Write `{"coordinateSystem": "RAS", "points": [{"ras": [R, A, S], "label": 1}], "names": {"1": "liver"}}`.

        If there are boxes, `"boxes": [{"label": 1, "center": [R, A, S], "axes": [[1, 0, 0], ...], "size": [...]}]` is added.

        Raises:
            StoreError: the file could not be written; an existing file is unchanged.
        """
        document = {
            "coordinateSystem": "RAS",
            "points": [
                {"ras": ras, "label": label} for ras, label in zip(self.points_ras.tolist(), self.labels.tolist(), strict=True)
            ],
            "names": {str(label): name for label, name in sorted(self.names.items())},
            **({"boxes": [box.to_dict() for box in self.boxes]} if self.boxes else {}),
        }
        with atomic_write(path) as temporary:
            temporary.write_text(json.dumps(document, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")

    def without(self, label: int) -> Prompts:
        """All points and boxes except those of one label."""
        return replace(self._only(self.labels != label), boxes=tuple(box for box in self.boxes if box.label != label))

    def structures_only(self) -> Prompts:
        """All points except those of the background."""
        return self.without(BACKGROUND)

    def _only(self, keep: NDArray[np.bool_]) -> Prompts:
        return replace(self, points_ras=self.points_ras[keep], labels=self.labels[keep])


def _points(values: ArrayLike) -> NDArray[np.float64]:
    try:
        points = np.array(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise PromptError(f"Expected points as (N, 3) RAS mm, got something else ({error}).") from error
    if points.size == 0:
        points = points.reshape(0, 3)
    if points.ndim != 2 or points.shape[1] != 3:
        raise PromptError(f"Expected points of shape (N, 3), RAS mm, got {points.shape}.")
    bad = np.flatnonzero(~np.isfinite(points).all(axis=1))
    if len(bad):
        raise PromptError(
            f"{len(bad)} of {len(points)} points have a NaN or infinite coordinate, the first is number {bad[0]}."
        )
    return points


def _labels(values: ArrayLike) -> NDArray[np.int64]:
    given = np.asarray(values)
    if given.size == 0:
        return np.zeros(0, dtype=np.int64)
    if given.ndim != 1 or given.dtype.kind not in "iuf" or not np.array_equal(given, np.rint(given)) or given.min() < 0:
        raise PromptError(
            f"Expected labels as whole numbers from 0 (background) upwards, shape (N,), got {given.dtype} of shape "
            f"{given.shape}" + (f" from {given.min()}." if given.dtype.kind in "iuf" else ".")
        )
    if given.max() > MAX_LABEL:
        raise PromptError(f"Expected labels of at most {MAX_LABEL}, got {given.max():.0f}. Number the structures from 1.")
    return given.astype(np.int64)


def _bounds(grid: Grid) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lower and upper corner, RAS mm, of the box around a grid, including the edges of voxels."""
    corners = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)]) * np.array(grid.size) - 0.5
    ras = grid.to_ras(corners)
    return ras.min(axis=0), ras.max(axis=0)


def _mm(point: NDArray[np.float64]) -> str:
    return "(" + ", ".join(f"{v:.1f}" for v in point) + ")"
