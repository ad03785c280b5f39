"""A probe fitted on one patient and applied to another: without prompts, and after corrective clicks.

The sample chest CT is paired, in both directions, with each labelled scan that is given (see `encoders`). Structures are those
of the same name; if there are fewer than six, ribs, lungs and the parts of the spine. Each run is a line in a file of results,
so that a stopped benchmark continues.

Usage: python -m Testing.benchmarks.transfer --scans FOLDER... [--encoders NAME...] [--methods NAME...] [--seeds N]
       [--structures N] [--sources NAME...] [--results FILE] [--tables [FOLDER]] [--verify N]
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import CoralBayLib as cb
from CoralBayLib.demo.annotator import Annotator, dice
from CoralBayLib.encoders.coralbay_mini import CoralBayMiniEncoder
from CoralBayLib.features.pyramid import FeaturePyramid
from CoralBayLib.imaging.grid import Volume

from .encoders import Labelled, read_scan, untrained
from .peers import Forest, _answer
from .protocol import Answer, Task, strokes
from .quality import read, sample
from .tables import summary
from .tables.sections import MEASURED, add_tables_option
from .tables.transfer import ROUNDS, write_tables
from .verify import add_options, verify
from .versions import TRANSFER

ABSENT = ("heart", "clavicula_left", "thyroid_gland", "trachea")
LEAST_ML, FEWEST = 2.0, 6
FILE = "transfer.md"
ENCODERS: dict[str, Callable[[], cb.encoders.base.Encoder]] = {
    "coralbay-mini": lambda: cb.load_encoder("coralbay-mini", device="cpu"),
    "astra": lambda: cb.load_encoder("astra", device="cpu"),
    "untrained": lambda: untrained(24, CoralBayMiniEncoder, "whole"),
}
METHODS = ("adapted", "as it is", "from nothing", "forest")


@dataclass(frozen=True, eq=False)
class Pair:
    """Two scans; the probe is fitted on the first.

    Attributes:
        shared, absent: structures in both scans, and structures in the first alone.
    """

    first: Labelled
    second: Labelled
    shared: tuple[str, ...]
    absent: tuple[str, ...]

    @cached_property
    def there(self) -> Task:
        """The shared structures in the second scan."""
        return Task(self.second, self.shared)

    @cached_property
    def here(self) -> Task:
        """All structures in the first."""
        return Task(self.first, self.shared + self.absent)


def pairs(one: Labelled, other: Labelled, most: int) -> Iterator[Pair]:
    """The pair in both directions."""
    exact = [name for name, ml in millilitres(one).items() if min(ml, millilitres(other).get(name, 0)) >= LEAST_ML]
    if len(exact) < FEWEST:
        one, other = grouped(one), grouped(other)
    for first, second in ((one, other), (other, one)):
        sizes, theirs = millilitres(first), millilitres(second)
        both = sorted((n for n in sizes if min(sizes[n], theirs.get(n, 0)) >= LEAST_ML), key=lambda n: theirs[n])
        chosen = np.unique(np.linspace(0, len(both) - 1, min(most, len(both))).round().astype(int))
        absent = [name for name in ABSENT if sizes.get(name, 0) >= LEAST_ML and not theirs.get(name)]
        yield Pair(first, second, tuple(both[n] for n in chosen), tuple(absent))


def millilitres(scan: Labelled) -> dict[str, float]:
    """Volume of each structure."""
    counts = np.bincount(scan.reference.array.ravel(), minlength=max(scan.names) + 1)
    return {name: float(counts[label] * scan.reference.grid.voxel_volume_mm3 / 1000) for label, name in scan.names.items()}


def grouped(scan: Labelled) -> Labelled:
    """The scan with ribs, each lung and each part of the spine as one structure."""
    groups = ("ribs", "cervical spine", "thoracic spine", "lumbar spine", "left lung", "right lung")
    lut = np.zeros(int(scan.reference.array.max()) + 1, np.uint8)
    for label, name in scan.names.items():
        if label < len(lut) and (group := group_of(name)):
            lut[label] = 1 + groups.index(group)
    reference = Volume(lut[scan.reference.array], scan.reference.grid)
    return Labelled(scan.name, scan.volume, reference, dict(enumerate(groups, 1)))


def group_of(name: str) -> str:
    """The group of a structure, by TotalSegmentator's name or a plain one; "" for none."""
    if name.startswith("rib"):
        return "ribs"
    if "lung" in name:
        return "left lung" if "left" in name else "right lung"
    for letter, part in (("C", "cervical"), ("T", "thoracic"), ("L", "lumbar")):
        if name.startswith((f"vertebrae_{letter}", part)):
            return f"{part} spine"
    return ""


def marked(pair: Pair, pyramid: FeaturePyramid, seed: int, source: str, clicks: int = 8) -> cb.Prompts:
    """Prompts on the first scan."""
    task = pair.here
    if source == "labels":
        random, points = np.random.default_rng(seed), []
        for number in range(1, len(task.names) + 1):
            kji = np.argwhere(task.truth.array == number)
            points.append(task.truth.grid.to_ras(kji[random.choice(len(kji), min(300, len(kji)), replace=False), ::-1]))
        together = np.concatenate(points)
        return cb.Prompts(together, task.truth.nearest_values(together), dict(enumerate(task.names, 1)))
    prompts = strokes(task, seed, 3)
    annotators = {n: Annotator(task.coarse, n, seed) for n in range(1, len(task.names) + 1)}
    for _ in range(clicks):
        found = cb.Segmenter(pyramid).fit(prompts).labelmap(task.coarse.grid).array
        prompts += corrections(task, annotators, found)
    return prompts


def corrections(task: Task, annotators: dict[int, Annotator], found: NDArray) -> cb.Prompts:
    """One click a structure."""
    made = [click[0] for n, each in annotators.items() if (click := each.click(found == n)) is not None]
    points = np.concatenate([np.empty((0, 3)), *made])
    return cb.Prompts(points, task.coarse.nearest_values(points), dict(enumerate(task.names, 1)))


class _Carried:
    """A forest fitted on one scan and applied to another; filters and position mean the same in both."""

    def __init__(self, pair: Pair, prompts: cb.Prompts) -> None:
        here = Forest(pair.first.volume)
        voxels, labels = here.working.index(prompts)
        random = np.random.default_rng(0)
        # As in our probe, voxels drawn from the body stand for the background.
        weak = random.choice(here.inside, 1000, replace=False)
        self._features = np.concatenate([here.features[voxels], here.features[weak]])
        self._labels = np.concatenate([labels, np.zeros(len(weak), labels.dtype)])
        self._there = Forest(pair.second.volume)

    def __call__(self, told: cb.Prompts) -> Answer:
        there = self._there
        voxels, labels = there.working.index(told) if len(told) else (np.zeros(0, int), np.zeros(0, np.int64))
        features = np.concatenate([self._features, there.features[voxels]])
        model = there.fitted(features, np.concatenate([self._labels, labels]))
        probability = model.predict_proba(there.features[there.inside]).astype(np.float32)
        order = np.sort(probability, axis=1)[:, -2:]
        margins = {}
        for column, label in enumerate(model.classes_):
            if label:
                own = probability[:, column]
                margin = np.full(there.working.grid.shape, -1.0, np.float32)
                margin.ravel()[there.inside] = own - np.where(own == order[:, 1], order[:, 0], order[:, 1])
                margins[int(label)] = margin
        return _answer(margins, there.working.grid)


def method(name: str, pair: Pair, first: FeaturePyramid, second: FeaturePyramid, prompts: cb.Prompts) -> Callable:
    """The method as a function from prompts on the second scan to its answer."""
    if name == "forest":
        return _Carried(pair, prompts)
    given = cb.Probe().fit(first, prompts)

    def answer(told: cb.Prompts) -> Answer:
        if name == "from nothing" and not told.structures:
            return lambda grid: np.zeros(grid.shape, np.uint8)
        if name == "as it is":
            return lambda grid: given.predict_labels(second, grid).array
        segmenter = cb.Segmenter(second, given if name == "adapted" else None).fit(told)
        return lambda grid: segmenter.labelmap(grid).array

    return answer


def measure(pair: Pair, answer: Callable, seed: int, rounds: tuple[int, ...]) -> dict:
    """Dice by number of clicks and structure; milliliters labelled as structures that are absent."""
    task, told = pair.there, cb.Prompts(np.empty((0, 3)), [], dict(enumerate(pair.here.names, 1)))
    annotators = {n: Annotator(task.coarse, n, seed) for n in range(1, len(task.names) + 1)}
    scores: dict[str, dict[str, float]] = {}
    false_ml = 0.0
    for clicks in range(max(rounds) + 1):
        found = answer(told)(task.coarse.grid)
        if clicks in rounds:
            scores[str(clicks)] = {
                name: round(dice(found == n, task.coarse.array == n), 4) for n, name in enumerate(task.names, 1)
            }
        if not clicks:
            false_ml = float((found > len(task.names)).sum() * task.coarse.grid.voxel_volume_mm3 / 1000)
        told += corrections(task, annotators, found)
    return {"dice": scores, "false_ml": round(false_ml, 1)}


def main() -> None:
    """Run the sessions that are missing, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scans", type=Path, nargs="+", required=True)
    parser.add_argument("--encoders", nargs="*", choices=ENCODERS, default=list(ENCODERS))
    parser.add_argument("--methods", nargs="*", choices=METHODS, default=list(METHODS))
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--structures", type=int, default=12, help="at most so many shared structures, evenly spread in size")
    parser.add_argument("--sources", nargs="*", choices=["strokes", "labels"], default=["strokes", "labels"])
    parser.add_argument("--results", type=Path, default=MEASURED / "transfer.jsonl", help="the file of results")
    add_options(parser)
    add_tables_option(parser)
    args = parser.parse_args()
    args.results.parent.mkdir(parents=True, exist_ok=True)
    file = args.results
    done = read(file)
    if args.verify:
        sys.exit(0 if check(done, args) else 1)
    both = [pair for folder in args.scans for pair in pairs(sample(), read_scan(folder), args.structures)]
    for encoder in args.encoders:
        made = ENCODERS[encoder]()
        for pair in both:
            first, second = (cb.embed(scan.volume, made, store=cb.Store()) for scan in (pair.first, pair.second))
            for source in args.sources:
                for seed in args.seeds:
                    prompts: cb.Prompts | None = None
                    for name in args.methods:
                        about = {"first": pair.first.name, "second": pair.second.name, "source": source, "seed": seed}
                        about |= {"encoder": encoder, "method": name, "structures": args.structures}
                        about |= {"results_version": TRANSFER[name]}
                        # A forest has no encoder, and a new probe uses nothing of the first scan.
                        about |= {"encoder": "-"} if name == "forest" else {}
                        about |= {"source": "-"} if name == "from nothing" else {}
                        if any(about.items() <= line.items() for line in done):
                            continue
                        prompts = prompts or marked(pair, first, seed, source)
                        rounds = (0,) if name == "as it is" else ROUNDS
                        answer = method(name, pair, first, second, prompts)
                        line = about | {"absent": list(pair.absent)} | measure(pair, answer, seed, rounds)
                        done.append(line)
                        with file.open("a", encoding="utf-8") as out:
                            out.write(json.dumps(line) + "\n")
                        means = ", ".join(f"+{n} {np.mean(list(by.values())):.3f}" for n, by in line["dice"].items())
                        print(*about.values(), means, line["false_ml"], flush=True)
    print(write_tables(read(file), TRANSFER, args.tables and args.tables / FILE))
    if args.tables:
        summary.renew(args.tables)


def check(lines: list[dict], args: argparse.Namespace) -> bool:
    """Run stored sessions of the scans, methods and encoders again; whether all gave the same scores."""

    @lru_cache(maxsize=1)
    def both(structures: int) -> dict[tuple[str, str], Pair]:
        found = [pair for folder in args.scans for pair in pairs(sample(), read_scan(folder), structures)]
        return {(pair.first.name, pair.second.name): pair for pair in found}

    @lru_cache(maxsize=2)
    def pyramid(scan: Labelled, encoder: str) -> FeaturePyramid:
        return cb.embed(scan.volume, ENCODERS[encoder](), store=cb.Store())

    def again(line: dict) -> dict:
        pair = both(line["structures"])[line["first"], line["second"]]
        # The prompts of a forest's lines were made with the first encoder.
        encoder = args.encoders[0] if line["encoder"] == "-" else line["encoder"]
        first, second = (pyramid(scan, encoder) for scan in (pair.first, pair.second))
        source = args.sources[0] if line["source"] == "-" else line["source"]
        answer = method(line["method"], pair, first, second, marked(pair, first, line["seed"], source))
        return measure(pair, answer, line["seed"], tuple(map(int, line["dice"])))

    names = {"sample", *(folder.name for folder in args.scans)}
    lines = [line for line in lines if {line["first"], line["second"]} <= names and line["method"] in args.methods]
    lines = [line for line in lines if line["encoder"] in (*args.encoders, "-")]
    lines = [line for line in lines if line["results_version"] == TRANSFER[line["method"]]]
    return verify(lines, ("first", "second", "encoder", "method"), again, args.verify, args.verify_seed)


if __name__ == "__main__":
    main()
