"""Retrieval across patients per region of the body: encoders side by side, on the same queries.

A query is a place deep inside a structure of one patient; it counts how many of the most similar regions of another patient
lie in the same kind of structure, in both directions, for pairs of patients. Pairs of one region of the body share no
patient, as long as there are enough patients. Each pair and direction of each encoder is a line in a file of results, so that
a stopped benchmark continues, and a new weights file is measured without measuring the others again.

Usage: python -m Testing.benchmarks.body_regions [--scans FOLDER...] [--heads FOLDER...] [--limbs FOLDER...]
       [--weights FILE...] [--rows NAME...] [--pairs N] [--seeds N] [--results FILE] [--tables [FOLDER]]

`--scans` are patients of chest and abdomen beside the sample. A folder is read as by `Testing.benchmarks.encoders`. One that
holds auto_labels.nii.gz only was labeled by a network; of its structures those are used that two networks agreed on.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

import CoralBayLib as cb
from CoralBayLib.demo.sample import fetch_sample
from CoralBayLib.encoders.base import Encoder
from CoralBayLib.encoders.coralbay_mini import WEIGHTS, CoralBayMiniEncoder
from CoralBayLib.features.pyramid import FeaturePyramid
from CoralBayLib.imaging.grid import Volume
from CoralBayLib.imaging.resampling import resample
from CoralBayLib.similarity.regions import in_basis_of

from .baselines import hand_made, position_only
from .encoders import EVALUATION_MM, Labelled, deep_places, drawn, kind, read_scan, untrained
from .quality import read
from .tables import summary
from .tables.body_regions import ASTRA, FILE, FILTERS, POSITION, TITLE, UNTRAINED, title_of, write_tables
from .tables.encoders import APART_MM, TOP
from .tables.sections import MEASURED, add_tables_option, put_section
from .versions import BODY_REGIONS

CHEST, ABDOMEN, HEAD, LIMBS = "chest", "abdomen", "head and neck", "limbs"
LEAST_ML = 10.0
"""Structures that are smaller in one of the two patients are not asked for, ml."""
QUERY_MM = 6.0
_KEPT = 6
"""Scans whose features are kept in memory."""
AUTO_LABELS, TRUSTED = "auto_labels", ("liver", "spleen", "stomach")
NO_KIND = "tissue"
"""A label that says what is left over."""

Features = Callable[[Volume], FeaturePyramid]


@dataclass(frozen=True, eq=False)
class Patient:
    """A labeled scan, and what is derived from its labels once."""

    scan: Labelled

    @cached_property
    def kinds(self) -> dict[str, float]:
        """Milliliters of each kind of structure that can be asked for."""
        return {name: ml for name, ml in self.scan.kinds(LEAST_ML).items() if name != NO_KIND}

    @cached_property
    def _deep(self) -> dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]:
        return {}

    @cached_property
    def _room(self) -> dict[str, int]:
        return {}

    def places(self, wanted: str, seed: int) -> NDArray[np.float64]:
        """(N, 3) RAS mm of the queries in the largest structure of a kind."""
        label = self.scan.largest(wanted)
        if wanted not in self._deep:
            self._deep[wanted] = deep_places(self.scan, label)
        return drawn(*self._deep[wanted], label, seed)

    def room(self, wanted: str) -> int:
        """How many regions, at the distance that regions keep, lie in a kind of structure, at most `TOP`."""
        if wanted not in self._room:
            labels = [label for label, name in self.scan.names.items() if kind(name) == wanted]
            mask = np.isin(self.scan.reference.array, labels)
            box = ndimage.find_objects(mask.astype(np.uint8))[0]
            inside = np.where(mask[box], 1.0, -1.0).astype(np.float32)
            grid = self.scan.reference.grid.subgrid([part.start for part in box[::-1]], 1, inside.shape)
            self._room[wanted] = len(cb.find_regions(Volume(inside, grid), TOP, APART_MM))
        return self._room[wanted]

    def kinds_at(self, ras: Sequence[tuple[float, float, float]]) -> list[str]:
        """The kind of structure at points."""
        found = self.scan.reference.nearest_values(ras)
        return [kind(self.scan.names.get(int(value), "none")) for value in found]


@dataclass(frozen=True, eq=False)
class Pair:
    """Two patients, and the region of the body of each kind of structure that both have."""

    one: Patient
    other: Patient
    region_of: Callable[[str], str]

    @property
    def kinds(self) -> list[str]:
        """Kinds of structures that both have."""
        return sorted(self.one.kinds.keys() & self.other.kinds.keys())


def pairs_of(patients: Sequence[Patient], region_of: Callable[[str], str], most: int) -> list[Pair]:
    """At most so many pairs: those that share no patient first, then the other ones with a common structure."""
    numbers = range(len(patients))
    chosen = [(n, n + 1) for n in numbers[:-1:2]]
    chosen += [pair for pair in itertools.combinations(numbers, 2) if pair not in chosen]
    pairs = (Pair(patients[one], patients[other], region_of) for one, other in chosen)
    return list(itertools.islice((pair for pair in pairs if pair.kinds), most))


def region_of_trunk(wanted: str) -> str:
    """Abdomen for the organs of abdomen and pelvis, chest for all others, such as those that both have a part of."""
    return ABDOMEN if wanted in _ABDOMINAL else CHEST


_ABDOMINAL = (
    ("liver", "spleen", "stomach", "pancreas", "kidney", "gallbladder", "duodenum", "small_bowel", "colon", "adrenal_gland")
    + ("inferior_vena_cava", "portal_vein_and_splenic_vein", "iliac_artery", "iliac_vena", "urinary_bladder", "prostate")
    + ("hip", "sacrum", "iliopsoas", "gluteus_maximus", "gluteus_medius", "gluteus_minimus")
)


def hits(home: FeaturePyramid, target: FeaturePyramid, asked: Patient, searched: Patient, wanted: str, seed: int) -> NDArray:
    """(queries, TOP) whether each region, best first, is of the wanted kind; False where there were fewer regions."""
    found = []
    comparable = in_basis_of(target, home)
    for place in asked.places(wanted, seed):
        vector = cb.Query.sphere(place, QUERY_MM).vector(home)
        regions = cb.find_regions(cb.similarity_map(comparable, vector), TOP, APART_MM)
        right = [name == wanted for name in searched.kinds_at([region.ras for region in regions])]
        found.append(right + [False] * (TOP - len(right)))
    return np.array(found)


def search(
    home: FeaturePyramid, target: FeaturePyramid, asked: Patient, searched: Patient, kinds: Sequence[str], seeds: int
) -> dict[str, dict[str, list[float]]]:
    """Precision of each kind by seed: among the first `TOP` regions, and among as many as there is room for."""
    scores: dict[str, dict[str, list[float]]] = {}
    for wanted in kinds:
        by_seed = [hits(home, target, asked, searched, wanted, seed) for seed in range(seeds)]
        room = searched.room(wanted)
        scores[wanted] = {
            "top": [round(float(found.mean()), 4) for found in by_seed],
            "room": [round(float(found[:, :room].mean()), 4) for found in by_seed],
        }
    return scores


def measure(
    title: str, make: Features, pairs: Sequence[Pair], seeds: int, known: Sequence[dict] = ()
) -> Iterator[dict[str, Any]]:
    """The lines of results of one encoder that are not known yet, one after the other.

    Args:
        title: of the row.
        make: features of a scan.
        pairs: of patients.
        seeds: number of draws of the queries.
        known: lines of results that are there already.
    """
    there = {(line["row"], line["asked"], line["searched"], line["seeds"]) for line in known}
    features = lru_cache(_KEPT)(make)
    for pair in pairs:
        for asked, searched in ((pair.one, pair.other), (pair.other, pair.one)):
            names = {"row": title, "asked": asked.scan.name, "searched": searched.scan.name, "seeds": seeds}
            if tuple(names.values()) in there:
                continue
            home, target = features(asked.scan.volume), features(searched.scan.volume)
            scores = search(home, target, asked, searched, pair.kinds, seeds)
            regions = {wanted: pair.region_of(wanted) for wanted in scores}
            yield {"version": BODY_REGIONS, **names, "regions": regions, "scores": scores}


def read_patient(folder: Path) -> Patient:
    """A labeled scan from a folder."""
    if (folder / "labels.nii.gz").is_file():
        return Patient(_coarse(read_scan(folder)))
    scan = read_scan(folder, AUTO_LABELS)
    return Patient(_coarse(replace(scan, names={label: name for label, name in scan.names.items() if name in TRUSTED})))


def sample_patient() -> Patient:
    """The sample CT."""
    fetched = fetch_sample()
    scan = Labelled("sample", cb.read_volume(fetched.ct), cb.read_labelmap(fetched.labelmap), fetched.names)
    return Patient(_coarse(scan))


def _coarse(scan: Labelled) -> Labelled:
    """A scan whose labels have voxels of `EVALUATION_MM` at least, so that distances in them take less time."""
    spacing = np.maximum(scan.reference.grid.spacing_mm, EVALUATION_MM)
    if np.allclose(spacing, scan.reference.grid.spacing_mm):
        return scan
    return replace(scan, reference=resample(scan.reference, scan.reference.grid.with_spacing(spacing), "nearest"))


def rows(weights: Sequence[Path], store: cb.Store | None) -> dict[str, Callable[[], Features]]:
    """What makes features of a scan, by the title of the row; loaded when it is called."""

    def by(load: Callable[[], Encoder]) -> Callable[[], Features]:
        def loaded() -> Features:
            encoder = load()
            return lambda volume: cb.embed(volume, encoder, store=store)

        return loaded

    found = {title_of(path): by(lambda path=path: cb.load_encoder("coralbay-mini", path, "cpu")) for path in weights}
    return found | {
        ASTRA: by(lambda: cb.load_encoder("astra", device="cpu")),
        UNTRAINED: by(lambda: untrained(24, CoralBayMiniEncoder, "whole")),
        FILTERS: lambda: hand_made,
        POSITION: lambda: position_only,
    }


def main() -> None:
    """Measure what is missing, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scans", type=Path, nargs="*", default=[], metavar="FOLDER", help="of chest and abdomen")
    parser.add_argument("--no-sample", action="store_true", help="leave out the sample")
    parser.add_argument("--heads", type=Path, nargs="*", default=[], metavar="FOLDER", help="of head and neck")
    parser.add_argument("--limbs", type=Path, nargs="*", default=[], metavar="FOLDER")
    parser.add_argument("--weights", type=Path, nargs="*", default=[], metavar="FILE", help="further editions of coralbay-mini")
    parser.add_argument("--rows", nargs="*", metavar="NAME", help="only these rows; none writes the tables alone")
    parser.add_argument("--pairs", type=int, default=10, metavar="N", help="most pairs of patients of a region")
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="draws of the queries")
    parser.add_argument("--results", type=Path, default=MEASURED / "body_regions.jsonl", help="the file of results")
    add_tables_option(parser)
    args = parser.parse_args()
    trunks = [*([] if args.no_sample else [sample_patient()]), *map(read_patient, args.scans)]
    pairs = pairs_of(trunks, region_of_trunk, args.pairs)
    for folders, region in ((args.heads, HEAD), (args.limbs, LIMBS)):
        patients = [read_patient(folder) for folder in folders]
        pairs += pairs_of(patients, lambda wanted, region=region: region, args.pairs)
    args.results.parent.mkdir(parents=True, exist_ok=True)
    for title, load in rows([WEIGHTS.path, *args.weights], cb.Store()).items():
        if args.rows is not None and title not in args.rows:
            continue
        for line in measure(title, load(), pairs, args.seeds, read(args.results)):
            with args.results.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        print(f"{title}: done", flush=True)
    text = write_tables([line for line in read(args.results) if line["version"] == BODY_REGIONS])
    print(text)
    if args.tables:
        put_section(args.tables / FILE, TITLE, text)
        summary.renew(args.tables)


if __name__ == "__main__":
    main()
