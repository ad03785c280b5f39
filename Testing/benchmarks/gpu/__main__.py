"""Encoders on a graphics card: speed, memory, achieved shares of what the card can do, agreement with the CPU.

Measures in the order of importance until the time is over, and names what it left out. Without a card it writes that there
is none; `--device cpu --small` tries the whole benchmark on a CPU with small networks of random weights and small sizes.

Usage: python -m Testing.benchmarks.gpu [--minutes 7.5] [--encoders NAME...] [--batches N...] [--side 96] [--device cuda]
       [--small] [--tables [FOLDER]]
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch

import CoralBayLib as cb
from CoralBayLib.demo.sample import fetch_sample
from CoralBayLib.encoders.base import Axes, Encoder
from CoralBayLib.imaging.grid import Grid, Volume
from Testing.benchmarks.tables import summary
from Testing.benchmarks.tables.gpu import EIGHT_GB, FILE, NO_GPU, TITLE, UNMEASURED, Findings, tables
from Testing.benchmarks.tables.sections import add_tables_option, headings, machine, put_part, put_section

from . import cases
from .card import described, measured_peak
from .networks import SAME, Entry, entries

BATCHES = (1, 2, 4, 8, 16, 32)
FIRST_BATCHES = (1, 8)
"""Measured before other batches, for all encoders."""
SIDE = 96


@dataclass(eq=False)
class Benchmark:
    """Runs parts of the benchmark while there is time.

    Attributes:
        device: to measure.
        volume: the scan for measurements of whole scans.
        batches: sizes of batches of windows.
        side: of the windows, in voxels.
        repeats: least number of runs that a time is the median of.
        until: end of the time, by `time.monotonic`.
        found: what was measured.
    """

    device: torch.device
    volume: Volume
    batches: tuple[int, ...]
    side: int
    repeats: int
    until: float
    found: Findings = field(default_factory=Findings)

    def run(self, chosen: list[Entry]) -> None:
        """Measure the encoders."""
        made: dict[str, tuple[Encoder, str]] = {}
        for name, title, entry, action in self._steps(chosen):
            if time.monotonic() >= self.until:
                self.found.left_out.append(f"{title}: {name}")
                continue
            print(f"{title}: {name} ...", file=sys.stderr, flush=True)
            if title not in made:
                made[title] = entry.make()
                self.found.weights[title] = made[title][1]
            encoder = made[title][0]
            encoder.to(self.device)
            try:
                action(title, encoder)
            except (RuntimeError, cb.CoralBayError) as error:  # one that fails must not end the others
                self.found.failed[f"{title}: {name}"] = str(error).strip().splitlines()[0]
            encoder.to(torch.device("cpu"))

    def _steps(self, chosen: list[Entry]) -> Iterator[tuple[str, str, Entry, Callable[[str, Encoder], None]]]:
        """What is measured, the most important first."""
        first = tuple(batch for batch in self.batches if batch in FIRST_BATCHES) or self.batches[:1]
        others = tuple(batch for batch in self.batches if batch not in first)
        parts: list[tuple[str, Callable[[str, Encoder], None]]] = [
            (f"windows, batches {_words(first)}", lambda title, encoder: self._windows(title, encoder, first)),
            ("shares", self._work),
            ("whole scan", self._whole),
            ("the sample, end to end", self._end_to_end),
            ("agreement with the CPU", self._agreement),
        ]
        if others:
            more = lambda title, encoder: self._windows(title, encoder, others)  # noqa: E731
            parts.append((f"windows, batches {_words(others)}", more))
        parts.append(("windows in single precision", self._single))
        if self.device.type == "cuda":
            parts.append((f"the sample within {EIGHT_GB:g} GB", self._eight_gb))
        for name, action in parts:
            for entry in chosen:
                yield name, entry.title, entry, action

    def _size(self, encoder: Encoder) -> Axes:
        return cases.window_size(encoder, self.side)

    def _windows(self, title: str, encoder: Encoder, batches: tuple[int, ...]) -> None:
        size = self._size(encoder)
        self.found.sizes[title] = size
        for batch in sorted(batches):
            if time.monotonic() >= self.until:
                self.found.left_out.append(f"{title}: windows, batch {batch}")
                continue
            one = cases.passes(encoder, size, batch, "half", self.device, self.repeats)
            self.found.windows[title, "half", batch] = one
            if one is None:  # larger batches do not fit either
                break

    def _single(self, title: str, encoder: Encoder) -> None:
        one = cases.passes(encoder, self._size(encoder), 1, "single", self.device, self.repeats)
        self.found.windows[title, "single", 1] = one

    def _whole(self, title: str, encoder: Encoder) -> None:
        if encoder.tiling.window is not None or encoder.input.fit is not None:
            return  # it never sees a whole scan at once, or always the same size
        size = cases.whole_size(encoder, self.volume)
        self.found.whole[title] = size, cases.passes(encoder, size, 1, "half", self.device, self.repeats)

    def _work(self, title: str, encoder: Encoder) -> None:
        self.found.work[title] = cases.work(encoder, self._size(encoder), "half", self.device)

    def _agreement(self, title: str, encoder: Encoder) -> None:
        self.found.agreement[title] = cases.agreements(encoder, self._size(encoder), self.device)

    def _end_to_end(self, title: str, encoder: Encoder) -> None:
        cases.reset_peak(self.device)
        preparing, taken = cases.end_to_end(encoder, self.volume, self.device, min(2, self.repeats))
        self.found.end_to_end[title] = taken, preparing, cases.peak_gb(self.device), encoder.device.type
        if self.device.type == "cuda":
            with torch.autocast("cuda", torch.float16):
                self.found.half_end_to_end[title] = cases.end_to_end(encoder, self.volume, self.device, 1)[1]

    def _eight_gb(self, title: str, encoder: Encoder) -> None:
        peak = self.found.end_to_end.get(title, (0.0, 0.0, None, ""))[2]
        if encoder.tiling.window is None and peak is not None and peak > EIGHT_GB:
            return  # the CPU would do it, in minutes
        cases.reset_peak(self.device)
        cases.limit_memory(self.device, EIGHT_GB)
        try:
            taken = cases.end_to_end(encoder, self.volume, self.device, 1)[1]
        finally:
            cases.limit_memory(self.device, float("inf"))
        self.found.eight_gb[title] = taken, cases.peak_gb(self.device), encoder.device.type


def _words(batches: tuple[int, ...]) -> str:
    return ", ".join(map(str, batches))


def small_volume() -> Volume:
    """A ball of soft tissue of 160 mm in air."""
    grid = Grid((48, 48, 48), np.diag([4.0, 4.0, 4.0, 1.0]))
    k, j, i = np.indices(grid.shape) - 23.5
    return Volume(np.where(k**2 + j**2 + i**2 < 20**2, 40, -1000).astype(np.int16), grid)


def main() -> None:
    """Measure, print, and write the section."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = list(dict.fromkeys(entry.name for entry in entries()))
    parser.add_argument("--minutes", type=float, default=7.5, help="time for all; what is begun then is finished")
    parser.add_argument("--encoders", nargs="+", choices=names, default=names)
    parser.add_argument("--batches", type=int, nargs="+", default=list(BATCHES))
    parser.add_argument("--side", type=int, default=SIDE, help="of windows, in voxels")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true", help="small networks, a small scan, one repeat: to try the benchmark")
    add_tables_option(parser)
    args = parser.parse_args()
    until = time.monotonic() + 60 * args.minutes
    device = torch.device(args.device)
    file = args.tables / FILE if args.tables else None
    is_measured = file is not None and file.exists() and headings(file) != [UNMEASURED]
    if device.type == "cuda" and not torch.cuda.is_available():
        print(NO_GPU)
        print("To try it on this CPU with small sizes: python -m Testing.benchmarks.gpu --device cpu --small")
        if file is not None and not is_measured:
            put_section(file, TITLE, f"## {UNMEASURED}\n\n{NO_GPU}")
            summary.renew(args.tables)
        return
    volume = small_volume() if args.small else cb.read_volume(fetch_sample().ct)
    side, megabytes, repeats = (256, 8, 1) if args.small else (8192, 1024, 3)
    peak = measured_peak(device, side, megabytes, repeats)
    benchmark = Benchmark(device, volume, tuple(args.batches), args.side, repeats, until)
    benchmark.run([entry for entry in entries(args.small) if entry.name in args.encoders])
    words = [described(device) + ".", machine(torch.get_num_threads()).replace(", no GPU", "")]
    if args.small:
        words.append("Small networks of random weights and a small scan, to try the benchmark: the figures say nothing.")
    words += [f"{one} has the network of {other}, and so its speed." for one, other in SAME.items()]
    text = tables(benchmark.found, peak, args.batches, args.side)
    part = described(device)
    print(f"## {part}\n\n{' '.join(words)}\n\n{text}")
    if file is not None:
        if not is_measured:
            file.unlink(missing_ok=True)
        put_part(file, TITLE, part, f"{' '.join(words)}\n\n{text}")
        summary.renew(args.tables)


if __name__ == "__main__":
    main()
