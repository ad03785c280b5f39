"""`coralbay scans`: fit, test and apply probes on whole scans."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from CoralBayLib.cli.common import open_cache, open_encoder, require_outputs
from CoralBayLib.cli.console import Console
from CoralBayLib.cli.options import Common, add_renamed_option, path_argument
from CoralBayLib.core.errors import ScansError
from CoralBayLib.imaging.formats import WRITABLE_SUFFIXES

from .fit import NOTICE, run_fit, say_left_out

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
    fit.add_argument("table", type=path_argument, metavar="TABLE", help="CSV with a row for each scan: path, patient, target")
    fit.add_argument(
        "--target",
        required=True,
        nargs="+",
        metavar="COLUMN",
        help="column to predict (survival: whether the event was observed, 0 or 1); several columns of a multi-label table "
        "get a probe each",
    )
    fit.add_argument("--task", required=True, type=_task, choices=tuple(_OLD_TASKS.values()), help="kind of the target")
    fit.add_argument("--scan-column", default="scan", metavar="COLUMN", help="column of the scans' paths (default scan)")
    fit.add_argument("--patient-column", default="patient", metavar="COLUMN", help="column of the patients (default patient)")
    add_renamed_option(
        fit,
        "--one-scan-per-patient",
        old="--every-scan-another-patient",
        action="store_true",
        help="every scan is of a different patient, and the table has no column of patients",
    )
    fit.add_argument(
        "--time-column",
        default="time",
        metavar="COLUMN",
        help="survival: column of the time to the event or to the last follow-up (default time)",
    )
    fit.add_argument(
        "--probe",
        default="linear",
        choices=("linear", "attentive"),
        help="kind of probe: linear on the scan embedding, or attentive, which weighs the features of all locations and takes "
        "longer to train (default linear)",
    )
    fit.add_argument(
        "--compare",
        action="store_true",
        help="also test the other kinds of probes and k nearest neighbors, in the same folds; a table shows all beside chance",
    )
    fit.add_argument(
        "--shots",
        type=_shots,
        metavar="K[,K]",
        help="classification: also test probes fitted on K scans of each class; several numbers, such as 1,2,4,8, give a curve",
    )
    fit.add_argument(
        "--positive",
        metavar="CLASS",
        help="the positive class of two (default: the last by name; with --shots the rarer one)",
    )
    fit.add_argument("--folds", type=int, default=5, metavar="N", help="folds of the cross-validation (default 5)")
    fit.add_argument("--seed", type=int, default=0, metavar="N", help="random seed of the folds (default 0)")
    fit.add_argument(
        "--output",
        "-o",
        type=path_argument,
        default=Path("output/scans"),
        metavar="FOLDER",
        help="folder for the probe and the report (default output/scans)",
    )
    fit.set_defaults(run=run_fit)

    predict = actions.add_parser("predict", parents=parents, help="apply a saved probe to scans")
    predict.add_argument("probe", type=path_argument, metavar="PROBE", help="probe.safetensors that `coralbay scans fit` wrote")
    predict.add_argument(
        "ct", type=path_argument, nargs="+", metavar="CT", help="scans: image files or folders of DICOM slices"
    )
    predict.add_argument(
        "--map", type=path_argument, metavar="FILE", help="write the saliency map of one CT (NRRD, NIfTI, MetaImage)"
    )
    predict.add_argument(
        "--attention",
        type=path_argument,
        metavar="FILE",
        help="write where an attentive probe looks in one CT, as an image file",
    )
    predict.set_defaults(run=run_predict)

    stability = actions.add_parser(
        "stability", parents=parents, help="measure how much small changes of a scan change its embedding"
    )
    stability.add_argument("ct", type=path_argument, metavar="CT", help="the scan: an image file or a folder of DICOM slices")
    stability.set_defaults(run=run_stability)


def _shots(text: str) -> list[int]:
    try:
        return sorted({int(word) for word in text.split(",")})
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' are not numbers of scans; write them as in 1,2,4,8") from None


def _task(name: str) -> str:
    return _OLD_TASKS.get(name, name)


def run_predict(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    """`coralbay scans predict`."""
    from CoralBayLib.features.embedding import embed
    from CoralBayLib.imaging.volume_io import read_volume, require_storable, write_volume
    from CoralBayLib.scan_probes import AttentiveProbe, attention_map, embed_scans, load_scan_probe, saliency_map
    from CoralBayLib.scan_probes.comparison import inputs_of

    require_outputs(args, map=WRITABLE_SUFFIXES, attention=WRITABLE_SUFFIXES)
    probe = load_scan_probe(args.probe)
    kind = "attentive" if isinstance(probe, AttentiveProbe) else "linear"
    if args.attention and kind != "attentive":
        raise ScansError("--attention is for an attentive probe (`coralbay scans fit --probe attentive`). Leave it out.")
    wants_map = args.map or args.attention
    if wants_map and len(args.ct) > 1:
        raise ScansError("A map is of a single scan. Give one CT, or leave --map and --attention out.")
    volume = read_volume(args.ct[0]) if wants_map else None
    for path in filter(None, (args.map, args.attention)):
        assert volume is not None
        require_storable(volume.grid, path)
    encoder = open_encoder(args, console)
    store = open_cache(args)
    with console.bar("Embedding") as progress:
        options: dict[str, Any] = {"store": store, "assume_hu": args.assume_hu, "with_tokens": kind == "attentive"}
        embedded = embed_scans(args.ct, encoder, progress, **options)
    probe.require_fit(embedded.signature)
    rows, inputs = [], inputs_of(kind, embedded)
    for row, predicted in zip(embedded.rows, probe.predict(inputs), strict=True):  # type: ignore[arg-type] # by its kind
        values = predicted.tolist() if probe.classes_ else [float(predicted)]
        named = dict(zip(probe.classes_ or [probe.target], values, strict=True))
        rows.append({"scan": str(args.ct[row]), **named})
        console.result(f"{args.ct[row]}: " + ", ".join(f"{name} {value:.3f}" for name, value in named.items()))
    say_left_out(args, console, embedded.left_out)
    if volume is not None:
        pyramid = embed(volume, encoder, store=store, assume_hu=args.assume_hu)
        if args.map:
            write_volume(saliency_map(pyramid, probe), args.map)
            console.result(f"Written: {args.map} (contribution of each location to the prediction)")
        if isinstance(probe, AttentiveProbe) and args.attention:
            write_volume(attention_map(pyramid, probe), args.attention)
            console.result(f"Written: {args.attention} (weight of each location; 1 is the weight in a plain average)")
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
