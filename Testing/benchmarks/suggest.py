"""Suggested clicks: how many a good segmentation takes, and how well probabilities and the estimated Dice are calibrated.

Sessions begin with strokes on one slice of each structure. In each round one click is asked for each structure, at a
location chosen by one of several ways; the annotator answers with the structure that lies there. Dice is measured on the
2 mm grid. A session is a line in a file, so that a stopped benchmark continues; only lines of the version in `versions` count.

Usage: python -m Testing.benchmarks.suggest [--scans FOLDER...] [--no-sample] [--ways NAME...] [--seeds N...] [--rounds N]
       [--output FOLDER] [--tables [FOLDER]]
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

import CoralBayLib as cb
from CoralBayLib.core.errors import PromptError
from CoralBayLib.demo.annotator import Annotator, simulate_answer
from CoralBayLib.features.pyramid import FeaturePyramid
from CoralBayLib.fewshot.labeling import empty_labels, predict_labels, update_argmax
from CoralBayLib.fewshot.uncertainty import dice_from_probabilities, suggest_click
from CoralBayLib.imaging.resampling import resample

from .encoders import read_scan
from .protocol import Task, strokes
from .quality import read, sample, tasks
from .tables import summary
from .tables.sections import add_tables_option
from .tables.suggest import EDGES, write_tables
from .versions import SUGGEST

AROUND_MM = 20.0
"""Margin in mm around the box of a structure's prompts in which random clicks lie."""
FILE = "next-click.md"


@dataclass(frozen=True, eq=False)
class State:
    """The state of a session when a click is chosen.

    Attributes:
        pyramid, task, prompts: the session's.
        percents: probability of each structure in percent, as in a preview.
        found: labels on the task's coarse grid.
        random: of the session.
        clickers: annotators that know the errors.
    """

    pyramid: FeaturePyramid
    task: Task
    prompts: cb.Prompts
    percents: dict[int, NDArray[np.uint8]]
    found: NDArray
    random: np.random.Generator
    clickers: dict[int, Annotator]


def each(choose: Callable[[State, int], NDArray | None]) -> Callable[[State], Iterator[cb.Prompts]]:
    """A way that chooses a location for each structure, or none."""

    def way(state: State) -> Iterator[cb.Prompts]:
        for label in state.percents:
            place = choose(state, label)
            if place is not None:
                yield cb.Prompts(*simulate_answer(state.task.coarse, place))

    return way


def at_random(state: State, label: int) -> NDArray:
    """A random voxel of the body near the structure's prompts."""
    own = state.prompts.points_ras[state.prompts.labels == label]
    grid, body = state.pyramid.grid, state.pyramid.body.array
    ijk = grid.to_ijk(own)
    low = np.maximum(np.floor(ijk.min(axis=0) - AROUND_MM / grid.spacing_mm), 0).astype(int)[::-1]
    high = np.ceil(ijk.max(axis=0) + AROUND_MM / grid.spacing_mm).astype(int)[::-1] + 1
    inside = np.argwhere(body[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]) + low
    return grid.to_ras(inside[state.random.integers(len(inside))][None, ::-1])[0]


def smoothed_doubt(state: State, label: int) -> NDArray | None:
    """The largest uncertainty, smoothed over 6 mm, at least 10 mm from all prompts; an earlier rule of the module."""
    one, grid = state.percents[label] / np.float32(100), state.pyramid.grid
    doubt = ndimage.gaussian_filter(np.minimum(one, 1 - one), 6.0 / grid.spacing_mm[::-1], mode="constant", truncate=2.0)
    free = np.ones(grid.shape, bool)
    free[tuple(grid.nearest_ijk(state.prompts.points_ras)[:, ::-1].T)] = False
    doubt[ndimage.distance_transform_edt(free, sampling=grid.spacing_mm[::-1]) < 10.0] = 0
    kji = np.unravel_index(doubt.argmax(), doubt.shape)
    return grid.to_ras(np.array(kji)[None, ::-1])[0] if doubt.max() > 0 else None


def suggested(state: State, label: int) -> NDArray | None:
    """The suggestion for the structure."""
    try:
        return suggest_click({label: state.percents[label]}, state.pyramid.grid, state.prompts.points_ras).ras
    except PromptError:
        return None


def at_largest_error(state: State) -> Iterator[cb.Prompts]:
    """A click in each structure's largest error; a person would have to search all slices for it."""
    for label, clicker in state.clickers.items():
        made = clicker.click(state.found == label)
        if made is not None:
            yield cb.Prompts(made[0], state.task.coarse.nearest_values(made[0]))


WAYS: dict[str, Callable[[State], Iterator[cb.Prompts]]] = {
    "at random": each(at_random),
    "largest smoothed doubt": each(smoothed_doubt),
    "suggested": each(suggested),
    "largest error": at_largest_error,
}


class Known(cb.Probe):
    """A probe whose log-odds on its scan are given."""

    def __init__(self, probe: cb.Probe, values: torch.Tensor) -> None:
        vars(self).update(vars(probe))
        self._values = values

    def logits(self, pyramid: FeaturePyramid, structures=None, anywhere: bool = False) -> torch.Tensor:  # type: ignore[no-untyped-def]
        """Those of some structures."""
        return self._values[[self.labels_.index(label) for label in structures]].clone()


def play(task: Task, pyramid: FeaturePyramid, way: Callable[[State], Iterator[cb.Prompts]], seed: int, rounds: int) -> dict:
    """One session: Dice and estimated Dice by round and structure, and histograms of log-odds outside and inside."""
    prompts, count = strokes(task, seed, 1), len(task.names)
    truth = resample(task.truth, pyramid.grid, "nearest").array
    outside = torch.from_numpy(pyramid.body.array == 0)
    clickers = {n: Annotator(task.coarse, n, seed) for n in range(1, count + 1)}
    random = np.random.default_rng([seed, 7])
    scores, expectations = [], []
    odds = np.zeros((2, 2, len(EDGES) - 1), int)
    for number in range(rounds + 1):
        probe = cb.Probe().fit(pyramid, prompts)
        values = probe.logits(pyramid)
        rows = {label: row for row, label in enumerate(probe.labels_)}
        found = predict_labels(
            lambda label, values=values, rows=rows: values[rows[label]].clone(),
            {label: probe.names_[label] for label in probe.labels_},
            pyramid.body,
            task.coarse.grid,
            seeds=probe.seeds(prompts),
        ).array
        scores.append([overlap(found, task.coarse.array, n) for n in range(1, count + 1)])
        values.masked_fill_(outside, -np.inf)
        given, best = empty_labels(pyramid.grid.shape, probe.labels_), np.zeros(pyramid.grid.shape, np.float32)
        for label, one in zip(probe.labels_, values.numpy(), strict=True):
            update_argmax(given, best, one, label)
            near = np.abs(one) < EDGES[-1]
            for right in (0, 1):
                odds[int(number > 0), right] += np.histogram(one[near & ((truth == label) == right)], EDGES)[0]
        probability = values.sigmoid_().numpy()
        totals = {label: float(one.sum()) for label, one in zip(probe.labels_, probability, strict=True)}
        expectations.append([dice_from_probabilities(given, best, totals)[n][0] for n in range(1, count + 1)])
        if number < rounds:
            percents = {n: (100 * one).astype(np.uint8) for n, one in zip(probe.labels_, probability, strict=True)}
            state = State(pyramid, task, prompts, percents, found, random, clickers)
            for more in way(state):
                prompts += more
    return {"dice": np.round(scores, 4).tolist(), "expected": np.round(expectations, 4).tolist(), "odds": odds.tolist()}


def overlap(found: NDArray, truth: NDArray, number: int) -> float:
    """Dice of one structure."""
    a, b = found == number, truth == number
    return 2.0 * np.count_nonzero(a & b) / (np.count_nonzero(a) + np.count_nonzero(b))


def time_suggestion(task: Task, pyramid: FeaturePyramid) -> list[float]:
    """Processor seconds of suggestions over all structures after strokes on one slice, the smallest of three, and for one."""
    prompts = strokes(task, 0, 1)
    values = cb.Probe().fit(pyramid, prompts).logits(pyramid).masked_fill_(torch.from_numpy(pyramid.body.array == 0), -np.inf)
    percents = {n: (100 * one.sigmoid()).byte().numpy() for n, one in enumerate(values, 1)}
    taken = []
    for some in (percents, {1: percents[1]}):
        runs = []
        for _ in range(3):
            begin = time.process_time()
            suggest_click(some, pyramid.grid, prompts.points_ras)
            runs.append(time.process_time() - begin)
        taken.append(round(min(runs), 3))
    return taken


def main() -> None:
    """Run the sessions that are missing, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scans", type=Path, nargs="*", default=[], help="folders with ct, labels and their names")
    parser.add_argument("--no-sample", action="store_true")
    parser.add_argument("--ways", nargs="*", choices=WAYS, default=list(WAYS))
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--output", type=Path, default=Path("output/suggest"))
    add_tables_option(parser)
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    file = args.output / "results.jsonl"
    for scan in [*(read_scan(folder) for folder in args.scans), *([] if args.no_sample else [sample()])]:
        task = next(tasks(scan, [], False))
        pyramid = cb.embed(scan.volume, cb.load_encoder("coralbay-mini", device="cpu"), store=cb.Store())
        for seed in args.seeds:
            for way in args.ways:
                about = {"scan": scan.name, "way": way, "seed": seed, "rounds": args.rounds, "results_version": SUGGEST}
                if any(about.items() <= line.items() for line in read(file)):
                    continue
                line = about | play(task, pyramid, WAYS[way], seed, args.rounds)
                line["seconds"] = time_suggestion(task, pyramid) if way == "suggested" else []
                with file.open("a", encoding="utf-8") as out:
                    out.write(json.dumps(line) + "\n")
                print(scan.name, way, seed, np.mean(line["dice"], axis=1).round(3).tolist(), flush=True)
    lines = [line for line in read(file) if line["results_version"] == SUGGEST]
    print(write_tables(lines, list(WAYS), args.tables and args.tables / FILE))
    if args.tables:
        summary.renew(args.tables)


if __name__ == "__main__":
    main()
