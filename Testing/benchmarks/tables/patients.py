"""Markdown tables from the results that `patients` measures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from CoralBayLib.evaluation.report import INTERVALS
from CoralBayLib.evaluation.results import Result
from CoralBayLib.evaluation.summary import MEAN, Interval, Row, summarize

from .sections import put_section, table

MINI = "coralbay-mini"
UNTRAINED = "untrained network"
REGISTRATION = "registration"
FOREST = "random forest on filters"
UNET = "U-Net from scratch"
TITLES = (MINI, UNTRAINED, REGISTRATION, FOREST, UNET)
SHOTS = (1, 2, 5, 10, 20)
TITLE = "New patients by number of labeled patients"
MEAN_HEADING = "Mean over structures"
MISSING = "not measured"
HOW = (
    "Dice of the structures of a new patient without a click. All methods learn from the same labeled patients; a draw of more "
    "patients contains that of fewer. 'coralbay-mini' is a probe of CoralBay, 'untrained network' the same with the features "
    "of that network before training. 'registration' maps each labeled patient onto the new one, affinely and then with "
    "ConvexAdam, and lets them vote. 'random forest on filters' has multi-scale filters and the place in the body. 'U-Net from "
    "scratch' is MONAI's, trained on the labeled patients for 20 minutes of two cores."
)
DATA = (
    "Patients: 70 of OpenKBP (head and neck, seven organs, voxels of about 4 x 4 x 2.5 mm), sorted by number and counted from "
    "0. Tested are 44 to 51, 60 to 69, 1 and 3, which were never used to choose a method or its settings. Labeled patients are "
    "drawn from the other 50. CoralBay's settings were chosen on 5, 7, ..., 19 as validation patients, with labeled patients "
    "from 10 to 43 and 52 to 59. The settings of the other methods were not tuned."
)

COUNTS = f"Mean Dice; in parentheses draws x patients tested. {INTERVALS} With one draw it is over patients alone."
SAME = "Of each column, only the draws and patients that all methods that were measured in this column have in common."


def write_tables(results: Sequence[Result], path: Path | None) -> str:
    """Tables of the results, whose encoder is the title of a method; to a file too where a path is given."""
    structures = list(dict.fromkeys(name for result in results for name in sorted(result.scores)))
    rows = summarize(results, structures)
    parts = [HOW, DATA, f"## {MEAN_HEADING}", COUNTS, means(rows)]
    parts += ["## On the same tests", SAME, means(summarize(shared(results), structures))]
    for name in structures:
        cells = _cells(rows, name, lambda row: _both(row))
        parts += [f"## {name}", "Dice / mean surface distance where it was found, mm.", _table(cells)]
    seconds = _seconds(results)
    if seconds:
        parts += ["## Time", "Median seconds to segment a patient, on one thread, with other programs beside it.", seconds]
    text = "\n\n".join(part.strip() for part in parts)
    if path is not None:
        put_section(path, TITLE, text)
    return text


def shared(results: Sequence[Result]) -> list[Result]:
    """The results of the draws and patients that all methods have in common, by number of labeled patients."""
    kept = []
    for shots in SHOTS:
        own = [result for result in results if result.shots == shots]
        tests = [{(each.draw, each.patient) for each in own if each.encoder == title} for title in TITLES]
        common = set.intersection(*filter(None, tests)) if any(tests) else set()
        kept += [result for result in own if (result.draw, result.patient) in common]
    return kept


def means(rows: Sequence[Row]) -> str:
    """The mean Dice coefficients of all methods."""
    return _table(_cells(rows, MEAN, lambda row: f"{_interval(row.dice)} ({row.draws} x {row.patients})"))


def _cells(rows: Sequence[Row], structure: str, cell: Callable[[Row], str]) -> list[list[str]]:
    by_place = {(row.encoder, row.shots): cell(row) for row in rows if row.structure == structure}
    return [[title, *(by_place.get((title, n), MISSING) for n in SHOTS)] for title in TITLES]


def _table(cells: list[list[str]]) -> str:
    return table(["labeled patients", *map(str, SHOTS)], cells)


def _interval(found: Interval | None) -> str:
    return "-" if found is None else f"{found.value:.3f} [{found.low:.2f}, {found.high:.2f}]"


def _both(row: Row) -> str:
    dice = "-" if row.dice is None else f"{row.dice.value:.2f}"
    return f"{dice} / {'-' if row.mean_mm is None else f'{row.mean_mm.value:.1f}'}"


def _seconds(results: Sequence[Result]) -> str:
    from statistics import median

    taken: dict[tuple[str, int], list[float]] = {}
    for result in results:
        taken.setdefault((result.encoder, result.shots), []).append(result.seconds)
    cells = [[t, *(f"{median(taken[t, n]):.1f}" if (t, n) in taken else MISSING for n in SHOTS)] for t in TITLES]
    return _table(cells) if taken else ""
