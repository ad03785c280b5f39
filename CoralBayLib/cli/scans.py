"""`coralbay scans`: probes on whole scans from a table of labels."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from CoralBayLib.core.errors import ScansError, StoreError
from CoralBayLib.core.paths import atomic_write, error_message

from .console import bar, say
from .encoders import open_encoder

NOTICE = "For research use only; a prediction here is no finding."


def add_scans_command(commands: Any, common: list[argparse.ArgumentParser], encoding: list[argparse.ArgumentParser]) -> None:
    """Add the command and its verbs."""
    scans = commands.add_parser("scans", help="learn something of whole scans from a table, and show what carries it")
    verbs = scans.add_subparsers(title="verbs", required=True, metavar="VERB")

    fit = verbs.add_parser("fit", parents=common + encoding, help="learn and evaluate, patients kept apart")
    fit.add_argument("table", type=Path, help="CSV with a column of CT paths, one of patients, and the target")
    fit.add_argument("--target", required=True, metavar="COLUMN", help="what to learn (survive: whether the event was seen)")
    fit.add_argument("--task", required=True, choices=("classify", "regress", "survive"))
    fit.add_argument("--scan-column", default="scan", metavar="COLUMN")
    fit.add_argument("--patient-column", default="patient", metavar="COLUMN")
    fit.add_argument("--every-scan-another-patient", action="store_true", help="there is no column of patients")
    fit.add_argument("--time-column", default="time", metavar="COLUMN", help="survive: time to the event or the last look")
    fit.add_argument("--shots", type=int, metavar="K", help="classify: also what K examples of each kind are worth")
    fit.add_argument("--positive", metavar="CLASS", help="with --shots: the class looked for (default: the rarer one)")
    fit.add_argument("--folds", type=int, default=5)
    fit.add_argument("--seed", type=int, default=0)
    fit.add_argument("--output", "-o", type=Path, default=Path("output/scans"), metavar="FOLDER")
    fit.set_defaults(run=run_fit)

    predict = verbs.add_parser("predict", parents=common + encoding, help="apply a saved scan probe")
    predict.add_argument("probe", type=Path)
    predict.add_argument("ct", type=Path, nargs="+")
    predict.add_argument("--map", type=Path, metavar="FILE", help="of a single CT: write what carries the prediction")
    predict.set_defaults(run=run_predict)

    for verb in (fit, predict):
        verb.add_argument("--assume-hu", action="store_true", help="skip the check that the values look like HU")

    steady = verbs.add_parser("stability", parents=common + encoding, help="does the embedding survive small changes?")
    steady.add_argument("ct", type=Path)
    steady.set_defaults(run=run_stability)


def run_fit(args: argparse.Namespace) -> dict:
    """`coralbay scans fit`."""
    from CoralBayLib.features.store import Store
    from CoralBayLib.scan_probes import ScanProbe, cross_validate, embed_scans, few_shot_patients, read_table
    from CoralBayLib.scan_probes.report import draw, write_predictions

    patient = None if args.every_scan_another_patient else args.patient_column
    table = read_table(args.table, args.target, args.task, scan=args.scan_column, patient=patient, time=args.time_column)
    # Whatever stands in the way is better said before an hour of embedding than after it.
    if args.shots is not None:
        few_shot_patients(table.labels, _positive(args, table.labels), args.shots)
    _make_folder(args.output)
    encoder = open_encoder(args)
    with bar(args, "Embedding") as progress:
        store = None if args.no_store else Store()
        found = embed_scans(table.scans, encoder, progress, store=store, assume_hu=args.assume_hu)
    for each in (*table.left_out, *found.left_out):
        say(args, f"Left out: {each}")
    labels = table.labels.take(found.rows)
    with bar(args, "Evaluating") as progress:
        evaluation = cross_validate(found.vectors, labels, folds=args.folds, seed=args.seed, progress=progress)
    patients = len(set(labels.patients))
    say(args, f"{len(labels)} scans of {patients} patients, {encoder.title}; tested on patients not learnt from:", out=True)
    for name, figure in evaluation.figures.items():
        say(args, f"  {name:<18} {figure}", out=True)
    report: dict[str, Any] = {
        "notice": NOTICE,
        "task": args.task,
        "target": args.target,
        "scans": len(labels),
        "patients": patients,
        "encoder": found.signature,
        "figures": {name: vars(figure) for name, figure in evaluation.figures.items()},
        "calibration": evaluation.calibration.tolist(),
        "left_out": [*table.left_out, *found.left_out],
    }
    if args.shots is not None:
        report["few_shot"] = _few(args, found.vectors, labels)
    probe = ScanProbe().fit(found.vectors, labels, args.seed)
    probe.save(args.output / "probe.safetensors", found.signature, found.pooled, args.target)
    write_predictions(args.output / "predictions.csv", [table.scans[row] for row in found.rows], labels, evaluation)
    with atomic_write(args.output / "report.json") as temporary:
        temporary.write_text(json.dumps(report, indent=1), encoding="utf-8")
    drawn = draw(args.output / "evaluation.png", labels, evaluation, f"{args.target}. {NOTICE}")
    say(args, f"Written to {args.output}: probe.safetensors, predictions.csv, report.json" + (", evaluation.png" * drawn), True)
    say(args, NOTICE, out=True)
    return {**report, "output": str(args.output)}


def _few(args: argparse.Namespace, vectors: Any, labels: Any) -> dict:
    from CoralBayLib.scan_probes import few_shot

    positive = _positive(args, labels)
    mean, spread = few_shot(vectors, labels, positive, args.shots, seed=args.seed)
    say(args, f"  AUROC from {args.shots} examples of '{positive}' and {args.shots} others: {mean:.3f} ± {spread:.3f}", True)
    return {"positive": str(positive), "shots": args.shots, "auroc_mean": mean, "auroc_sd": spread}


def _positive(args: argparse.Namespace, labels: Any) -> str:
    """The class looked for: the rarer one where none was named."""
    return args.positive or min(sorted(set(labels.values)), key=labels.values.tolist().count)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(
            f"The folder {folder} cannot be made: {error_message(error)}. Choose another with --output."
        ) from error


def run_predict(args: argparse.Namespace) -> dict:
    """`coralbay scans predict`."""
    from CoralBayLib.core.errors import ProbeError
    from CoralBayLib.features.embedding import embed
    from CoralBayLib.features.store import Store
    from CoralBayLib.imaging.volume_io import read_volume, write_volume
    from CoralBayLib.scan_probes import ScanProbe, embed_scans, saliency_map

    probe = ScanProbe.load(args.probe)
    if args.map and len(args.ct) > 1:
        raise ScansError("--map draws one scan: give one CT.")
    encoder = open_encoder(args)
    store = None if args.no_store else Store()
    with bar(args, "Embedding") as progress:
        found = embed_scans(args.ct, encoder, progress, store=store, assume_hu=args.assume_hu)
    if found.signature != probe.signature:
        raise ProbeError("This scan probe was learnt with another encoder, weights or setting; choose those with --encoder.")
    rows = []
    for row, made in zip(found.rows, probe.predict(found.vectors), strict=True):
        told = dict(zip(probe.classes_, map(float, made), strict=True)) if probe.classes_ else {probe.target: float(made)}
        rows.append({"scan": str(args.ct[row]), **told})
        say(args, f"{args.ct[row]}: " + ", ".join(f"{name} {value:.3f}" for name, value in told.items()), out=True)
    for each in found.left_out:
        say(args, f"Left out: {each}")
    if args.map:
        pyramid = embed(read_volume(args.ct[0]), encoder, store=store, assume_hu=args.assume_hu)
        write_volume(saliency_map(pyramid, probe), args.map)
        say(args, f"Written: {args.map} (what raises and lowers it, place by place)", out=True)
    say(args, NOTICE, out=True)
    return {"notice": NOTICE, "target": probe.target, "predictions": rows, "left_out": list(found.left_out)}


def run_stability(args: argparse.Namespace) -> dict:
    """`coralbay scans stability`."""
    from CoralBayLib.imaging.volume_io import read_volume
    from CoralBayLib.scan_probes import stability

    volume = read_volume(args.ct)
    encoder = open_encoder(args)
    with bar(args, "Embedding") as progress:
        cosines = stability(volume, encoder, progress)
    say(args, "Cosine of the scan embedding with that of the same scan changed a little:", out=True)
    for name, cosine in cosines.items():
        say(args, f"  {name:<18} {cosine:.4f}", out=True)
    say(args, "Scans of other patients are alike too: compare with the cosine between two scans of a study.", out=True)
    return {"cosine": cosines, "encoder": encoder.name}
