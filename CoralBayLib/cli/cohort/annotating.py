"""`coralbay cohort suggest` and `accept`: the two actions that use and teach the probe."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from CoralBayLib.cli.common import open_cache, open_encoder
from CoralBayLib.cli.console import Console
from CoralBayLib.cli.options import Common
from CoralBayLib.cli.remedies import remedy_text
from CoralBayLib.core.errors import CohortError, CoralBayError
from CoralBayLib.core.names import fold
from CoralBayLib.core.paths import expand

if TYPE_CHECKING:
    from CoralBayLib.cohort import Cohort
    from CoralBayLib.imaging.grid import Volume


def add_actions(actions: Any, plain: list[argparse.ArgumentParser], common: Common) -> None:
    """Add the two actions."""
    parents = [*plain, common.embedding]
    suggest = actions.add_parser("suggest", parents=parents, help="segment scans with what the probe has learned")
    suggest.add_argument("scans", nargs="*", metavar="SCAN", help="names of scans (default: the one that `next` names)")
    suggest.add_argument("--all", action="store_true", help="all scans that are neither accepted nor started")
    suggest.set_defaults(run=run_suggest)

    accept = actions.add_parser("accept", parents=parents, help="accept the segmentation of a scan, and let the probe learn it")
    accept.add_argument("scan", metavar="SCAN", help="name of the scan, as `status` lists it")
    accept.add_argument(
        "segmentation",
        nargs="?",
        metavar="FILE",
        help="segmentation (.seg.nrrd, DICOM SEG) whose segments are named as the structures, or a labelmap with the names in "
        "labels.json beside it, or with the numbers of the cohort (default: the suggestion). A structure whose segment is "
        "empty is absent; one without a segment is not annotated",
    )
    accept.add_argument("--prompts", nargs="+", metavar="FILE", help="clicks and strokes that led to it, kept beside it")
    accept.add_argument("--by", metavar="NAME", help="who accepts it, kept in its record (default: nobody)")
    accept.set_defaults(run=run_accept)


def _open(args: argparse.Namespace, console: Console) -> Cohort:
    """The cohort, with the encoder that the options choose; with "auto" the one that the cohort was begun with."""
    from CoralBayLib.cohort import Cohort, ProbeLearner

    known = Cohort.open(args.cohort).description.encoder
    name = known["encoder"] if known and args.encoder == "auto" and not args.encoder_file else None
    encoder = open_encoder(args, console, name)
    return Cohort.open(args.cohort, learner=ProbeLearner(encoder, open_cache(args), args.assume_hu))


def run_suggest(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    """`coralbay cohort suggest`; status 1 when a scan failed."""
    from CoralBayLib.cohort import State

    if args.all and args.scans:
        raise CohortError("--all is for all scans. Leave it out, or the names of scans.")
    cohort = _open(args, console)
    names = list(args.scans)
    if args.all:
        names = [each.name for each in cohort.status() if each.state in (State.TO_DO, State.SUGGESTED)]
    elif not names:
        scan = cohort.next()
        names = [] if scan is None else [scan.name]
    if not names:
        console.result("There is no scan left to suggest.")
    written: dict[str, str] = {}
    failed: dict[str, str] = {}
    for name in names:
        try:
            with console.bar(name) as progress:
                path = cohort.suggest(name, progress)
        except CoralBayError as error:
            if len(names) == 1:
                raise
            failed[name] = f"{error} {remedy_text(error, vars(args))}".strip()
            console.say(f"Left out: {name}: {failed[name]}")
            continue
        written[name] = str(path)
        console.result(f"Written: {path}")
    found = {scan.name: scan.as_dict() for scan in cohort.status() if scan.name in written}
    return {"written": written, "failed": failed, "scans": found, "exit_status": int(bool(failed))}


def run_accept(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    """`coralbay cohort accept`."""
    from CoralBayLib.cohort import Cohort
    from CoralBayLib.fewshot.prompt_io import read_prompts

    prompts = read_prompts(*args.prompts) if args.prompts else None
    # What is wrong with the file is found before the encoder is loaded.
    plain = Cohort.open(args.cohort)
    labelmap, structures = (None, None) if args.segmentation is None else _labels(args, plain, console)
    cohort = _open(args, console)
    with console.bar("Learning") as progress:
        path = cohort.accept(args.scan, labelmap, prompts, by=args.by or "", structures=structures, progress=progress)
    console.result(f"Written: {path}")
    curve = [point.mean for point in cohort.learning_curve()]
    return {"written": str(path), "structures": structures or list(cohort.description.structures), "curve": curve}


def _labels(args: argparse.Namespace, cohort: Cohort, console: Console) -> tuple[Volume, list[str]]:
    """The labels of a file in the numbering of the cohort, and which of its structures the file has."""
    from CoralBayLib.imaging.patients import LabeledPatient, names_from_json, read_labels, renumbered
    from CoralBayLib.imaging.patients.structures import read_json
    from CoralBayLib.imaging.segmentation_io import names_its_segments
    from CoralBayLib.imaging.segments.origin import note_on_origin

    path, cohort_names = expand(args.segmentation), cohort.structures
    volume = cohort.read(args.scan)
    if note := note_on_origin(path, cohort.description.scan(args.scan).require(cohort.folder)):
        console.say(note)
    names: dict[int, str] | None = None
    if not names_its_segments(path):
        # Plain labelmaps have no names: labels.json beside the file tells them, else they have the numbers of the cohort.
        beside = path.parent / "labels.json"
        names = names_from_json(read_json(beside), beside.name) if beside.is_file() else cohort_names
    found = read_labels(LabeledPatient(args.scan, path, path, names), volume.grid)
    folded = {fold(name) for name in found.names.values()}
    structures = [name for name in cohort_names.values() if fold(name) in folded]
    if not structures:
        raise CohortError(
            f"{path.name} has no segment that is named as a structure of the cohort: {', '.join(cohort_names.values())}. Its "
            f"segments are {', '.join(found.names.values()) or 'none'}."
        )
    known = {fold(name) for name in cohort_names.values()}
    for name in found.names.values():
        if fold(name) not in known:
            console.say(f"Left out: {name}, which is not a structure of the cohort.")
    for name in cohort_names.values():
        if name not in structures:
            console.say(f"Not annotated: {name}. If it is absent in this scan, add an empty segment of that name.")
    return renumbered(found.labelmap, found.names, cohort_names), structures
