"""The model card of a cohort's probe: what it learned from, and how good its suggestions were. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from CoralBayLib.core.notice import NOTICE

from .description import Description, now
from .status import ScanStatus, State


@dataclass(frozen=True)
class CurvePoint:
    """One suggestion that somebody checked.

    Attributes:
        patients: how many scans the probe had learned before; the scan was not among them.
        dice: of the suggestion against what was accepted, by structure; those that were empty in both are left out.
    """

    patients: int
    dice: dict[str, float]

    @property
    def mean(self) -> float:
        """Mean over the structures."""
        return float(np.mean(list(self.dice.values())))


def curve_of(accepted: Sequence[Mapping[str, Any]]) -> list[CurvePoint]:
    """The learning curve, by number of patients learned before.

    Args:
        accepted: the records of the accepted scans.
    """
    points = [
        CurvePoint(int(record["patients"]), {str(name): float(dice) for name, dice in record["suggestion_dice"].items()})
        for record in accepted
        if record.get("suggestion_dice") and record.get("patients")
    ]
    return sorted(points, key=lambda point: point.patients)


def model_card(
    description: Description,
    scans: Sequence[ScanStatus],
    accepted: Sequence[Mapping[str, Any]],
    probe: Mapping[str, Any] | None,
) -> str:
    """The card, as Markdown. It names no scan, no path and no person.

    Args:
        description: of the cohort.
        scans: all of them.
        accepted: the records of the accepted scans.
        probe: the record of the probe; None before anything was learned.
    """
    encoder = description.encoder or {}
    lines = [
        f"# Probe of the cohort {_inline(description.name)}",
        "",
        f"**{NOTICE}**",
        "",
        "| | |",
        "|---|---|",
        f"| Structures | {', '.join(map(_inline, description.structures))} |",
        f"| Encoder | {_inline(str(encoder.get('encoder', 'none yet')))} |",
        f"| Weights (SHA-256) | {encoder.get('weights', 'none yet')} |",
        f"| Patients learned | {len(probe['learned']) if probe else 0} |",
        f"| Probe (SHA-256) | {probe['sha256'] if probe else 'none yet'} |",
        f"| Scans | {_counts(scans)} |",
        f"| People who accepted (named) | {len({r['by'] for r in accepted if r.get('by')}) or 'not given'} |",
        f"| First and last acceptance | {_period(accepted)} |",
        f"| Card made | {now()} |",
        "",
        "## Learning curve",
        "",
        "Dice of each suggestion against what was then accepted for that scan, by the number of patients that the probe had "
        "learned before. The person who accepted saw the suggestion, so these figures may be higher than against a "
        "segmentation that was drawn without it. Each row is few scans: look at the trend, not at single values.",
        "",
        *_table(curve_of(accepted), description.structures),
        "",
        "## Annotations",
        "",
        "| Structure | Scans in which it was looked for | Scans without it |",
        "|---|---|---|",
        *(_annotated(structure, accepted) for structure in description.structures),
        "",
        "## Limits",
        "",
        "The probe knows scans like those it learned from. On other scanners, contrast phases, ages or diseases it may fail "
        "without notice; check every result.",
        "",
    ]
    return "\n".join(lines)


def _table(curve: Sequence[CurvePoint], structures: Sequence[str]) -> list[str]:
    if not curve:
        return ["No suggestion has been checked yet."]
    lines = [
        f"| Patients learned | Scans | Mean | {' | '.join(map(_inline, structures))} |",
        "|---" * (3 + len(structures)) + "|",
    ]
    for patients in sorted({point.patients for point in curve}):
        here = [point for point in curve if point.patients == patients]
        cells = []
        for structure in structures:
            values = [point.dice[structure] for point in here if structure in point.dice]
            cells.append(f"{np.mean(values):.2f}" if values else "")
        mean = np.mean([point.mean for point in here])
        lines.append(f"| {patients} | {len(here)} | {mean:.2f} | {' | '.join(cells)} |")
    return lines


def _annotated(structure: str, accepted: Sequence[Mapping[str, Any]]) -> str:
    looked_for = [record for record in accepted if structure in record.get("structures", ())]
    without = sum(not record.get("volume_ml", {}).get(structure) for record in looked_for)
    return f"| {_inline(structure)} | {len(looked_for)} | {without} |"


def _counts(scans: Sequence[ScanStatus]) -> str:
    counts = [(sum(scan.state is state for scan in scans), state.value) for state in reversed(State)]
    return ", ".join(f"{count} {word}" for count, word in counts if count) or "none"


def _period(accepted: Sequence[Mapping[str, Any]]) -> str:
    days = sorted(str(record.get("when", ""))[:10] for record in accepted)
    return f"{days[0]} to {days[-1]}" if days else "none"


def _inline(text: str) -> str:
    """Text that Markdown shows as it is in a cell of a table."""
    return "".join(f"\\{c}" if c in "\\|`*_<>[]#" else c for c in text)
