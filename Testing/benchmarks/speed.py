"""Time and memory of embedding, and how they grow: tables and plots.

Every case runs in a process of its own (see `speed_cases`), and its result is kept as a line of a file, so that a stopped
benchmark continues; delete the file, or lines of it, to measure again. Parts that are not asked for stay as they are in the
file of results. MONAI's row of the sample alone takes an hour of processor time. Processor time is given beside the clock,
since it depends less on other programs.

Usage: python -m Testing.benchmarks.speed [--parts window sample long store growth] [--output FOLDER] [--tables [FOLDER]]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from .tables import summary
from .tables.sections import RESULTS, add_tables_option, put_part, table

TITLE = "Speed and memory"
FILE = "speed.md"
PICTURE = "growth.png"
SIDES = (64, 96, 128, 160, 192)
POINTS = (10, 100, 1000, 4000)
STRUCTURES = (1, 4, 8, 16)
TITLES = {
    "monai": "MONAI's modules, SlidingWindowInferer, 96^3, overlap 0.75",
    "faithful": "ours, faithful: 96^3 windows, overlap 1/3",
    "whole": "ours, whole volume at once",
    "coralbay-mini": "CoralBay-mini (3 mm, trained)",
}


class Cases:
    """Runs each case once, and keeps results and machines; `pictures` is the folder for plots."""

    def __init__(self, file: Path, pictures: Path) -> None:
        self.file, self.pictures = file, pictures
        lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
        self.known = {entry["case"]: entry["result"] for entry in map(json.loads, lines)}
        self.used: list[dict] = []

    def __call__(self, case: str, **options: object) -> dict:
        """The result of a case.

        Raises:
            RuntimeError: it failed.
        """
        name = f"{case} {json.dumps(options, sort_keys=True)}"
        if name not in self.known:
            print(f"{name} ...", file=sys.stderr, flush=True)
            command = [sys.executable, "-m", "Testing.benchmarks.speed_cases", case, json.dumps(options)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise RuntimeError(f"{name} failed: {(done.stderr.strip().splitlines() or ['killed'])[-1]}")
            self.known[name] = json.loads(done.stdout.strip().splitlines()[-1])
            with self.file.open("a", encoding="utf-8") as out:
                out.write(json.dumps({"case": name, "result": self.known[name]}) + "\n")
        self.used.append(self.known[name])
        return self.known[name]

    def circumstances(self) -> str:
        """The machines and versions of the cases that were used, and whether other programs ran."""
        words = sorted({one["machine"] for one in self.used})
        if any(one["others_ran"] for one in self.used):
            words.append("Other programs ran at the same time, so compare processor times.")
        return " ".join(words)


def short(value: float) -> str:
    """A number with its significant digits."""
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}"


def windows(cases: Cases) -> str:
    """One window, ours beside MONAI's."""
    found = cases("window")
    base = found["MONAI, all six levels"]["cpu_seconds"]
    rows = [
        [name, f"{one['seconds']:.2f}", f"{one['cpu_seconds']:.2f}", f"{base / one['cpu_seconds']:.1f}"]
        for name, one in found.items()
        if isinstance(one, dict)
    ]
    return (
        table(["one window of 96^3 voxels, CoralBay-48", "s", "processor s", "times as fast"], rows)
        + f"\nLargest difference of any feature from MONAI's: {found['difference']:.1e}.\n"
    )


def whole_sample(cases: Cases) -> str:
    """Embedding and few-shot segmentation of the sample."""
    found = {title: cases("whole_sample", encoder=name) for name, title in TITLES.items()}
    base = found[TITLES["monai"]]["cpu_seconds"]
    rows = [
        [
            title,
            *map(short, (one["seconds"], one["cpu_seconds"], base / one["cpu_seconds"])),
            f"{one['peak_gb']:.1f}",
            f"{one['dice']:.4f}",
        ]
        for title, one in found.items()
    ]
    head = [f"sample CT, {found[TITLES['faithful']]['size']} voxels of 1.5 mm, CoralBay-48, random weights"]
    head += ["s", "processor s", "times as fast", "peak GB", "few-shot Dice"]
    return table(head, rows)


def long_scan(cases: Cases) -> str:
    """A scan of 512 x 512 x 800 voxels."""
    rows = []
    for encoder, title in (("coralbay-mini", "CoralBay-mini"), ("faithful", "CoralBay-48, faithful, random weights")):
        one = cases("long_scan", encoder=encoder)
        rows.append([title, f"{one['seconds']:.0f}", f"{one['cpu_seconds']:.0f}", f"{one['peak_gb']:.1f}"])
    return table(["512x512x800 voxels, embedded and one structure applied", "s to embed", "processor s", "peak GB"], rows)


def stored(cases: Cases) -> str:
    """Size and speed of the store."""
    rows = []
    for encoder, title in (("coralbay-mini",) * 2, ("astra",) * 2, ("whole", "CoralBay-48, random weights")):
        one = cases("store", encoder=encoder)
        rows.append(
            [
                title,
                f"{one['half_mb']:.0f}",
                f"{one['stored_mb']:.1f}",
                f"{one['stored_mb'] / one['raw_mb']:.2f}",
                f"{one['reading']['seconds']:.2f} ({one['reading']['cpu_seconds']:.2f})",
                *(f"{one[f'dice_{how}']:.4f}" for how in ("single", "half", "stored")),
            ]
        )
    head = ["sample CT", "half precision MB", "stored MB", "of the raw CT", "reopening s (processor)"]
    head += [f"few-shot Dice, {how}" for how in ("single precision, as lossless", "half precision, as in memory", "as stored")]
    return table(head, rows)


def growth(cases: Cases) -> str:
    """Growth of time and memory, as a table and a picture of four plots."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    by = {
        name: [cases("growth", encoder=name, side=side, spacing_mm=mm) for side in SIDES]
        for name, mm in (("whole", 1.5), ("faithful", 1.5), ("coralbay-mini", 3.0))
    }
    by_points = [cases("interaction_growth", points=n, structures=1) for n in POINTS]
    by_structures = [cases("interaction_growth", points=100, structures=n) for n in STRUCTURES]
    figure, axes = pyplot.subplots(1, 4, figsize=(15, 3.2), layout="constrained")
    for name, found in by.items():
        million = [side**3 / 1e6 for side in SIDES]
        axes[0].plot(million, [one["cpu_seconds"] for one in found], "o-", label=name)
        axes[1].plot(million, [one["peak_gb"] for one in found], "o-", label=name)
    axes[0].set(xlabel="million voxels at the encoder's spacing", ylabel="processor s to embed")
    axes[1].set(xlabel="million voxels at the encoder's spacing", ylabel="peak GB")
    axes[0].legend()
    axes[2].plot(POINTS, [one["fit"]["cpu_seconds"] for one in by_points], "o-")
    axes[2].set(xlabel="prompt points a class", ylabel="processor s to fit", xscale="log")
    axes[3].plot(STRUCTURES, [one["fit"]["cpu_seconds"] for one in by_structures], "o-", label="fit")
    axes[3].plot(STRUCTURES, [one["draw"]["cpu_seconds"] for one in by_structures], "o-", label="probabilities")
    axes[3].set(xlabel="structures", ylabel="processor s")
    axes[3].legend()
    figure.savefig(cases.pictures / PICTURE, dpi=80)
    rows = [
        [f"{side}^3", *(f"{by[name][n]['cpu_seconds']:.1f} / {by[name][n]['peak_gb']:.1f}" for name in by)]
        for n, side in enumerate(SIDES)
    ]
    return f"![growth]({PICTURE})\n\n" + table(["voxels", *(f"{name}: processor s / peak GB" for name in by)], rows)


PARTS: dict[str, tuple[str, Callable[[Cases], str]]] = {
    "window": ("One window", windows),
    "sample": ("The whole sample", whole_sample),
    "long": ("A long scan", long_scan),
    "store": ("The store", stored),
    "growth": ("How cost grows", growth),
}


def main() -> None:
    """Measure the cases that are missing, and write the parts that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=list(PARTS))
    parser.add_argument("--output", type=Path, default=Path("output/speed"))
    add_tables_option(parser, RESULTS)
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    for name in args.parts:
        title, make = PARTS[name]
        cases = Cases(args.output / "results.jsonl", args.tables)
        try:
            found = make(cases)
        except RuntimeError as error:
            print(f"{title} is not changed: {error}", file=sys.stderr)
            continue
        text = f"{cases.circumstances()}\n\n{found}"
        put_part(args.tables / FILE, TITLE, title, text)
        print(f"## {title}\n\n{text}")
    summary.renew(args.tables)


if __name__ == "__main__":
    main()
