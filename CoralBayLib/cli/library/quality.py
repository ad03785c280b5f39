"""`coralbay library outliers`: scans and segments that are unlike the rest."""

from __future__ import annotations

import argparse
from typing import Any

from CoralBayLib.cli.common import library_encoder_name, open_library
from CoralBayLib.cli.console import Console


def add_outliers(actions: Any, parents: list[argparse.ArgumentParser]) -> None:
    """Add the action `outliers`."""
    parser = actions.add_parser(
        "outliers", parents=parents, help="list scans and segments that are unlike the rest, with the reasons"
    )
    parser.add_argument("--encoder", default="auto", metavar="NAME", help="whose features are compared, when there are several")
    parser.add_argument(
        "--labels",
        metavar="FOLDER",
        help="labeled patients whose scans are in the library: a folder for each with ct.* and labels.*, or a data set of "
        "nnU-Net; their segments are compared, too",
    )
    parser.add_argument(
        "--least", type=float, default=4.0, metavar="N", help="robust standard deviations from which on to list (default 4)"
    )
    parser.add_argument("--no-files", action="store_true", help="do not read the scans; their HU are then not compared")
    parser.add_argument("-k", type=int, default=20, metavar="N", help="number of results at most (default 20)")
    parser.set_defaults(run=run_outliers, encoder_file=None)


def run_outliers(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    """`coralbay library outliers`."""
    library = open_library(args)
    library.storage.require()
    name = library_encoder_name(args, library)
    with console.bar("Comparing") as progress:
        found = library.outliers(name, args.labels, args.least, not args.no_files, progress)
    if found:
        console.result("rank  deviation  scan, reasons")
    for rank, each in enumerate(found[: args.k], 1):
        what = f"{each.path or each.scan[:12]}" + (f", {each.segment}" if each.segment else "")
        console.result(f"{rank:4d}  {each.score:9.1f}  {what}")
        for reason in each.reasons:
            console.result(f"                 {reason}.")
    if not found:
        console.result("No scan or segment is unlike the rest.")
    elif len(found) > args.k:
        console.result(f"... and {len(found) - args.k} more (-k N lists more).")
    return {"encoder": name, "outliers": [each.as_dict() for each in found[: args.k]], "found": len(found)}
