"""One annotation session with a simulated annotator: strokes, corrective clicks, and scores."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

import CoralBayLib as cb
from CoralBayLib.demo.annotator import CLICK_RADIUS_MM, Annotator
from CoralBayLib.imaging.grid import Grid, Volume
from CoralBayLib.imaging.resampling import resample

from .encoders import Labelled

CLICKING_MM = 2.0
"""Spacing of the grid on which clicks are chosen, for all methods; results are judged on the scan's own grid."""
STROKED = ("1 slice", "3 slices")

Answer = Callable[[Grid], NDArray]
"""The result of a method for some prompts: labels [k, j, i] on any grid."""


class Method(Protocol):
    """A segmentation method, prepared for one scan."""

    def __call__(self, prompts: cb.Prompts) -> Answer:
        """Take all prompts so far."""
        ...


@dataclass(frozen=True, eq=False)
class Task:
    """Structures of one scan that are segmented together in one session.

    Attributes:
        scan: the scan.
        names: the structures; each one's number is its place in this list, from 1.
        truth: their numbers on the scan's canonical grid; 0 elsewhere.
        coarse: the same on the grid that clicks are chosen on.
    """

    scan: Labelled
    names: tuple[str, ...]
    truth: Volume = field(init=False)
    coarse: Volume = field(init=False)

    def __post_init__(self) -> None:
        labels = {name: label for label, name in self.scan.names.items()}
        table = np.zeros(int(self.scan.reference.array.max()) + 1, np.uint8)
        for number, name in enumerate(self.names, 1):
            table[labels[name]] = number
        canonical = self.scan.reference.canonical()
        truth = Volume(table[canonical.array], canonical.grid)
        spacing = np.maximum(CLICKING_MM, truth.grid.spacing_mm)
        object.__setattr__(self, "truth", truth)
        object.__setattr__(self, "coarse", resample(truth, truth.grid.with_spacing(spacing), "nearest"))

    def millilitres(self) -> dict[str, float]:
        """Volume of each structure."""
        counts = np.bincount(self.truth.array.ravel(), minlength=len(self.names) + 1)
        return {name: counts[n] * self.truth.grid.voxel_volume_mm3 / 1000 for n, name in enumerate(self.names, 1)}


@dataclass(frozen=True)
class Score:
    """Agreement of a structure's segmentation with the reference.

    Attributes:
        dice: overlap.
        surface_mm: mean of the distances from each surface to the other, both ways.
        hausdorff_mm: their 95th percentile, the worse of both ways.
    """

    dice: float
    surface_mm: float
    hausdorff_mm: float


def run(
    task: Task, method: Method, seed: int, checkpoints: tuple[int, ...], click_radius_mm: float = CLICK_RADIUS_MM
) -> dict[str, dict[str, Score]]:
    """Score strokes on one slice, then strokes on three slices, then these with one corrective click a structure and round.

    Args:
        task: what to segment.
        method: prepared for the task's scan.
        seed: of the annotator.
        checkpoints: numbers of clicks after which to score; the session ends at the largest.
        click_radius_mm: of the ball that a click paints.

    Returns:
        Scores by stage ("1 slice", "3 slices", "1", ... clicks) and structure.
    """
    results: dict[str, dict[str, Score]] = {}
    clickers = {n: Annotator(task.coarse, n, seed, click_radius_mm) for n in range(1, len(task.names) + 1)}
    for stage, slices in zip(STROKED, (1, 3), strict=True):
        prompts = strokes(task, seed, slices)
        answer = method(prompts)
        results[stage] = judge(task, answer)
    for click in range(1, max(checkpoints) + 1):
        found = answer(task.coarse.grid)
        for number, clicker in clickers.items():
            made = clicker.click(found == number)
            if made is not None:
                points, _ = made
                prompts += cb.Prompts(points, task.coarse.nearest_values(points))
        answer = method(prompts)
        if click in checkpoints:
            results[str(click)] = judge(task, answer)
    return results


def strokes(task: Task, seed: int, slices: int) -> cb.Prompts:
    """A stroke in and one around each structure on so many axial slices. Points of a stroke around a structure get the
    reference label: the stroke may pass through another structure."""
    points = [Annotator(task.truth, n, seed).strokes(slices)[0] for n in range(1, len(task.names) + 1)]
    together = np.concatenate(points)
    return cb.Prompts(together, task.truth.nearest_values(together), dict(enumerate(task.names, 1)))


def judge(task: Task, answer: Answer) -> dict[str, Score]:
    """Scores of all structures on the scan's own grid."""
    found = answer(task.truth.grid)
    boxes = ndimage.find_objects(task.truth.array, len(task.names))
    theirs = ndimage.find_objects(found, len(task.names))
    return {name: score(task.truth, found, n, boxes[n - 1], theirs[n - 1]) for n, name in enumerate(task.names, 1)}


def score(truth: Volume, found: NDArray, number: int, box: tuple[slice, ...], other: tuple[slice, ...] | None) -> Score:
    """Dice and distances of one structure in the box that holds both; an empty result has the diagonal of the structure's
    box as its distances."""
    spacing = truth.grid.spacing_mm[::-1]
    if other is None:
        long = float(np.linalg.norm([(s.stop - s.start) * mm for s, mm in zip(box, spacing, strict=True)]))
        return Score(0.0, long, long)
    both = tuple(slice(min(a.start, b.start), max(a.stop, b.stop)) for a, b in zip(box, other, strict=True))
    a, b = truth.array[both] == number, found[both] == number
    overlap = 2.0 * np.count_nonzero(a & b) / (np.count_nonzero(a) + np.count_nonzero(b))
    one, two = (_surface(mask) * spacing for mask in (a, b))
    there, back = cKDTree(two).query(one)[0], cKDTree(one).query(two)[0]
    worst = max(np.percentile(there, 95), np.percentile(back, 95))
    return Score(overlap, float((there.sum() + back.sum()) / (len(there) + len(back))), float(worst))


def _surface(mask: NDArray[np.bool_]) -> NDArray[np.intp]:
    """(N, 3) indices of voxels with a neighbor outside the mask; beyond the image is outside."""
    return np.argwhere(mask & ~ndimage.binary_erosion(mask))


def timed(method: Method) -> tuple[Method, list[float]]:
    """A method that records the seconds of each fit."""
    seconds: list[float] = []

    def wrapped(prompts: cb.Prompts) -> Answer:
        start = time.perf_counter()
        answer = method(prompts)
        seconds.append(time.perf_counter() - start)
        return answer

    return wrapped, seconds
