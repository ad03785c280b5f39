"""Retrieval as `coralbay library evaluate` scores it, on real scans, beside chance and beside an untrained network.

The scans of a library are labeled heads and necks of OpenKBP, which are named, and other scans with a known region of the body,
and cubes around the parotid glands (see `scan_task_data`). Both the adding and the scoring are done by the commands of
`coralbay`; scans that are in the library already are not added again, and scores that are known are not measured again.

Usage: python -m Testing.benchmarks.library_scores DATA FOLDER [--heads NAME ...] [--encoders coralbay-mini untrained]
       [--tables [FOLDER]]
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from CoralBayLib.cli.main import main as coralbay

from .scan_task_data import CONTRAST, REGIONS, prepare
from .tables import summary
from .tables.library_scores import FILE, TITLE, write_tables
from .tables.sections import MEASURED, add_tables_option, put_section

LINES = MEASURED / "library_scores.jsonl"
HERE = Path(__file__).parent
LABELED = ("slicerio_ctchest4", "lung4d_113", "sts001", "sts002")
LABELED += ("STS_006", "STS_012", "STS_018", "STS_023", "STS_026", "STS_031", "STS_034")
"""Scans of other regions with labels."""
SAME = {"GTV_Mass_CT": "GTV_Mass"}
"""Names of one kind of structure in different collections."""
TABLES = {"region": "region", "contrast": "contrast", "side": "side", "patient": "patient"}
"""Column of the label by the name of the question."""


def main() -> None:
    """Add the scans, measure what is not measured yet, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with the scans")
    parser.add_argument("folder", type=Path, help="for the library, parts of scans and tables")
    parser.add_argument("--heads", nargs="+", default=[], help="folders of openkbp to use")
    parser.add_argument("--encoders", nargs="*", default=["coralbay-mini", "untrained"])
    add_tables_option(parser)
    args = parser.parse_args()
    if args.heads:
        _measure(args.data.resolve(), args.folder, args.heads, args.encoders)
    if args.tables:
        put_section(args.tables / FILE, TITLE, write_tables(read_lines()))
        summary.renew(args.tables)


def _measure(data: Path, folder: Path, heads: Sequence[str], encoders: Sequence[str]) -> None:
    questions = _tables(data, folder, heads)
    questions["regions"] = (_patients(data, folder / "patients", heads), "")
    scans = sorted({row["scan"] for path, label in questions.values() if label for row in _rows(path)})
    scans += sorted(str((folder / "patients" / name / "ct.nii.gz").resolve()) for name in (*heads, *LABELED))
    scans = [str(each) for each in np.random.default_rng(0).permutation(sorted(set(scans)))]
    library = str(folder / "library")
    for encoder in encoders:
        own = ["--encoder-file", str(HERE / "untrained_encoder.py")] if encoder == "untrained" else []
        known = {line["question"] for line in read_lines() if line["encoder"] == encoder}
        if known >= questions.keys():
            continue
        _run("library", "add", *scans, "--library", library, "--encoder", encoder, *own, "--device", "cpu", "--quiet")
        for question, (path, label) in questions.items():
            if question not in known:
                output = folder / f"{encoder}-{question}.json"
                options = ["--label-column", label] if label else []
                _run(
                    *("library", "evaluate", "--library", library, "--encoder", encoder, "--quiet"),
                    *("--labels", str(path), *options, "-o", str(output)),
                )
                _keep(question, json.loads(output.read_text(encoding="utf-8")))


def _tables(data: Path, folder: Path, heads: Sequence[str]) -> dict[str, tuple[Path, str]]:
    """The table of each question about scans, and the column of its label."""
    paths = prepare(data, folder / "scan_tasks")
    others = {name for names in (*REGIONS.values(), *CONTRAST.values()) for name in names.split()}
    found = {}
    for question, label in TABLES.items():
        rows = _rows(paths["side" if question == "patient" else question])
        if question == "region":
            rows = [row for row in rows if row["patient"] in others or row["patient"] in heads]
        path = folder / f"{question}.csv"
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        found[question] = (path, label)
    return found


def _patients(data: Path, folder: Path, heads: Sequence[str]) -> Path:
    """A folder of labeled patients, with links to the files and with one name for each kind of structure."""
    for name in (*heads, *LABELED):
        source, target = data / ("openkbp" if name in heads else "") / name, folder / name
        target.mkdir(parents=True, exist_ok=True)
        for file in ("ct.nii.gz", "labels.nii.gz"):
            if not (target / file).is_symlink():
                (target / file).symlink_to(source / file)
        names = json.loads((source / "labels.json").read_text(encoding="utf-8"))
        names = {label: SAME.get(kind, kind) for label, kind in names.items()}
        (target / "labels.json").write_text(json.dumps(names), encoding="utf-8")
    return folder


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _run(*arguments: str) -> None:
    print("coralbay", *arguments[:2], *arguments[-6:], flush=True)
    status = coralbay(arguments)
    if status:
        raise SystemExit(status)


def read_lines() -> list[dict[str, Any]]:
    """The measured scores, a line for each question and encoder."""
    return [json.loads(line) for line in LINES.read_text(encoding="utf-8").splitlines()] if LINES.exists() else []


def _keep(question: str, result: dict[str, Any]) -> None:
    """Add a result without what is left out, which names files."""
    line = {"question": question, **{name: value for name, value in result.items() if name != "left_out"}}
    line["left_out"] = len(result["left_out"])
    with LINES.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
