"""Sessions of one structure that begin with a click or a box and go on with clicks at the largest error."""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

import CoralBayLib as cb
from CoralBayLib.core.errors import PromptError
from CoralBayLib.demo.annotator import dice
from CoralBayLib.fewshot.constraints.boxes import outside_of
from CoralBayLib.imaging.grid import Grid, Volume

from .peers import PatientGrid
from .protocol import Answer, Method, Task

JITTER_MM = 3.0
"""A click falls within this distance of the middle of an error."""
BALL_MM = 4.0
"""Radius of the ball that a peer gets for a click."""
TOLERANCE_MM = 2.0
"""Distance up to which a surface counts as found in the normalized surface Dice."""
PROTOCOLS = {"clicks": 15, "box": 5}
"""By protocol its number of clicks; "box" begins with a box."""
RIM_MM = 10.0
"""Spacing of a peer's background points on the rim of the patient, and their least distance from a click in the structure."""


@dataclass(frozen=True, eq=False)
class Given:
    """What a method is told.

    Attributes:
        points: one point for each click, in the order of the clicks, and the box.
        balls: a ball of points for each click, in the same order.
    """

    points: cb.Prompts
    balls: cb.Prompts


class Clicked(Protocol):
    """A segmentation method, prepared for one scan."""

    def __call__(self, given: Given) -> tuple[Answer, float | None]:
        """Take everything that was said so far; the result, and the method's estimate of its Dice if it has one."""
        ...


class OursClicked:
    """CoralBay's preview, as the module shows it after each click."""

    def __init__(self, volume: Volume, encoder: str) -> None:
        self.pyramid = cb.embed(volume, cb.load_encoder(encoder, device="cpu"), store=cb.Store())

    def __call__(self, given: Given) -> tuple[Answer, float | None]:
        """Fit, and compute the preview."""
        return shown_of(cb.Segmenter(self.pyramid).fit(given.points), 1)


def shown_of(segmenter: cb.Segmenter, label: int) -> tuple[Answer, float | None]:
    """What the module shows of a structure: the answer, 1 in the structure, and the estimate of its Dice."""
    estimate = segmenter.preview().dice_estimate.get(label)

    def answer(grid: Grid) -> NDArray[np.uint8]:
        return (segmenter.labelmap(grid).array == label).astype(np.uint8)

    return answer, None if estimate is None else float(estimate[0])


class PeerClicked:
    """A method that knows strokes only.

    It gets a ball for each click. It needs background from the start: without a box, points on the rim of the patient count as
    background. Of a box it gets the points that CoralBay takes in place of it, those in its middle as the structure and those
    2.5 to 5.5 mm outside of its faces as background; its result is cut to the box and 2 mm around it, as CoralBay's is.
    DECISIONS.md says what else was tried.
    """

    def __init__(self, volume: Volume, make: Callable[[Volume], Method]) -> None:
        self.method = make(volume)
        working: PatientGrid = self.method.working  # type: ignore[attr-defined]
        self.body = Volume(working.body, working.grid)
        self.rim = rim(self.body)

    def __call__(self, given: Given) -> tuple[Answer, float | None]:
        """Segment as from strokes."""
        boxes, told = given.points.boxes, given.balls
        if boxes:
            told = cb.Prompts(told.points_ras, told.labels, boxes=boxes).with_points_of_boxes(self.body)
        else:
            inside = told.points_ras[told.labels > 0]
            away = cKDTree(inside).query(self.rim)[0] >= RIM_MM
            told = cb.Prompts(self.rim[away], np.zeros(away.sum(), int)) + told
        answer = self.method(told)

        def bounded(grid: Grid) -> NDArray:
            found = answer(grid)
            return np.where(outside_of(boxes, grid), 0, found) if boxes else found

        return bounded, None


def rim(body: Volume) -> NDArray[np.float64]:
    """(N, 3) RAS mm: points of the patient on the faces of a grid and on the patient's own surface, `RIM_MM` apart."""
    on = np.argwhere((body.array > 0) & ~ndimage.binary_erosion(body.array > 0))
    points = body.grid.to_ras(on[:, ::-1])
    _, first = np.unique(np.floor(points / RIM_MM), axis=0, return_index=True)
    return points[np.sort(first)]


@dataclass(frozen=True, eq=False)
class Error:
    """A connected error of a segmentation.

    Attributes:
        mask: [k, j, i] its voxels.
        missing: whether they belong to the structure (else they were found where it is not).
        middle: (3,) indices (k, j, i) of the voxel farthest from the border of the error.
    """

    mask: NDArray[np.bool_]
    missing: bool
    middle: NDArray[np.intp]

    def around(self, grid: Grid, center: NDArray[np.intp], radius_mm: float) -> NDArray[np.intp]:
        """(N, 3) indices of the error's voxels within a radius of a voxel, which is one of them."""
        voxels = np.argwhere(self.mask)
        near = np.linalg.norm((voxels - center) * grid.spacing_mm[::-1], axis=1) <= radius_mm + 1e-6
        return voxels[near]


def largest_error(truth: NDArray[np.bool_], found: NDArray[np.bool_], grid: Grid) -> Error | None:
    """The largest connected component of what is missing and of what is wrong; None if there is no error."""
    best: tuple[int, NDArray[np.bool_], bool] | None = None
    for wrong, missing in ((truth & ~found, True), (found & ~truth, False)):
        components, count = ndimage.label(wrong)
        if count:
            sizes = np.bincount(components.ravel())[1:]
            if best is None or sizes.max() > best[0]:
                best = int(sizes.max()), components == sizes.argmax() + 1, missing
    if best is None:
        return None
    _, mask, missing = best
    part = ndimage.find_objects(mask.astype(np.uint8))[0]
    # The edge of the image is an edge of the error, too.
    depth = ndimage.distance_transform_edt(np.pad(mask[part], 1), sampling=grid.spacing_mm[::-1])[1:-1, 1:-1, 1:-1]
    middle = np.array(np.unravel_index(depth.argmax(), depth.shape)) + [side.start for side in part]
    return Error(mask, missing, middle)


def tight_box(truth: Volume, label: int = 1) -> cb.Box:
    """The smallest box, with axes along R, A and S, that holds all voxels of a label."""
    points = truth.grid.to_ras(np.argwhere(truth.array == label)[:, ::-1])
    half = np.abs(truth.grid.ijk_to_ras[:3, :3]).sum(axis=1) / 2
    low, high = points.min(axis=0) - half, points.max(axis=0) + half
    return cb.Box((low + high) / 2, np.eye(3), high - low, label)


def surface_dice(truth: NDArray[np.bool_], found: NDArray[np.bool_], grid: Grid) -> float:
    """Normalized surface Dice (Nikolov and others 2018): the share of both surfaces within `TOLERANCE_MM` of the other."""
    if not truth.any() or not found.any():
        return float(truth.any() == found.any())
    from monai.metrics import compute_surface_dice

    part = ndimage.find_objects((truth | found).astype(np.uint8))[0]
    one, two = (torch.from_numpy(np.pad(mask[part], 1).astype(np.uint8))[None, None] for mask in (found, truth))
    spacing = tuple(float(mm) for mm in grid.spacing_mm[::-1])
    with warnings.catch_warnings():
        # MONAI calls its own functions with an argument that it has deprecated.
        warnings.simplefilter("ignore", FutureWarning)
        value = compute_surface_dice(one, two, [TOLERANCE_MM], include_background=True, spacing=spacing, use_subvoxels=True)
    return float(value)


def run(
    task: Task, method: Clicked, protocol: str, seed: int, clicks: int, jitter_mm: float, answers_first: bool = False
) -> dict:
    """One session of a task's only structure.

    Args:
        task: the structure.
        method: prepared for the task's scan.
        protocol: of `PROTOCOLS`.
        seed: of the clicks.
        clicks: how many.
        jitter_mm: see `JITTER_MM`.
        answers_first: whether the method has an answer before it is told anything; such a session begins with that answer.

    Returns:
        "dice" on the clicking grid, for "box" also "nsd", each first after the box and then after each click; "estimate", the
        method's own of its Dice, or None; "signs" of the clicks, "+" in the structure and "-" outside; "seconds" of an update,
        median and worst, without resampling the result to the grid of the scores. Where no error is left the session ends, and
        the last values are repeated.
    """
    truth, grid = task.coarse.array == 1, task.coarse.grid
    label = next(number for number, name in task.scan.names.items() if name == task.names[0])
    random = np.random.default_rng([seed, label])
    results: dict[str, list] = {"dice": [], "nsd": [], "estimate": []}
    seconds, signs, refused = [], "", 0
    boxes = (tight_box(task.truth),) if protocol == "box" else ()
    given = Given(cb.Prompts(np.empty((0, 3)), [], {1: task.names[0]}, boxes), cb.Prompts.none())
    found = np.zeros(grid.shape, bool)

    def update() -> None:
        nonlocal found, refused
        begin = time.perf_counter()
        try:
            answer, estimate = method(given)
        except PromptError:
            refused += 1
            found, estimate = np.zeros(grid.shape, bool), None
        else:
            seconds.append(time.perf_counter() - begin)
            found = answer(grid) == 1
        results["dice"].append(round(dice(found, truth), 4))
        results["estimate"].append(None if estimate is None else round(estimate, 4))
        if boxes:
            results["nsd"].append(round(surface_dice(truth, found, grid), 4))

    begins = bool(boxes) or answers_first
    if begins:
        update()
    for _ in range(clicks):
        error = largest_error(truth, found, grid)
        if error is None:
            break
        near = error.around(grid, error.middle, jitter_mm)
        clicked = near[random.integers(len(near))]
        ball = error.around(grid, clicked, BALL_MM)
        sign = int(error.missing)
        given = Given(
            given.points + cb.Prompts(grid.to_ras(clicked[::-1]), [sign]),
            given.balls + cb.Prompts(grid.to_ras(ball[:, ::-1]), np.full(len(ball), sign)),
        )
        signs += "-+"[sign]
        update()
    length = clicks + begins
    for values in results.values():
        values += values[-1:] * (length - len(values))
    if not boxes:
        del results["nsd"]
    taken = [round(statistics.median(seconds), 3), round(max(seconds), 3)] if seconds else []
    return results | {"signs": signs, "refused": refused, "seconds": taken}
