"""Markdown tables from the lines of results that `quality` writes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .sections import put_section, table

SMALL_ML = 20.0
TITLE = "Few-shot segmentation, side by side"
HOW = (
    "A simulated annotator marks each structure with a stroke in it and one around it on one axial slice; or on three; "
    "then adds one click a structure and round, each at the largest error. Some structures are also marked alone, in a "
    "session each. Every method gets the same strokes of the same "
    "seeds, and clicks chosen in the same way from its own result. Scores are on the scan's own grid: mean Dice (spread "
    "over seeds and structures), mean distance of the surfaces, and their 95 % Hausdorff distance. For a structure that "
    "was not found, the distances are the diagonal of its bounding box."
)


@dataclass(frozen=True)
class Overall:
    """Means over scans of the mean Dice of each, of the methods that were tried on all of them.

    Attributes:
        scans: their names.
        stages: "1 slice", "3 slices", then numbers of clicks.
        means: by method, a mean for each stage.
    """

    scans: list[str]
    stages: list[str]
    means: dict[str, list[float]]


def write_tables(lines: list[dict], versions: dict[str, int], peers: Sequence[str], path: Path | None) -> str:
    """Tables of the lines of the methods' versions, the last one of each run; to a file too where a path is given."""
    alone, together = _sessions(lines, versions)
    parts = [_together(together, list(versions), peers)]
    for key, by in sorted(together.items()):
        parts.append(_group(*key, by, list(versions), peers))
        own = ((other, merged) for other, merged in alone.items() if (other[0], other[2]) == (key[0], key[2]))
        parts += [_group(*other, merged, list(versions), peers, alone=True) for other, merged in own]
    text = "\n".join([HOW, *parts])
    if path is not None:
        put_section(path, TITLE, text)
    return f"# {TITLE}\n\n{text}\n"


def overall(lines: list[dict], versions: dict[str, int]) -> Overall | None:
    """The means over scans of lines; None for fewer than two scans or no method that was tried on all of them."""
    return _overall(_sessions(lines, versions)[1], list(versions))


def _sessions(lines: list[dict], versions: dict[str, int]) -> tuple[dict, dict]:
    """By scan, structures and radius of a click, the lines of each method: structures alone, and together."""
    runs: dict[tuple, dict] = {}
    for line in lines:
        if versions.get(line["method"]) == line["results_version"]:
            key = line["method"], line["scan"], tuple(line["structures"]), line["seed"], line["click_radius_mm"]
            runs[key] = line
    groups: dict[tuple, dict[str, list[dict]]] = defaultdict(lambda: defaultdict(list))
    for (method, scan, structures, _, radius), line in runs.items():
        groups[scan, structures, radius][method].append(line)
    alone = _alone(groups)
    shown = {(scan, (name,), radius) for scan, names, radius in alone for name in names}
    return alone, {key: by for key, by in groups.items() if key not in shown}


def _alone(groups: dict[tuple, dict[str, list[dict]]]) -> dict[tuple, dict[str, list[dict]]]:
    """Sessions of one structure on scans that were also segmented together, merged into one session a seed."""
    whole = {scan for scan, structures, _ in groups if len(structures) > 1}
    singles: dict[tuple, dict[tuple, list[dict]]] = defaultdict(lambda: defaultdict(list))
    for (scan, structures, radius), by in groups.items():
        if scan in whole and len(structures) == 1:
            for method, lines in by.items():
                for line in lines:
                    singles[scan, radius][method, line["seed"]].append(line)
    out: dict[tuple, dict[str, list[dict]]] = {}
    for (scan, radius), runs in singles.items():
        names = tuple(sorted({line["structures"][0] for lines in runs.values() for line in lines}))
        merged: dict[str, list[dict]] = defaultdict(list)
        for (method, _), lines in runs.items():
            if len(lines) == len(names):
                stages = {
                    stage: {n: line["stages"][stage][n] for line in lines for n in line["stages"][stage]}
                    for stage in lines[0]["stages"]
                }
                sizes = {name: ml for line in lines for name, ml in line["millilitres"].items()}
                merged[method].append(lines[0] | {"stages": stages, "millilitres": sizes})
        if merged:
            out[scan, names, radius] = merged
    return out


def _overall(groups: dict[tuple, dict[str, list[dict]]], order: list[str]) -> Overall | None:
    """The means over scans, each counting once."""
    largest: dict[str, tuple] = {}
    for key in groups:
        if len(key[1]) > len(largest.get(key[0], ("", ()))[1]):
            largest[key[0]] = key
    each = [groups[key] for key in largest.values()]
    methods = [method for method in order if each and all(method in by for by in each)]
    if len(each) < 2 or not methods:
        return None
    stages = [stage for stage in _stages(each[0]) if all(stage in _stages(by) for by in each)]
    means = {
        m: [
            np.mean([_values(by[m], s, key[1], 0).mean() for key, by in zip(largest.values(), each, strict=True)])
            for s in stages
        ]
        for m in methods
    }
    return Overall(sorted(largest), stages, means)


def _together(groups: dict[tuple, dict[str, list[dict]]], order: list[str], peers: Sequence[str]) -> str:
    """The means over scans as tables."""
    found = _overall(groups, order)
    if found is None:
        return ""
    rows = [[method, *(f"{value:.3f}" for value in means)] for method, means in found.means.items()]
    return (
        f"\n## All scans together\n\nMean over {', '.join(found.scans)} of the mean Dice of each, of methods that were "
        "tried on all of them; each scan counts once.\n\n"
        + table(["method", *_heads(found.stages)], rows)
        + "\n"
        + _ahead(found.means, found.stages, peers)
    )


def _group(
    scan: str,
    structures: tuple[str, ...],
    radius: float,
    by: dict[str, list[dict]],
    order: list[str],
    peers: Sequence[str],
    alone: bool = False,
) -> str:
    """The tables of one session on one scan, or of sessions of one structure each."""
    methods = [method for method in order if method in by]
    some = by[methods[0]][0]
    sizes = some["millilitres"]
    small = [name for name in structures if sizes[name] < SMALL_ML]
    title = structures[0] + " alone" if len(structures) == 1 else f"{len(structures)} structures together"
    if alone:
        title = f"{len(structures)} structures, each in its own session"
    click = f"a click is a ball of up to {radius:g} mm" if radius else "a click is one point"
    parts = [f"\n## {scan}: {title}\n", f"{_where(by)}; {click}.\n"]
    parts.append(_curve("Mean Dice after strokes and clicks", by, methods, structures))
    parts.append(_lead(by, methods, structures, peers))
    if 0 < len(small) < len(structures):
        parts.append(_curve(f"Mean Dice of the {len(small)} structures under {SMALL_ML:g} ml", by, methods, small))
    parts.append(_distances(by, methods, structures))
    if len(structures) > 1:
        parts.append(_each(by, methods, structures, sizes))
    return "\n".join(parts)


def _where(by: dict[str, list[dict]]) -> str:
    machines = sorted({line["machine"] for lines in by.values() for line in lines})
    versions = sorted({f"{k} {v}" for lines in by.values() for line in lines for k, v in line["versions"].items()})
    return "; ".join(machines) + "; " + ", ".join(versions)


def _stages(by: dict[str, list[dict]]) -> list[str]:
    return list(dict.fromkeys(stage for lines in by.values() for line in lines for stage in line["stages"]))


def _values(lines: list[dict], stage: str, names: tuple[str, ...] | list[str], which: int) -> np.ndarray:
    """(seeds, structures)."""
    return np.array([[line["stages"][stage][n][which] for n in names] for line in lines if stage in line["stages"]])


def _curve(title: str, by: dict[str, list[dict]], methods: list[str], names: tuple[str, ...] | list[str]) -> str:
    stages = _stages(by)
    rows = []
    for method in methods:
        cells = [method, str(len(by[method]))]
        for stage in stages:
            values = _values(by[method], stage, names, 0)
            spread = f" ± {values.mean(axis=1).std():.3f}" if len(values) > 1 else ""
            cells.append(f"{values.mean():.3f}{spread}" if values.size else "-")
        rows.append(cells)
    head = ["method", "seeds", *_heads(stages)]
    return f"{title} (± over seeds):\n\n" + table(head, rows)


def _lead(by: dict[str, list[dict]], methods: list[str], names: tuple[str, ...], peers: Sequence[str]) -> str:
    """Difference of each of our methods to the best peer."""
    stages = _stages(by)
    means = {m: [v.mean() if (v := _values(by[m], s, names, 0)).size else np.nan for s in stages] for m in methods}
    return _ahead(means, stages, peers)


def _ahead(means: dict[str, list[float]], stages: list[str], peers: Sequence[str]) -> str:
    others = [values for method, values in means.items() if method in peers]
    ours = [method for method in means if method not in peers]
    if not others or not ours:
        return ""
    best = np.nanmax(others, axis=0)
    rows = [[m, *(f"{100 * v:+.1f}" for v in np.array(means[m]) - best)] for m in ours]
    return "Difference of mean Dice to the best peer, in hundredths:\n\n" + table(["method", *_heads(stages)], rows)


def _heads(stages: list[str]) -> list[str]:
    return [stage if "slice" in stage else f"+{stage}" for stage in stages]


def _distances(by: dict[str, list[dict]], methods: list[str], names: tuple[str, ...]) -> str:
    stages = [stage for stage in ("3 slices", "4", "8", "20") if stage in _stages(by)]
    rows = []
    for method in methods:
        cells = [method]
        for stage in stages:
            surface, worst = (_values(by[method], stage, names, which) for which in (1, 2))
            cells.append(f"{surface.mean():.1f} / {worst.mean():.1f}" if surface.size else "-")
        rows.append(cells)
    head = ["method", *_heads(stages)]
    return "Mean surface distance / 95 % Hausdorff distance, mm:\n\n" + table(head, rows)


def _each(by: dict[str, list[dict]], methods: list[str], names: tuple[str, ...], sizes: dict[str, float]) -> str:
    stages = [stage for stage in ("3 slices", "4", "10") if stage in _stages(by)]
    rows = []
    for name in sorted(names, key=lambda name: sizes[name]):
        cells = [name, f"{sizes[name]:.1f}"]
        for method in methods:
            values = [_values(by[method], stage, [name], 0) for stage in stages]
            spreads = [f" ± {v.std():.2f}" if len(v) > 1 else "" for v in values]
            shown = (f"{v.mean():.2f}{spread}" if v.size else "-" for v, spread in zip(values, spreads, strict=True))
            cells.append(" / ".join(shown))
        rows.append(cells)
    columns = " / ".join(_heads(stages))
    return f"Dice of each structure, {columns}:\n\n" + table(["structure", "ml", *methods], rows)
