"""`coralbay weights`: list, download and delete the weights of encoders, and move them to computers without a network."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from CoralBayLib.core.errors import WeightsError
from CoralBayLib.core.formatting import format_bytes

from .common import require_outputs
from .console import Console
from .options import Common

if TYPE_CHECKING:
    from CoralBayLib.encoders.management.manager import WeightsState
    from CoralBayLib.encoders.weights import DownloadRequest

_LOCATIONS = {
    "variable": "file named by an environment variable",
    "folder": "CoralBay's folder",
    "hub cache": "Hugging Face cache",
    "packages": "installed packages",
    "shipped": "comes with CoralBay",
}


def add_parser(commands: Any, common: Common) -> None:
    """Add the command and its actions."""
    weights = commands.add_parser("weights", help="list, download, delete, export or import the weights of encoders")
    actions = weights.add_subparsers(title="actions", required=True, metavar="ACTION")

    listing = actions.add_parser("list", parents=[common.output], help="list where each encoder's weights are")
    listing.set_defaults(run=run_list)

    download = actions.add_parser("download", parents=[common.output], help="download an encoder's weights")
    download.add_argument("name", metavar="NAME", help="name of the encoder")
    download.add_argument("--yes", action="store_true", help="download without asking")
    download.set_defaults(run=run_download)

    delete = actions.add_parser("delete", parents=[common.output], help="delete an encoder's weights from this computer")
    delete.add_argument("name", metavar="NAME", help="name of the encoder")
    delete.set_defaults(run=run_delete)

    export = actions.add_parser(
        "export", parents=[common.output], help="write weights to a file for computers without a network"
    )
    export.add_argument("file", metavar="FILE", help="file to write, such as weights.zip")
    export.add_argument("names", nargs="*", metavar="NAME", help="encoders (default: all whose weights are on this computer)")
    export.set_defaults(run=run_export)

    importing = actions.add_parser("import", parents=[common.output], help="install the weights of an exported file")
    importing.add_argument("file", metavar="FILE", help="file that `coralbay weights export` wrote")
    importing.add_argument("names", nargs="*", metavar="NAME", help="encoders (default: all in the file)")
    importing.set_defaults(run=run_import)


def run_list(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    """`coralbay weights list`."""
    from CoralBayLib.encoders.management.manager import states

    found = states()
    for each in found:
        for line in _state_lines(each):
            console.result(line)
    return {"weights": [each.as_dict() for each in found]}


def _state_lines(state: WeightsState) -> list[str]:
    from CoralBayLib.encoders import encoder_card

    location = _LOCATIONS.get(state.location, "not on this computer")
    size = f", {format_bytes(state.nbytes)}" if state.nbytes else ""
    lines = [f"{state.encoder:<14}{location}{size}"]
    restrictions = encoder_card(state.encoder).restrictions
    facts = [("source", state.origin), ("license", state.licence)]
    facts += [("restricted", restrictions)] if restrictions else []
    facts += [("file", str(state.path))] if state.path else []
    facts += [("SHA-256", state.sha256)] if state.sha256 else []
    facts += [("unfinished", f"{format_bytes(state.part_bytes)} of a download")] if state.part_bytes else []
    return lines + [f"{'':<14}{label + ':':<12}{text}" for label, text in facts]


def run_download(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    """`coralbay weights download NAME`."""
    from CoralBayLib.encoders.management.manager import fetch, state

    def consent(request: DownloadRequest) -> bool:
        return args.yes or _agreed(request)

    with console.bar("Weights") as progress:
        fetch(args.name, consent, progress)
    now = state(args.name)
    for line in _state_lines(now):
        console.result(line)
    return now.as_dict()


def _agreed(request: DownloadRequest) -> bool:
    if not sys.stdin.isatty():
        raise WeightsError("A download needs your consent, and there is no terminal to ask for it. Add --yes.")
    print(f"Download the {request.what}?", file=sys.stderr)
    print(f"  size: {request.size}\n  from: {request.source}\n  license: {request.licence}", file=sys.stderr)
    print("None of your data is sent. [y/N] ", file=sys.stderr, end="", flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def run_delete(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    """`coralbay weights delete NAME`."""
    from CoralBayLib.encoders.management.manager import delete, state

    freed = delete(args.name)
    console.result(f"Freed {format_bytes(freed)}." if freed else f"There was nothing of '{args.name}' to delete.")
    left = state(args.name)
    if left.available:
        console.say(f"The weights are also in another place, which CoralBay does not delete: {_LOCATIONS[left.location]}.")
    return {"encoder": args.name, "freed_bytes": freed, "still_in": left.location}


def run_export(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    """`coralbay weights export FILE [NAMES]`."""
    from CoralBayLib.encoders.management.bundle import export_bundle

    require_outputs(args, file=())
    with console.bar("Exporting") as progress:
        records = export_bundle(args.file, args.names or None, progress)
    console.result(f"Written: {args.file}, with the weights of {', '.join(record.encoder for record in records)}.")
    console.say("On the other computer run `coralbay weights import FILE`. Observe the licenses when you share the file.")
    return {"file": str(args.file), "weights": [record.as_dict() for record in records]}


def run_import(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    """`coralbay weights import FILE [NAMES]`."""
    from CoralBayLib.encoders.management.bundle import import_bundle, trust_note

    with console.bar("Importing") as progress:
        records = import_bundle(args.file, progress, encoders=args.names or None)
    for record in records:
        console.result(f"{record.encoder}: {record.file}, SHA-256 {record.sha256}, license {record.licence}")
    if warning := trust_note(records):
        console.say(warning)
    return {"weights": [record.as_dict() for record in records], "caution": trust_note(records)}
