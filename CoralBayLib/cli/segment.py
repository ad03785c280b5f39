"""`coralbay segment`: segment structures from a few strokes or clicks, or with a saved probe."""

from __future__ import annotations

import argparse
from typing import Any

from CoralBayLib.core.errors import PromptError

from .common import Common, add_renamed_option, embed_scan
from .console import Console


def add_parser(commands: Any, common: Common) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "segment",
        parents=[common.output, common.embedding, common.scan],
        help="segment structures from a few strokes or clicks",
    )
    what = parser.add_argument_group("what to segment (one of the two, or both)")
    what.add_argument("--prompts", nargs="+", metavar="FILE", help="prompts as JSON, or Slicer's markups (.mrk.json)")
    what.add_argument("--probe", metavar="FILE", help="saved probe, which is adapted to this scan; prompts correct it")
    parser.add_argument(
        "--output",
        "-o",
        default="segmentation.seg.nrrd",
        metavar="FILE",
        help="segmentation to write, a .seg.nrrd for Slicer (default segmentation.seg.nrrd)",
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
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    """`coralbay segment`."""
    from CoralBayLib.fewshot.probe import Probe
    from CoralBayLib.fewshot.prompts import Prompts
    from CoralBayLib.fewshot.segmentation import labelmap_on
    from CoralBayLib.fewshot.transfer import for_scan
    from CoralBayLib.imaging.palette import label_color
    from CoralBayLib.imaging.segmentation_io import Segment, write_segmentation

    if not args.prompts and not args.probe:
        raise PromptError("There is nothing to segment. Give --prompts FILE with strokes or clicks, or --probe FILE.")
    prompts = Prompts.load(*args.prompts) if args.prompts else None
    probe = Probe.load(args.probe) if args.probe else None
    scan = embed_scan(args, console)
    if probe is None:
        assert prompts is not None
        probe = Probe().fit(scan.pyramid, prompts)
    elif (adapted := for_scan(probe, scan.pyramid, prompts)) is not probe:
        console.say("This probe was fitted on another scan. Check the result and correct it with prompts.")
        probe, prompts = adapted, adapted.prompts_
    if args.save_probe:
        probe.save(args.save_probe)
    touched = None if args.keep_all_components else prompts
    unbounded = args.keep_all_components or None
    with console.bar("Segmenting") as progress:
        labelmap = labelmap_on(scan.volume.grid, scan.pyramid, probe, touched, args.threshold, progress, anywhere=unbounded)
    segments = [Segment(label, probe.names_[label], label_color(label)) for label in probe.labels_]
    write_segmentation(labelmap, segments, args.output)
    voxel_ml = scan.volume.grid.voxel_volume_mm3 / 1000
    volumes_ml = {segment.name: float((labelmap.array == segment.label).sum() * voxel_ml) for segment in segments}
    for name, volume_ml in volumes_ml.items():
        console.result(f"{name}: {volume_ml:.1f} ml")
    console.result(f"Written: {args.output}")
    return {"output": str(args.output), "volume_ml": volumes_ml, "key": scan.pyramid.key}
