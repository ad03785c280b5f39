"""Markdown tables from the lines of results that `landmarks` writes."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np

from .sections import put_section, table

TITLE = "Landmarks in another patient"
HOW = (
    "Error in mm, median / 90th percentile over landmarks and patients, by number of labeled patients. The points come from "
    "contours that many hands drew: where the cord ends depends on the annotator. 'landmarks' is `CoralBayLib/similarity/"
    "landmarks.py`; 'aligned bodies alone' is where scale and shift between the bodies put it (median over the labeled "
    "patients); the last is the mean position in the body's box. Labeled patients are drawn from those that it was tuned on, "
    "patients tested are others."
)


def write_tables(lines: list[dict], versions: dict[str, int], path: Path | None) -> str:
    """Tables of the lines of the methods' versions; to a file too where a path is given."""
    groups: dict[tuple[str, str], dict[int, list[dict]]] = defaultdict(lambda: defaultdict(list))
    for line in lines:
        if versions.get(line["method"]) == line["results_version"]:
            groups[line["encoder"], line["method"]][line["shots"]].append(line)
    shots = sorted({shot for by in groups.values() for shot in by})
    head = ["features", "method", *(f"{shot} labeled" for shot in shots), "draws", "patients tested"]
    cells = []
    for (encoder, method), by in groups.items():
        every = [line for some in by.values() for line in some]
        draws, patients = ({line[key] for line in every} for key in ("draw", "patient"))
        cells.append([encoder if "box" not in method else "-", method, *(_errors(by[shot]) for shot in shots)])
        cells[-1] += [str(len(draws)), str(len(patients))]
    parts = [HOW, "## All landmarks\n\n" + table(head, cells)]
    for encoder in dict.fromkeys(encoder for encoder, _ in groups):
        by = groups[encoder, "landmarks"]
        names = sorted({name for some in by.values() for line in some for name in line["errors_mm"]})
        each = [[name, *(_errors(by[shot], name) for shot in shots)] for name in names]
        parts.append(f"## Each landmark, {encoder}\n\n" + table(["landmark", *(f"{shot} labeled" for shot in shots)], each))
    text = "\n\n".join(parts)
    if path is not None:
        put_section(path, TITLE, text)
    return text


def _errors(lines: list[dict], name: str = "") -> str:
    errors = [error for line in lines for each, error in line["errors_mm"].items() if not name or each == name]
    return f"{np.median(errors):.1f} / {np.percentile(errors, 90):.1f}" if errors else "-"
