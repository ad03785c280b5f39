"""`coralbay library evaluate`: how well the library finds scans and regions of the same label."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from CoralBayLib.cli.common import library_encoder_name, open_library, require_library_outputs
from CoralBayLib.cli.console import Console
from CoralBayLib.cli.options import path_argument
from CoralBayLib.core.errors import LibraryError
from CoralBayLib.core.paths import atomic_write, expand

if TYPE_CHECKING:
    from CoralBayLib.library.evaluation.regions import RegionScores
    from CoralBayLib.library.evaluation.scans import ScanScores
    from CoralBayLib.library.tables import Tables
    from CoralBayLib.scan_probes.charts import Chart

_MOST_NAMED = 10


def add_evaluate(actions: Any, parents: list[argparse.ArgumentParser]) -> None:
    """Add the action `evaluate`."""
    parser = actions.add_parser("evaluate", parents=parents, help="measure retrieval with labels of scans or of structures")
    parser.add_argument(
        "--labels",
        required=True,
        type=path_argument,
        metavar="TABLE|FOLDER",
        help="CSV with a row for each scan (path, patient, label) to measure the retrieval of scans; or a folder of labeled "
        "patients, as `coralbay evaluate` reads it, to measure that of regions. The scans must be in the library",
    )
    parser.add_argument("--label-column", default="label", metavar="COLUMN", help="table: column of the label (default label)")
    parser.add_argument(
        "--scan-column", default="scan", metavar="COLUMN", help="table: column of the scans' paths (default scan)"
    )
    parser.add_argument(
        "--patient-column", default="patient", metavar="COLUMN", help="table: column of the patients (default patient)"
    )
    parser.add_argument("--one-scan-per-patient", action="store_true", help="table: every scan is of another patient")
    parser.add_argument(
        "--against",
        type=int,
        default=99,
        metavar="N",
        help="table: scans with other labels that a scan is ranked against in Recall@k (default 99)",
    )
    parser.add_argument(
        "--queries", type=int, default=3, metavar="N", help="folder: queries of a structure in a scan at most (default 3)"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="random seed of the queries (default 0)")
    parser.add_argument("--output", "-o", metavar="FILE", help="also write the scores into this .json file")
    parser.add_argument("--chart", metavar="FILE", help="draw the scores into this .png, .pdf or .svg file (needs matplotlib)")
    parser.set_defaults(run=run_evaluate)


def run_evaluate(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    """`coralbay library evaluate`."""
    from CoralBayLib.library.tables import Tables

    if min(args.against, args.queries) < 1 or args.seed < 0:
        raise LibraryError("Expected --against and --queries of at least 1, and a seed of 0 or more.")
    library = open_library(args)
    library.storage.require()
    require_library_outputs(args, library, output=(".json",), chart=(".png", ".pdf", ".svg"))
    name = library_encoder_name(args, library)
    library.require_encoder(name)
    tables = Tables(library.storage, name)
    tables.require()
    path = expand(args.labels)
    result = _regions(args, console, tables, path) if path.is_dir() else _scans(args, console, tables, path)
    result = {"encoder": name, **result}
    if args.output:
        with atomic_write(Path(args.output)) as temporary:
            temporary.write_text(json.dumps(result, indent=1), encoding="utf-8")
        console.result(f"Written: {args.output}")
    return result


def _scans(args: argparse.Namespace, console: Console, tables: Tables, path: Path) -> dict[str, Any]:
    from CoralBayLib.library.evaluation.charts import scan_charts
    from CoralBayLib.library.evaluation.labels import labeled_scans
    from CoralBayLib.library.evaluation.scans import evaluate_scans

    patient = None if args.one_scan_per_patient else args.patient_column
    found = labeled_scans(tables, path, args.label_column, args.scan_column, patient)
    _say_left_out(console, found.left_out)
    # Where the label is the patient, the scans to be found are those of the query's patient.
    own = patient is not None and args.label_column == patient
    scores = evaluate_scans(found.vectors, found.labels, found.patients, args.against, of_same_patient=own)
    _print_scans(console, scores)
    _draw(args, console, scan_charts(scores), f"Scans with the same {args.label_column}")
    return {"kind": "scans", **asdict(scores), "left_out": found.left_out}


def _draw(args: argparse.Namespace, console: Console, charts: list[Chart], title: str) -> None:
    from CoralBayLib.scan_probes.report import draw_charts

    if args.chart:
        drawn = draw_charts(Path(args.chart), charts, f"{title}, with 95 % intervals over patients")
        console.result(f"Written: {args.chart}" if drawn else "No chart was drawn: it needs the package matplotlib.")


def _print_scans(console: Console, scores: ScanScores) -> None:
    low, high = scores.against
    others = f"{low}" if low == high else f"{low} to {high}"
    console.result(
        f"{scores.queries} scans of {scores.patients} patients as queries, ranked against {others} with other labels."
    )
    console.result(f"{'metric':<12}  {'value (95 % interval)':<24}  chance")
    for name, estimate in scores.metrics.items():
        console.result(f"{name:<12}  {estimate!s:<24}  {scores.chance[name]:.3f}")
    for label, estimate in scores.by_label.items():
        console.result(f"mAP of '{label}': {estimate}")


def _regions(args: argparse.Namespace, console: Console, tables: Tables, folder: Path) -> dict[str, Any]:
    from CoralBayLib.library.evaluation.charts import region_charts
    from CoralBayLib.library.evaluation.labels import labeled_regions
    from CoralBayLib.library.evaluation.regions import evaluate_regions

    with console.bar("Reading labels") as progress:
        scans, left_out = labeled_regions(tables, folder, progress)
    _say_left_out(console, left_out)
    with console.bar("Searching") as progress:
        scores = evaluate_regions(scans, args.queries, args.seed, progress)
    _print_regions(console, scores, len(scans))
    _draw(args, console, region_charts(scores), "Regions in the same structure")
    return {"kind": "regions", "scans": len(scans), **asdict(scores), "left_out": left_out}


def _print_regions(console: Console, scores: RegionScores, scans: int) -> None:
    console.result(
        f"{scans} scans; precision of the first 1, 5 and 10 regions by structure, with 95 % intervals over patients. "
        "Possible: the largest precision that the structures have room for, as regions of one scan are 20 mm apart."
    )
    for kind, by_structure in scores.metrics.items():
        console.result(f"{kind}:")
        for structure, estimates in by_structure.items():
            chance = scores.chance.get(kind.partition(",")[0], {}).get(structure)
            numbers = "  ".join(f"@{k} {estimate}" for k, estimate in estimates.items())
            by_chance = "" if chance is None else f"  chance {chance:.3f}"
            possible = scores.possible.get(kind.partition(",")[0], {}).get(structure, {})
            by_chance += "".join(f"  possible @{k} {most:.3f}" for k, most in possible.items() if most < 1)
            console.result(f"  {structure:<24}  {numbers}{by_chance}")


def _say_left_out(console: Console, left_out: list[str]) -> None:
    for text in left_out[:_MOST_NAMED]:
        console.say(f"Left out: {text}")
    if len(left_out) > _MOST_NAMED:
        console.say(f"... and {len(left_out) - _MOST_NAMED} more (--json lists all).")
