"""`coralbay cohort`: segment the same structures in many scans, while a probe learns from what was accepted."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from CoralBayLib.cli.console import Console
from CoralBayLib.cli.options import Common
from CoralBayLib.core.notice import NOTICE
from CoralBayLib.core.outputs import require_writable

from . import annotating

if TYPE_CHECKING:
    from CoralBayLib.cohort import Cohort, ScanStatus


def add_parser(commands: Any, common: Common) -> None:
    """Add the command and its actions."""
    cohort = commands.add_parser("cohort", help="segment the same structures in many scans; a probe learns from each")
    actions = cohort.add_subparsers(title="actions", required=True, metavar="ACTION")
    location = argparse.ArgumentParser(add_help=False)
    location.add_argument("cohort", metavar="COHORT", help="folder of the cohort")
    plain = [common.output, location]

    create = actions.add_parser("create", parents=plain, help="make a cohort without scans, in a new folder")
    create.add_argument(
        "--structures", nargs="+", required=True, metavar="NAME", help="structures to segment in every scan, label 1 first"
    )
    create.add_argument("--name", metavar="NAME", help="name of the cohort (default: of its folder)")
    create.set_defaults(run=run_create)

    add = actions.add_parser("add", parents=plain, help="add scans; they stay where they are")
    add.add_argument(
        "scans", nargs="+", metavar="FOLDER|FILE", help="image files, folders with scans in them, folders of DICOM slices"
    )
    add.add_argument(
        "--moved", action="store_true", help="add nothing: find the scans of the cohort that were moved to these folders"
    )
    add.set_defaults(run=run_add)

    status = actions.add_parser("status", parents=plain, help="list the scans: state, expected Dice, what is unusual")
    status.set_defaults(run=run_status)

    following = actions.add_parser("next", parents=plain, help="name the scan from which the probe learns most")
    following.set_defaults(run=run_next)

    annotating.add_actions(actions, plain, common)

    card = actions.add_parser("card", parents=plain, help="write the model card: what was learned, and the learning curve")
    card.add_argument("--output", "-o", metavar="FILE", help="Markdown file (default model-card.md in the cohort)")
    card.set_defaults(run=run_card)


def run_create(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    """`coralbay cohort create`."""
    from CoralBayLib.cohort import Cohort

    cohort = Cohort.create(args.cohort, args.structures, args.name or "")
    console.result(f"Made: {cohort.folder}, for {', '.join(args.structures)}")
    console.say("Add scans with `coralbay cohort add`.")
    return {"cohort": str(cohort.folder), "structures": list(cohort.description.structures)}


def run_add(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    """`coralbay cohort add`; status 1 when scans are missing, or when nothing was found."""
    from CoralBayLib.cohort import Cohort

    cohort = Cohort.open(args.cohort)
    if args.moved:
        found: list[str] = []
        missing: list[str] = []
        for folder in args.scans:
            newly, missing = cohort.relocate(folder)
            found += newly
        console.result(f"{len(found)} scans found, {len(missing)} still missing.")
        for name in missing:
            console.say(f"Missing: {name}")
        return {"found": found, "missing": missing, "exit_status": int(bool(missing))}
    with console.bar("Looking for scans") as progress:
        added, left_out = cohort.add(args.scans, progress)
    for each in left_out:
        if each.is_fault:
            console.say(f"Left out: {each.path}: {each.reason}")
    total = len(cohort.description.scans)
    console.result(f"{len(added)} added, {total} in the cohort.")
    faults = {each.path: each.reason for each in left_out if each.is_fault}
    return {"added": added, "left_out": faults, "scans": total, "exit_status": int(not total)}


def run_status(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    """`coralbay cohort status`."""
    from CoralBayLib.cohort import Cohort, State

    cohort = Cohort.open(args.cohort)
    scans = cohort.status()
    width = max((len(scan.name) for scan in scans), default=0)
    for scan in scans:
        dice = "" if scan.estimated_dice is None else f"estimated Dice {scan.estimated_dice:.2f}"
        console.result(f"{scan.name:<{width}}  {scan.state.value:<9}  {dice}".rstrip())
        for flag in scan.flags:
            console.result(f"{'':<{width}}  {flag}")
    counts = {state.value: sum(scan.state is state for scan in scans) for state in State}
    console.result(", ".join(f"{count} {word}" for word, count in counts.items()))
    unfinished = [str(path) for path in cohort.unfinished()]
    for path in unfinished:
        console.say(f"Interrupted while it was written, and not counted: {path}. Delete it if the scan is accepted anew.")
    return {"counts": counts, "unfinished": unfinished, "scans": [scan.as_dict() for scan in scans]}


def run_next(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    """`coralbay cohort next`."""
    from CoralBayLib.cohort import Cohort

    cohort = Cohort.open(args.cohort)
    scan = cohort.next()
    if scan is None:
        console.result("All scans are accepted.")
        return {"scan": None}
    return _tell_scan(cohort, scan, console)


def _tell_scan(cohort: Cohort, scan: ScanStatus, console: Console) -> dict[str, Any]:
    segmentation = cohort.segmentation(scan.name)
    console.result(f"{scan.name}: {scan.path}")
    console.result(f"{scan.state.value}: {segmentation}" if segmentation else scan.state.value)
    for flag in scan.flags:
        console.say(flag)
    return {"scan": scan.as_dict(), "segmentation": None if segmentation is None else str(segmentation)}


def run_card(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    """`coralbay cohort card`."""
    from CoralBayLib.cohort import Cohort

    cohort = Cohort.open(args.cohort)
    output = None if args.output is None else require_writable(args.output, suffixes=(".md",))
    path: Path = cohort.model_card(output)
    curve = cohort.learning_curve()
    for point in curve:
        console.result(f"after {point.patients:3d} patients: Dice {point.mean:.2f}")
    console.result(f"Written: {path}")
    console.say(NOTICE)
    return {"notice": NOTICE, "card": str(path), "curve": [{**vars(point), "mean": point.mean} for point in curve]}
