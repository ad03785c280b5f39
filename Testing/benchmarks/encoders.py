"""Encoders side by side: few-shot segmentation and retrieval within a scan and across patients.

The sample chest CT has reference labels; a simulated annotator draws strokes and clicks from them. Dice within one
scan says little about an encoder (an untrained network does well). Compare retrieval, above all across patients, with the
untrained network, position alone, and hand-made filters.

The columns across patients need further labelled scans: folders with ct.nii.gz, labels.nii.gz and labels.json (names by
label). They are not part of this project.

Usage: python -m Testing.benchmarks.encoders [--scans FOLDER...] [--weights FILE] [--rows astra ...] [--details]
       [--timing [--faithful]] [--tables [FOLDER]]
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

import CoralBayLib as cb
from CoralBayLib.demo.annotator import Annotator, dice
from CoralBayLib.demo.sample import fetch_sample
from CoralBayLib.encoders.base import Encoder
from CoralBayLib.encoders.coralbay import CoralBayEncoder, CoralBayNetwork
from CoralBayLib.encoders.coralbay_mini import WEIGHTS, CoralBayMiniEncoder
from CoralBayLib.features.pyramid import FeaturePyramid
from CoralBayLib.imaging.grid import Volume
from CoralBayLib.imaging.resampling import resample
from CoralBayLib.similarity.regions import in_basis_of

from .baselines import hand_made, position_only
from .tables import summary
from .tables.encoders import (
    APART_MM,
    BONES,
    CLICKS,
    HEAD,
    HOW,
    LEAST_ML,
    ORGANS,
    QUERIES,
    SHOWN,
    SHOWN_APART_MM,
    TOP,
    Findings,
    compared,
    details,
    row,
)
from .tables.sections import add_tables_option, machine, others_ran, put_part, table

TITLE = "Retrieval"
FILE = "retrieval.md"
WITHIN = ("liver", "spleen", "kidney_left", "lung_lower_lobe_right", "aorta", "heart", "stomach", "vertebrae_T8")
WITHIN += ("autochthon_left", "rib_left_7", "colon")
EVALUATION_MM = 2.0


@dataclass(frozen=True, eq=False)
class Labelled:
    """A scan with reference labels and their names."""

    name: str
    volume: Volume
    reference: Volume
    names: dict[int, str]

    def kinds(self, least_ml: float = LEAST_ML) -> dict[str, float]:
        """Milliliters of each kind of tissue that is large enough."""
        counts = np.bincount(self.reference.array.ravel(), minlength=max(self.names) + 1)
        millilitres: dict[str, float] = {}
        for label, name in self.names.items():
            volume = counts[label] * self.reference.grid.voxel_volume_mm3 / 1000
            millilitres[kind(name)] = millilitres.get(kind(name), 0.0) + volume
        return {name: volume for name, volume in millilitres.items() if volume >= least_ml}

    def largest(self, wanted: str) -> int:
        """The largest label of a kind."""
        counts = np.bincount(self.reference.array.ravel(), minlength=max(self.names) + 1)
        return max((label for label, name in self.names.items() if kind(name) == wanted), key=lambda n: counts[n])


def kind(name: str) -> str:
    """The kind of a structure: its name without side and number, so that any rib answers a query in a rib."""
    name = re.sub(r"^(left|right)[ _]?", "", name.lower())
    for word in ("vertebra", "rib", "lung"):
        if re.search(rf"(^|[ _]){word}", name):
            return word
    return re.sub(r"_(left|right|atrium.*|ventricle.*|myocardium)$", "", re.sub(r"_\d+$", "", name))


def read_scan(folder: Path, labels: str = "labels") -> Labelled:
    """A labelled scan from a folder; `labels` is the name, without suffix, of the labelmap and of its names."""
    names = {int(label): name for label, name in json.loads((folder / f"{labels}.json").read_text(encoding="utf-8")).items()}
    reference = cb.read_labelmap(folder / f"{labels}.nii.gz")
    return Labelled(folder.name, cb.read_volume(folder / "ct.nii.gz"), reference, names)


def places(scan: Labelled, label: int, seed: int = 0) -> np.ndarray:
    """(N, 3) RAS mm: the deepest place of a structure, and random places deep inside it, which the seed draws."""
    return drawn(*deep_places(scan, label), label, seed)


def deep_places(scan: Labelled, label: int) -> tuple[np.ndarray, np.ndarray]:
    """The deepest place of a structure, (3,) RAS mm, and all places deep inside it, (N, 3)."""
    from scipy import ndimage

    annotator = Annotator(scan.reference, label)
    box = ndimage.find_objects(annotator.truth.astype(np.uint8))[0]
    depth = ndimage.distance_transform_edt(np.pad(annotator.truth[box], 1), sampling=annotator.grid.spacing_mm[::-1])
    deep = np.argwhere(depth > 0.6 * depth.max()) - 1 + [s.start for s in box]
    return annotator.deepest(), annotator.grid.to_ras(deep[:, ::-1])


def drawn(deepest: np.ndarray, deep: np.ndarray, label: int, seed: int) -> np.ndarray:
    """(N, 3) RAS mm: the deepest place, and random ones of the deep places."""
    chosen = np.random.default_rng([label, seed] if seed else label).choice(len(deep), QUERIES - 1)
    return np.concatenate([deepest[None], deep[chosen]])


def few_shot(pyramid: FeaturePyramid, scan: Labelled) -> dict[str, dict[str, float]]:
    """Dice of each structure after strokes on one slice, on three slices, and corrective clicks; drawn and scored on one
    grid for all encoders."""
    labels = {name: label for label, name in scan.names.items()}
    wanted = {name: number for number, name in enumerate(ORGANS + BONES, 1)}
    reference = resample(scan.reference, scan.reference.canonical().grid.with_spacing(EVALUATION_MM), "nearest")
    truth = np.zeros_like(reference.array)
    for name, number in wanted.items():
        truth[reference.array == labels[name]] = number
    told = Volume(truth, reference.grid)
    annotators = {number: Annotator(told, number) for number in wanted.values()}
    results: dict[str, dict[str, float]] = {"1 slice": {}, "3 slices": {}, f"+{CLICKS} clicks": {}}

    def judged(prompts: cb.Prompts, into: str | None) -> np.ndarray:
        found = cb.Segmenter(pyramid).fit(prompts).labelmap(told.grid).array
        if into:
            results[into] = {name: dice(found == number, truth == number) for name, number in wanted.items()}
        return found

    for slices in (1, 3):
        prompts = cb.Prompts(np.empty((0, 3)), [])
        for number in annotators:
            points, inside = Annotator(told, number).strokes(slices)
            # A stroke around one structure may pass through another, which is not background.
            prompts += cb.Prompts(points, np.where(inside, number, told.nearest_values(points)))
        found = judged(prompts, "1 slice" if slices == 1 else "3 slices")
    for click in range(CLICKS):
        for number, annotator in annotators.items():
            made = annotator.click(found == number)
            if made is not None:
                points, positive = made
                prompts += cb.Prompts(points, np.full(len(points), number) if positive else told.nearest_values(points))
        found = judged(prompts, f"+{CLICKS} clicks" if click == CLICKS - 1 else None)
    return results


def precision(
    pyramid: FeaturePyramid, home: FeaturePyramid, asked: Labelled, searched: Labelled, label: int, seed: int = 0
) -> float:
    """Share of the top regions of one scan that are of the kind of the query, which lies in the same scan or another."""
    target = in_basis_of(pyramid, home)
    hits = []
    for place in places(asked, label, seed):
        vector = cb.Query.sphere(place, 6.0).vector(home)
        regions = cb.find_regions(cb.similarity_map(target, vector), TOP, APART_MM)
        found = searched.reference.nearest_values([region.ras for region in regions])
        hits += [kind(searched.names.get(int(value), "none")) == kind(asked.names[label]) for value in found]
    return float(np.mean(hits))


def other_side(pyramid: FeaturePyramid, scan: Labelled) -> list[str]:
    """Rank of the first region in the other kidney for a query in the left kidney, then in the right."""
    labels = {name: label for label, name in scan.names.items()}
    ranks = []
    for asked, wanted in (("kidney_left", "kidney_right"), ("kidney_right", "kidney_left")):
        query = cb.Query.sphere(Annotator(scan.reference, labels[asked]).deepest(), 6.0)
        regions = cb.find_regions(cb.similarity_map(pyramid, query), SHOWN, SHOWN_APART_MM)
        hits = np.flatnonzero(scan.reference.nearest_values([region.ras for region in regions]) == labels[wanted])
        ranks.append(str(hits[0] + 1) if len(hits) else f">{len(regions)}")
    return ranks


def measure(make: Callable[[Volume], FeaturePyramid], sample: Labelled, others: list[Labelled], timing: bool) -> Findings:
    """All measurements of one set of features."""
    found = Findings()
    pyramid = make(sample.volume)
    if timing:
        found.seconds = seconds(lambda: make(sample.volume))
    found.dice = few_shot(pyramid, sample)
    labels = {name: label for label, name in sample.names.items()}
    for name in WITHIN:
        found.within[name] = precision(pyramid, pyramid, sample, sample, labels[name])
    found.other_side = other_side(pyramid, sample)
    for other in others:
        theirs = make(other.volume)
        for shared in sorted(sample.kinds().keys() & other.kinds().keys()):
            key = f"{shared} {other.name}"
            found.there[key] = precision(theirs, pyramid, sample, other, sample.largest(shared))
            found.back[key] = precision(pyramid, theirs, other, sample, other.largest(shared))
    return found


def seconds(action: Callable[[], object], repeats: int = 3) -> float:
    """Median wall time."""
    taken = []
    for _ in range(repeats):
        start = time.perf_counter()
        action()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def untrained(feature_size: int, made: type[CoralBayEncoder], setting: str) -> CoralBayEncoder:
    """The network with its random weights before training, seed 0."""
    torch.manual_seed(0)
    return made(CoralBayNetwork(feature_size), "untrained", "none", setting)


def main() -> None:
    """Run and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scans", type=Path, nargs="*", default=[])
    parser.add_argument("--weights", type=Path, default=WEIGHTS.path, help="of coralbay-mini")
    parser.add_argument("--rows", nargs="*")
    parser.add_argument("--details", action="store_true", help="also print every structure")
    parser.add_argument(
        "--timing",
        action="store_true",
        help="measure seconds, also of CoralBay-48 with random weights; with nothing else running. About six minutes of "
        "processor time for all rows",
    )
    parser.add_argument("--faithful", action="store_true", help="time CoralBay-48 in 96-voxel windows as well: minutes more")
    add_tables_option(parser)
    args = parser.parse_args()
    fetched = fetch_sample()
    sample = Labelled("sample", cb.read_volume(fetched.ct), cb.read_labelmap(fetched.labelmap), fetched.names)
    others = [read_scan(folder) for folder in args.scans]
    store = None if args.timing else cb.Store()

    def by(encoder: Encoder) -> Callable[[Volume], FeaturePyramid]:
        return lambda volume: cb.embed(volume, encoder, store=store)

    rows: dict[str, Callable[[], Callable[[Volume], FeaturePyramid]]] = {
        "astra": lambda: by(cb.load_encoder("astra", device="cpu")),
        "coralbay-mini": lambda: by(cb.load_encoder("coralbay-mini", weights=args.weights, device="cpu")),
        "untrained": lambda: by(untrained(24, CoralBayMiniEncoder, "whole")),
        "position only": lambda: position_only,
        "hand-made filters": lambda: hand_made,
    }
    if not args.weights.is_file():
        print(f"coralbay-mini is skipped, because this file is missing: {args.weights.name}")
        del rows["coralbay-mini"]
    scans = ", ".join(["sample", *(other.name for other in others)])
    threads = torch.get_num_threads()
    about = f"Scans: {scans}. {machine(threads)}"
    print(f"{about}\n\n{table(HEAD, [])}", end="", flush=True)
    found = {}
    for title, make in rows.items():
        if not args.rows or title in args.rows:
            found[title] = measure(make(), sample, others, args.timing)
            print("| " + " | ".join(row(title, found[title])) + " |", flush=True)
    parts = [HOW, about, table(HEAD, [row(title, one) for title, one in found.items()])]
    if args.details:
        print(details(found))
    if args.timing:
        settings = ("whole", "faithful") if args.faithful else ("whole",)
        large = {}
        for setting in settings:
            make_48 = by(untrained(48, CoralBayEncoder, setting))
            # Once: a median of three would take most of the time of the benchmark.
            large[setting] = seconds(lambda make_48=make_48: make_48(sample.volume), 1)
        parts.append(compared(found["coralbay-mini"].seconds if "coralbay-mini" in found else None, large))
        if others_ran(threads):
            parts.append("Other programs ran at the same time, so times are upper bounds.")
        print("\n" + "\n\n".join(parts[3:]))
    if args.tables:
        put_part(args.tables / FILE, TITLE, scans, "\n\n".join(parts))
        summary.renew(args.tables)


if __name__ == "__main__":
    main()
