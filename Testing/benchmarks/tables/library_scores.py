"""The scores of `coralbay library evaluate` as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .sections import table

FILE, TITLE = "library-scores.md", "Retrieval as `coralbay library evaluate` scores it"
ABOUT = {
    "region": "Region of the body (chest, abdomen, limb or pelvis, head and neck), whole scans",
    "contrast": "Contrast agent or not, whole scans of the trunk",
    "side": "Side of the parotid gland in a cube of 96 mm",
    "patient": "The patient's other parotid gland, among the cubes of 96 mm",
}
"""What has to be the same in a query and in what it should find, by question."""
_SCAN_METRICS = ("Recall@1", "Recall@5", "Recall@10", "mAP")
_HOW = (
    "Scores of `coralbay library evaluate` with its own defaults, 95 % intervals from a bootstrap over patients. 'untrained' "
    "is the network of coralbay-mini with random weights of seed 0; it is added to the library from an encoder file like any "
    "other encoder. 'possible' is the largest precision that the structures have room for, as results of one scan lie 20 mm "
    "apart. Made with `python -m Testing.benchmarks.library_scores`; nothing was tuned on the heads and necks whose "
    "regions are searched. Cubes are of other patients, too; one or more of them served to tune segmentation, none to tune "
    "retrieval."
)


def write_tables(lines: Sequence[Mapping[str, Any]]) -> str:
    """The measured lines as Markdown."""
    lines = sorted(lines, key=lambda line: str(line["encoder"]))
    parts = [_HOW, "## Scans", scan_table(lines)]
    regions = {line["encoder"]: line for line in lines if line["question"] == "regions"}
    for kind in ("across", "within"):
        if regions:
            parts += [f"## Regions {_WORDS[kind]}", f"{_counts(regions)}\n\n{region_table(regions, kind)}"]
    return "\n\n".join(part.strip() for part in parts)


_WORDS = {"across": "of other patients", "within": "of the same scan"}


def scan_table(lines: Sequence[Mapping[str, Any]]) -> str:
    """Recall@k and mAP of scans, a row for each question and encoder, and for chance."""
    rows = []
    for question, about in ABOUT.items():
        chosen = [line for line in lines if line["question"] == question]
        for line in chosen:
            low, high = line["against"]
            counts = f"{line['queries']} / {line['patients']}"
            against = str(low) if low == high else f"{low} to {high}"
            rows.append([about, line["encoder"], counts, against, *(_cell(line["metrics"][name]) for name in _SCAN_METRICS)])
        for line in chosen[:1]:
            rows.append([about, "chance", "", "", *(f"{line['chance'][name]:.3f}" for name in _SCAN_METRICS)])
    return table(["same", "features", "queries / patients", "against", *_SCAN_METRICS], rows)


def region_table(regions: Mapping[str, Mapping[str, Any]], kind: str) -> str:
    """Precision@k of regions, a row for each structure, encoder and order, for chance and for the largest that is possible."""
    rows = []
    orders = [kind, f"{kind}, re-ranked"]
    for structure in next(iter(regions.values()))["metrics"][kind]:
        for encoder, line in regions.items():
            for order in orders:
                if structure in line["metrics"].get(order, {}):
                    values = line["metrics"][order][structure]
                    words = f"{encoder}, re-ranked" if order != kind else encoder
                    rows.append([structure, words, *(_cell(values[k]) for k in ("1", "5", "10"))])
        chance = next(iter(regions.values()))["chance"][kind].get(structure)
        if chance is not None:
            rows.append([structure, "chance", *[f"{chance:.3f}"] * 3])
        possible = next(iter(regions.values()))["possible"][kind].get(structure, {})
        if min(possible.values(), default=1) < 1:
            rows.append([structure, "possible", *(f"{possible[k]:.3f}" for k in ("1", "5", "10"))])
    return table(["structure", "features", "precision@1", "precision@5", "precision@10"], rows)


def _counts(regions: Mapping[str, Mapping[str, Any]]) -> str:
    line = next(iter(regions.values()))
    queries = ", ".join(f"{name} {count}" for name, count in line["queries"].items())
    return f"{line['scans']} scans. Queries across patients: {queries}."


def _cell(estimate: Mapping[str, float]) -> str:
    return f"{estimate['value']:.3f} ({estimate['low']:.3f} to {estimate['high']:.3f})"
