"""Clicks alone, and a box with five clicks as in the field's challenge, by CoralBay and its peers.

One structure at a time. "clicks": the first click is in the middle of the structure, each next in the middle of the largest
connected error, missing or wrong. "box": a tight box along the patient's axes, then five such clicks, as in the CVPR 2025
challenge "Foundation Models for Interactive 3D Biomedical Image Segmentation". A click is one point, drawn at random among the
voxels of the error within `--jitter-mm` of its middle. Clicks are chosen and scored on a grid of 2 mm, or the scan's own where
that is coarser. CoralBay gets the points; its peers get a ball of 4 mm within the error (see `click_sessions.PeerClicked`).

Each session of a method is a line in a file of results, so that a stopped benchmark continues. Lines count while they have the
version that `versions` lists. The tables keep scans that CoralBay was tuned on apart from all others.

Usage: python -m Testing.benchmarks.clicks [--scans FOLDER...] [--no-sample] [--methods NAME...] [--protocols NAME...]
       [--structures N or NAME...] [--auto NAME[:SCAN,...]...] [--seeds N] [--jitter-mm MM] [--region REGION=SCAN,...]
       [--tuned SCAN...] [--results FILE] [--tables [FOLDER]] [--verify N]
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Callable
from dataclasses import replace
from fnmatch import fnmatch
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

import torch

from CoralBayLib.imaging.grid import Volume

from .click_sessions import JITTER_MM, PROTOCOLS, Clicked, OursClicked, PeerClicked, run
from .encoders import Labelled, read_scan
from .peers import Forest, GrowFromSeeds, LinearFilters, NearestIntensity
from .protocol import Task
from .quality import PACKAGES, chosen, read, sample
from .tables import summary
from .tables.clicks import write_tables
from .tables.sections import MEASURED, add_tables_option
from .verify import add_options, verify
from .versions import CLICKS

FILE = "clicks.md"
METHODS: dict[str, Callable[[Volume], Clicked]] = {
    "coralbay-mini": lambda volume: OursClicked(volume, "coralbay-mini"),
    "astra": lambda volume: OursClicked(volume, "astra"),
    "grow from seeds": lambda volume: PeerClicked(volume, GrowFromSeeds),
    "random forest on filters": lambda volume: PeerClicked(volume, Forest),
    "linear on filters": lambda volume: PeerClicked(volume, LinearFilters),
    "nearest mean HU": lambda volume: PeerClicked(volume, NearestIntensity),
}
DEFAULT = ("coralbay-mini", "grow from seeds", "random forest on filters", "nearest mean HU")
AUTO = ("liver", "spleen", "stomach", "kidney_left:crlm1004,crlm1006")
"""Structures to take from labels that a network made: those on which a second network agrees."""
REGIONS = {
    "head and neck": ("pt_*", "moose_neck*"),
    "chest": ("sample", "slicerio_ctchest4", "lung4d_*", "lidc*", "nsclc_*", "elastix_lung*", "riderpilot*", "lungfcp*"),
    "abdomen": ("crlm*", "cptacpda*", "acrinflt*", "kits*"),
    "limb and pelvis": ("STS_*", "sts*"),
}
"""By region of the body, patterns of the names of scans."""
TUNED = ("sample", "slicerio_ctchest4", "crlm1004", "cptacpda00189", "STS_006", "STS_018", "STS_026", "STS_034", "sts001")
TUNED += tuple(
    f"pt_{n}"
    for n in (
        2,
        7,
        13,
        14,
        15,
        17,
        20,
        21,
        24,
        25,
        26,
        31,
        34,
        39,
        60,
        61,
        62,
        65,
        66,
        68,
        72,
        78,
        82,
        83,
        84,
        87,
        95,
        96,
        99,
        106,
        109,
        112,
        114,
        115,
        119,
        122,
        124,
        126,
        168,
        172,
        180,
        182,
        187,
        193,
        200,
        201,
    )
)
"""Scans on which CoralBay's way with clicks was tuned."""


def main() -> None:
    """Run the sessions that are missing, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scans", type=Path, nargs="*", default=[], help="folders with ct, labels and their names")
    parser.add_argument("--no-sample", action="store_true")
    parser.add_argument("--methods", nargs="*", choices=METHODS, default=list(DEFAULT))
    parser.add_argument("--protocols", nargs="*", choices=PROTOCOLS, default=list(PROTOCOLS))
    parser.add_argument("--structures", nargs="*", default=[], help="how many of each scan, or which")
    parser.add_argument("--auto", nargs="*", default=list(AUTO), help="structures of labels that a network made; of some scans")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--clicks", type=int, default=PROTOCOLS["clicks"], help="of the sessions without a box")
    parser.add_argument("--jitter-mm", type=float, default=JITTER_MM)
    parser.add_argument("--region", nargs="*", default=[], metavar="REGION=SCAN,...", help="where a scan is of another region")
    parser.add_argument("--tuned", nargs="*", default=list(TUNED), help="names of scans to keep apart in the tables")
    parser.add_argument("--results", type=Path, default=MEASURED / "clicks.jsonl", help="the file of results")
    add_options(parser)
    add_tables_option(parser)
    args = parser.parse_args()
    given = dict(each.split("=", 1) for each in args.region if "=" in each)
    if set(given) - set(REGIONS):
        parser.error(f"--region knows {', '.join(REGIONS)}")
    given = {name: region for region, names in given.items() for name in names.split(",")}
    if args.verify:
        sys.exit(0 if check(args) else 1)
    args.results.parent.mkdir(parents=True, exist_ok=True)
    done = {key(line) for line in read(args.results)}
    for folder in [*([] if args.no_sample else [None]), *args.scans]:
        region = region_of("sample" if folder is None else folder.name, given)
        if region is None:
            parser.error(f"Say which region of the body {folder.name} is of: --region REGION={folder.name}")
        run_missing(read_any(folder, tuple(args.auto)), region, args, done)
    asked = {"clicks": args.clicks, "box": PROTOCOLS["box"]}
    lines = [line for line in read(args.results) if asked[line["protocol"]] == line["clicks"]]
    lines = [line for line in lines if line["jitter_mm"] == args.jitter_mm]
    print(write_tables(lines, CLICKS, args.tuned, args.tables and args.tables / FILE))
    if args.tables:
        summary.renew(args.tables)


def run_missing(scan: Labelled, region: str, args: argparse.Namespace, done: set[tuple]) -> None:
    """Run a scan's sessions that are not done, and append their lines."""
    task_of = lru_cache(maxsize=None)(lambda structure: Task(scan, (structure,)))
    clicks = {"clicks": args.clicks, "box": PROTOCOLS["box"]}
    asked = [
        describe(name, scan.name, structure, protocol, seed, clicks[protocol], args.jitter_mm)
        for name in args.methods
        for structure in chosen(scan, args.structures)
        for protocol in args.protocols
        for seed in range(args.seeds)
    ]
    ready: tuple[str, Clicked] | None = None
    for line in asked:
        if key(line) in done:
            continue
        name = line["method"]
        if ready is None or ready[0] != name:
            ready = None  # lets go of the memory of the method before
            ready = name, METHODS[name](scan.volume)
        line |= {"region": region} | measure(ready[1], task_of(line["structure"]), line)
        with args.results.open("a", encoding="utf-8") as out:
            out.write(json.dumps(line) + "\n")
        print(one_line(line), flush=True)


def read_any(folder: Path | None, auto: tuple[str, ...]) -> Labelled:
    """A scan with labels of people, or else with the structures to take from labels that a network made; None: the sample."""
    if folder is None:
        return sample()
    if (folder / "labels.nii.gz").is_file():
        return read_scan(folder)
    scan = read_scan(folder, "auto_labels")
    wanted = (each.partition(":")[::2] for each in auto)
    names = {name for name, scans in wanted if not scans or scan.name in scans.split(",")}
    return replace(scan, names={label: name for label, name in scan.names.items() if name in names})


def region_of(scan: str, given: dict[str, str]) -> str | None:
    """The region of the body of a scan, as given or by its name; None if it is not known."""
    known = (region for region, patterns in REGIONS.items() if any(fnmatch(scan, pattern) for pattern in patterns))
    return given.get(scan) or next(known, None)


def describe(method: str, scan: str, structure: str, protocol: str, seed: int, clicks: int, jitter: float) -> dict:
    """The keys by which a session is found again."""
    return {
        "method": method,
        "results_version": CLICKS[method],
        "protocol": protocol,
        "scan": scan,
        "structure": structure,
        "seed": seed,
        "clicks": clicks,
        "jitter_mm": jitter,
    }


def key(line: dict) -> tuple:
    """What makes two lines the same session."""
    names = ("method", "results_version", "protocol", "scan", "structure", "seed", "clicks", "jitter_mm")
    return tuple(line[name] for name in names)


def measure(method: Clicked, task: Task, line: dict) -> dict:
    """The rest of a line: scores, volume, times, machine and versions."""
    return {
        "millilitres": round(task.millilitres()[task.names[0]], 2),
        **run(task, method, line["protocol"], line["seed"], line["clicks"], line["jitter_mm"]),
        "machine": f"{platform.system()} {platform.machine()}, {torch.get_num_threads()} threads",
        "versions": {"python": platform.python_version()} | {name: version(name) for name in PACKAGES},
    }


def one_line(line: dict) -> str:
    """One session in a line."""
    about = f"{line['scan']}, {line['structure']}, {line['protocol']}, seed {line['seed']}, {line['method']}"
    return f"{about}: {' '.join(f'{value:.2f}' for value in line['dice'])} {line['signs']} ({line['seconds']} s)"


def check(args: argparse.Namespace) -> bool:
    """Run stored sessions of the scans, methods and protocols again; whether all gave the same scores."""
    folders = {folder.name: folder for folder in args.scans} | ({} if args.no_sample else {"sample": None})
    lines = [line for line in read(args.results) if line["results_version"] == CLICKS[line["method"]]]
    asked = {"scan": folders, "method": args.methods, "protocol": args.protocols}
    lines = [line for line in lines if all(line[name] in values for name, values in asked.items())]

    @lru_cache(maxsize=1)
    def scan_of(name: str) -> Labelled:
        return read_any(folders[name], tuple(args.auto))

    @lru_cache(maxsize=1)
    def ready(scan: str, method: str) -> Clicked:
        return METHODS[method](scan_of(scan).volume)

    def again(line: dict) -> dict:
        found = measure(ready(line["scan"], line["method"]), Task(scan_of(line["scan"]), (line["structure"],)), line)
        return {name: found[name] for name in ("dice", "nsd", "estimate", "signs") if name in found}

    return verify(lines, ("scan", "method", "protocol"), again, args.verify, args.verify_seed)


if __name__ == "__main__":
    main()
