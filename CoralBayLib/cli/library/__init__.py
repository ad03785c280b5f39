"""`coralbay library`: add scans to a library, list and remove them, and check the library."""

from __future__ import annotations

import argparse
import time
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

from CoralBayLib.cli.common import library_encoder_name, open_cache, open_encoder, open_library, require_library_outputs
from CoralBayLib.cli.console import Console
from CoralBayLib.cli.options import Common
from CoralBayLib.cli.remedies import remedy_text
from CoralBayLib.core.errors import CoralBayError, EncoderError
from CoralBayLib.core.formatting import format_bytes

from . import evaluate, quality, queries, reports

if TYPE_CHECKING:
    from CoralBayLib.library import Outcome

_MOST_LISTED = 50


def add_parser(commands: Any, common: Common) -> None:
    """Add the command and its actions."""
    library = commands.add_parser("library", help="add scans to a library, search it, check it")
    actions = library.add_subparsers(title="actions", required=True, metavar="ACTION")
    location = argparse.ArgumentParser(add_help=False)
    location.add_argument(
        "--library",
        metavar="FOLDER|ADDRESS",
        help="folder of the library, or s3://bucket/folder (default: the environment variable CORALBAY_LIBRARY, else "
        "`library` in the cache folder)",
    )
    plain = [common.output, location]
    embedding = [*plain, common.embedding]
    _add_add(actions, embedding)
    queries.add_search(actions, embedding)

    stats = actions.add_parser("stats", parents=plain, help="show what the library holds")
    stats.set_defaults(run=run_stats)

    remove = actions.add_parser("remove", parents=plain, help="remove scans")
    remove.add_argument("scans", nargs="+", metavar="SCAN", help="paths of scans, or the first digits of their names")
    remove.set_defaults(run=run_remove)

    verify = actions.add_parser("verify", parents=plain, help="read the whole library and list the damage")
    verify.add_argument("--repair", action="store_true", help="repair what can be repaired, and delete files no longer needed")
    verify.set_defaults(run=run_verify)

    queries.add_cluster(actions, embedding)
    quality.add_outliers(actions, plain)
    reports.add_reports(actions, plain)

    evaluate.add_evaluate(actions, embedding)

    export = actions.add_parser("export", parents=plain, help="write the list of scans")
    export.add_argument("file", metavar="FILE", help="file to write: .csv or .json")
    export.set_defaults(run=run_export)


def _add_add(actions: Any, parents: list[argparse.ArgumentParser]) -> None:
    parser = actions.add_parser("add", parents=parents, help="embed scans and add those that are new")
    parser.add_argument(
        "scans", nargs="+", metavar="FOLDER|FILE", help="image files, folders with scans in them, folders of DICOM slices"
    )
    parser.add_argument(
        "--with-uids", action="store_true", help="keep DICOM SeriesInstanceUIDs, by which a patient could be identified"
    )
    parser.add_argument(
        "--ray", metavar="ADDRESS", help="embed on this Ray cluster; local starts one on this computer (needs the package ray)"
    )
    parser.add_argument(
        "--reports",
        metavar="TABLE",
        help="CSV with the columns scan (a path) and report: keep these texts with the scans, in the folder of the library",
    )
    parser.set_defaults(run=run_add)


def run_add(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    """`coralbay library add`."""
    if args.ray and args.server:
        raise EncoderError("Scans are embedded either on a Ray cluster or on a server. Leave --ray or --server out.")
    library = open_library(args)
    encoder = open_encoder(args, console, library_encoder_name(args, library))
    begin = time.perf_counter()
    outcomes: list[Outcome] = []
    with console.bar("Adding") as progress:
        options: dict[str, Any] = {"store": open_cache(args), "assume_hu": args.assume_hu, "with_uids": args.with_uids}
        options["workers"] = _ray_workers(args, encoder.name) if args.ray else None
        for outcome in library.iter_add(args.scans, encoder, progress, **options):
            outcomes.append(outcome)
            if outcome.state != "known" and not console.quiet:
                done = f"{outcome.regions} regions, {outcome.embedding_s + outcome.storing_s:.1f} s"
                advice = remedy_text(CoralBayError(remedy=outcome.remedy), vars(args))
                console.say(f"{outcome.state}: {outcome.path} ({outcome.detail or done}) {advice}".rstrip())
    counts = {state: sum(o.state == state for o in outcomes) for state in ("added", "known", "moved", "left out")}
    embedding, storing = sum(o.embedding_s for o in outcomes), sum(o.storing_s for o in outcomes)
    summary = [f"{counts['added']} added ({sum(o.regions for o in outcomes)} regions)", f"{counts['known']} already there"]
    summary += [f"{counts[state]} {state}" for state in ("moved", "left out") if counts[state]]
    console.result(f"{', '.join(summary)}; {embedding:.1f} s reading and embedding, {storing:.1f} s writing.")
    kept = reports.keep_reports(library, args.reports, console) if args.reports else {}
    return {
        "library": str(library.storage.root),
        "encoder": encoder.name,
        **{state.replace(" ", "_"): count for state, count in counts.items()},
        "seconds": time.perf_counter() - begin,
        "embedding_s": embedding,
        "storing_s": storing,
        **kept,
        "scans": [outcome.as_dict() for outcome in outcomes],
        # An error only when no scan that was named is in the library now.
        "exit_status": int(bool(outcomes) and counts["left out"] == len(outcomes)),
    }


def run_stats(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    """`coralbay library stats`."""
    library = open_library(args)
    found = library.stats()
    for each in found:
        index = f"index {each.index} over {each.indexed}" if each.index else "exact search"
        console.result(f"{each.encoder}: {each.scans} scans, {each.regions} regions of {each.dimension} numbers, {index}")
        console.result(f"  weights {each.weights_sha256[:16]}, {each.setting}; basis from {each.basis_scans} scans")
    texts = library.report_count()
    if texts:
        console.result(f"{texts} scans have a report (`coralbay library reports --remove` removes them)")
    nbytes = library.nbytes()
    console.result(f"{format_bytes(nbytes)} in {library.storage.root}")
    return {
        "library": str(library.storage.root),
        "bytes": nbytes,
        "reports": texts,
        "encoders": [asdict(each) for each in found],
    }


def run_remove(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    """`coralbay library remove`."""
    library, removed = open_library(args), []
    for scan in args.scans:
        for record in library.remove(scan):
            removed.append(record)
            console.result(f"Removed: {record.path or record.scan[:12]} ({record.encoder}, {record.regions} regions)")
    return {"removed": [{"scan": record.scan, "path": record.path, "encoder": record.encoder} for record in removed]}


def run_verify(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    """`coralbay library verify`; status 1 when search results are affected."""
    library = open_library(args)
    with console.bar("Checking") as progress:
        found = library.verify(args.repair, progress)
    for issue in found[:_MOST_LISTED]:
        where = f"{issue.path}: " if issue.path else ""
        console.result(f"{issue.encoder}: {where}{issue.text}{' Repaired.' if issue.repaired else ''}")
    if len(found) > _MOST_LISTED:
        console.result(f"... and {len(found) - _MOST_LISTED} more (--json lists all).")
    harmful = sum(issue.harmful for issue in found)
    console.result(f"{len(found)} issues, {harmful} of which need a repair." if found else "No damage found.")
    for remedy in dict.fromkeys(issue.remedy for issue in found if issue.remedy):
        console.result(remedy_text(CoralBayError(remedy=remedy), vars(args)))
    return {"findings": [issue.as_dict() for issue in found], "harmful": harmful, "exit_status": int(harmful > 0)}


def run_export(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    """`coralbay library export`."""
    library = open_library(args)
    require_library_outputs(args, library, file=(".csv", ".json"))
    count = library.export(args.file)
    console.result(f"Written: {args.file}, {count} scans. The file contains their paths.")
    return {"file": str(args.file), "scans": count}


def _ray_workers(args: argparse.Namespace, name: str) -> Any:
    from CoralBayLib.library.ray_workers import RayWorkers

    return RayWorkers(partial(_load, name, args.weights, args.device, args.setting, args.encoder_file), args.ray)


def _load(name: str, weights: str | None, device: str, setting: str | None, file: str | None) -> Any:
    """Load the encoder in a worker of a Ray cluster."""
    from CoralBayLib.encoders import load_encoder, load_encoder_file

    if file:
        load_encoder_file(file)
    return load_encoder(name, weights, device, setting=setting)
