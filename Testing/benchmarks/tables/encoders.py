"""Markdown tables of what `encoders` measures."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

ORGANS = ("liver", "spleen", "kidney_left", "lung_lower_lobe_right", "aorta", "heart", "stomach", "esophagus")
BONES = ("vertebrae_T8", "rib_left_7", "clavicula_right", "sternum")
CLICKS = 4
TOP, APART_MM, QUERIES = 20, 10.0, 5
LEAST_ML = 40.0
"""Least volume of a kind in a scan to be searched there; 20 places 10 mm apart do not fit in less."""
SHOWN, SHOWN_APART_MM = 200, 20.0
"""Number and distance of the regions among which the other kidney is ranked; the module shows regions 20 mm apart."""
HEAD = [
    "features",
    f"Dice of {len(ORGANS)} organs: 1 slice / 3 slices / +{CLICKS} clicks",
    f"the same of {len(BONES)} bones",
    f"precision@{TOP} within",
    "across patients, there / back",
    "other kidney's rank, left / right",
    "seconds",
]
HOW = (
    f"Precision@{TOP}: the share of the {TOP} regions most similar to a place, {APART_MM:g} mm apart, that are of its kind of "
    f"tissue, regardless of side and number; {QUERIES} places a structure. Within: places of the sample, searched in the "
    f"sample. Across patients: kinds of at least {LEAST_ML:g} ml in both scans, from the sample to each other scan and back. "
    f"Rank: that of the first region in the other kidney, among regions {SHOWN_APART_MM:g} mm apart. Dice is of the sample, "
    "with strokes and clicks; 'untrained' has random weights of seed 0."
)


@dataclass
class Findings:
    """The measurements of one row of the table."""

    dice: dict[str, dict[str, float]] = field(default_factory=dict)
    within: dict[str, float] = field(default_factory=dict)
    there: dict[str, float] = field(default_factory=dict)
    back: dict[str, float] = field(default_factory=dict)
    other_side: list[str] = field(default_factory=list)
    seconds: float | None = None


def row(title: str, found: Findings) -> list[str]:
    """The table's line."""

    def mean(values: dict[str, float]) -> str:
        return f"{np.mean(list(values.values())):.3f}"

    def mean_dice(structures: tuple[str, ...]) -> str:
        return " / ".join(f"{np.mean([by[name] for name in structures]):.3f}" for by in found.dice.values())

    across = f"{mean(found.there)} / {mean(found.back)}" if found.there else "no second scan given"
    cells = [title, mean_dice(ORGANS), mean_dice(BONES), mean(found.within), across, " / ".join(found.other_side)]
    return [*cells, "-" if found.seconds is None else f"{found.seconds:.1f}"]


def details(found: dict[str, Findings]) -> str:
    """The values of every structure of every row."""
    lines = []
    for title, one in found.items():
        lines.append(f"\n{title}")
        for part in ("within", "there", "back"):
            lines.append(f"  {part}: " + ", ".join(f"{name} {value:.2f}" for name, value in getattr(one, part).items()))
        for stage, by_name in one.dice.items():
            lines.append(f"  Dice, {stage}: " + ", ".join(f"{name} {value:.2f}" for name, value in by_name.items()))
    return "\n".join(lines)


def compared(small: float | None, large: dict[str, float]) -> str:
    """Seconds to embed the sample with coralbay-mini, and with CoralBay-48 by setting."""
    lines = ["Seconds to embed the sample:\n"] + ([f"- coralbay-mini: {small:.1f}"] if small else [])
    for setting, taken in large.items():
        times = f", {taken / small:.1f} times coralbay-mini's" if small else ""
        lines.append(f"- CoralBay-48 with random weights, {setting}: {taken:.1f}{times}")
    return "\n".join(lines)
