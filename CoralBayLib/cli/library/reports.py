"""`coralbay library reports`: the texts that a library keeps with its scans."""

from __future__ import annotations

import argparse
from typing import Any

from CoralBayLib.cli.common import open_library
from CoralBayLib.cli.console import Console
from CoralBayLib.core.errors import LibraryError

_MOST_SHOWN = 15


def add_reports(actions: Any, parents: list[argparse.ArgumentParser]) -> None:
    """Add the action `reports`."""
    parser = actions.add_parser("reports", parents=parents, help="keep texts of reports with the scans, or remove them")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--add", metavar="TABLE", help="CSV with the columns scan (a path) and report; the texts are copied into the library"
    )
    what.add_argument("--remove", action="store_true", help="remove all reports from the library")
    parser.set_defaults(run=run_reports)


def run_reports(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    """`coralbay library reports`."""
    library = open_library(args)
    library.storage.require()
    if args.remove:
        from CoralBayLib.library.reports import remove_reports

        removed = remove_reports(library.storage)
        console.result(f"Removed the reports of {removed} scans.")
        return {"removed": removed}
    return keep_reports(library, args.add, console)


def keep_reports(library: Any, table: str, console: Console) -> dict[str, Any]:
    """Copy the reports of a table into a library."""
    from CoralBayLib.library.reports import add_reports

    count, unknown = add_reports(library.storage, table, library.scans())
    console.result(f"{count} scans have a report in the library. Remove them with `coralbay library reports --remove`.")
    if unknown:
        more = f" and {len(unknown) - 3} more" if len(unknown) > 3 else ""
        console.say(f"Not in the library: {', '.join(unknown[:3])}{more}.")
    return {"reports": count, "unknown": unknown}


def require_reports(library: Any) -> dict[str, str]:
    """The reports of a library, by the ID of the scan.

    Raises:
        LibraryError: it keeps none, or they are damaged.
    """
    from CoralBayLib.library.reports import read_reports

    kept = read_reports(library.storage)
    if not kept:
        raise LibraryError("The library keeps no reports. Add them with `coralbay library reports --add TABLE`.")
    return kept


def show_sentences(library: Any, hits: list[Any], console: Console) -> list[dict[str, Any]]:
    """Print the sentences of the reports of scans that were found, grouped and counted."""
    from CoralBayLib.library.reports import group_sentences

    kept = require_reports(library)
    reports = [(hit.rank, kept[hit.scan]) for hit in hits if hit.scan in kept]
    groups = group_sentences(reports)
    console.result("")
    own = ", ".join(str(hit.rank) for hit in hits if hit.is_query_scan and hit.scan in kept)
    note = f"; rank {own} is the query's own scan" if own else ", not the query"
    console.result(f"Sentences of the reports of {len(reports)} of these scans. They describe those scans{note}:")
    for group in groups[:_MOST_SHOWN]:
        ranks = ", ".join(map(str, group.ranks))
        console.result(f"{len(group.ranks):4d} of {len(reports)}  {group.text}  (rank {ranks})")
        for wording in group.wordings[1:]:
            console.result(f"              also: {wording}")
    if len(groups) > _MOST_SHOWN:
        console.result(f"... and {len(groups) - _MOST_SHOWN} more (--json lists all).")
    return [each.as_dict() for each in groups]
