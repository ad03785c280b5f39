"""Clicks in a new patient: on the suggestion of a probe that other patients taught, and from nothing.

One structure at a time, as in `clicks`: each click is in the middle of the largest connected error of the method's own answer,
from nothing the first one in the middle of the structure. A probe answers before the first click. The labeled patients are
drawn as in `patients`, and those to test are never drawn. Each session is a line in a file of results, so that a stopped
benchmark continues.

Usage: python -m Testing.benchmarks.taught_clicks --scans FOLDER --test NAME... [--first N] [--shots N...] [--draws N]
       [--clicks N] [--results FILE] [--tables [FOLDER]]
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator
from functools import cache, lru_cache
from pathlib import Path

import CoralBayLib as cb
from CoralBayLib.evaluation.cases import Cases, read_cases
from CoralBayLib.evaluation.draws import Draw, make_draws
from CoralBayLib.features.pyramid import FeaturePyramid
from CoralBayLib.imaging.patients import find_patients

from .click_sessions import JITTER_MM, PROTOCOLS, Given, run, shown_of
from .encoders import Labelled, read_scan
from .protocol import Answer, Task
from .quality import read
from .tables import summary
from .tables.sections import MEASURED, add_tables_option
from .tables.taught_clicks import NOTHING, write_tables
from .versions import TAUGHT_CLICKS

FILE = "taught-clicks.md"
LEAST_ML = 0.5
"""Smaller structures are left out, as in `clicks`."""


class Corrected:
    """CoralBay's preview of one structure, as the module shows it after each click.

    Args:
        pyramid: of the scan.
        name: of the structure.
        probe: that other patients taught, or None to begin from nothing.
    """

    def __init__(self, pyramid: FeaturePyramid, name: str, probe: cb.Probe | None) -> None:
        self.pyramid, self.name, self.probe = pyramid, name, probe

    def __call__(self, given: Given) -> tuple[Answer, float | None]:
        """See `click_sessions.Clicked`."""
        segmenter = cb.Segmenter(self.pyramid, self.probe)
        segmenter.fit(given.points if len(given.points) or self.probe is None else None)
        return shown_of(segmenter, next(number for number, name in segmenter.names.items() if name == self.name))


def sessions(cases: Cases, draws: list[Draw], clicks: int, first: int | None) -> Iterator[tuple[dict, Draw | None]]:
    """What describes each session, and the draw of its probe."""
    tested = draws[0].test[:first]
    for patient in tested:
        for draw in (None, *draws):
            for label in sorted(cases.cases[patient].present):
                yield (
                    {
                        "results_version": TAUGHT_CLICKS,
                        "method": NOTHING if draw is None else f"{draw.shots} patients",
                        "draw": 0 if draw is None else draw.number,
                        "scan": patient,
                        "structure": cases.names[label],
                        "clicks": clicks,
                    },
                    draw,
                )


def main() -> None:
    """Run the sessions that are missing, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scans", type=Path, required=True, metavar="FOLDER", help="of labeled patients")
    parser.add_argument("--test", nargs="+", required=True, metavar="NAME", help="patients to test, never learned from")
    parser.add_argument("--first", type=int, metavar="N", help="test only the first so many of them")
    parser.add_argument("--shots", type=int, nargs="+", default=[5], help="numbers of labeled patients")
    parser.add_argument("--draws", type=int, default=1)
    parser.add_argument("--clicks", type=int, default=PROTOCOLS["clicks"])
    parser.add_argument("--results", type=Path, default=MEASURED / "taught_clicks.jsonl", help="the file of results")
    add_tables_option(parser)
    args = parser.parse_args()
    encoder, store = cb.load_encoder("coralbay-mini", device="cpu"), cb.Store()
    cases = read_cases(find_patients(args.scans).patients)
    draws = make_draws(list(cases.cases), cases.complete, args.shots, args.draws, args.test, 0, cases.empty)

    @lru_cache(maxsize=1)
    def scan_of(patient: str) -> tuple[Labelled, FeaturePyramid]:
        scan = read_scan(args.scans / patient)
        return scan, cb.embed(scan.volume, encoder, store=store)

    @cache
    def probe_of(draw: Draw) -> cb.Probe:
        probe = cb.Probe()
        for patient in draw.train:
            scan = read_scan(args.scans / patient)
            probe.learn(cb.embed(scan.volume, encoder, store=store), scan.reference, scan.names)
        return probe

    keys = ("results_version", "method", "draw", "scan", "structure", "clicks")
    done = {tuple(line[key] for key in keys) for line in read(args.results)}
    args.results.parent.mkdir(parents=True, exist_ok=True)
    for line, draw in sessions(cases, draws, args.clicks, args.first):
        if tuple(line.values()) in done:
            continue
        scan, pyramid = scan_of(line["scan"])
        task = Task(scan, (line["structure"],))
        if next(iter(task.millilitres().values())) < LEAST_ML:
            continue
        method = Corrected(pyramid, line["structure"], None if draw is None else probe_of(draw))
        line |= run(task, method, "clicks", 0, args.clicks, JITTER_MM, answers_first=draw is not None)
        with args.results.open("a", encoding="utf-8") as out:
            out.write(json.dumps(line) + "\n")
        shown = " ".join(f"{dice:.2f}" for dice in line["dice"])
        print(f"{line['scan']}, {line['structure']}, {line['method']}: {shown}", flush=True)
    lines = [each for each in read(args.results) if each["results_version"] == TAUGHT_CLICKS]
    lines = [each for each in lines if each["clicks"] == args.clicks]
    print(write_tables(sorted(lines, key=_order), args.tables and args.tables / FILE))
    if args.tables:
        summary.renew(args.tables)


def _order(line: dict) -> tuple:
    found = re.match(r"\d+", line["method"])
    return int(found[0]) if found else 0, line["draw"], line["scan"], line["structure"]


if __name__ == "__main__":
    main()
