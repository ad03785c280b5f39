"""Structures of a new patient without a click, by number of labeled patients: a probe and other methods side by side.

All methods learn from the same labeled patients, in draws of which the smaller are parts of the larger, and are tested on the
same patients, which are never drawn. The patients are a folder as `coralbay evaluate` takes it. Each test is a line in a file
of results, so that a stopped benchmark continues.

Usage: python -m Testing.benchmarks.patients --scans FOLDER --test NAME... [--first N] [--methods NAME...] [--shots N...]
       [--draws N] [--unet-minutes M] [--results FILE] [--tables [FOLDER]]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import CoralBayLib as cb
from CoralBayLib.core.errors import EvaluationError
from CoralBayLib.encoders.base import Encoder
from CoralBayLib.encoders.coralbay_mini import CoralBayMiniEncoder
from CoralBayLib.evaluation.cases import Cases, embed_cases, read_cases
from CoralBayLib.evaluation.draws import Draw, make_draws
from CoralBayLib.evaluation.method import Method
from CoralBayLib.evaluation.probe_method import ProbeMethod
from CoralBayLib.evaluation.results import Result, ResultFile
from CoralBayLib.evaluation.run import Evaluation
from CoralBayLib.features.store import Store
from CoralBayLib.imaging.patients import find_patients

from .encoders import untrained
from .patient_methods import FilterForest, Registration
from .patient_network import UNet
from .quality import read
from .tables import summary
from .tables.patients import FOREST, MINI, REGISTRATION, SHOTS, UNET, UNTRAINED, write_tables
from .tables.sections import MEASURED, add_tables_option
from .versions import PATIENTS

FILE = "patients.md"
DRAWS = 3


def _mini() -> Encoder:
    return cb.load_encoder("coralbay-mini", device="cpu")


@dataclass(frozen=True)
class Entry:
    """A method of the table.

    Attributes:
        encoder: of the features; methods without features use its working grid alone.
        method: made anew for each run.
    """

    encoder: Callable[[], Encoder]
    method: Callable[[argparse.Namespace], Method]


METHODS = {
    MINI: Entry(_mini, lambda args: ProbeMethod()),
    UNTRAINED: Entry(lambda: untrained(24, CoralBayMiniEncoder, "whole"), lambda args: ProbeMethod()),
    REGISTRATION: Entry(_mini, lambda args: Registration()),
    FOREST: Entry(_mini, lambda args: FilterForest()),
    UNET: Entry(_mini, lambda args: UNet(args.unet_minutes)),
}


class TitledFile:
    """A file of results in which the results of one method have its title and version in the place of the encoder."""

    def __init__(self, file: ResultFile, title: str) -> None:
        self.file, self.title = file, title

    def get(self, key: str) -> Result | None:
        """See `ResultFile`."""
        return self.file.get(key)

    def add(self, result: Result) -> None:
        """See `ResultFile`."""
        self.file.add(replace(result, encoder=titled(self.title)))


def titled(title: str) -> str:
    """What stands for the encoder in the results of a method."""
    return f"{title}, version {PATIENTS[title]}"


def drawn(cases: Cases, shots: Sequence[int], draws: int, test: Sequence[str], first: int | None = None) -> list[Draw]:
    """The draws; with `first`, only so many patients are tested, and the others are not learned from either.

    Raises:
        EvaluationError: a patient to test is not there, or too few are left to learn from.
    """
    unknown = sorted(set(test) - set(cases.cases))
    if unknown:
        raise EvaluationError(f"There is no patient {', '.join(unknown)} with labels in this folder. Change --test.")
    made = make_draws(list(cases.cases), cases.complete, shots, draws, test, 0, cases.empty)
    return [replace(draw, test=draw.test[:first]) for draw in made]


def needed(cases: Cases, draws: Sequence[Draw]) -> Cases:
    """The patients of the draws."""
    names = {name for draw in draws for name in (*draw.train, *draw.test)}
    return replace(cases, cases={name: case for name, case in cases.cases.items() if name in names})


def measure(
    cases: Cases, draws: Sequence[Draw], title: str, encoder: Encoder, method: Method, file: ResultFile, store: Store
) -> None:
    """Measure what is missing of one method.

    Raises:
        EvaluationError: the scan of a drawn patient cannot be used.
    """
    own = embed_cases(needed(cases, draws), encoder, store)
    lost = sorted(set(needed(cases, draws).cases) - set(own.cases))
    if lost:
        raise EvaluationError(f"Patients cannot be used: {', '.join(lost)}. {own.left_out[-1].reason}")

    def shown(fraction: float, message: str) -> None:
        print(f"{title}: {100 * fraction:.0f} % {message}", flush=True)

    Evaluation(own, [encoder], draws, method, TitledFile(file, title), store, version=titled(title)).run(shown)


def main() -> None:
    """Measure what is missing, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scans", type=Path, required=True, metavar="FOLDER", help="of labeled patients")
    parser.add_argument("--test", nargs="+", required=True, metavar="NAME", help="patients to test, never learned from")
    parser.add_argument("--first", type=int, metavar="N", help="test only the first so many of them, for slow methods")
    parser.add_argument("--methods", nargs="*", choices=METHODS, default=list(METHODS))
    parser.add_argument("--shots", type=int, nargs="+", default=list(SHOTS), help="numbers of labeled patients")
    parser.add_argument("--draws", type=int, default=DRAWS)
    parser.add_argument("--unet-minutes", type=float, default=20, help="training of each U-Net on all cores")
    parser.add_argument("--results", type=Path, default=MEASURED / "patients.jsonl", help="the file of results")
    add_tables_option(parser)
    args = parser.parse_args()
    args.results.parent.mkdir(parents=True, exist_ok=True)
    if args.methods:
        cases = read_cases(find_patients(args.scans).patients)
        draws = drawn(cases, args.shots, args.draws, args.test, args.first)
        for title in args.methods:
            entry = METHODS[title]
            measure(cases, draws, title, entry.encoder(), entry.method(args), ResultFile(args.results), Store())
    print(write_tables(known_results(args.results), args.tables and args.tables / FILE))
    if args.tables:
        summary.renew(args.tables)


def known_results(file: Path) -> list[Result]:
    """The results of the versions that count, with the method's title in the place of the encoder."""
    titles = {titled(title): title for title in METHODS}
    found = [Result.from_dict(line) for line in read(file)]
    return [replace(result, encoder=titles[result.encoder]) for result in found if result.encoder in titles]


if __name__ == "__main__":
    main()
