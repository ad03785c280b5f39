"""A simulated annotator: strokes and corrective clicks drawn from a reference labelmap, for demos and benchmarks.

Never used by the product itself; it stands for a person so that a workflow can be measured the same way twice.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from CoralBayLib.imaging.grid import Grid, Volume

CLICK_RADIUS_MM = 4.0
"""A click paints a ball of at most this radius, never past the edge of the error it corrects."""
_LARGE_ENOUGH = 0.9
_DEEP_ENOUGH = 0.8


class Annotator:
    """Draws prompts for one structure of a reference labelmap, as a careful person would.

    Args:
        reference: a labelmap.
        label: of the structure.
        seed: of the choice of slices, of where on them strokes begin, and of where in an error a click falls.
        click_radius_mm: a click paints a ball of at most this radius; 0 for a single point.

    Example::

        annotator = Annotator(labelmap, label=5, seed=0)
        points, inside = annotator.strokes(slices=3)      # RAS mm, and whether each point is in the structure
        click = annotator.click(prediction)               # a ball at the heart of the largest error, or None
    """

    def __init__(self, reference: Volume, label: int, seed: int = 0, click_radius_mm: float = CLICK_RADIUS_MM) -> None:
        self.click_radius_mm = click_radius_mm
        canonical = reference.canonical()
        self.grid = canonical.grid
        self.truth: NDArray[np.bool_] = canonical.array == label
        self.labels = canonical.array
        self.random = np.random.default_rng([seed, label])
        if not self.truth.any():
            raise ValueError(f"Label {label} is nowhere in the reference labelmap.")

    def strokes(self, slices: int = 3) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """A stroke along the structure and one around it on each of a few axial slices.

        Args:
            slices: how many; one takes a slice of nearly the largest area, more are spread over the volume.

        Returns:
            (N, 3) RAS mm points and (N,) booleans, True inside the structure.
        """
        areas = self.truth.sum(axis=(1, 2))
        if slices == 1:
            chosen = [int(self.random.choice(np.flatnonzero(areas >= _LARGE_ENOUGH * areas.max())))]
        else:
            cumulative = np.cumsum(areas) / areas.sum()
            wanted = (np.arange(slices) + self.random.uniform(0.3, 0.7, slices)) / slices
            chosen = sorted({int(np.searchsorted(cumulative, q)) for q in wanted})
        points, inside = [], []
        for k in chosen:
            for mask, positive in ((self._along(k), True), (self._around(k), False)):
                ji = np.argwhere(mask)
                points.append(np.column_stack([ji[:, 1], ji[:, 0], np.full(len(ji), k)]))
                inside.append(np.full(len(ji), positive))
        return self.grid.to_ras(np.concatenate(points)), np.concatenate(inside)

    def click(self, prediction: NDArray[np.bool_]) -> tuple[NDArray[np.float64], bool] | None:
        """One corrective click on a prediction.

        Args:
            prediction: [k, j, i] mask on the reference's canonical grid.

        Returns:
            (N, 3) RAS mm points of the click's ball and whether they lie in the structure; None where nothing is wrong.
        """
        best: tuple[int, NDArray[np.bool_], bool] | None = None
        around = _box(self.truth | prediction)
        truth, prediction = self.truth[around], prediction[around]
        for error, positive in ((truth & ~prediction, True), (prediction & ~truth, False)):
            components, count = ndimage.label(error)
            if not count:
                continue
            sizes = np.bincount(components.ravel())
            sizes[0] = 0
            if best is None or sizes.max() > best[0]:
                best = int(sizes.max()), components == sizes.argmax(), positive
        if best is None:
            return None
        _, component, positive = best
        box = _box(component)
        spacing = self.grid.spacing_mm
        # Padding by one voxel makes the edge of the image an edge of the error too.
        depth = ndimage.distance_transform_edt(np.pad(component[box], 1), sampling=spacing[::-1])[1:-1, 1:-1, 1:-1]
        # Nobody hits the very middle.
        deep = np.argwhere(depth >= _DEEP_ENOUGH * depth.max())
        chosen = deep[self.random.integers(len(deep))]
        centre = chosen + [inner.start + outer.start for inner, outer in zip(box, around, strict=True)]
        radius = min(self.click_radius_mm, float(depth[tuple(chosen)]))
        return self.grid.to_ras(_ball(self.grid, centre, radius)[:, ::-1]), positive

    def deepest(self) -> NDArray[np.float64]:
        """The place farthest from the structure's border, (3,) RAS mm."""
        box = _box(self.truth)
        depth = ndimage.distance_transform_edt(np.pad(self.truth[box], 1), sampling=self.grid.spacing_mm[::-1])
        kji = np.array(np.unravel_index(depth.argmax(), depth.shape)) - 1 + [s.start for s in box]
        return self.grid.to_ras(kji[::-1])[0]

    def _along(self, k: int) -> NDArray[np.bool_]:
        """A thin curve through the middle of the structure on slice k, from end to end of its longest part."""
        parts, _ = ndimage.label(self.truth[k])
        sizes = np.bincount(parts.ravel())
        sizes[0] = 0
        mask = parts == sizes.argmax()
        ji = np.argwhere(mask).astype(np.float64)
        centred = ji - ji.mean(axis=0)
        axis = np.linalg.svd(centred.T @ centred)[0][:, 0]
        position = centred @ axis
        bins = np.round(position).astype(int)
        stroke = np.zeros_like(mask)
        depth = ndimage.distance_transform_edt(mask)
        for b in range(bins.min(), bins.max() + 1):
            members = ji[bins == b].astype(int)
            if len(members):
                # The deepest voxel of each cross-section: a person stays clear of the border.
                deepest = members[depth[members[:, 0], members[:, 1]].argmax()]
                stroke[tuple(deepest)] = True
        return stroke

    def _around(self, k: int) -> NDArray[np.bool_]:
        """Arcs some millimetres outside the structure on slice k, half of the way round."""
        spacing = self.grid.spacing_mm
        distance = ndimage.distance_transform_edt(~self.truth[k], sampling=(spacing[1], spacing[0]))
        ring = (distance > 5.0) & (distance <= 5.0 + max(spacing[0], spacing[1]))
        ji = np.argwhere(ring)
        if not len(ji):
            return ring
        middle = np.argwhere(self.truth[k]).mean(axis=0)
        angle = np.arctan2(ji[:, 0] - middle[0], ji[:, 1] - middle[1])
        start = self.random.uniform(-np.pi, np.pi)
        dropped = (angle - start) % (np.pi) < np.pi / 2
        ring[ji[dropped, 0], ji[dropped, 1]] = False
        return ring


def answer(
    reference: Volume, ras: ArrayLike, radius_mm: float = CLICK_RADIUS_MM
) -> tuple[NDArray[np.float64], NDArray[np.integer]]:
    """What a person clicks who is asked what lies at a place: a ball of what it is, that stops short of anything else.

    Args:
        reference: a labelmap.
        ras: (3,) RAS mm.
        radius_mm: of the ball at most.

    Returns:
        (N, 3) RAS mm and their (N,) labels, all the same.
    """
    grid = reference.grid
    centre = np.clip(np.round(grid.to_ijk(np.reshape(ras, (1, 3)))[0]).astype(int), 0, np.array(grid.size) - 1)[::-1]
    ball = _ball(grid, centre, radius_mm)
    labels = reference.array[tuple(ball.T)]
    distance = np.linalg.norm((ball - centre) * grid.spacing_mm[::-1], axis=1)
    edge = distance[labels != reference.array[tuple(centre)]].min(initial=np.inf)
    return grid.to_ras(ball[distance < edge][:, ::-1]), labels[distance < edge]


def _ball(grid: Grid, centre: NDArray[np.intp], radius_mm: float) -> NDArray[np.intp]:
    """(N, 3) indices (k, j, i) of the voxels nearer than a radius to one; that one at least."""
    spacing = grid.spacing_mm[::-1]
    reach = np.ceil(radius_mm / spacing).astype(int)
    offsets = np.stack(np.meshgrid(*[np.arange(-r, r + 1) for r in reach], indexing="ij"), -1).reshape(-1, 3)
    offsets = offsets[np.linalg.norm(offsets * spacing, axis=1) < max(radius_mm, 1e-6)]
    kji = np.concatenate([centre[None], centre + offsets])
    return np.unique(kji[((kji >= 0) & (kji < grid.shape)).all(axis=1)], axis=0)


def _box(mask: NDArray[np.bool_]) -> tuple[slice, ...]:
    """The smallest box around a mask that is not empty."""
    return ndimage.find_objects(mask.astype(np.uint8))[0]


def dice(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    """Dice's coefficient 2|A and B| / (|A| + |B|); 1 for two empty masks (Dice 1945)."""
    total = int(a.sum()) + int(b.sum())
    return 1.0 if total == 0 else 2.0 * int((a & b).sum()) / total
