"""Scan probes on real scans: linear, nearest neighbors and attentive, beside chance and beside an untrained network.

All probes are cross-validated in the same folds of patients. Labels follow from contours or are known of the scans, see
`scan_task_data`. The scans are not part of this project, and no probe was tuned on them.

Usage: python -m Testing.benchmarks.scan_tasks DATA FOLDER [--tasks organs ...] [--encoders coralbay-mini untrained]
       [--kinds linear nearest attentive] [--tables [FOLDER]]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

import CoralBayLib as cb
from CoralBayLib.encoders.base import Encoder
from CoralBayLib.encoders.coralbay_mini import CoralBayMiniEncoder
from CoralBayLib.scan_probes import Labels, ScanTable, compare, metrics, read_table
from CoralBayLib.scan_probes.embeddings import ScanEmbeddings, take_scans
from CoralBayLib.scan_probes.tables.cells import likely_positive

from .encoders import untrained
from .scan_task_data import TASKS, Task, prepare
from .scan_task_features import features_of
from .tables import summary
from .tables.sections import MEASURED, add_tables_option, put_section, table

FILE, TITLE = "scan-tasks.md", "Scan probes"
FOLDS, RESAMPLES = 3, 200
"""Fewer than a user gets, for time."""
SHOWN = {
    "classification": ("AUROC", "average precision", "balanced accuracy", "Brier score"),
    "regression": ("MAE", "R2"),
    "survival": ("concordance",),
}
LINES = MEASURED / "scan_tasks.jsonl"


def measure(task: Task, one: ScanTable, embedded: ScanEmbeddings, encoder: str, kind: str) -> list[dict[str, Any]]:
    """The metrics of a kind of probe and of chance for one target, as lines of the file of results."""
    labels = _with_positive(one.labels)
    found = compare(embedded, labels, (kind,), folds=FOLDS)
    return [
        {
            **{"task": task.name, "target": one.target, "encoder": encoder, "probe": probe},
            **{"scans": len(labels), "patients": len(set(labels.patients.tolist()))},
            "metrics": {name: [e.value, e.low, e.high] for name, e in values.items() if name in SHOWN[task.kind]},
        }
        for probe, values in found.rows().items()
    ]


def _with_positive(labels: Labels) -> Labels:
    if labels.task != "classification":
        return labels
    return labels.with_positive(likely_positive(sorted({str(value) for value in labels.values})))


def write_tables(lines: list[dict[str, Any]], folder: Path) -> None:
    """The measured lines as Markdown."""
    parts = [
        f"Cross-validation with {FOLDS} folds of patients, the same for all probes; 95 % intervals from {RESAMPLES} samples of "
        "patients. untrained is the network of coralbay-mini with random weights; chance predicts the same for every scan. "
        "Made with `python -m Testing.benchmarks.scan_tasks`; no probe was tuned on these scans. All heads and necks, and most "
        "limbs, come from one collection each, which may be recognized by more than its region: outside the body the heads and "
        "necks hold -1000 HU. Features of an untrained network tell how much of a task is that easy."
    ]
    for task in TASKS:
        rows: dict[tuple[str, ...], dict[str, Any]] = {}
        for line in lines:
            if line["task"] == task.name:
                rows[_key(line)[1:]] = line
        if not rows:
            continue
        names = SHOWN[task.kind]
        cells = [
            [target, encoder or "-", probe, f"{line['scans']} / {line['patients']}"]
            + ["{:.3f} ({:.3f} to {:.3f})".format(*line["metrics"][n]) if n in line["metrics"] else "-" for n in names]
            for (target, encoder, probe), line in sorted(rows.items(), key=lambda item: (item[0][0], item[0][1] == "", item[0]))
        ]
        head = ["target", "features", "probe", "scans / patients", *names]
        parts.append(f"## {task.name}: {task.about}\n\n{table(head, cells)}".strip())
    put_section(folder / FILE, TITLE, "\n\n".join(parts))


def read_lines() -> list[dict[str, Any]]:
    """The measured lines."""
    if not LINES.exists():
        return []
    return [json.loads(line) for line in LINES.read_text(encoding="utf-8").splitlines()]


def _key(line: dict[str, Any]) -> tuple[str, ...]:
    """What is measured once; chance is the same for all encoders."""
    return line["task"], line["target"], "" if line["probe"] == "chance" else line["encoder"], line["probe"]


def _known() -> set[tuple[str, ...]]:
    return {_key(line) for line in read_lines()}


def main() -> None:
    """Measure what is not measured yet, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with the scans")
    parser.add_argument("folder", type=Path, help="where tables, parts of scans and features are kept")
    parser.add_argument("--tasks", nargs="*", default=[task.name for task in TASKS])
    parser.add_argument("--encoders", nargs="*", default=["coralbay-mini", "untrained"])
    parser.add_argument("--kinds", nargs="*", default=["linear", "nearest", "attentive"])
    add_tables_option(parser)
    args = parser.parse_args()
    metrics.RESAMPLES = RESAMPLES
    paths = prepare(args.data, args.folder)
    for task in (each for each in TASKS if each.name in args.tasks):
        tables = [read_table(paths[task.name], target, task.kind) for target in task.targets]
        scans = list(dict.fromkeys(path for each in tables for path in each.scans))
        for name in args.encoders:
            embedded = features_of(scans, _encoder(name), args.folder / "features")
            for one in tables:
                for kind in args.kinds:
                    if (task.name, one.target, name, kind) not in _known():
                        rows = np.array([scans.index(path) for path in one.scans])
                        lines = measure(task, one, take_scans(embedded, rows), name, kind)
                        _keep([line for line in lines if _key(line) not in _known()])
    if args.tables:
        write_tables(read_lines(), args.tables)
        summary.renew(args.tables)


def _encoder(name: str) -> Encoder:
    return untrained(24, CoralBayMiniEncoder, "whole") if name == "untrained" else cb.load_encoder(name, device="cpu")


def _keep(lines: list[dict[str, Any]]) -> None:
    for line in lines:
        print(json.dumps(line), flush=True)
    with LINES.open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)


if __name__ == "__main__":
    main()
