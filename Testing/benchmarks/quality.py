"""Few-shot segmentation by CoralBay and its peers on the same scans, structures, strokes and clicks.

Each run of a method over a scan with one seed is a line in a file of results, written when the run ends, so that a stopped
benchmark continues. Lines count while they have the version that `versions` lists. The tables are made from the lines.

Usage: python -m Testing.benchmarks.quality [--scans FOLDER...] [--methods NAME...] [--structures N or NAME...]
       [--seeds N] [--clicks N] [--alone] [--results FILE] [--tables [FOLDER]] [--verify N]
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

import CoralBayLib as cb
from CoralBayLib.demo.annotator import CLICK_RADIUS_MM
from CoralBayLib.demo.sample import fetch_sample
from CoralBayLib.encoders.coralbay import CoralBayEncoder
from CoralBayLib.imaging.grid import Volume

from .encoders import Labelled, read_scan, untrained
from .peers import Forest, GrowFromSeeds, LinearFilters, NearestIntensity
from .protocol import Answer, Method, Task, run, timed
from .tables import summary
from .tables.quality import write_tables
from .tables.sections import MEASURED, add_tables_option
from .verify import add_options, verify
from .versions import QUALITY

LARGE = ("liver", "spleen", "kidney_left", "lung_lower_lobe_right", "aorta", "heart", "stomach", "pancreas")
LARGE += ("vertebrae_T8", "esophagus")
SMALL = ("atrial_appendage_left", "adrenal_gland_left", "rib_left_7", "thyroid_gland", "subclavian_artery_left")
SMALL += ("brachiocephalic_vein_left", "clavicula_left", "superior_vena_cava", "vertebrae_C7", "iliopsoas_left")
ALONE = 5
"""Number of structures, evenly spread in size, that are also segmented alone in a session each."""
CHECKPOINTS = (1, 2, 4, 6, 8, 10, 12, 16, 20)
LEAST_ML, MOST_ML = 0.5, 5000.0
FILE = "few-shot.md"
PACKAGES = ("torch", "numpy", "scipy", "scikit-learn", "scikit-image", "slicer-core")


class Ours:
    """CoralBay's probe on the features of one encoder."""

    def __init__(self, volume: Volume, make: Callable[[], cb.encoders.base.Encoder]) -> None:
        self.pyramid = cb.embed(volume, make(), store=cb.Store())

    def __call__(self, prompts: cb.Prompts) -> Answer:
        """Fit, and segment as the module's Apply does."""
        segmenter = cb.Segmenter(self.pyramid).fit(prompts)
        return lambda grid: segmenter.labelmap(grid).array


METHODS: dict[str, Callable[[Volume], Method]] = {
    "coralbay-mini": lambda volume: Ours(volume, lambda: cb.load_encoder("coralbay-mini", device="cpu")),
    "astra": lambda volume: Ours(volume, lambda: cb.load_encoder("astra", device="cpu")),
    "CoralBay-48 untrained": lambda volume: Ours(volume, lambda: untrained(48, CoralBayEncoder, "whole")),
    "grow from seeds": GrowFromSeeds,
    "random forest on filters": Forest,
    "linear on filters": LinearFilters,
    "nearest mean HU": NearestIntensity,
}
PEERS = ("grow from seeds", "random forest on filters", "linear on filters", "nearest mean HU")


def tasks(scan: Labelled, wanted: list[str], alone: bool) -> Iterator[Task]:
    """The sessions on one scan: all structures together, then some of them alone."""
    names = chosen(scan, wanted)
    if names:
        yield Task(scan, tuple(names))
    if alone and len(names) > 1:
        sizes = volumes(scan)
        for name in _spread(sorted(names, key=lambda name: sizes[name]), ALONE):
            yield Task(scan, (name,))


def chosen(scan: Labelled, wanted: list[str]) -> list[str]:
    """The structures to segment on one scan: those named, or as many as a number says, evenly spread in size."""
    sizes = volumes(scan)
    fit = sorted((name for name, ml in sizes.items() if LEAST_ML <= ml <= MOST_ML), key=lambda name: sizes[name])
    named = [name for name in wanted if not name.isdigit()]
    most = next((int(name) for name in wanted if name.isdigit()), len(LARGE + SMALL))
    if named:
        return [name for name in named if name in fit]
    if scan.name == "sample":
        pairs = zip(LARGE, SMALL, strict=True)
        return [name for pair in pairs for name in pair][:most]
    return _spread(fit, most)


def volumes(scan: Labelled) -> dict[str, float]:
    """Milliliters of each structure of a scan."""
    counts = np.bincount(scan.reference.array.ravel(), minlength=max(scan.names) + 1)
    return {name: counts[label] * scan.reference.grid.voxel_volume_mm3 / 1000 for label, name in scan.names.items()}


def _spread(names: list[str], most: int) -> list[str]:
    """At most so many names of a list, evenly spaced."""
    return [names[n] for n in np.unique(np.linspace(0, len(names) - 1, min(most, len(names))).round().astype(int))]


def main() -> None:
    """Run the sessions that are missing, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scans", type=Path, nargs="*", default=[], help="folders with ct, labels and their names")
    parser.add_argument("--no-sample", action="store_true")
    parser.add_argument("--methods", nargs="*", choices=METHODS, default=list(METHODS))
    parser.add_argument("--structures", nargs="*", default=[], help="how many, or which")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--clicks", type=int, default=max(CHECKPOINTS))
    parser.add_argument("--click-radius-mm", type=float, default=CLICK_RADIUS_MM, help="0: a single point")
    parser.add_argument("--alone", action="store_true", help="also segment some structures alone, in a session each")
    parser.add_argument("--results", type=Path, default=MEASURED / "quality.jsonl", help="the file of results")
    add_options(parser)
    add_tables_option(parser)
    args = parser.parse_args()
    if args.verify:
        sys.exit(0 if check(args) else 1)
    args.results.parent.mkdir(parents=True, exist_ok=True)
    file = args.results
    done = read(file)
    folders = [None, *args.scans] if not args.no_sample else args.scans
    for folder in folders:
        scan = sample() if folder is None else read_scan(folder)
        for name in args.methods:
            ready: Method | None = None
            for task in tasks(scan, args.structures, args.alone):
                for seed in range(args.seeds):
                    about = describe(name, task, seed, args.clicks, args.click_radius_mm)
                    if any(about.items() <= line.items() for line in done):
                        continue
                    ready = ready or METHODS[name](scan.volume)
                    line = about | measure(ready, task, seed, args.clicks, args.click_radius_mm)
                    with file.open("a", encoding="utf-8") as out:
                        out.write(json.dumps(line) + "\n")
                    print(one_line(line), flush=True)
    print(write_tables(read(file), QUALITY, PEERS, args.tables and args.tables / FILE))
    if args.tables:
        summary.renew(args.tables)


def check(args: argparse.Namespace) -> bool:
    """Run stored sessions of the scans and methods again; whether all gave the same scores."""
    folders = {folder.name: folder for folder in args.scans} | ({} if args.no_sample else {"sample": None})
    lines = [line for line in read(args.results) if line["scan"] in folders and line["method"] in args.methods]
    lines = [line for line in lines if line["results_version"] == QUALITY[line["method"]]]

    @lru_cache(maxsize=1)
    def scan_of(name: str) -> Labelled:
        return sample() if folders[name] is None else read_scan(folders[name])

    @lru_cache(maxsize=1)
    def ready(scan: str, method: str) -> Method:
        return METHODS[method](scan_of(scan).volume)

    def again(line: dict) -> dict:
        task = Task(scan_of(line["scan"]), tuple(line["structures"]))
        method = ready(line["scan"], line["method"])
        found = measure(method, task, line["seed"], line["clicks"], line["click_radius_mm"])
        return {key: found[key] for key in ("stages", "millilitres")}

    return verify(lines, ("scan", "method"), again, args.verify, args.verify_seed)


def sample() -> Labelled:
    """The sample chest CT."""
    fetched = fetch_sample()
    return Labelled("sample", cb.read_volume(fetched.ct), cb.read_labelmap(fetched.labelmap), fetched.names)


def describe(method: str, task: Task, seed: int, clicks: int, radius: float) -> dict:
    """The keys by which a run is found again."""
    return {
        "method": method,
        "results_version": QUALITY[method],
        "scan": task.scan.name,
        "structures": list(task.names),
        "seed": seed,
        "clicks": clicks,
        "click_radius_mm": radius,
    }


def measure(method: Method, task: Task, seed: int, clicks: int, radius: float) -> dict:
    """The rest of a line: scores, volumes, times, machine and versions."""
    wrapped, seconds = timed(method)
    begin = time.perf_counter()
    found = run(task, wrapped, seed, tuple(n for n in CHECKPOINTS if n <= clicks), radius)
    return {
        "stages": {
            stage: {name: [round(v, 4) for v in asdict(score).values()] for name, score in by.items()}
            for stage, by in found.items()
        },
        "millilitres": {name: round(ml, 2) for name, ml in task.millilitres().items()},
        "fit_seconds": round(statistics.median(seconds), 3),
        "seconds": round(time.perf_counter() - begin, 1),
        "machine": f"{platform.system()} {platform.machine()}, {torch.get_num_threads()} threads",
        "versions": {"python": platform.python_version()} | {name: version(name) for name in PACKAGES},
    }


def one_line(line: dict) -> str:
    """One run in a line."""
    means = (f"{stage} {np.mean([v[0] for v in by.values()]):.3f}" for stage, by in line["stages"].items())
    return f"{line['scan']}, {len(line['structures'])} structures, seed {line['seed']}, {line['method']}: " + (
        ", ".join(means) + f" ({line['seconds']:.0f} s)"
    )


def read(file: Path) -> list[dict]:
    """The lines of results, without a last line that was cut off."""
    lines = []
    for text in file.read_text(encoding="utf-8").splitlines() if file.exists() else ():
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            print(f"Skipped a damaged line of {file.name}")
    return lines


if __name__ == "__main__":
    main()
