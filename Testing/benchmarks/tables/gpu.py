"""Markdown tables of what the benchmark on a graphics card measures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .sections import table

if TYPE_CHECKING:  # they import torch
    from CoralBayLib.encoders.base import Axes
    from Testing.benchmarks.gpu.card import Peak
    from Testing.benchmarks.gpu.cases import Agreement, Pass, Work

FILE = "gpu.md"
TITLE = "GPU"
UNMEASURED = "No GPU"
NO_GPU = "no GPU: nothing was measured on a graphics card. `make bench-gpu` measures it in under eight minutes."
EIGHT_GB = 7.0
"""What a process can have of a card with 8 GB: a desktop and the driver take the rest."""
GOAL_S = 1.0


@dataclass
class Findings:
    """What was measured, by the encoder's title.

    Attributes:
        weights: whether they are the published ones or random.
        sizes: of the windows.
        windows: by title, precision and batch; None where the memory was too small.
        whole: size of the scan at the encoder's spacing, and its pass.
        work: of one window in half precision.
        agreement: by precision.
        end_to_end: seconds, of which preparing on the CPU, peak in GB, and the device at the end.
        half_end_to_end: seconds in half precision.
        eight_gb: seconds, peak in GB and the device at the end, with the memory of a card of 8 GB.
        left_out: what there was no time for.
        failed: what failed, and why.
    """

    weights: dict[str, str] = field(default_factory=dict)
    sizes: dict[str, Axes] = field(default_factory=dict)
    windows: dict[tuple[str, str, int], Pass | None] = field(default_factory=dict)
    whole: dict[str, tuple[Axes, Pass | None]] = field(default_factory=dict)
    work: dict[str, Work] = field(default_factory=dict)
    agreement: dict[str, dict[str, Agreement]] = field(default_factory=dict)
    end_to_end: dict[str, tuple[float, float, float | None, str]] = field(default_factory=dict)
    half_end_to_end: dict[str, float] = field(default_factory=dict)
    eight_gb: dict[str, tuple[float, float | None, str]] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)


def tables(found: Findings, peak: Peak, batches: Sequence[int], side: int) -> str:
    """All tables."""
    titles = list(found.weights)
    parts = [_peak(peak), _windows(found, titles, batches, side), _shares(found, titles, peak), _whole(found)]
    parts += [_end_to_end(found), _eight_gb(found, titles, batches), _agreement(found)]
    if found.failed:
        parts.append("Failed:\n\n" + "\n".join(f"- {name}: {reason}" for name, reason in found.failed.items()))
    if found.left_out:
        parts.append("Left out, because the time was over:\n\n" + "\n".join(f"- {name}" for name in found.left_out))
    return "\n\n".join(part.strip() for part in parts if part)


def _peak(peak: Peak) -> str:
    flops = ", ".join(f"{value / 1e12:.1f} TFLOP/s in {precision} precision" for precision, value in peak.flops.items())
    return f"Measured here: a matrix multiplication reaches {flops}; a copy moves {peak.bytes_a_second / 1e9:.0f} GB/s."


def _windows(found: Findings, titles: Sequence[str], batches: Sequence[int], side: int) -> str:
    head = ["encoder", "weights", "size", *(f"batch {batch}" for batch in sorted(batches)), "single precision, batch 1"]
    rows = []
    for title in titles:
        if title in found.sizes:
            cells = [_pass(found.windows, (title, "half", batch)) for batch in sorted(batches)]
            size = "x".join(map(str, found.sizes[title]))
            rows.append([title, found.weights[title], size, *cells, _pass(found.windows, (title, "single", 1))])
    words = (
        f"Windows of about {side}^3 voxels in half precision: volumes a second / peak GB of the card's memory. Speed does not "
        "depend on the values of the weights, so random ones are fine."
    )
    return f"{words}\n\n{table(head, rows)}" if rows else ""


def _pass(passes: dict[tuple[str, str, int], Pass | None], key: tuple[str, str, int]) -> str:
    if key not in passes:
        return "-"
    one = passes[key]
    return "too little memory" if one is None else f"{_short(one.volumes_a_second)} / {_gb(one.peak_gb)}"


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _gb(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _best(found: Findings, title: str) -> Pass | None:
    """The fastest pass of windows in half precision."""
    own = [one for (name, precision, _), one in found.windows.items() if (name, precision) == (title, "half") and one]
    return max(own, key=lambda one: one.volumes_a_second, default=None)


def _shares(found: Findings, titles: Sequence[str], peak: Peak) -> str:
    rows = []
    for title in titles:
        best = _best(found, title)
        if best is None or title not in found.work:
            continue
        work, speed = found.work[title], best.volumes_a_second
        flops, moved = work.flops * speed / peak.flops["half"], work.bytes * speed / peak.bytes_a_second
        rows.append(
            [title, f"{work.flops / 1e9:.0f}", f"{work.bytes / 1e9:.2f}", f"{100 * flops:.0f} %", f"{100 * moved:.0f} %"]
        )
    words = (
        "Shares of what was measured above, at the fastest batch in half precision. Bytes are those that all operations read "
        "and write; what stays in the card's caches makes the share of the bandwidth larger than it is, even above 100 %."
    )
    head = ["encoder", "GFLOP a window", "GB a window", "of the arithmetic", "of the bandwidth"]
    return f"{words}\n\n{table(head, rows)}" if rows else ""


def _whole(found: Findings) -> str:
    rows = []
    for title, (size, one) in found.whole.items():
        cells = ["too little memory", "-"] if one is None else [_short(one.volumes_a_second), _gb(one.peak_gb)]
        rows.append([title, "x".join(map(str, size)), *cells])
    head = ["encoder", "voxels of the sample", "scans a second", "peak GB"]
    return "The whole sample in one pass, half precision:\n\n" + table(head, rows) if rows else ""


def _end_to_end(found: Findings) -> str:
    rows = []
    for title, (seconds, preparing, peak, device) in found.end_to_end.items():
        reached = "yes" if seconds <= GOAL_S else "no"
        half = f"{found.half_end_to_end[title]:.2f}" if title in found.half_end_to_end else "-"
        rows.append([title, f"{seconds:.2f}", f"{preparing:.2f}", reached, half, _gb(peak), device])
    words = (
        f"The sample end to end: from the scan in memory to its whitened features; the goal is {GOAL_S:g} s. It is computed in "
        "single precision as by `cb.embed`; half precision is tried beside it. Nothing is stored. It is prepared on the CPU."
    )
    head = ["encoder", "seconds", "of which preparing", "goal reached", "seconds in half precision", "peak GB", "device"]
    return f"{words}\n\n{table(head, rows)}" if rows else ""


def _eight_gb(found: Findings, titles: Sequence[str], batches: Sequence[int]) -> str:
    rows = []
    for title in titles:
        own = {batch: found.windows.get((title, "half", batch)) for batch in batches}
        fitting = [batch for batch, one in own.items() if one and one.peak_gb is not None and one.peak_gb <= EIGHT_GB]
        whole = found.whole.get(title, (None, None))[1]
        cells = [str(max(fitting)) if fitting else "-"]
        cells.append("-" if whole is None or whole.peak_gb is None else "yes" if whole.peak_gb <= EIGHT_GB else "no")
        if title in found.eight_gb:
            seconds, peak, device = found.eight_gb[title]
            cells += [f"{seconds:.2f}", _gb(peak), device]
        else:
            cells += ["-", "-", "-"]
        rows.append([title, *cells])
    words = (
        f"A card of 8 GB, of which a process can have {EIGHT_GB:g} GB: the largest batch of windows and whether the whole "
        "sample fits, by the peaks above, in half precision; and the sample end to end with the memory limited to that. 'cpu' "
        "means that it did not fit and went on there, '-' that it was not tried, since it does not fit or there was no time."
    )
    head = ["encoder", "largest batch", "whole scan fits", "sample, s", "peak GB", "device"]
    return f"{words}\n\n{table(head, rows)}" if rows else ""


def _agreement(found: Findings) -> str:
    rows = []
    for title, by in found.agreement.items():
        cells = [f"{one.difference:.1e} / {one.cosine:.6f}" for one in (by["single"], by["half"])]
        rows.append([title, *cells])
    words = (
        "One window beside the CPU in single precision: largest difference of a feature, in standard deviations of its level / "
        "smallest cosine between the vectors of a place."
    )
    return f"{words}\n\n{table(['encoder', 'single precision', 'half precision'], rows)}" if rows else ""
