"""`coralbay scans fit`: fit probes on a table of scans, and test them on unseen patients."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from CoralBayLib.cli.common import inputs_of, open_cache, open_encoder
from CoralBayLib.cli.console import Console
from CoralBayLib.cli.remedies import remedy_text
from CoralBayLib.core.errors import ScansError
from CoralBayLib.core.names import unique_names
from CoralBayLib.core.outputs import require_writable_folder
from CoralBayLib.core.paths import atomic_write

if TYPE_CHECKING:
    from CoralBayLib.scan_probes import Comparison, Estimate, Labels, ScanEmbeddings, ScanTable
    from CoralBayLib.scan_probes.comparison import ShotResult

NOTICE = "For research use only; a prediction is not a diagnosis."
_OUTPUTS = ("probe.safetensors", "predictions.csv", "report.json", "evaluation.png")
"""Files of each target."""
_COMPARISON = "comparison.csv"
_MEAN = "mean of all"
"""Target of the means over several targets in the comparison."""
_SHOWN = {
    "classification": ("AUROC", "average precision", "balanced accuracy", "Brier score", "calibration error"),
    "regression": ("MAE", "R2"),
    "survival": ("concordance",),
}
"""Columns of the printed comparison by task."""


def run_fit(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    """`coralbay scans fit`."""
    from CoralBayLib.scan_probes import embed_scans
    from CoralBayLib.scan_probes.evaluation import require_folds

    args.target = list(dict.fromkeys(args.target))
    if len(args.target) > 1 and args.task != "classification":
        raise ScansError("Several target columns are for classification. Give one column to --target.")
    tables = [_read(args, target) for target in args.target]
    _require_other_columns(tables)
    scans = list(dict.fromkeys(path for table in tables for path in table.scans))
    # Check everything that can be checked before embedding, which may take hours.
    folders = _output_folders(args, scans)
    for table in tables:
        try:
            require_folds(table.labels, args.folds, args.seed)
        except ScansError as error:
            if len(tables) > 1:
                raise ScansError(f"Column '{table.target}': {error}") from error
            raise
    encoder = open_encoder(args, console)
    kinds = _kinds(args)
    with console.bar("Embedding") as progress:
        embedded = embed_scans(
            scans,
            encoder,
            progress,
            store=open_cache(args),
            assume_hu=args.assume_hu,
            with_tokens="attentive" in kinds,
        )
    for table in tables:
        say_left_out(args, console, table.left_out)
    say_left_out(args, console, embedded.left_out)
    reports, results = [], []
    rows: dict[str, Mapping[str, Mapping[str, Estimate]]] = {}
    for table, folder in zip(tables, folders, strict=True):
        part, labels, paths = _part(embedded, scans, table)
        try:
            report, found = _fit_one(args, console, part, labels, paths, table, folder, encoder.title)
        except ScansError as error:
            if len(tables) == 1:
                raise
            # Scans were left out; the other columns may do without them.
            console.say(f"Left out: column '{table.target}': {error}")
            continue
        reports.append(report)
        results.append((labels, found))
        rows[table.target] = found.rows()
    if not reports:
        raise ScansError("None of the columns could be used. See the messages above.")
    result = reports[0]
    if len(tables) > 1:
        means, rows[_MEAN] = _summary(args, console, results)
        result = {"notice": NOTICE, "targets": reports, "mean": means}
    if args.compare or len(tables) > 1:
        from CoralBayLib.scan_probes.comparison import write_comparison

        write_comparison(args.output / _COMPARISON, rows)
        console.result(f"Written to {args.output}: {_COMPARISON}")
    console.result(NOTICE)
    return {**result, "output": str(args.output)}


def _read(args: argparse.Namespace, target: str) -> ScanTable:
    from CoralBayLib.scan_probes import few_shot_patients, read_table

    patient = None if args.one_scan_per_patient else args.patient_column
    table = read_table(args.table, target, args.task, scan=args.scan_column, patient=patient, time=args.time_column)
    for shots in args.shots or ():
        few_shot_patients(table.labels, _positive(args, table.labels), shots)
    positive = args.positive or ""
    if len(args.target) > 1 and not positive:
        from CoralBayLib.scan_probes.tables.cells import likely_positive

        positive = likely_positive(sorted(set(table.labels.values)))
    return replace(table, labels=table.labels.with_positive(positive))


def _require_other_columns(tables: Sequence[ScanTable]) -> None:
    """Refuse a column that was named twice, which would count twice in the mean."""
    columns = [table.target for table in tables]
    for column in columns:
        if columns.count(column) > 1:
            raise ScansError(f"The column '{column}' is given twice after --target. Give each column once.")
    if len(columns) > 1 and _MEAN in columns:
        raise ScansError(f"The column '{_MEAN}' has the name of a row of {_COMPARISON}. Rename it.")


def _kinds(args: argparse.Namespace) -> list[str]:
    """The kinds of probes to test, that to be saved first."""
    from CoralBayLib.scan_probes.comparison import PROBES

    return [args.probe, *(kind for kind in PROBES if kind != args.probe)] if args.compare else [args.probe]


def _output_folders(args: argparse.Namespace, scans: Sequence[Path]) -> list[Path]:
    """The folder of each target: of several targets one each, in the output folder."""
    inputs = [*inputs_of(args), *scans]
    args.output = require_writable_folder(args.output, inputs, (_COMPARISON,))
    if len(args.target) == 1:
        return [require_writable_folder(args.output, inputs, _OUTPUTS)]
    names = unique_names(re.sub(r"[^\w .-]", "-", target).strip(" .") or "target" for target in args.target)
    return [require_writable_folder(args.output / name, inputs, _OUTPUTS) for name in names]


def _part(embedded: ScanEmbeddings, scans: Sequence[Path], table: ScanTable) -> tuple[ScanEmbeddings, Labels, list[Path]]:
    """The embedded scans of one target with their labels and paths."""
    import numpy as np

    from CoralBayLib.scan_probes.embeddings import take_scans

    row_of_scan = {scans[row]: n for n, row in enumerate(embedded.rows)}
    rows = [n for n, path in enumerate(table.scans) if path in row_of_scan]
    chosen = np.array([row_of_scan[table.scans[n]] for n in rows], int)
    return take_scans(embedded, chosen), table.labels.take(np.array(rows, int)), [table.scans[n] for n in rows]


def _fit_one(
    args: argparse.Namespace,
    console: Console,
    embedded: ScanEmbeddings,
    labels: Labels,
    paths: Sequence[Path],
    table: ScanTable,
    folder: Path,
    title: str,
) -> tuple[dict[str, Any], Comparison]:
    """Evaluate and fit for one target, and write its files."""
    from CoralBayLib.scan_probes.charts import comparison_chart, shots_chart
    from CoralBayLib.scan_probes.comparison import compare, comparison_lines
    from CoralBayLib.scan_probes.labels import SAVED_TASKS
    from CoralBayLib.scan_probes.report import draw, write_predictions

    with console.bar("Evaluating") as progress:
        found = compare(embedded, labels, _kinds(args), folds=args.folds, seed=args.seed, progress=progress)
    evaluation, patients = found.evaluations[args.probe], len(set(labels.patients))
    several = f"{table.target}: " if len(args.target) > 1 else ""
    console.result(f"{several}{len(labels)} scans of {patients} patients, {title}; cross-validated with patients kept apart:")
    if args.compare:
        for line in comparison_lines(found.rows(), _SHOWN[args.task]):
            console.result(f"  {line}")
    else:
        for name, estimate in evaluation.metrics.items():
            console.result(f"  {name:<18} {estimate}")
    report: dict[str, Any] = {
        "notice": NOTICE,
        "task": SAVED_TASKS[args.task],
        "target": table.target,
        "probe": args.probe,
        "scans": len(labels),
        "patients": patients,
        "encoder": embedded.signature,
        "figures": {name: vars(estimate) for name, estimate in evaluation.metrics.items()},
        "calibration": evaluation.calibration.tolist(),
        "left_out": [*map(str, table.left_out), *map(str, embedded.left_out)],
    }
    further = []
    if args.compare:
        report["comparison"] = {
            kind: {name: vars(estimate) for name, estimate in metrics.items()} for kind, metrics in found.rows().items()
        }
        further.append(comparison_chart(found.rows(), _SHOWN[args.task][0]))
    shots = _possible_shots(args, console, labels)
    if shots:
        curves = _shots(args, console, embedded, labels, shots)
        further += [shots_chart(curves, _positive(args, labels))] if len(shots) > 1 else []
        report.update(_shots_report(args, labels, curves))
    _save(args, embedded, labels, table.target, folder)
    write_predictions(folder / "predictions.csv", paths, labels, evaluation)
    with atomic_write(folder / "report.json") as temporary:
        temporary.write_text(json.dumps(report, indent=1), encoding="utf-8")
    drawn = draw(folder / "evaluation.png", labels, evaluation, f"{table.target}. {NOTICE}", further)
    console.result(f"Written to {folder}: probe.safetensors, predictions.csv, report.json" + (", evaluation.png" * drawn))
    return report, found


def _save(args: argparse.Namespace, embedded: ScanEmbeddings, labels: Labels, target: str, folder: Path) -> None:
    """Fit the chosen kind of probe to all scans, and write it."""
    from CoralBayLib.scan_probes import AttentiveProbe, ScanProbe

    path = folder / "probe.safetensors"
    if args.probe == "attentive":
        assert embedded.tokens is not None
        AttentiveProbe().fit(embedded.tokens, labels, args.seed).save(path, embedded.signature, target)
    else:
        ScanProbe().fit(embedded.vectors, labels, args.seed).save(path, embedded.signature, embedded.pooled, target)


def _possible_shots(args: argparse.Namespace, console: Console, labels: Labels) -> list[int]:
    """The numbers of examples that still leave patients to test on, after scans were left out."""
    from CoralBayLib.scan_probes import few_shot_patients

    possible = []
    for shots in args.shots or ():
        try:
            few_shot_patients(labels, _positive(args, labels), shots)
        except ScansError as error:
            console.say(f"Left out: {error}")
        else:
            possible.append(shots)
    return possible


def _shots(
    args: argparse.Namespace, console: Console, embedded: ScanEmbeddings, labels: Labels, shots: Sequence[int]
) -> dict[str, list[ShotResult]]:
    """Test probes from few examples, and print the results."""
    from CoralBayLib.scan_probes import shot_curves

    positive = _positive(args, labels)
    with console.bar("Few examples") as progress:
        curves = shot_curves(embedded, labels, positive, shots, _kinds(args), seed=args.seed, progress=progress)
    for kind, results in curves.items():
        of = f", {kind}" if args.compare else ""
        for each in results:
            console.result(
                f"  AUROC from {each.shots} examples of '{positive}' and {each.shots} others{of}: "
                f"{each.mean:.3f} ± {each.spread:.3f}"
            )
    return curves


def _shots_report(args: argparse.Namespace, labels: Labels, curves: Mapping[str, Sequence[ShotResult]]) -> dict[str, Any]:
    positive, last = str(_positive(args, labels)), curves[args.probe][-1]
    return {
        # As version 0.1.0 wrote it, for the largest number of examples.
        "few_shot": {"positive": positive, "shots": last.shots, "auroc_mean": last.mean, "auroc_sd": last.spread},
        "few_shot_curves": {
            kind: [{"shots": each.shots, "auroc_mean": each.mean, "auroc_sd": each.spread} for each in results]
            for kind, results in curves.items()
        },
    }


def _positive(args: argparse.Namespace, labels: Labels) -> str:
    """The positive class: as named, or else the rarer one."""
    return args.positive or min(sorted(set(labels.values)), key=labels.values.tolist().count)


def _summary(
    args: argparse.Namespace, console: Console, results: Sequence[tuple[Labels, Comparison]]
) -> tuple[dict[str, Any], dict[str, dict[str, Estimate]]]:
    """Print the means over several targets; returns them for the report and for the table."""
    from CoralBayLib.scan_probes.comparison import CHANCE, chance_evaluation, comparison_lines
    from CoralBayLib.scan_probes.multi_label import mean_estimate

    names = ("AUROC", "average precision", "Brier score")
    rows: dict[str, dict[str, Estimate]] = {}
    for kind in _kinds(args):
        tested = [(labels, found.evaluations[kind]) for labels, found in results]
        rows[kind] = {name: mean_estimate(tested, name) for name in names}
    rows[CHANCE] = {name: mean_estimate([(labels, chance_evaluation(labels)) for labels, _ in results], name) for name in names}
    console.result(f"Mean over {len(results)} targets:")
    for line in comparison_lines(rows):
        console.result(f"  {line}")
    return {kind: {name: vars(each) for name, each in metrics.items()} for kind, metrics in rows.items()}, rows


def say_left_out(args: argparse.Namespace, console: Console, left_out: Iterable[Any]) -> None:
    """Name rows and scans that cannot be used, with what can be done about it."""
    for skipped in left_out:
        console.say(f"Left out: {skipped} {remedy_text(skipped.error, vars(args))}".rstrip())
