"""Did `coralbay pretrain` teach anything? Retrieval of regions across patients, before and after.

For each weights file, its encoder is compared with the same network before training (the random start of the same size and
seed, or the pretrained weights it began with). A query is a place deep inside a structure of one patient; it counts how many
of the most similar regions of another patient lie in the same kind of structure (precision@20), in both directions, for
every pair of patients. Several seeds draw different places. The patients must not be among those trained on.

Usage: python -m Testing.benchmarks.pretraining mine.safetensors --scans FOLDER FOLDER... [--seeds 3]
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
from pathlib import Path

import numpy as np
from safetensors import safe_open

import CoralBayLib as cb
from CoralBayLib.encoders.base import Encoder
from CoralBayLib.features.pyramid import FeaturePyramid
from CoralBayLib.pretraining.network import ENCODERS, initial_backbone
from CoralBayLib.pretraining.settings import Settings

from .encoders import Labelled, precision, read_scan
from .tables.sections import table

HEAD = ["weights", "precision@20 across patients", "by seed", "queries in"]
LEAST_ML = 20.0
"""Structures that are smaller in one of the two patients are not asked for, ml."""


def settings_of(weights: Path) -> Settings:
    """The settings that a file was trained with."""
    with safe_open(weights, framework="np") as file:
        return Settings.from_dict(json.loads(file.metadata()["coralbay.pretrain"])["settings"])


def start_of(settings: Settings) -> Encoder:
    """The encoder before training."""
    if settings.init != "random":
        return cb.load_encoder(settings.init, device="cpu")
    title = f"random-{settings.feature_size}-{settings.seed}"
    return ENCODERS[settings.form](initial_backbone(settings)[0], title, "none", "whole")


def measure(encoder: Encoder, patients: list[Labelled], seeds: int, store: cb.Store) -> list[float]:
    """Precision over all pairs of patients and their common structures, for each seed."""
    pyramids = [cb.embed(patient.volume, encoder, store=store) for patient in patients]
    found: list[float] = []
    for seed in range(seeds):
        scores = [
            score
            for one, other in itertools.permutations(range(len(patients)), 2)
            for score in _between(pyramids, patients, one, other, seed)
        ]
        if not scores:
            raise SystemExit("No two patients have a structure of the same kind that is large enough.")
        found.append(statistics.mean(scores))
    return found


def _between(pyramids: list[FeaturePyramid], patients: list[Labelled], one: int, other: int, seed: int) -> list[float]:
    """Precision of each common structure, asked for in one patient and searched in another."""
    asked, searched = patients[one], patients[other]
    return [
        precision(pyramids[other], pyramids[one], asked, searched, asked.largest(kind), seed)
        for kind in sorted(asked.kinds(LEAST_ML).keys() & searched.kinds(LEAST_ML).keys())
    ]


def main() -> None:
    """Run and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path, nargs="+", help="written by coralbay pretrain")
    parser.add_argument(
        "--scans", type=Path, nargs="+", required=True, help="labeled patients; see Testing.benchmarks.encoders"
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--labels", default="labels", metavar="NAME", help="name of the labelmaps, without suffix")
    args = parser.parse_args()
    if len(args.scans) < 2:
        parser.error("at least two patients are needed")
    patients, store = [read_scan(folder, args.labels) for folder in args.scans], cb.Store()
    encoders: dict[str, Encoder] = {}
    for path in args.weights:
        settings = settings_of(path)
        before = settings.init if settings.init != "random" else f"random, {settings.feature_size} wide, seed {settings.seed}"
        encoders.setdefault(before, start_of(settings))
        encoders[path.name] = cb.load_encoder(settings.form, path, "cpu", setting="whole")
    names = ", ".join(patient.name for patient in patients)
    print(f"Patients: {names}. {args.seeds} seeds of the queries.\n\n{table(HEAD, [])}", end="", flush=True)
    for title, encoder in encoders.items():
        scores = measure(encoder, patients, args.seeds, store)
        by_seed = ", ".join(f"{score:.3f}" for score in scores)
        row = (title, f"{np.mean(scores):.3f}", by_seed, f"{len(patients) * (len(patients) - 1)} pairs")
        print("| " + " | ".join(row) + " |", flush=True)


if __name__ == "__main__":
    main()
