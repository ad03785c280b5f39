"""What runs on the worker: calls of CoralBayLib that take and return plain data.

The library's heavy parts are imported inside the functions, so that torch is loaded by the worker at first use.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from CoralBayLib.core.progress import CancelToken, Progress, raise_if_cancelled
from CoralBaySlicerCore.scene.volumes import Scan


@dataclass(frozen=True, eq=False)
class Points:
    """Prompts as plain data.

    Attributes:
        points: (N, 3) in the volume's own RAS mm.
        labels: (N,); 0 is background.
        names: of the structures, by label.
    """

    points: NDArray[np.float64]
    labels: NDArray[np.int64]
    names: dict[int, str] = field(default_factory=dict)

    @classmethod
    def none(cls) -> Points:
        """No prompts."""
        return cls(np.empty((0, 3)), np.empty(0, np.int64))

    def same_as(self, other: Points | None) -> bool:
        """Whether a fit on them would be the same."""
        return (
            other is not None
            and self.names == other.names
            and np.array_equal(self.labels, other.labels)
            and np.array_equal(self.points, other.points)
        )

    def prompts(self) -> Any:
        """The library's Prompts."""
        from CoralBayLib.fewshot.prompts import Prompts

        return Prompts(self.points, self.labels, self.names)


@dataclass(frozen=True, eq=False)
class Piece:
    """A structure's voxels, cut to where it is: small enough to be written in no time.

    Attributes:
        start: (i, j, k) of the first voxel in the scan's grid.
        mask: uint8 [k, j, i]; may be empty.
    """

    start: tuple[int, int, int]
    mask: NDArray[np.uint8]

    @classmethod
    def of(cls, mask: NDArray[np.bool_]) -> Piece:
        """Cut a mask of a whole grid."""
        where = [np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis))) for axis in range(3)]
        if not all(len(indices) for indices in where):
            return cls((0, 0, 0), np.empty((0, 0, 0), np.uint8))
        box = tuple(slice(int(indices[0]), int(indices[-1]) + 1) for indices in where)
        k, j, i = (part.start for part in box)
        return cls((i, j, k), np.ascontiguousarray(mask[box], dtype=np.uint8))


@dataclass(frozen=True, eq=False)
class Preview:
    """What the views show of a probe.

    Attributes:
        probe: the fitted probe.
        percents: probability of each structure by label, (K, J, I) uint8.
        threshold: percent from which a voxel belongs to a structure.
        connected: whether only the pieces of a structure that a prompt touches belong to it.
        touching: (N, 3) RAS mm by label of these prompts, of the structures that this holds for.
        labels: the structure each voxel belongs to, likewise; 0 for none.
        likeliest, log_odds: the likeliest structure at each voxel whatever the threshold, and its log-odds.
        doubt: uncertainty in percent, likewise.
        totals: sum of each structure's probability over all voxels, by label; None when the probe is of another scan, where
            nothing can be told of how good it is.
        expected: the Dice to expect and its error, by label; of the structures as the threshold bounds them.
        geometry: (4, 4) of all of them, IJK to the volume's own RAS mm.
    """

    probe: Any
    percents: dict[int, NDArray[np.uint8]]
    threshold: float
    connected: bool
    touching: dict[int, NDArray[np.float64]]
    labels: NDArray[np.unsignedinteger]
    likeliest: NDArray[np.unsignedinteger]
    log_odds: NDArray[np.float32]
    doubt: NDArray[np.uint8]
    totals: dict[int, float] | None
    expected: dict[int, tuple[float, float]]
    geometry: NDArray[np.float64]


def preview(
    pyramid: Any,
    points: Points,
    threshold: float = 50,
    probe: Any = None,
    cancel: CancelToken | None = None,
    connected: bool = True,
) -> Preview:
    """Fit a probe on prompts, or take one, which they correct when it is of another scan, and say what it makes of the
    scan; the threshold is in percent. What `pieces` would write with the same `connected` is what the labels show."""
    import torch

    from CoralBayLib.fewshot.segmentation import claim, no_labels
    from CoralBayLib.fewshot.uncertainty import uncertainty_map

    # Of a probe that was adapted from another scan the probabilities do not tell how good it is.
    own = bool(pyramid.key) and (probe is None or probe.scan_ == pyramid.key)
    probe, told = _fitted(pyramid, points, probe)
    raise_if_cancelled(cancel)
    touching = {n: told.points_ras[told.labels == n] for n in probe.labels_ if connected and n not in probe.scattered_}
    values = probe.logits(pyramid, anywhere=None if connected else True)
    raise_if_cancelled(cancel)
    values.masked_fill_(torch.from_numpy(pyramid.body.array == 0), -np.inf)
    likeliest = no_labels(values.shape[1:], probe.labels_)
    log_odds = np.full(values.shape[1:], -np.inf, np.float32)
    for label, one in zip(probe.labels_, values.numpy(), strict=True):
        claim(likeliest, log_odds, one, label)
    raise_if_cancelled(cancel)
    probability = values.sigmoid_()
    doubt = percent(uncertainty_map(probability, pyramid.body).array)
    # Rounded down, so that the map reaches as far as the labels do.
    maps = {label: (100 * one).astype(np.uint8) for label, one in zip(probe.labels_, probability.numpy(), strict=True)}
    raise_if_cancelled(cancel)
    totals = {label: float(one.sum()) for label, one in zip(probe.labels_, probability, strict=True)} if own else None
    geometry = np.array(pyramid.grid.ijk_to_ras)
    labels = bounded(threshold, likeliest, log_odds, maps, touching, geometry)
    return Preview(
        probe,
        maps,
        threshold,
        connected,
        touching,
        labels,
        likeliest,
        log_odds,
        doubt,
        totals,
        dice_to_expect(labels, log_odds, totals),
        geometry,
    )


def _fitted(pyramid: Any, points: Points, probe: Any) -> tuple[Any, Any]:
    """The probe to use, fitted on the prompts where none is given, and the prompts whose pieces count as touched: of a probe
    that was adapted from another scan its own, which the given ones are part of."""
    from CoralBayLib.fewshot.probe import Probe
    from CoralBayLib.fewshot.transfer import for_scan

    prompts = points.prompts()
    if probe is None:
        return Probe().fit(pyramid, prompts), prompts
    adapted = for_scan(probe, pyramid, prompts)
    return adapted, prompts if adapted is probe else adapted.prompts_


def with_threshold(preview: Preview, threshold: float) -> Preview:
    """The same preview at another threshold, in percent."""
    labels = bounded(threshold, preview.likeliest, preview.log_odds, preview.percents, preview.touching, preview.geometry)
    expected = dice_to_expect(labels, preview.log_odds, preview.totals)
    return replace(preview, threshold=threshold, labels=labels, expected=expected)


def dice_to_expect(
    labels: NDArray, log_odds: NDArray[np.float32], totals: dict[int, float] | None
) -> dict[int, tuple[float, float]]:
    """A preview's Dice to expect, of its labels."""
    from CoralBayLib.fewshot.expected import agreement

    return {} if totals is None else agreement(labels, log_odds, totals)


def bounded(
    threshold: float,
    likeliest: NDArray,
    values: NDArray[np.float32],
    percents: dict[int, NDArray[np.uint8]],
    touching: dict[int, NDArray[np.float64]],
    geometry: NDArray[np.float64],
) -> NDArray[np.unsignedinteger]:
    """A preview's labels: the likeliest structures where their log-odds exceed those of a threshold in percent; without
    the pieces of a structure that none of the points of its label touches, which fall to the next likeliest."""
    from CoralBayLib.fewshot.segmentation import log_odds

    labels = likeliest * (values > log_odds(threshold / 100))
    untouched = {n: _untouched(percents[n] >= threshold, points, geometry) for n, points in touching.items()}
    left = np.zeros(labels.shape, bool)
    for label, pieces_of in untouched.items():
        left |= pieces_of & (labels == label)
    where = np.flatnonzero(left)
    shares = {n: percent.ravel()[where] for n, percent in percents.items()}
    for label, pieces_of in untouched.items():
        shares[label][pieces_of.ravel()[where]] = 0
    whose, share = foremost(shares)
    labels.ravel()[where] = np.where(share >= threshold, whose, 0)
    return labels


def foremost(percents: dict[int, NDArray[np.uint8]]) -> tuple[NDArray[np.integer], NDArray[np.uint8]]:
    """The likeliest of structures at some places, and its percent there.

    Args:
        percents: (N,) of each by label.
    """
    ranked = np.stack(list(percents.values()))
    return np.array(list(percents))[ranked.argmax(axis=0)], ranked.max(axis=0)


def _untouched(mask: NDArray[np.bool_], points: NDArray[np.float64], geometry: NDArray[np.float64]) -> NDArray[np.bool_]:
    """The pieces of a mask that no point lies in; none when no point lies in any."""
    from scipy import ndimage

    from CoralBayLib.fewshot.segmentation import keep_touched
    from CoralBayLib.imaging.grid import Grid

    out = np.zeros(mask.shape, bool)
    if not mask.any():
        return out
    box = ndimage.find_objects(mask.view(np.uint8))[0]
    part = mask[box]
    grid = Grid(mask.shape, geometry).sub([side.start for side in reversed(box)], 1, part.shape)
    ijk = np.round(grid.to_ijk(points))
    margin = np.where(part, np.float32(1), np.float32(-1))
    keep_touched(margin, grid, points[((ijk >= 0) & (ijk < grid.size)).all(axis=1)])
    out[box] = part & (margin < 0)
    return out


def pieces(
    scan: Scan,
    pyramid: Any,
    points: Points,
    probe: Any = None,
    threshold: float = 0.5,
    connected: bool = True,
    progress: Progress | None = None,
    cancel: CancelToken | None = None,
) -> tuple[dict[str, Piece], Any]:
    """Segment a scan on its own grid: what each structure has become, by name, and the probe."""
    from CoralBayLib.fewshot.segmentation import labelmap_on

    probe, told = _fitted(pyramid, points, probe)
    raise_if_cancelled(cancel)
    touched = told if connected and len(told) else None
    everywhere = None if connected else True
    labels = labelmap_on(scan.volume().grid, pyramid, probe, touched, threshold, progress, cancel, anywhere=everywhere)
    return {name: Piece.of(labels.array == label) for label, name in probe.names_.items()}, probe


def next_place(preview: Preview, label: int, points: Points, seen: Sequence[NDArray]) -> tuple[int, NDArray[np.float64]]:
    """Where a prompt is expected to mend most of a structure, or of all while that one has no preview, away from prompts
    and places seen: of which structure, and (3,) in the volume's own RAS mm."""
    from CoralBayLib.fewshot.uncertainty import suggest
    from CoralBayLib.imaging.grid import Grid

    percents = {label: preview.percents[label]} if label in preview.percents else preview.percents
    place = suggest(percents, Grid(preview.labels.shape, preview.geometry), points.points, seen)
    return place.label, place.ras


def colors(pyramid: Any, basis: Any = None) -> tuple[NDArray[np.uint8], NDArray[np.float64], Any]:
    """The features as RGB [k, j, i, 3], their geometry, and the basis (made when none is given)."""
    from CoralBayLib.similarity.feature_maps import color_basis, color_map

    basis = basis or color_basis(pyramid)
    return color_map(pyramid, basis), np.array(pyramid.grid.ijk_to_ras), basis


def clusters(pyramid: Any, count: int, basis: Any, cancel: CancelToken) -> tuple[NDArray, NDArray[np.float64], Any]:
    """The clusters as a labelmap [k, j, i], its geometry, and the basis (made when none is given)."""
    from CoralBayLib.similarity.feature_maps import cluster_basis, cluster_map

    basis = basis or cluster_basis(pyramid, count)
    labels = cluster_map(pyramid, basis, cancel)
    return labels.array, np.array(labels.grid.ijk_to_ras), basis


def percent(values: NDArray) -> NDArray[np.uint8]:
    """Values in [0, 1] as whole percents, a byte each; beyond is clipped."""
    return np.rint(np.clip(values, 0, 1) * 100).astype(np.uint8)
