"""Markdown tables from the lines of results that `transfer` writes."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np

from .sections import put_section, table

TITLE = "Probe transfer to another patient"
HOW = (
    "Structures are marked on one scan: strokes on three slices and eight corrective clicks each ('strokes'), or 300 places "
    "of the reference labels each ('labels'). The probe is applied to the other scan, with so many corrective clicks a "
    "structure there, in rounds, each at the largest error. Mean Dice on a 2 mm grid, or on the scan's own if that is "
    "coarser, ± over seeds. The last column gives the milliliters labelled, without clicks, as structures that the other scan "
    "does not contain. 'adapted' is the method of `CoralBayLib/fewshot/transfer.py`, 'as it is' the probe's weights on the "
    "other scan's features, 'from nothing' a new probe on the clicks alone, 'forest' a random forest on hand-made filters."
)
ROUNDS = (0, 1, 3, 5)
"""After how many clicks scores are taken."""


def write_tables(lines: list[dict], versions: dict[str, int], path: Path | None) -> str:
    """Tables of the lines of the methods' versions; to a file too where a path is given."""
    groups: dict[tuple, dict[tuple, list[dict]]] = defaultdict(lambda: defaultdict(list))
    for line in lines:
        if versions.get(line["method"]) != line["results_version"]:
            continue
        groups[line["first"], line["second"]][line["source"], line["encoder"], line["method"]].append(line)
    parts = [HOW]
    for (first, second), rows in groups.items():
        some = next(iter(rows.values()))[0]
        cells = []
        for (source, encoder, name), runs in sorted(rows.items()):
            cells.append([source, encoder, name, str(len(runs)), *(_mean(runs, str(n)) for n in ROUNDS)])
            cells[-1].append(f"{np.mean([r['false_ml'] for r in runs]):.0f}" if some["absent"] else "-")
        head = ["marked by", "features", "method", "seeds", *(f"+{n}" for n in ROUNDS), "false, ml"]
        names = list(some["dice"]["0"])
        parts.append(f"## {first} to {second}: {len(names)} structures\n\n" + table(head, cells))
        shown = [key for key in sorted(rows) if key[1] in ("coralbay-mini", "-") and key[2] in ("adapted", "from nothing")]
        each = [[name, *(" / ".join(_mean(rows[key], str(n), name) for n in ROUNDS) for key in shown)] for name in names]
        parts.append("Each, +" + " / +".join(map(str, ROUNDS)) + ":\n\n")
        parts[-1] += table(["structure", *(f"{source}, {name}" for source, _, name in shown)], each)
    text = "\n\n".join(parts)
    if path is not None:
        put_section(path, TITLE, text)
    return text


def _mean(runs: list[dict], stage: str, name: str = "") -> str:
    known = [run["dice"][stage] for run in runs if stage in run["dice"]]
    if not known:
        return "-"
    values = [by[name] if name else float(np.mean(list(by.values()))) for by in known]
    spread = f" ± {np.std(values):.3f}" if len(values) > 1 and not name else ""
    return f"{np.mean(values):.{2 if name else 3}f}{spread}"
