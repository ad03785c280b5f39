"""Landmarks by number of labeled patients, on patients that nothing was tuned on.

The points come from contours of organs at risk: the ends of the cord, the centers of parotids, brainstem and larynx, the front
of the mandible. The folder has one folder for each patient with ct.nii.gz, labels.nii.gz and labels.json (names by label);
patients are sorted by the number in their names. The labeled ones are drawn from the first 40; 20 others (50 to 69) are tested.
Each patient tested is a line in a file of results, so that a stopped benchmark continues.

Usage: python -m Testing.benchmarks.landmarks --patients FOLDER [--draws N] [--encoders NAME...] [--results FILE]
       [--tables [FOLDER]]
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import CoralBayLib as cb
from CoralBayLib.encoders.coralbay_mini import CoralBayMiniEncoder
from CoralBayLib.imaging.grid import Volume
from CoralBayLib.similarity.comparable import BODY_POINTS, FeatureSpace
from CoralBayLib.similarity.landmark_examples import Patient
from CoralBayLib.similarity.landmarks import _Search

from .encoders import untrained
from .quality import read
from .tables import summary
from .tables.landmarks import write_tables
from .tables.sections import MEASURED, add_tables_option
from .versions import LANDMARKS

FILE = "landmarks.md"
SHOTS = (1, 2, 5, 10)
TUNED, TESTED = slice(0, 40), slice(50, 70)
CENTERS = ("Brainstem", "RightParotid", "LeftParotid", "Larynx")
END_MM = 5.0
"""Thickness of the end of a structure whose center is a point."""
ENCODERS: dict[str, Callable[[], cb.encoders.base.Encoder]] = {
    "coralbay-mini": lambda: cb.load_encoder("coralbay-mini", device="cpu"),
    "untrained": lambda: untrained(24, CoralBayMiniEncoder, "whole"),
}
Points = dict[str, NDArray[np.float64]]


def points_of(labels: Volume, names: dict[str, str]) -> Points:
    """The landmarks of a labelmap, (3,) RAS mm by name; those of structures that are not drawn are missing."""
    found: Points = {}
    for label, name in names.items():
        ras = labels.grid.to_ras(np.argwhere(labels.array == int(label))[:, ::-1])
        if not len(ras):
            continue
        if name in CENTERS:
            found[f"center of {name}"] = ras.mean(axis=0)
        if name == "SpinalCord":
            found["lower end of the cord"] = ras[ras[:, 2] < ras[:, 2].min() + END_MM].mean(axis=0)
            found["upper end of the cord"] = ras[ras[:, 2] > ras[:, 2].max() - END_MM].mean(axis=0)
        if name == "Mandible":
            found["front of the mandible"] = ras[ras[:, 1] > ras[:, 1].max() - END_MM].mean(axis=0)
    return found


def by_box(train: list[tuple[cb.FeaturePyramid, Points]], test: cb.FeaturePyramid) -> Points:
    """The mean position in the box of the body, from percentile 1 to 99."""
    low, high = np.percentile(test.body_points(BODY_POINTS), [1, 99], axis=0)
    shares: dict[str, list[NDArray[np.float64]]] = {}
    for pyramid, points in train:
        one, other = np.percentile(pyramid.body_points(BODY_POINTS), [1, 99], axis=0)
        for name, ras in points.items():
            shares.setdefault(name, []).append((ras - one) / (other - one))
    return {name: low + np.mean(each, axis=0) * (high - low) for name, each in shares.items()}


def run(folder: Path, encoder_name: str, draws: int, done: set[tuple], write: Callable[[dict], None]) -> None:
    """Measure what is not measured yet."""
    encoder, store = ENCODERS[encoder_name](), cb.Store()
    folders = sorted(folder.glob("pt_*"), key=lambda path: int(re.sub(r"\D", "", path.name)))

    @lru_cache(maxsize=80)
    def patient(path: Path) -> tuple[cb.FeaturePyramid, Points]:
        names = json.loads((path / "labels.json").read_text())
        pyramid = cb.embed(cb.read_volume(path / "ct.nii.gz"), encoder, store=store)
        return pyramid, points_of(cb.read_labelmap(path / "labels.nii.gz"), names)

    for draw in range(draws):
        order = np.random.default_rng(draw).permutation(len(folders[TUNED]))
        for shots in SHOTS:
            wanted = [path for path in folders[TESTED] if (encoder_name, draw, shots, path.name) not in done]
            if not wanted:
                continue
            train = [patient(folders[TUNED][n]) for n in order[:shots]]
            space = FeatureSpace.of([pyramid for pyramid, _ in train])
            sampled = [Patient.of(space, pyramid, points) for pyramid, points in train]
            for path in wanted:
                pyramid, truth = patient(path)
                search = _Search(space, pyramid, sampled)
                answers = {"landmarks": {name: ras for name, (ras, _) in search.run().items()}}
                answers["aligned bodies alone"] = search.starts
                answers["mean position in the body's box"] = by_box(train, pyramid)
                for method, placed in answers.items():
                    errors = {name: float(np.linalg.norm(placed[name] - ras)) for name, ras in truth.items() if name in placed}
                    write(
                        {
                            "encoder": encoder_name,
                            "method": method,
                            "draw": draw,
                            "shots": shots,
                            "patient": path.name,
                            "errors_mm": {name: round(error, 2) for name, error in errors.items()},
                            "results_version": LANDMARKS[method],
                        }
                    )


def known(lines: Iterator[dict] | list[dict]) -> set[tuple]:
    """What is measured already in the versions that count."""
    return {
        (line["encoder"], line["draw"], line["shots"], line["patient"])
        for line in lines
        if line["method"] == "landmarks" and line["results_version"] == LANDMARKS["landmarks"]
    }


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patients", type=Path, help="folder with the patients; without it only tables are written")
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--encoders", nargs="+", default=["coralbay-mini"], choices=list(ENCODERS))
    parser.add_argument("--results", type=Path, default=MEASURED / "landmarks.jsonl")
    add_tables_option(parser)
    args = parser.parse_args()
    with args.results.open("a", encoding="utf-8") as file:

        def write(line: dict) -> None:
            file.write(json.dumps(line) + "\n")
            file.flush()

        for name in args.encoders if args.patients else ():
            run(args.patients, name, args.draws, known(read(args.results)), write)
    print(write_tables(read(args.results), LANDMARKS, args.tables / FILE if args.tables else None))
    if args.tables:
        summary.renew(args.tables)


if __name__ == "__main__":
    main()
