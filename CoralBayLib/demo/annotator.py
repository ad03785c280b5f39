"""A simulated annotator: strokes and corrective clicks drawn from a reference labelmap, for demos and benchmarks.

It stands in for a person, so that a workflow can be measured repeatedly. Nothing else uses it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from CoralBayLib.imaging.grid import Grid, Volume

CLICK_RADIUS_MM = 4.0
"""Default radius of the ball that a click paints, in mm. The ball never extends past the error that it corrects."""
_LARGE_ENOUGH = 0.9
"""A single stroke is drawn on a slice with at least this fraction of the largest area."""
_DEEP_ENOUGH = 0.8
"""A click falls where the depth within the error is at least this fraction of the greatest depth."""


class Annotator:
    """Draws prompts for one structure of a reference labelmap, as a careful person would.

    Args:
        reference: a labelmap.
        label: of the structure.
        seed: of the choice of slices, of where strokes begin, and of where within an error a click falls.
        click_radius_mm: greatest radius of the ball that a click paints, in mm; 0 for a single point.

    Example::

        annotator = Annotator(labelmap, label=5, seed=0)
        points, inside = annotator.strokes(slices=3)      # RAS mm, and whether each point is in the structure
        click = annotator.click(prediction)               # a ball within the largest error, or None
    """

    def __init__(self, reference: Volume, label: int, seed: int = 0, click_radius_mm: float = CLICK_RADIUS_MM) -> None:
        self.click_radius_mm = click_radius_mm
        canonical = reference.canonical()
        self.grid = canonical.grid
        self.truth: NDArray[np.bool_] = canonical.array == label
        self.labels = canonical.array
        self.random = np.random.default_rng([seed, label])
        if not self.truth.any():
            raise ValueError(f"The reference labelmap has no voxels with label {label}.")

    def strokes(self, slices: int = 3) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Draw a stroke inside the structure and one around it on each of several axial slices.

        Args:
            slices: number of slices. One is chosen among those of nearly the largest area; several are spread over the
                structure's volume.

        Returns:
            (N, 3) RAS mm points and (N,) booleans, True inside the structure.
        """
        areas = self.truth.sum(axis=(1, 2))
        if slices == 1:
            chosen = [int(self.random.choice(np.flatnonzero(areas >= _LARGE_ENOUGH * areas.max())))]
        else:
            cumulative = np.cumsum(areas) / areas.sum()
            quantiles = (np.arange(slices) + self.random.uniform(0.3, 0.7, slices)) / slices
            chosen = sorted({int(np.searchsorted(cumulative, q)) for q in quantiles})
        points, inside = [], []
        for k in chosen:
            for mask, positive in ((self._along(k), True), (self._around(k), False)):
                ji = np.argwhere(mask)
                points.append(np.column_stack([ji[:, 1], ji[:, 0], np.full(len(ji), k)]))
                inside.append(np.full(len(ji), positive))
        return self.grid.to_ras(np.concatenate(points)), np.concatenate(inside)

    def click(self, prediction: NDArray[np.bool_]) -> tuple[NDArray[np.float64], bool] | None:
        """Click once to correct a prediction.

        Args:
            prediction: [k, j, i] mask on the reference's canonical grid.

        Returns:
            (N, 3) RAS mm points of the click's ball, and whether they lie in the structure; None when there is no error.
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
        # Padding by one voxel makes the edge of the image an edge of the error, too.
        depth = ndimage.distance_transform_edt(np.pad(component[box], 1), sampling=spacing[::-1])[1:-1, 1:-1, 1:-1]
        # A person does not hit the exact center.
        deep = np.argwhere(depth >= _DEEP_ENOUGH * depth.max())
        chosen = deep[self.random.integers(len(deep))]
        center = chosen + [inner.start + outer.start for inner, outer in zip(box, around, strict=True)]
        radius = min(self.click_radius_mm, float(depth[tuple(chosen)]))
        return self.grid.to_ras(_ball(self.grid, center, radius)[:, ::-1]), positive

    def deepest(self) -> NDArray[np.float64]:
        """The point farthest from the structure's border, (3,) RAS mm."""
        box = _box(self.truth)
        depth = ndimage.distance_transform_edt(np.pad(self.truth[box], 1), sampling=self.grid.spacing_mm[::-1])
        kji = np.array(np.unravel_index(depth.argmax(), depth.shape)) - 1 + [s.start for s in box]
        return self.grid.to_ras(kji[::-1])[0]

    def _along(self, k: int) -> NDArray[np.bool_]:
        """A curve of one voxel per step along the long axis of the structure's largest part on slice k; a mask."""
        parts, _ = ndimage.label(self.truth[k])
        sizes = np.bincount(parts.ravel())
        sizes[0] = 0
        mask = parts == sizes.argmax()
        ji = np.argwhere(mask).astype(np.float64)
        centerd = ji - ji.mean(axis=0)
        axis = np.linalg.svd(centerd.T @ centerd)[0][:, 0]
        position = centerd @ axis
        bins = np.round(position).astype(int)
        stroke = np.zeros_like(mask)
        depth = ndimage.distance_transform_edt(mask)
        for b in range(bins.min(), bins.max() + 1):
            members = ji[bins == b].astype(int)
            if len(members):
                # The deepest voxel of each cross-section, because a person keeps away from the border.
                deepest = members[depth[members[:, 0], members[:, 1]].argmax()]
                stroke[tuple(deepest)] = True
        return stroke

    def _around(self, k: int) -> NDArray[np.bool_]:
        """Arcs 5 mm outside the structure on slice k, covering half of its circumference; a mask."""
        spacing = self.grid.spacing_mm
        distance = ndimage.distance_transform_edt(~self.truth[k], sampling=(spacing[1], spacing[0]))
        ring = (distance > 5.0) & (distance <= 5.0 + max(spacing[0], spacing[1]))
        ji = np.argwhere(ring)
        if not len(ji):
            return ring
        center = np.argwhere(self.truth[k]).mean(axis=0)
        angle = np.arctan2(ji[:, 0] - center[0], ji[:, 1] - center[1])
        start = self.random.uniform(-np.pi, np.pi)
        dropped = (angle - start) % (np.pi) < np.pi / 2
        ring[ji[dropped, 0], ji[dropped, 1]] = False
        return ring


def simulate_answer(
    reference: Volume, ras: ArrayLike, radius_mm: float = CLICK_RADIUS_MM
) -> tuple[NDArray[np.float64], NDArray[np.integer]]:
    """The click of a person who is asked which structure lies at a point: a ball within that structure.

    Args:
        reference: a labelmap.
        ras: (3,) RAS mm.
        radius_mm: greatest radius of the ball, in mm; it never extends past the structure.

    Returns:
        (N, 3) RAS mm points and their (N,) labels, all the same.
    """
    grid = reference.grid
    center = grid.nearest_ijk(ras)[0, ::-1]
    ball = _ball(grid, center, radius_mm)
    labels = reference.array[tuple(ball.T)]
    distance = np.linalg.norm((ball - center) * grid.spacing_mm[::-1], axis=1)
    edge = distance[labels != reference.array[tuple(center)]].min(initial=np.inf)
    return grid.to_ras(ball[distance < edge][:, ::-1]), labels[distance < edge]


def _ball(grid: Grid, center: NDArray[np.intp], radius_mm: float) -> NDArray[np.intp]:
    """(N, 3) indices (k, j, i) of the voxels within a radius of one; at least that one."""
    spacing = grid.spacing_mm[::-1]
    reach = np.ceil(radius_mm / spacing).astype(int)
    offsets = np.stack(np.meshgrid(*[np.arange(-r, r + 1) for r in reach], indexing="ij"), -1).reshape(-1, 3)
    offsets = offsets[np.linalg.norm(offsets * spacing, axis=1) < max(radius_mm, 1e-6)]
    kji = np.concatenate([center[None], center + offsets])
    return np.unique(kji[((kji >= 0) & (kji < grid.shape)).all(axis=1)], axis=0)


def _box(mask: NDArray[np.bool_]) -> tuple[slice, ...]:
    """The bounding box of a mask that is not empty."""
    return ndimage.find_objects(mask.astype(np.uint8))[0]


def dice(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    """The Dice coefficient 2 |A and B| / (|A| + |B|) (Dice 1945); 1 for two empty masks."""
    total = int(a.sum()) + int(b.sum())
    return 1.0 if total == 0 else 2.0 * int((a & b).sum()) / total
