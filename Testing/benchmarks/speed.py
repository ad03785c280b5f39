"""How long a person waits for an embedding, what it takes, and how that grows: tables and plots.

Every case runs in a process of its own (see `speed_cases`), and its result is kept as a line of a file, so that a stopped
benchmark goes on where it was; delete the file to measure anew. MONAI's row alone takes half an hour on two cores.
Besides the clock, processor time is given: it says more where other programs run.

Usage: python -m Testing.benchmarks.speed [--output FOLDER] [--tables FILE] [--without-monai]
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from .sections import put_section, table

SIDES = (64, 96, 128, 160, 192)
POINTS = (10, 100, 1000, 4000)
STRUCTURES = (1, 4, 8, 16)
TITLES = {
    "monai": "MONAI's modules, SlidingWindowInferer, 96^3, overlap 0.75",
    "faithful": "ours, faithful: 96^3 windows, overlap 1/3",
    "whole": "ours, whole volume at once",
}
PACKAGES = ("torch", "monai", "numpy")


class Cases:
    """Runs cases once and remembers what they gave."""

    def __init__(self, file: Path) -> None:
        self.file = file
        lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
        self.known = {entry["case"]: entry["result"] for entry in map(json.loads, lines)}

    def __call__(self, case: str, **options: object) -> dict:
        """The result of a case, or `{}` with the reason printed when it failed."""
        name = f"{case} {json.dumps(options, sort_keys=True)}"
        if name not in self.known:
            print(f"{name} ...", file=sys.stderr, flush=True)
            command = [sys.executable, "-m", "Testing.benchmarks.speed_cases", case, json.dumps(options)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                print(done.stderr.strip().splitlines()[-1:], file=sys.stderr)
                return {}
            self.known[name] = json.loads(done.stdout.strip().splitlines()[-1])
            with self.file.open("a", encoding="utf-8") as out:
                out.write(json.dumps({"case": name, "result": self.known[name]}) + "\n")
        return self.known[name]


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


def whole_sample(cases: Cases, monai: bool) -> str:
    """The sample end to end."""
    found = {name: cases("whole_sample", encoder=name) for name in TITLES if monai or name != "monai"}
    found = {name: one for name, one in found.items() if one}
    base = found.get("monai", {}).get("cpu_seconds")
    rows = [
        [
            TITLES[name],
            f"{one['seconds']:.0f}",
            f"{one['cpu_seconds']:.0f}",
            f"{base / one['cpu_seconds']:.1f}" if base else "-",
            f"{one['peak_gb']:.1f}",
            f"{one['dice']:.4f}",
        ]
        for name, one in found.items()
    ]
    mini = cases("whole_sample", encoder="coralbay-mini")
    rows.append(
        [
            "CoralBay-mini (3 mm, trained)",
            f"{mini['seconds']:.1f}",
            f"{mini['cpu_seconds']:.1f}",
            f"{base / mini['cpu_seconds']:.0f}" if base else "-",
            f"{mini['peak_gb']:.1f}",
            f"{mini['dice']:.4f}",
        ]
    )
    size = next(iter(found.values()))["size"]
    head = [f"sample CT, {size} voxels of 1.5 mm, CoralBay-48, random weights"]
    head += ["s", "processor s", "times as fast", "peak GB", "few-shot Dice"]
    return table(head, rows)


def stored(cases: Cases) -> str:
    """The store."""
    rows = []
    for encoder in ("coralbay-mini", "astra", "whole"):
        one = cases("store", encoder=encoder)
        rows.append(
            [
                "CoralBay-48" if encoder == "whole" else encoder,
                f"{one['half_mb']:.0f}",
                f"{one['stored_mb']:.1f}",
                f"{one['stored_mb'] / one['raw_mb']:.2f}",
                f"{one['reading']['seconds']:.2f} ({one['reading']['cpu_seconds']:.2f})",
                f"{one['dice_half']:.4f}",
                f"{one['dice_stored']:.4f}",
            ]
        )
    head = ["sample CT", "half precision MB", "stored MB", "of the raw CT", "reopening s (processor)", "Dice", "Dice, stored"]
    return table(head, rows)


def long_scan(cases: Cases) -> str:
    """512 x 512 x 800 voxels."""
    rows = []
    for encoder, title in (("coralbay-mini", "CoralBay-mini"), ("faithful", "CoralBay-48, faithful")):
        one = cases("long_scan", encoder=encoder)
        if one:
            rows.append([title, f"{one['seconds']:.0f}", f"{one['cpu_seconds']:.0f}", f"{one['peak_gb']:.1f}"])
    return table(["512x512x800 voxels, embedded and one structure applied", "s to embed", "processor s", "peak GB"], rows)


def growth(cases: Cases, picture: Path) -> str:
    """How cost grows, as tables and one picture of four plots."""
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
    figure.savefig(picture, dpi=80)
    rows = [
        [f"{side}^3", *(f"{by[name][n]['cpu_seconds']:.1f} / {by[name][n]['peak_gb']:.1f}" for name in by)]
        for n, side in enumerate(SIDES)
    ]
    return f"![growth]({picture.name})\n\n" + table(["voxels", *(f"{name}: processor s / peak GB" for name in by)], rows)


def main() -> None:
    """Measure what has not been measured, and write the section."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("output/speed"))
    parser.add_argument("--tables", type=Path, default=Path("Testing/benchmarks/RESULTS.md"))
    parser.add_argument("--without-monai", action="store_true", help="leave the half hour of MONAI's row out")
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    cases = Cases(args.output / "results.jsonl")
    threads = cases("window")["threads"]
    about = f"{platform.system()} {platform.machine()}, {threads} threads; " + ", ".join(
        f"{name} {version(name)}" for name in PACKAGES
    )
    parts = [
        about + ".",
        windows(cases),
        whole_sample(cases, not args.without_monai),
        long_scan(cases),
        stored(cases),
        growth(cases, args.tables.with_name("growth.png")),
        "All of this ran on the CPU; no GPU was measured.",
    ]
    text = "\n\n".join(part.strip() for part in parts)
    put_section(args.tables, "Speed and memory", text)
    print(text)


if __name__ == "__main__":
    main()
