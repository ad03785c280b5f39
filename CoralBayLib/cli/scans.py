"""`coralbay scans`: fit, test and apply probes on whole scans."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from CoralBayLib.core.errors import ScansError
from CoralBayLib.core.outputs import require_writable_folder
from CoralBayLib.core.paths import atomic_write
from CoralBayLib.imaging.formats import WRITABLE_SUFFIXES

from .common import Common, add_renamed_option, inputs_of, open_cache, open_encoder, require_outputs
from .console import Console
from .remedies import remedy_text

NOTICE = "For research use only; a prediction is not a diagnosis."
_FIT_OUTPUTS = ("probe.safetensors", "predictions.csv", "report.json", "evaluation.png")
"""Files that `coralbay scans fit` writes."""
_OLD_TASKS = {"classify": "classification", "regress": "regression", "survive": "survival"}
"""Tasks by their names in version 0.1.0, which still work."""


def add_parser(commands: Any, common: Common) -> None:
    """Add the command and its actions."""
    scans = commands.add_parser("scans", help="fit, test and apply probes on whole scans")
    actions = scans.add_subparsers(title="actions", required=True, metavar="ACTION")
    parents = [common.output, common.embedding]

    fit = actions.add_parser(
        "fit", parents=parents, help="fit a probe on a table of scans, and cross-validate it with patients kept apart"
    )
    fit.add_argument("table", type=Path, metavar="TABLE", help="CSV with a row for each scan: path, patient, target")
    fit.add_argument(
        "--target", required=True, metavar="COLUMN", help="column to predict (survival: whether the event was observed, 0 or 1)"
    )
    fit.add_argument("--task", required=True, type=_task, choices=tuple(_OLD_TASKS.values()), help="kind of the target")
    fit.add_argument("--scan-column", default="scan", metavar="COLUMN", help="column of the scans' paths (default scan)")
    fit.add_argument("--patient-column", default="patient", metavar="COLUMN", help="column of the patients (default patient)")
    add_renamed_option(
        fit,
        "--one-scan-per-patient",
        old="--every-scan-another-patient",
        action="store_true",
        help="every scan is of another patient, and the table has no column of patients",
    )
    fit.add_argument(
        "--time-column",
        default="time",
        metavar="COLUMN",
        help="survival: column of the time to the event or to the last follow-up (default time)",
    )
    fit.add_argument("--shots", type=int, metavar="K", help="classification: also test probes fitted on K scans of each class")
    fit.add_argument(
        "--positive",
        metavar="CLASS",
        help="the positive one of two classes (default: the last by name; with --shots the rarer one)",
    )
    fit.add_argument("--folds", type=int, default=5, metavar="N", help="folds of the cross-validation (default 5)")
    fit.add_argument("--seed", type=int, default=0, metavar="N", help="random seed of the folds (default 0)")
    fit.add_argument(
        "--output",
        "-o",
        type=Path,
        default=Path("output/scans"),
        metavar="FOLDER",
        help="folder for the probe and the report (default output/scans)",
    )
    fit.set_defaults(run=run_fit)

    predict = actions.add_parser("predict", parents=parents, help="apply a saved probe to scans")
    predict.add_argument("probe", type=Path, metavar="PROBE", help="probe.safetensors that `coralbay scans fit` wrote")
    predict.add_argument("ct", type=Path, nargs="+", metavar="CT", help="scans: image files or folders of DICOM slices")
    predict.add_argument("--map", type=Path, metavar="FILE", help="write the saliency map of one CT (NRRD, NIfTI, MetaImage)")
    predict.set_defaults(run=run_predict)

    stability = actions.add_parser(
        "stability", parents=parents, help="measure how much small changes of a scan change its embedding"
    )
    stability.add_argument("ct", type=Path, metavar="CT", help="the scan: an image file or a folder of DICOM slices")
    stability.set_defaults(run=run_stability)


def _task(name: str) -> str:
    return _OLD_TASKS.get(name, name)


def run_fit(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    """`coralbay scans fit`."""
    from CoralBayLib.scan_probes import ScanProbe, cross_validate, embed_scans, few_shot_patients, read_table
    from CoralBayLib.scan_probes.evaluation import require_folds
    from CoralBayLib.scan_probes.report import draw, write_predictions
    from CoralBayLib.scan_probes.table import SAVED_TASKS

    patient = None if args.one_scan_per_patient else args.patient_column
    table = read_table(args.table, args.target, args.task, scan=args.scan_column, patient=patient, time=args.time_column)
    # Check everything that can be checked before embedding, which may take hours.
    if args.shots is not None:
        few_shot_patients(table.labels, _positive(args, table.labels), args.shots)
    known = table.labels.with_positive(args.positive or "")
    args.output = require_writable_folder(args.output, [*inputs_of(args), *table.scans], _FIT_OUTPUTS)
    require_folds(table.labels, args.folds, args.seed)
    encoder = open_encoder(args, console)
    with console.bar("Embedding") as progress:
        embedded = embed_scans(table.scans, encoder, progress, store=open_cache(args), assume_hu=args.assume_hu)
    _say_left_out(args, console, (*table.left_out, *embedded.left_out))
    labels = known.take(embedded.rows)
    with console.bar("Evaluating") as progress:
        evaluation = cross_validate(embedded.vectors, labels, folds=args.folds, seed=args.seed, progress=progress)
    patients = len(set(labels.patients))
    console.result(f"{len(labels)} scans of {patients} patients, {encoder.title}; cross-validated with patients kept apart:")
    for name, estimate in evaluation.metrics.items():
        console.result(f"  {name:<18} {estimate}")
    report: dict[str, Any] = {
        "notice": NOTICE,
        "task": SAVED_TASKS[args.task],
        "target": args.target,
        "scans": len(labels),
        "patients": patients,
        "encoder": embedded.signature,
        "figures": {name: vars(estimate) for name, estimate in evaluation.metrics.items()},
        "calibration": evaluation.calibration.tolist(),
        "left_out": [*map(str, table.left_out), *map(str, embedded.left_out)],
    }
    if args.shots is not None:
        report["few_shot"] = _few_shot(args, console, embedded.vectors, labels)
    probe = ScanProbe().fit(embedded.vectors, labels, args.seed)
    probe.save(args.output / "probe.safetensors", embedded.signature, embedded.pooled, args.target)
    write_predictions(args.output / "predictions.csv", [table.scans[row] for row in embedded.rows], labels, evaluation)
    with atomic_write(args.output / "report.json") as temporary:
        temporary.write_text(json.dumps(report, indent=1), encoding="utf-8")
    drawn = draw(args.output / "evaluation.png", labels, evaluation, f"{args.target}. {NOTICE}")
    console.result(f"Written to {args.output}: probe.safetensors, predictions.csv, report.json" + (", evaluation.png" * drawn))
    console.result(NOTICE)
    return {**report, "output": str(args.output)}


def _say_left_out(args: argparse.Namespace, console: Console, left_out: Iterable[Any]) -> None:
    for skipped in left_out:
        console.say(f"Left out: {skipped} {remedy_text(skipped.error, vars(args))}".rstrip())


def _few_shot(args: argparse.Namespace, console: Console, vectors: Any, labels: Any) -> dict[str, Any]:
    from CoralBayLib.scan_probes import few_shot

    positive = _positive(args, labels)
    mean, spread = few_shot(vectors, labels, positive, args.shots, seed=args.seed)
    console.result(f"  AUROC from {args.shots} examples of '{positive}' and {args.shots} others: {mean:.3f} ± {spread:.3f}")
    return {"positive": str(positive), "shots": args.shots, "auroc_mean": mean, "auroc_sd": spread}


def _positive(args: argparse.Namespace, labels: Any) -> str:
    """The positive class: as named, or else the rarer one."""
    return args.positive or min(sorted(set(labels.values)), key=labels.values.tolist().count)


def run_predict(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    """`coralbay scans predict`."""
    from CoralBayLib.features.embedding import embed
    from CoralBayLib.imaging.volume_io import read_volume, require_storable, write_volume
    from CoralBayLib.scan_probes import ScanProbe, embed_scans, saliency_map

    require_outputs(args, map=WRITABLE_SUFFIXES)
    probe = ScanProbe.load(args.probe)
    if args.map and len(args.ct) > 1:
        raise ScansError("--map is for a single scan. Give one CT, or leave --map out.")
    volume = read_volume(args.ct[0]) if args.map else None
    if volume is not None:
        require_storable(volume.grid, args.map)
    encoder = open_encoder(args, console)
    store = open_cache(args)
    with console.bar("Embedding") as progress:
        embedded = embed_scans(args.ct, encoder, progress, store=store, assume_hu=args.assume_hu)
    probe.require_fit(embedded.signature)
    rows = []
    for row, predicted in zip(embedded.rows, probe.predict(embedded.vectors), strict=True):
        values = predicted.tolist() if probe.classes_ else [float(predicted)]
        named = dict(zip(probe.classes_ or [probe.target], values, strict=True))
        rows.append({"scan": str(args.ct[row]), **named})
        console.result(f"{args.ct[row]}: " + ", ".join(f"{name} {value:.3f}" for name, value in named.items()))
    _say_left_out(args, console, embedded.left_out)
    if volume is not None:
        pyramid = embed(volume, encoder, store=store, assume_hu=args.assume_hu)
        write_volume(saliency_map(pyramid, probe), args.map)
        console.result(f"Written: {args.map} (contribution of each location to the prediction)")
    console.result(NOTICE)
    return {"notice": NOTICE, "target": probe.target, "predictions": rows, "left_out": [*map(str, embedded.left_out)]}


def run_stability(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    """`coralbay scans stability`."""
    from CoralBayLib.imaging.volume_io import read_volume
    from CoralBayLib.scan_probes import stability

    volume = read_volume(args.ct)
    encoder = open_encoder(args, console)
    with console.bar("Embedding") as progress:
        cosines = stability(volume, encoder, progress)
    console.result("Cosine similarity between the embedding of the scan and of the same scan after a small change:")
    for name, cosine in cosines.items():
        console.result(f"  {name:<18} {cosine:.4f}")
    console.result("For comparison, compute the cosine similarity between scans of different patients: it is high, too.")
    return {"cosine": cosines, "encoder": encoder.name}
