"""The page of results: short tables and plots, taken from the long tables and the measured lines.

The words of RESULTS.md are written by hand. What stands between `<!-- name -->` and `<!-- end -->` is written here, and its
numbers are cells of the long tables, letter by letter.

Usage: python -m Testing.benchmarks.tables.summary [FOLDER]
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

from CoralBayLib.core.paths import atomic_write

from . import plots
from .body_regions import FILE as BODY_REGIONS
from .body_regions import PER_REGION
from .clicks import COMMON
from .gpu import FILE as GPU
from .gpu import UNMEASURED
from .library_scores import FILE as LIBRARY_SCORES
from .sections import RESULTS, headings, rows, table

PAGE = "RESULTS.md"
PRETRAINING = "pretraining.md"
STAGES = ("1 slice", "3 slices", "+1", "+2", "+4", "+8", "+12", "+20")
ACTIONS = (
    "fit one structure after a stroke",
    "its probability over the whole volume",
    "both: whole-volume update after a stroke",
    "fit eight structures",
    "labels of eight structures on the source grid",
    "similarity map for a query",
    "reopening the scan's features",
)
"""Of the interaction table, those that a person waits for."""


def renew(folder: Path = RESULTS) -> None:
    """Write the plots into the folder and the tables into the page beside it; without such a page, nothing."""
    page = folder.parent / PAGE
    if not page.is_file():
        return
    text = page.read_text(encoding="utf-8")
    for name, make in BLOCKS.items():
        text = put_block(text, name, make(folder))
    with atomic_write(page) as temporary:
        temporary.write_text(text, encoding="utf-8")
    plots.draw(folder)


def put_block(text: str, name: str, block: str) -> str:
    """A page with a block in place of what stood between its marks.

    Raises:
        ValueError: the page has no such marks.
    """
    marks = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end -->)", re.DOTALL)
    if not marks.search(text):
        raise ValueError(f"The page has no block {name}")
    return marks.sub(lambda found: f"{found[1]}\n{block.strip()}\n\n{found[2]}", text)


def few_shot(folder: Path) -> str:
    """Mean Dice over scans."""
    file = folder / "few-shot.md"
    words = re.search(r"Mean over (.*?) of the mean", file.read_text(encoding="utf-8"))
    found = rows(file, "All scans together")
    head = ["method", *STAGES]
    return f"Scans: {words[1] if words else ''}.\n\n" + table(head, [[row[column] for column in head] for row in found])


def interaction(folder: Path) -> str:
    """Median seconds by encoder."""
    by: dict[str, dict[str, str]] = {}
    for number in range(2):
        found = rows(folder / "interaction.md", number=number)
        name = next(iter(found[0]))
        by[name.split(":")[0]] = {row[name]: row["median s"] for row in found}
    cells = [[action, *(each[action] for each in by.values())] for action in ACTIONS]
    return table(["median seconds", *by], cells)


def retrieval(folder: Path) -> str:
    """Precision of retrieval within a scan and across patients."""
    here = rows(folder / "retrieval.md", headings(folder / "retrieval.md")[-1])
    there = rows(folder / "library.md", "Regions across patients")
    every = next(column for column in there[0] if column.startswith("all pairs"))
    pairs = {row["encoder"]: row[every] for row in there}
    columns = ["precision@20 within", "across patients, there / back"]
    cells = [[row["features"], *(row[column] for column in columns), pairs.get(row["features"], "-")] for row in here]
    return table(["features", *columns, f"through a library, {every}"], cells)


def library(folder: Path) -> str:
    """Recall and time of the index that a library uses, and of the exact search, by number of vectors."""
    best = "ten best, ms median / 95 % / worst"
    cells = []
    for heading in headings(folder / "library.md"):
        if heading.startswith("Search among"):
            for row in rows(folder / "library.md", heading):
                if row["search"] in ("exact", "rq"):
                    cells.append([heading.removeprefix("Search among "), row["search"], row["recall@10"], row[best]])
    return table(["vectors", "search", "recall@10", best], cells)


def transfer(folder: Path) -> str:
    """Mean Dice on the second scan by clicks there."""
    stages, cells = ("+0", "+1", "+3", "+5"), []
    for heading in headings(folder / "transfer.md"):
        for row in rows(folder / "transfer.md", heading):
            if row["method"] != "as it is":
                cells.append([heading, row["features"], row["method"], *(row[stage] for stage in stages)])
    return table(["from one scan to another", "features", "method", *stages], cells)


def patients(folder: Path) -> str:
    """Mean Dice of new patients by number of labeled patients."""
    file = folder / "patients.md"
    return _whole(file, "Mean over structures", 0) if file.is_file() else "Not measured yet."


def taught_clicks(folder: Path) -> str:
    """Mean Dice by clicks on the suggestion of a probe, and from nothing."""
    file = folder / "taught-clicks.md"
    return _whole(file, "Mean Dice", 0) if file.is_file() else "Not measured yet."


def speed(folder: Path) -> str:
    """Time and memory to embed the sample and a long scan."""
    sample, long = rows(folder / "speed.md", "The whole sample"), rows(folder / "speed.md", "A long scan")
    title, other = next(iter(sample[0])), next(iter(long[0]))
    head = ["processor s", "times as fast", "peak GB"]
    cells = [[row[title], *(row[column] for column in head)] for row in sample]
    more = [[row[other], *(row[column] for column in ("processor s", "peak GB"))] for row in long]
    return table([title, *head], cells) + "\n" + table([other, "processor s", "peak GB"], more)


def clicks(folder: Path) -> str:
    """Mean Dice by clicks alone, and Dice and NSD by a box and clicks, on scans that nothing was tuned on."""
    file = folder / "clicks.md"
    if not file.is_file():
        return "Not measured yet."
    parts = []
    for words in ("clicks alone", "a box and five clicks"):
        for more in ("", f", {COMMON}"):
            heading = f"Held out: {words}{more}"
            if heading not in headings(file):
                continue
            if words == "clicks alone":
                parts.append(f"Mean Dice after so many clicks alone{more}:\n\n" + _whole(file, heading, 0))
                continue
            for number, score in enumerate(("Dice", "NSD")):
                title = f"Mean {score} after a box and after each of five clicks{more}:"
                parts.append(f"{title}\n\n" + _whole(file, heading, 2 * number))
    return "\n".join(parts) or "Not measured yet on scans that nothing was tuned on."


def body_regions(folder: Path) -> str:
    """Precision of retrieval across patients, per region of the body."""
    file = folder / BODY_REGIONS
    return _whole(file, PER_REGION, 0) if file.is_file() else "Not measured yet."


def pretraining(folder: Path) -> str:
    """Precision of retrieval across patients before and after a pretraining."""
    file = folder / PRETRAINING
    return _whole(file, "", 0) if file.is_file() else "Not measured yet."


def gpu(folder: Path) -> str:
    """Speed and memory of windows on each graphics card that was measured."""
    file = folder / GPU
    cards = [heading for heading in headings(file) if heading != UNMEASURED] if file.is_file() else []
    return "\n".join(f"{card}:\n\n{_whole(file, card, 0)}" for card in cards) or "no GPU"


def _whole(file: Path, heading: str, number: int) -> str:
    """A table of a file as it is."""
    found = rows(file, heading, number)
    return table(list(found[0]), [list(row.values()) for row in found])


def landmarks(folder: Path) -> str:
    """Errors of landmarks by number of labeled patients, once they are measured."""
    file = folder / "landmarks.md"
    if not file.exists():
        return "Not measured yet."
    found = rows(file, "All landmarks")
    return table(list(found[0]), [list(row.values()) for row in found])


def scan_probes(folder: Path) -> str:
    """One metric of each kind of probe for each task, with the features of two encoders and by chance."""
    file = folder / "scan-tasks.md"
    kinds, encoders = ("linear", "nearest", "attentive"), ("coralbay-mini", "untrained")
    cells = []
    for heading in headings(file) if file.is_file() else []:
        found = rows(file, heading)
        metric = next(name for name in ("AUROC", "R2", "concordance") if name in found[0])
        for target in dict.fromkeys(row["target"] for row in found):
            values = {(row["features"], row["probe"]): row[metric] for row in found if row["target"] == target}
            shown = [values.get((encoder, kind), "not measured") for encoder in encoders for kind in kinds]
            task, chance = heading.partition(":")[0], values.get(("-", "chance"), "-").split()[0]
            cells.append([f"{task}: {target}", metric, *shown, chance])
    head = ["target", "metric", *(f"{encoder}, {kind}" for encoder in encoders for kind in kinds), "chance"]
    return table(head, cells) if cells else "Not measured yet."


def library_scores(folder: Path) -> str:
    """Recall and mAP of scans, and the mean precision of regions, as the library's own command scores them."""
    file = folder / LIBRARY_SCORES
    if not file.is_file():
        return "Not measured yet."
    parts = [_whole(file, "Scans", 0)]
    for heading in headings(file)[1:]:
        found = [row for row in rows(file, heading) if row["structure"] == "mean"]
        parts.append(f"{heading}, mean over structures:\n\n" + table(list(found[0]), [list(row.values()) for row in found]))
    return "\n".join(parts)


BLOCKS: dict[str, Callable[[Path], str]] = {
    "few-shot": few_shot,
    "clicks": clicks,
    "interaction": interaction,
    "retrieval": retrieval,
    "library": library,
    "transfer": transfer,
    "landmarks": landmarks,
    "patients": patients,
    "taught-clicks": taught_clicks,
    "speed": speed,
    "gpu": gpu,
    "body-regions": body_regions,
    "pretraining": pretraining,
    "scan-probes": scan_probes,
    "library-scores": library_scores,
}


if __name__ == "__main__":
    renew(*map(Path, sys.argv[1:]))
