"""The answers to the clicks on a scan's structures, in the order of the clicks.

The answer to a click depends on the answer before it, so the points of a structure are taken one after another. Those
of the last answers are kept, and a further click continues from there; the result is the same as from the beginning.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from copy import copy
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from CoralBayLib.core.progress import CancelToken, raise_if_cancelled
from CoralBayLib.features.pyramid import FeaturePyramid
from CoralBayLib.fewshot.constraints.boxes import Box
from CoralBayLib.fewshot.prompts import Prompts
from CoralBayLib.imaging.cropping import bounding_box
from CoralBayLib.imaging.grid import Grid

from .boxed import BoxedSession
from .inputs import ClickScan
from .locks import Locks
from .networks import packaged_networks
from .session import ClickSession
from .started import Start, StartedSession

MAX_CLICKS = 30
"""A structure with more points of its own was painted."""
_FEWEST_POINTS = 4
"""Fewer points are clicks, however near each other."""
_STROKE_POINTS, _STROKE_SHARE = 6, 0.5
"""A structure is painted if this share of its points lies in strokes of so many points that touch each other."""
_TOUCHING_SHARE = 0.85
"""It is painted also if this share of its points touches another one: strokes across a thin structure are short."""
_STROKE_VOXELS = 1.5
"""Points of a stroke have a neighbor within so many of the longest edges of working voxels: also across their corners."""
MOST_OTHER_POINTS = 200
"""So many points of anything else are taken into account; a painted structure has thousands."""
_KEPT = 24
"""Sessions that are kept for a scan, the last ones used."""


@dataclass(frozen=True, eq=False)
class ClickAnswer:
    """The answer for one structure.

    Attributes:
        log_odds: (K, J, I) float32 on the working grid; positive inside of the answer.
        dice: that the answer is expected to have.
        extent: of the answer to the first click; 0 if no region of the wanted extent was found.
    """

    log_odds: torch.Tensor
    dice: float
    extent: int = 0

    def points_ras(self, grid: Grid) -> NDArray[np.float64]:
        """One point (N, 3) RAS mm in each connected component of the answer."""
        positive = self.log_odds.numpy() > 0
        box = bounding_box(positive)
        if box is None:
            return np.empty((0, 3))
        components, _ = ndimage.label(positive[box])
        first = np.unique(components, return_index=True)[1][int(not positive[box].all()) :]
        kji = np.stack(np.unravel_index(first, components.shape), axis=1) + [side.start for side in box]
        return grid.to_ras(kji[:, ::-1])


def clicked_structures(prompts: Prompts, pyramid: FeaturePyramid, started: Collection[int] = ()) -> list[int]:
    """The structures whose own prompts are single clicks or boxes, rather than strokes.

    Args:
        prompts: all prompts.
        pyramid: of the scan.
        started: structures that have an answer already; a few points beside each other correct it, and are no stroke.
    """
    near_mm = _STROKE_VOXELS * float(pyramid.grid.spacing_mm.max())
    structures = sorted({*prompts.structures, *(box.label for box in prompts.boxes)})
    return [n for n in structures if not _is_painted(prompts, n, -1.0 if n in started else near_mm)]


def _is_painted(prompts: Prompts, label: int, near_mm: float) -> bool:
    """Whether the points of a structure are strokes, or were at an earlier time, when there were fewer of them.

    The points of a stroke touch each other and are given in succession. Clicks may touch each other, too, when the last errors
    are near each other; but others come between them. Clicks that correct a painted structure do not make it a clicked one.
    """
    rows = np.flatnonzero(prompts.labels == label)
    if not _FEWEST_POINTS <= len(rows) <= MAX_CLICKS:
        return len(rows) > MAX_CLICKS
    turn = np.cumsum(np.diff(rows, prepend=rows[0]) > 1)
    pairs = cKDTree(prompts.points_ras[rows]).query_pairs(near_mm, output_type="ndarray")
    one, two = pairs[turn[pairs[:, 0]] == turn[pairs[:, 1]]].T
    touching = coo_array((np.ones(len(one)), (one, two)), shape=(len(rows), len(rows)))
    stroke = connected_components(touching, directed=False)[1]
    length = np.bincount(stroke)[stroke]
    so_far = np.flatnonzero(np.diff(turn, append=turn[-1] + 1)) + 1
    in_strokes = np.cumsum(length >= _STROKE_POINTS)[so_far - 1] >= _STROKE_SHARE * so_far
    touched = np.cumsum(length > 1)[so_far - 1] >= _TOUCHING_SHARE * so_far
    return bool(((in_strokes | touched) & (so_far >= _FEWEST_POINTS)).any())


def _without_crowds(prompts: Prompts, label: int) -> Prompts:
    """The prompts with few of the points of anything else that is painted, so that not each of them is taken as a click."""
    labels = np.where(prompts.labels == label, label, 0)
    if np.count_nonzero(labels == 0) <= MOST_OTHER_POINTS:
        return prompts
    return Prompts(prompts.points_ras, labels, boxes=prompts.boxes).thinned(MOST_OTHER_POINTS)


def _fingerprints(about: bytes, points_ras: NDArray[np.float64], own: NDArray[np.bool_]) -> list[bytes]:
    """One for each number of points, from none to all; equal for equal points in the same order."""
    digest = hashlib.sha256(about)
    steps = [digest.digest()]
    for point, is_own in zip(points_ras, own, strict=True):
        digest.update(point.tobytes() + bytes([bool(is_own)]))
        steps.append(digest.digest())
    return steps


class ClickAnswers:
    """Answers the clicks on one scan.

    Args:
        pyramid: of the scan.
    """

    def __init__(self, pyramid: FeaturePyramid) -> None:
        self._scan = ClickScan(pyramid)
        self._networks = packaged_networks()
        self._kept: dict[bytes, ClickSession] = {}

    def answer(
        self,
        pyramid: FeaturePyramid,
        prompts: Prompts,
        label: int,
        extent: int = 0,
        locks: Locks | None = None,
        start: Start | None = None,
        cancel: CancelToken | None = None,
    ) -> ClickAnswer:
        """The answer for a structure.

        Args:
            pyramid: of the scan.
            prompts: in the order in which they were given; those of other structures count as background. The last box
                around the structure counts.
            label: of the structure.
            extent: of the answer to the first click, see `choice.EXTENTS`.
            locks: voxels that never belong to the structure.
            start: the answer before the first click, if there is one; a box takes its place.
            cancel: checked between clicks.

        Raises:
            Cancelled: `cancel` was called.
        """
        box = next((box for box in reversed(prompts.boxes) if box.label == label), None)
        prompts = _without_crowds(prompts, label)
        own = prompts.labels == label
        order = np.arange(len(own))
        if box is None and start is None:
            first = int(np.argmax(own))
            order = np.concatenate([[first], np.delete(order, first)])
        points, own = prompts.points_ras[order], own[order]
        locks = locks or Locks()
        about = locks.key() + json.dumps([extent, None if box is None else box.to_dict()]).encode()
        steps = _fingerprints(about if start is None else about + start.key, points, own)
        done = next((n for n in range(len(own), -1, -1) if steps[n] in self._kept), None)
        if done is None:
            done, session = 0, self._begun(pyramid, box, extent, locks, start)
        else:
            session = copy(self._kept[steps[done]])
            self._kept[steps[done]] = self._kept.pop(steps[done])
        for n in range(done, len(own)):
            raise_if_cancelled(cancel)
            session.add(points[n], bool(own[n]))
        self._kept[steps[-1]] = session
        while len(self._kept) > _KEPT:
            del self._kept[next(iter(self._kept))]
        return ClickAnswer(torch.from_numpy(session.answer_log_odds()), session.dice, session.extent)

    def _begun(self, pyramid: FeaturePyramid, box: Box | None, extent: int, locks: Locks, start: Start | None) -> ClickSession:
        """A session before its first click."""
        if box is None and start is not None:
            return StartedSession(pyramid, self._scan, self._networks, start, locks)
        if box is None:
            return ClickSession(pyramid, self._scan, self._networks, extent, locks)
        session = BoxedSession(pyramid, self._scan, self._networks, box, locks)
        session.start()
        return session


class ClickedStructures:
    """The structures of some prompts that clicks mark, and no strokes. Their answers are computed at first use.

    Args:
        pyramid: of the scan.
        prompts: all prompts, in the order in which they were given.
        apart: structures that are not answered so, whatever their prompts.
        extents: by label, see `choice.EXTENTS`.
        locks: voxels that never belong to a structure.
        starts: by label, answers before the first click; such structures need no clicks of their own.
    """

    def __init__(
        self,
        pyramid: FeaturePyramid,
        prompts: Prompts,
        apart: Collection[int] = (),
        extents: Mapping[int, int] | None = None,
        locks: Locks | None = None,
        starts: Mapping[int, Start] | None = None,
    ) -> None:
        self._pyramid, self._prompts, self._extents, self._locks = pyramid, prompts, dict(extents or {}), locks
        self._starts = dict(starts or {})
        self._answers: dict[int, ClickAnswer] = {}
        # Without a key the features cannot be told from those of another scan.
        marked = frozenset(clicked_structures(prompts, pyramid, self._starts) if pyramid.key else ())
        self.labels = (marked | (self._starts.keys() - set(prompts.structures))) - frozenset(apart)

    def answer(self, label: int, cancel: CancelToken | None = None) -> ClickAnswer:
        """The answer for one of `labels`.

        Raises:
            Cancelled: `cancel` was called.
        """
        if label not in self._answers:
            extent = self._extents.get(label, 0)
            answers = click_answers(self._pyramid)
            start = self._starts.get(label)
            found = answers.answer(self._pyramid, self._prompts, label, extent, self._locks, start, cancel)
            self._answers[label] = found
        return self._answers[label]

    @property
    def started(self) -> frozenset[int]:
        """Those of `labels` that have a start."""
        return self.labels & self._starts.keys()

    def dice(self, label: int) -> float | None:
        """The Dice that an answer is expected to have; None if it was not computed."""
        return self._answers[label].dice if label in self._answers else None

    @property
    def extents(self) -> dict[int, int]:
        """By label, the extents of the answers to first clicks that were computed; see `ClickAnswer`."""
        return {label: answer.extent for label, answer in self._answers.items()}

    def updated(self, label: int, prompts: Prompts) -> ClickedStructures:
        """The same with one structure that follows new prompts."""
        new = ClickedStructures(self._pyramid, prompts, (), self._extents, self._locks, self._starts)
        new.labels = (self.labels - {label}) | (new.labels & {label})
        new._answers = {n: answer for n, answer in self._answers.items() if n != label}
        return new


_known: WeakKeyDictionary[FeaturePyramid, ClickAnswers] = WeakKeyDictionary()


def click_answers(pyramid: FeaturePyramid) -> ClickAnswers:
    """The answers of a pyramid's scan, kept for as long as the pyramid lives."""
    known = _known.get(pyramid)
    if known is None:
        known = _known[pyramid] = ClickAnswers(pyramid)
    return known
