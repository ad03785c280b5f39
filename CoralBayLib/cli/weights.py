"""`coralbay weights`: where each encoder's weights are; fetch, delete, and carry them to machines without a network."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from CoralBayLib.core.errors import WeightsError
from CoralBayLib.core.formatting import format_bytes

from .console import bar, say

if TYPE_CHECKING:
    from CoralBayLib.encoders.weights import DownloadRequest
    from CoralBayLib.encoders.weights_manager import WeightsState

_PLACES = {
    "variable": "file named by a variable",
    "folder": "CoralBay's folder",
    "hub cache": "Hugging Face cache",
    "packages": "installed packages",
    "shipped": "comes with CoralBay",
}


def add_weights_command(commands: Any, parents: list[argparse.ArgumentParser]) -> None:
    """Add the command to a parser's subcommands."""
    weights = commands.add_parser("weights", help="list, download, delete, export or import network weights")
    actions = weights.add_subparsers(title="actions", required=True, metavar="ACTION")

    listing = actions.add_parser("list", parents=parents, help="where each encoder's weights are")
    listing.set_defaults(run=run_list)

    download = actions.add_parser("download", parents=parents, help="fetch an encoder's weights")
    download.add_argument("name", help="an encoder's name")
    download.add_argument("--yes", action="store_true", help="do not ask before downloading")
    download.set_defaults(run=run_download)

    delete = actions.add_parser("delete", parents=parents, help="delete an encoder's weights from this machine")
    delete.add_argument("name", help="an encoder's name")
    delete.set_defaults(run=run_delete)

    export = actions.add_parser("export", parents=parents, help="write weights into one file for machines without a network")
    export.add_argument("file", help="such as weights.zip")
    export.add_argument("names", nargs="*", help="encoders; by default all whose weights are here")
    export.set_defaults(run=run_export)

    importing = actions.add_parser("import", parents=parents, help="take the weights of such a file")
    importing.add_argument("file")
    importing.add_argument("names", nargs="*", help="encoders; by default all in the file")
    importing.set_defaults(run=run_import)


def run_list(args: argparse.Namespace) -> dict:
    """`coralbay weights list`."""
    from CoralBayLib.encoders.weights_manager import states

    found = states()
    for each in found:
        for line in _state_lines(each):
            say(args, line, out=True)
    return {"weights": [each.as_dict() for each in found]}


def _state_lines(state: WeightsState) -> list[str]:
    place = _PLACES.get(state.location, "not on this machine")
    size = f", {format_bytes(state.nbytes)}" if state.nbytes else ""
    lines = [f"{state.encoder:<14}{place}{size}"]
    facts = [("source", f"{state.origin}, licence {state.licence}")]
    facts += [("file", str(state.path))] if state.path else []
    facts += [("SHA-256", state.sha256)] if state.sha256 else []
    facts += [("unfinished", f"{format_bytes(state.part_bytes)} of a download")] if state.part_bytes else []
    return lines + [f"{'':<14}{label + ':':<12}{text}" for label, text in facts]


def run_download(args: argparse.Namespace) -> dict:
    """`coralbay weights download NAME`."""
    from CoralBayLib.encoders.weights_manager import fetch, state

    def consent(request: DownloadRequest) -> bool:
        return args.yes or _agreed(request)

    with bar(args, "Weights") as progress:
        fetch(args.name, consent, progress)
    now = state(args.name)
    for line in _state_lines(now):
        say(args, line, out=True)
    return now.as_dict()


def _agreed(request: DownloadRequest) -> bool:
    if not sys.stdin.isatty():
        raise WeightsError("Downloading needs your consent, and there is no terminal to ask on. Add --yes.")
    print(f"Download the {request.what}?", file=sys.stderr)
    print(f"  size: {request.size}\n  from: {request.source}\n  licence: {request.licence}", file=sys.stderr)
    print("Nothing of yours is sent. [y/N] ", file=sys.stderr, end="", flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def run_delete(args: argparse.Namespace) -> dict:
    """`coralbay weights delete NAME`."""
    from CoralBayLib.encoders.weights_manager import delete, state

    freed = delete(args.name)
    say(args, f"Freed {format_bytes(freed)}." if freed else f"There was nothing of '{args.name}' to delete.", out=True)
    left = state(args.name)
    if left.available:
        say(args, f"Still here: {_PLACES[left.location]}, which only you should remove.")
    return {"encoder": args.name, "freed_bytes": freed, "still_in": left.location}


def run_export(args: argparse.Namespace) -> dict:
    """`coralbay weights export FILE [NAMES]`."""
    from CoralBayLib.encoders.weights_bundle import export_bundle

    with bar(args, "Exporting") as progress:
        records = export_bundle(args.file, args.names or None, progress)
    say(args, f"Written: {args.file}, with the weights of {', '.join(record.encoder for record in records)}.", out=True)
    say(args, "On the other machine: coralbay weights import FILE. Heed the licences when you pass it on.")
    return {"file": args.file, "weights": [record.as_dict() for record in records]}


def run_import(args: argparse.Namespace) -> dict:
    """`coralbay weights import FILE [NAMES]`."""
    from CoralBayLib.encoders.weights_bundle import import_bundle, trust_note

    with bar(args, "Importing") as progress:
        records = import_bundle(args.file, progress, encoders=args.names or None)
    for record in records:
        say(args, f"{record.encoder}: {record.file}, SHA-256 {record.sha256}, licence {record.licence}", out=True)
    if warning := trust_note(records):
        say(args, warning)
    return {"weights": [record.as_dict() for record in records], "caution": trust_note(records)}
