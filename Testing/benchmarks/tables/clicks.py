"""Markdown tables and statistics from the lines of results that `clicks` writes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection
from pathlib import Path

import numpy as np
from scipy.integrate import trapezoid

from .sections import put_section, table

TITLE = "Clicks alone, and a box with five clicks"
HOW = (
    "One structure at a time. Clicks alone: the first click is in the middle of the structure, each next in the middle of "
    "the largest connected error, missing or wrong. Box: a tight box along the patient's axes, then five such clicks, as "
    "in the CVPR 2025 challenge for interactive 3D segmentation. Each click is one point, drawn at random among the "
    "voxels of the error near its middle. Clicks correct each method's own errors; they are chosen and scored on a grid "
    "of 2 mm, or the scan's own where that is coarser. The other methods need strokes and background: a click is a ball "
    "of up to 4 mm within the error for them; without a box, points 10 mm apart on the surface of the patient and on the "
    "faces of the scan are background; of a box they get the points that CoralBay takes in place of it (in its middle as "
    "the structure, 2.5 to 5.5 mm outside of its faces as background), and their results are cut to the box and 2 mm "
    "around it. Every structure of a scan counts once, as the mean over its seeds. Where some methods have fewer sessions "
    "than others, the sessions that all have stand in a section of their own. NSD: normalized surface Dice (Nikolov and "
    "others 2018) with a tolerance of 2 mm. AUC: the "
    "area under the curve over the five clicks, as the challenge has it: by the trapezoidal rule from the first click to "
    "the fifth, without the box, so that a perfect method has 4. Final: after the fifth click. Seconds are of one update, "
    "without resampling to the grid of the scores."
)
AFTER = (1, 2, 3, 5, 8, 12, 15)
"""Numbers of clicks after which mean Dice is shown."""
ESTIMATED = (1, 2, 3, 5)
"""Numbers of clicks after which the estimated Dice is compared."""
FALLS = (2, 5)
"""A click is counted if Dice falls by more than so many points (hundredths) after it."""
SETS = ("Held out", "Tuned on")
NAMES = {"clicks": "clicks alone", "box": "a box and five clicks"}
COMMON = "the sessions that all methods have"

Line = dict
Lines = dict[str, list[Line]]
"""By method, the lines of the same sessions in the same order."""


def write_tables(lines: list[Line], versions: dict[str, int], tuned: Collection[str], path: Path | None) -> str:
    """Tables of the lines of the methods' versions, the last one of each session; to a file too where a path is given.

    Args:
        lines: of equal numbers of clicks and equal jitter.
        versions: the versions that count, by method, in the order of the tables.
        tuned: names of the scans that are kept apart.
        path: of the file, or None.
    """
    lines = [line for line in lines if versions.get(line["method"]) == line["results_version"]]
    parts = [HOW]
    for name, is_tuned in zip(SETS, (False, True), strict=True):
        some = [line for line in lines if (line["scan"] in tuned) == is_tuned]
        for protocol in NAMES:
            of_protocol = [line for line in some if line["protocol"] == protocol]
            by, count = shared(of_protocol, list(versions))
            whole = complete(of_protocol, list(versions))
            for lines_by, words in ((whole, ""), (by if by.keys() != whole.keys() else {}, f", {COMMON}")):
                if lines_by:
                    about = _about(lines_by, count)
                    parts.append(f"## {name}: {NAMES[protocol]}{words}\n\n{about}\n\n{_group(lines_by, protocol)}")
    text = "\n\n".join(part.strip() for part in parts)
    if path is not None:
        put_section(path, TITLE, text)
    return f"# {TITLE}\n\n{text}\n"


def _by_session(lines: list[Line]) -> dict[str, dict[tuple, Line]]:
    """By method and session, the last line of each."""
    found: dict[str, dict[tuple, Line]] = defaultdict(dict)
    for line in lines:
        found[line["method"]][line["scan"], line["structure"], line["seed"]] = line
    return found


def complete(lines: list[Line], order: list[str]) -> Lines:
    """All sessions of the methods that have each session that any method has, by method."""
    found = _by_session(lines)
    every = set().union(*found.values())
    return {
        method: [found[method][session] for session in sorted(every)]
        for method in order
        if every and found.get(method, {}).keys() == every
    }


def shared(lines: list[Line], order: list[str]) -> tuple[Lines, int]:
    """The sessions that all methods of some lines have, by method, and how many sessions there are at all."""
    found = _by_session(lines)
    if not found:
        return {}, 0
    common = sorted(set.intersection(*(set(each) for each in found.values())))
    every = set().union(*found.values())
    by = {method: [found[method][session] for session in common] for method in order if method in found}
    return (by if common else {}), len(every)


def mean(lines: list[Line], value: Callable[[Line], float | None]) -> float:
    """Mean over structures of the mean over seeds; NaN where no line has the value."""
    by = defaultdict(list)
    for line in lines:
        found = value(line)
        if found is not None:
            by[line["scan"], line["structure"]].append(found)
    return float(np.mean([np.mean(each) for each in by.values()])) if by else float("nan")


def falls(line: Line) -> np.ndarray:
    """By how many points (hundredths) Dice fell after each click that was made; negative where it rose.

    The first of clicks alone has no result before it, and is left out. Clicks that a session did without are no clicks.
    """
    made = len(line["signs"]) + (line["protocol"] == "box")
    return np.round(-100 * np.diff(line["dice"][:made]), 2)


def area(values: list[float]) -> float:
    """The area under a curve over its last five values by the trapezoidal rule, as the challenge computes it; at most 4."""
    return float(trapezoid(values[-5:]))


def error(line: Line, click: int) -> float | None:
    """The absolute error of the estimated Dice after a number of clicks; None without an estimate."""
    place = click - (line["protocol"] != "box")
    estimate = line["estimate"][place] if place < len(line["estimate"]) else None
    return None if estimate is None else abs(estimate - line["dice"][place])


def _about(by: Lines, count: int) -> str:
    """What the tables of a group rest on."""
    lines = next(iter(by.values()))
    structures = len({(line["scan"], line["structure"]) for line in lines})
    scans = sorted({line["scan"] for line in lines})
    machines = sorted({line["machine"] for each in by.values() for line in each})
    packages = sorted({f"{k} {v}" for each in by.values() for line in each for k, v in line["versions"].items()})
    left = f" {count - len(lines)} of {count} sessions are left out." if count > len(lines) else ""
    seeds, jitter = len({line["seed"] for line in lines}), " or ".join(sorted({f"{line['jitter_mm']:g}" for line in lines}))
    return (
        f"{structures} structures of {len(scans)} scans, {seeds} seeds, clicks within {jitter} mm of the middle.{left} "
        f"Scans: {', '.join(scans)}. {'; '.join(machines)}; {', '.join(packages)}."
    )


def _group(by: Lines, protocol: str) -> str:
    length = min(len(line["dice"]) for lines in by.values() for line in lines)
    parts = []
    if protocol == "box":
        for score, name in (("dice", "Dice"), ("nsd", "NSD")):
            parts.append(_curves(by, score, name))
            parts.append(_regions(by, lambda lines, score=score: _box_cells(lines, score), _box_head(name)))
    else:
        after = [click for click in AFTER if click <= length]

        def cells(lines: list[Line]) -> list[str]:
            return [_number(mean(lines, lambda line, n=n: line["dice"][n - 1])) for n in after]

        head = [str(n) for n in after]
        parts.append("Mean Dice after so many clicks:\n\n" + table(["method", *head], [[m, *cells(by[m])] for m in by]))
        parts.append(_regions(by, cells, head))
    return "\n".join([*parts, _fallen(by), _estimates(by), _seconds(by), _each(by, protocol, length)])


def _box_head(name: str) -> list[str]:
    return ["box", "1", "2", "3", "4", f"final {name}", f"{name} AUC (of 4)"]


def _box_cells(lines: list[Line], score: str) -> list[str]:
    after = [_number(mean(lines, lambda line, n=n: line[score][n])) for n in range(6)]
    return [*after, _number(mean(lines, lambda line: area(line[score])))]


def _curves(by: Lines, score: str, name: str) -> str:
    rows = [[method, *_box_cells(lines, score)] for method, lines in by.items()]
    return f"Mean {name} after the box and after each of five clicks:\n\n" + table(["method", *_box_head(name)], rows)


def _regions(by: Lines, cells: Callable[[list[Line]], list[str]], head: list[str]) -> str:
    """The same by region of the body."""
    rows = []
    for region in sorted({line["region"] for lines in by.values() for line in lines}):
        for method, lines in by.items():
            some = [line for line in lines if line["region"] == region]
            if some:
                count = len({(line["scan"], line["structure"]) for line in some})
                rows.append([region, str(count), method, *cells(some)])
    return "By region of the body:\n\n" + table(["region", "structures", "method", *head], rows)


def _fallen(by: Lines) -> str:
    rows = []
    for method, lines in by.items():
        every = np.concatenate([falls(line) for line in lines])
        if not len(every):
            continue
        counts = [int((every > points).sum()) for points in FALLS]
        rows.append([method, str(len(every)), *(f"{n} ({n / len(every):.1%})" for n in counts)])
        rows[-1].append(f"{max(0.0, float(every.max())):.1f}")
    head = ["method", "clicks", *(f"over {points} points" for points in FALLS), "most"]
    return "Clicks after which Dice fell, among all clicks that had a result before them:\n\n" + table(head, rows)


def _estimates(by: Lines) -> str:
    rows = []
    for method, lines in by.items():
        errors = [mean(lines, lambda line, n=n: error(line, n)) for n in ESTIMATED]
        if not np.isnan(errors).all():
            rows.append([method, *map(_number, errors)])
    if not rows:
        return ""
    head = ["method", *map(str, ESTIMATED)]
    return "Mean absolute error of the estimated Dice after so many clicks:\n\n" + table(head, rows)


def _seconds(by: Lines) -> str:
    rows = []
    for method, lines in by.items():
        taken = np.array([line["seconds"] for line in lines if line["seconds"]]).reshape(-1, 2)
        cells = [f"{np.median(taken[:, 0]):.3f}", f"{taken[:, 1].max():.3f}"] if len(taken) else ["-", "-"]
        rows.append([method, *cells, str(sum(line["refused"] for line in lines))])
    return (
        "Seconds of an update, median of the sessions' medians, and updates that a method refused, which count as empty "
        "results:\n\n" + table(["method", "median s", "worst s", "refused"], rows)
    )


def _each(by: Lines, protocol: str, length: int) -> str:
    """Every structure, the mean over seeds."""
    places = [0, 3, 5] if protocol == "box" else sorted({0, min(5, length) - 1, length - 1})
    said = "the box, three clicks and five" if protocol == "box" else " / ".join(str(place + 1) for place in places)
    sizes = {(line["scan"], line["structure"]): line["millilitres"] for lines in by.values() for line in lines}
    rows = []
    for (scan, structure), ml in sizes.items():
        row = [scan, structure, f"{ml:.1f}"]
        for lines in by.values():
            own = [line["dice"] for line in lines if (line["scan"], line["structure"]) == (scan, structure)]
            row.append(" / ".join(f"{np.mean(own, axis=0)[place]:.2f}" for place in places))
        rows.append(row)
    return f"Each structure, Dice after {said}:\n\n" + table(["scan", "structure", "ml", *by], rows)


def _number(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.3f}"
