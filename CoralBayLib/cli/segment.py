"""`coralbay segment`: segment structures from a few strokes or clicks, or with a saved probe; also a folder of scans."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from CoralBayLib.core.errors import CoralBayError, PromptError, VolumeError
from CoralBayLib.core.outputs import require_writable_folder
from CoralBayLib.core.paths import expand
from CoralBayLib.imaging.formats import DICOM_SEGMENTATION_SUFFIX, SEGMENTATION_SUFFIX

from .common import embed_scan, open_cache, open_encoder, require_outputs
from .console import Console
from .options import Common, add_renamed_option
from .remedies import remedy_text

if TYPE_CHECKING:
    from CoralBayLib.fewshot.probe import Probe
    from CoralBayLib.fewshot.prompts import Prompts
    from CoralBayLib.imaging.grid import Volume


def add_parser(commands: Any, common: Common) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "segment",
        parents=[common.output, common.embedding, common.scan],
        help="segment structures from a few strokes or clicks, or with a saved probe",
        epilog="With --probe, CT may also be a folder of scans: each is segmented into a file of its own.",
    )
    what = parser.add_argument_group("what to segment (one of these, or several)")
    what.add_argument(
        "--prompts",
        nargs="+",
        metavar="FILE",
        help="prompts as JSON, or Slicer's markups (.mrk.json, .fcsv): points, or an ROI as a box around a structure",
    )
    what.add_argument("--probe", metavar="FILE", help="saved probe, which is adapted to this scan; prompts correct it")
    what.add_argument(
        "--start",
        metavar="FILE",
        help="mask to correct, a .seg.nrrd, DICOM SEG or labelmap: its segments are the result, except where prompts "
        "contradict them",
    )
    locks = parser.add_argument_group("what not to touch")
    locks.add_argument(
        "--locked",
        metavar="FILE",
        help="segmentation (.seg.nrrd, DICOM SEG) or labelmap whose segments must not be touched: their voxels get no "
        "label. Segments that are named as a structure to segment are not locked",
    )
    locks.add_argument(
        "--lock-segments", nargs="+", metavar="NAME", help="lock only these segments of --locked (default all; names or labels)"
    )
    parser.add_argument(
        "--output",
        "-o",
        metavar="FILE",
        help="segmentation to write: a .seg.nrrd for Slicer (default segmentation.seg.nrrd), or a .dcm as DICOM SEG, for which "
        "CT must be DICOM; for a folder of scans, the folder for their segmentations (default the folder of the scans)",
    )
    parser.add_argument("--save-probe", metavar="FILE", help="write the fitted probe, for use on other scans")
    parser.add_argument(
        "--threshold", type=float, default=0.5, metavar="P", help="lowest probability of a structure, 0 to 1 (default 0.5)"
    )
    add_renamed_option(
        parser,
        "--keep-all-components",
        old="--all-pieces",
        action="store_true",
        help="keep components that no prompt touches, too (always done for a structure marked in ten or more components)",
    )
    parser.add_argument("--overwrite", action="store_true", help="for a folder of scans: replace existing segmentations")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    """`coralbay segment`."""
    if not args.prompts and not args.probe and not args.start:
        raise PromptError(
            "There is nothing to segment. Give --prompts FILE with strokes, clicks or boxes, --probe FILE, or --start FILE."
        )
    if args.lock_segments and not args.locked:
        raise PromptError("--lock-segments names segments of a file. Give the file with --locked FILE.")
    args.ct = os.fspath(expand(args.ct))
    return _segment_folder(args, console) if _is_folder_of_scans(args.ct) else _segment_scan(args, console)


def _is_folder_of_scans(path: str) -> bool:
    """Whether a path is a folder with other scans than the slices of one DICOM series."""
    from CoralBayLib.imaging.scan_folders import find_scans

    if not Path(path).is_dir():
        return False
    try:
        return find_scans(path) != [Path(path)]
    except VolumeError:
        # DICOM files need no suffix; the reader says what is wrong with anything else.
        return False


def _segment_scan(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    from CoralBayLib.fewshot.options import Options
    from CoralBayLib.fewshot.probe import Probe
    from CoralBayLib.fewshot.prompt_io import read_prompts
    from CoralBayLib.fewshot.segmenter import Segmenter
    from CoralBayLib.imaging.palette import label_color
    from CoralBayLib.imaging.segmentation_io import Segment, write_segmentation
    from CoralBayLib.imaging.segmentations.dicom_seg import require_dicom, write_dicom_seg
    from CoralBayLib.imaging.segments.origin import note_on_origin

    options = Options(args.threshold, not args.keep_all_components)
    args.output = "segmentation.seg.nrrd" if args.output is None else args.output
    require_outputs(args, output=(SEGMENTATION_SUFFIX, DICOM_SEGMENTATION_SUFFIX), save_probe=())
    is_dicom = args.output.suffix.lower() == DICOM_SEGMENTATION_SUFFIX
    if is_dicom:
        require_dicom(args.ct, args.series)
    prompts = read_prompts(*args.prompts) if args.prompts else None
    given = Probe.load(args.probe) if args.probe else None
    output = args.output
    prompts, locked, start = _with_masks(args, prompts, given)
    for each in filter(None, (args.start, args.locked)):
        if note := note_on_origin(each, args.ct, args.series):
            console.say(note)
    scan = embed_scan(args, console)
    segmenter = Segmenter(scan.pyramid, given).fit(prompts, locked=locked, start=start)
    probe = segmenter.probe_
    assert probe is not None
    if segmenter.is_adapted:
        console.say("This probe was fitted on another scan. Check the result and correct it with prompts.")
    if args.save_probe:
        probe.save(args.save_probe)
    with console.bar("Segmenting") as progress:
        labelmap = segmenter.labelmap(scan.volume.grid, options, progress)
    segments = [Segment(label, name, label_color(label)) for label, name in segmenter.names.items()]
    if is_dicom:
        write_dicom_seg(labelmap, segments, output, args.ct, args.series, encoder=scan.pyramid.identity["encoder"])
    else:
        write_segmentation(labelmap, segments, output)
    voxel_ml = scan.volume.grid.voxel_volume_mm3 / 1000
    volumes_ml = {segment.name: float((labelmap.array == segment.label).sum() * voxel_ml) for segment in segments}
    for name, volume_ml in volumes_ml.items():
        console.result(f"{name}: {volume_ml:.1f} ml")
    for path in filter(None, (output, args.save_probe)):
        console.result(f"Written: {path}")
    return {"output": str(output), "volume_ml": volumes_ml, "key": scan.pyramid.key}


def _with_masks(
    args: argparse.Namespace, prompts: Prompts | None, probe: Probe | None
) -> tuple[Prompts | None, Volume | None, Volume | None]:
    """The prompts with the names of all structures, what is locked, and the mask to start from."""
    from CoralBayLib.fewshot.constraints.naming import locked_segments, start_of
    from CoralBayLib.fewshot.prompts import Prompts
    from CoralBayLib.imaging.segmentation_io import read_segmentation

    if not args.locked and not args.start:
        return prompts, None, None
    given = Prompts.none() if prompts is None else prompts
    if probe is not None:
        given = given + replace(Prompts.none(), names=probe.names_)
    locked = start = None
    if args.start:
        with _naming(args.start):
            start, names = start_of(*read_segmentation(args.start), given.names, given.structures)
        prompts = replace(given, names=names)
    if args.locked:
        structures = [given.name(label) for label in {*given.structures, *given.names}]
        with _naming(args.locked):
            locked = locked_segments(*read_segmentation(args.locked), args.lock_segments or (), structures)
    return prompts, locked, start


@contextmanager
def _naming(path: str) -> Iterator[None]:
    """Begin the message of an error with the name of a file, unless the message names it."""
    try:
        yield
    except VolumeError as error:
        name = Path(path).name
        raise error if name in str(error) else VolumeError(f"{name}: {error}") from error


def _segment_folder(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    from CoralBayLib.fewshot.batch import segment_folder
    from CoralBayLib.fewshot.options import Options
    from CoralBayLib.fewshot.probe import Probe

    if args.prompts or not args.probe or args.save_probe or args.locked or args.start:
        raise PromptError(
            f"{args.ct} is a folder of scans. Give --probe FILE, without --prompts, --save-probe, --locked and --start, which "
            "are for one scan."
        )
    options = Options(args.threshold, not args.keep_all_components)
    folder = require_writable_folder(args.ct if args.output is None else args.output)
    probe = Probe.load(args.probe)
    encoder = open_encoder(args, console)
    with console.bar("Segmenting") as progress:
        result = segment_folder(
            args.ct,
            encoder,
            probe,
            output=folder,
            options=options,
            overwrite=args.overwrite,
            store=open_cache(args),
            assume_hu=args.assume_hu,
            progress=progress,
        )
    for target in result.written.values():
        console.result(f"Written: {target}")
    failed = {str(scan): _reason(error, args) for scan, error in result.failed.items()}
    for scan, reason in failed.items():
        console.say(f"Left out: {scan}: {reason}")
    written = {str(scan): str(target) for scan, target in result.written.items()}
    return {"written": written, "failed": failed, "exit_status": int(bool(failed))}


def _reason(error: Exception, args: argparse.Namespace) -> str:
    remedy = remedy_text(error, vars(args)) if isinstance(error, CoralBayError) else ""
    return f"{error} {remedy}".strip()
