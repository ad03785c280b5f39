"""Simulated sessions of clicks on labelled scans, and the samples that they give."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from CoralBayLib.demo.annotator import dice
from CoralBayLib.features.pyramid import FeaturePyramid
from CoralBayLib.fewshot.clicks import inputs, level_sets
from CoralBayLib.fewshot.clicks.evaluation import Evaluated
from CoralBayLib.fewshot.clicks.inputs import ClickScan, Region
from CoralBayLib.fewshot.clicks.networks import ClickNetworks, Perceptron
from CoralBayLib.fewshot.clicks.session import ClickSession
from CoralBayLib.imaging.cropping import bounding_box
from CoralBayLib.imaging.grid import Grid
from CoralBayLib.imaging.resampling import resample
from Testing.benchmarks.click_sessions import largest_error
from Testing.benchmarks.encoders import Labelled

from .samples import Samples, dice_of_levels, sample_voxels

JITTER_MM = 4.0
"""Clicks fall within this distance of the middle of an error; a little farther than in the benchmark."""
LEAST_ML, MOST_ML = 0.5, 5000.0
"""Volumes of structures that are clicked."""
PATH_WEIGHT = 8.0
"""Of the distance in the log-odds of round 0, beside appearance."""
FAR_PATH = 8.0
"""In round 0 clicks outside of the structure that are farther than this do not count."""
_EXPECTED = level_sets.NAMES.index("expected_dice")


def starting_network() -> Perceptron:
    """The log-odds of round 0: appearance + 8 (min(log_geodesic_other, log 8.5) - log_geodesic_own).

    Five rectified units give it exactly: x = relu(x) - relu(-x) and min(x, c) = c - relu(c - x).
    """
    limit = float(np.log(FAR_PATH + 0.5))
    units = [("appearance", 1, 0.0), ("appearance", -1, 0.0), ("log_geodesic_own", 1, 0.0), ("log_geodesic_own", -1, 0.0)]
    units.append(("log_geodesic_other", -1, limit))
    weight, bias = torch.zeros(len(units), len(inputs.NAMES)), torch.zeros(len(units), 1)
    for row, (name, factor, offset) in enumerate(units):
        weight[row, inputs.NAMES.index(name)] = factor
        bias[row] = offset
    last = torch.tensor([[1.0, -1.0, -PATH_WEIGHT, PATH_WEIGHT, -PATH_WEIGHT]])
    return Perceptron(((weight, bias), (last, torch.tensor([[PATH_WEIGHT * limit]]))))


class RecordedSession(ClickSession):
    """A session that keeps what the last click made it compute.

    Attributes:
        evaluated: regions on which the voxel network was evaluated, and its inputs (inputs, voxels) there.
        described: by kind of region the descriptions of its levels.
        fields: by kind of region the levels of the voxels of `region`.
    """

    def propose(self, ras: ArrayLike, own: bool) -> dict[str, NDArray[np.float32]]:
        """As the base class."""
        self.evaluated: list[tuple[Region, NDArray[np.float32]]] = []
        self.described = super().propose(ras, own)
        self.fields = dict(self._fields)
        return self.described

    def evaluate(self, region: Region) -> Evaluated:
        """As the base class."""
        found = super().evaluate(region)
        self.evaluated.append((region, found.inputs.numpy()))
        return found


def structures_of(truth: NDArray, names: dict[int, str], grid: Grid, most: int) -> list[int]:
    """Labels to click on: those of a suitable volume, or as many of them as asked, small to large."""
    counts = np.bincount(truth.ravel(), minlength=max(names) + 1) * grid.voxel_volume_mm3 / 1000
    fit = sorted((label for label in names if LEAST_ML <= counts[label] <= MOST_ML), key=lambda label: (counts[label], label))
    return [fit[n] for n in np.unique(np.linspace(0, len(fit) - 1, min(most, len(fit))).round().astype(int))]


def collect(
    scan: Labelled,
    pyramid: FeaturePyramid,
    networks: ClickNetworks,
    *,
    clicks: int,
    most: int,
    noise: float,
    seed: tuple[int, ...],
) -> Samples:
    """Samples of one session with each structure of a scan.

    Args:
        scan: with the reference.
        pyramid: its features.
        networks: that answer; without region networks the region whose voxels expect the largest Dice is taken.
        clicks: of a session.
        most: structures.
        noise: standard deviation of what is added to the expected Dice of regions, so that choices vary.
        seed: of clicks, noise and samples; those of a structure do not depend on the other structures.
    """
    truth = resample(scan.reference, pyramid.grid, "nearest").array
    shared, parts = ClickScan(pyramid), []
    for label in structures_of(truth, scan.names, pyramid.grid, most):
        random = np.random.default_rng([*seed, label])
        session = RecordedSession(pyramid, shared, networks)
        parts.append(_samples_of(session, truth == label, clicks, ranking(networks, noise, random), random))
    return Samples.joined(parts)


def ranking(
    networks: ClickNetworks, noise: float, random: np.random.Generator
) -> Callable[[NDArray[np.float32]], NDArray[np.float64]]:
    """A function that gives the expected Dice of described regions, with noise."""

    def rank(rows: NDArray[np.float32]) -> NDArray[np.float64]:
        expected = networks.expected_dice(torch.from_numpy(rows)).numpy() if networks.regions else rows[:, _EXPECTED]
        return expected + random.normal(0, noise, len(rows))

    return rank


def _samples_of(
    session: RecordedSession, truth: NDArray[np.bool_], clicks: int, rank: Callable, random: np.random.Generator
) -> Samples:
    """One session, which ends early where no error is left."""
    grid, body = session.pyramid.grid, session.scan.body
    structure = truth, int(np.count_nonzero(truth))
    found, parts = np.zeros_like(truth), []
    for number in range(1, clicks + 1):
        click = _next_click(truth, found, grid, random)
        if click is None:
            break
        session.add(*click, rank)
        assert session.region is not None
        voxels = [
            sample_voxels(region, values, structure, found, body, region.spacing_mm(grid), random)
            for region, values in session.evaluated
        ]
        levels = [dice_of_levels(field, session.region, structure) for field in session.fields.values()]
        found = session.mask
        scores = np.array([[number, dice(found, truth), np.max(levels)]], np.float32)
        regions = np.concatenate(list(session.described.values())), np.concatenate(levels)
        parts.append(Samples(*(np.concatenate(each) for each in zip(*voxels, strict=True)), *regions, scores))
    return Samples.joined(parts)


def _next_click(
    truth: NDArray[np.bool_], found: NDArray[np.bool_], grid: Grid, random: np.random.Generator
) -> tuple[NDArray[np.float64], bool] | None:
    """RAS mm of a click in the largest error, and whether it is on the structure; None if there is no error."""
    box = bounding_box(truth | found)
    assert box is not None
    part = grid.subgrid([side.start for side in box[::-1]], 1, truth[box].shape)
    error = largest_error(truth[box], found[box], part)
    if error is None:
        return None
    near = error.around(part, error.middle, JITTER_MM)
    return part.to_ras(near[random.integers(len(near))][::-1]), error.missing
