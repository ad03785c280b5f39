"""`coralbay`: the same verbs as the Python API, without a GUI.

Exit status: 0 done, 1 something was wrong (said on stderr), 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

from CoralBayLib import __version__
from CoralBayLib.core.errors import CoralBayError

from .common import embedded, point
from .console import bar, say
from .encoders import add_encoders_command, open_encoder
from .library import add_library_command
from .remedies import remedy_text
from .scans import add_scans_command
from .weights import add_weights_command

NOTICE = "For research use only; not a medical device."


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    parser = build_parser()
    args = parser.parse_args(_joined(sys.argv[1:] if arguments is None else arguments))
    warnings.showwarning = lambda message, *_, **__: print(f"Note: {message}", file=sys.stderr)
    try:
        result = args.run(args)
    except CoralBayError as error:
        if args.json:
            remedy = error.remedy.name.lower() if error.remedy else None
            print(json.dumps({"error": str(error), "kind": type(error).__name__, "remedy": remedy}))
        print("\n".join(filter(None, (f"coralbay: {error}", remedy_text(error, vars(args))))), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ncoralbay: interrupted; nothing half-written was left behind.", file=sys.stderr)
        return 130
    status = int(result.pop("exit_status", 0))
    if args.json:
        print(json.dumps(result, ensure_ascii=False))
    return status


def build_parser() -> argparse.ArgumentParser:
    """The command line's grammar."""
    parser = argparse.ArgumentParser(
        prog="coralbay", description=f"CT foundation models: embed, segment, find similar regions. {NOTICE}"
    )
    parser.add_argument("--version", action="version", version=f"coralbay {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", help="print one JSON object on stdout, for programs")
    common.add_argument("--quiet", action="store_true", help="no progress bar")

    encoding = argparse.ArgumentParser(add_help=False)
    encoding.add_argument(
        "--encoder",
        default="auto",
        help="an encoder's name (see `coralbay encoders`); auto: CoralBay, or CoralBay-mini where its weights cannot be had",
    )
    encoding.add_argument("--encoder-file", metavar="FILE", help="a Python file that registers an encoder; it is run")
    encoding.add_argument("--weights", help="a local weights file for the encoder")
    encoding.add_argument("--setting", help="how the encoder is run, such as faithful or whole for coralbay")
    encoding.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1")
    encoding.add_argument("--download", action="store_true", help="allow weights to be downloaded from their public source")
    encoding.add_argument("--no-store", action="store_true", help="neither look up nor keep the embedding")

    scan = argparse.ArgumentParser(add_help=False)
    scan.add_argument("ct", help="NRRD, NIfTI, MHA, or a folder of DICOM")
    scan.add_argument("--series", help="UID of the DICOM series when the folder holds several")
    scan.add_argument("--assume-hu", action="store_true", help="skip the check that the values look like HU")

    embed = commands.add_parser("embed", parents=[common, encoding, scan], help="compute and keep a scan's features")
    embed.set_defaults(run=run_embed)

    segment = commands.add_parser("segment", parents=[common, encoding, scan], help="segment from a few strokes or clicks")
    what = segment.add_argument_group("what to segment (one of the two, or both)")
    what.add_argument("--prompts", nargs="+", metavar="FILE", help="prompts as JSON, or Slicer's markups (.mrk.json)")
    what.add_argument("--probe", metavar="FILE", help="a saved probe, adapted to this scan; prompts correct it")
    segment.add_argument(
        "--output",
        "-o",
        default="segmentation.seg.nrrd",
        metavar="FILE",
        help="a .seg.nrrd for Slicer (default segmentation.seg.nrrd)",
    )
    segment.add_argument("--save-probe", metavar="FILE", help="keep the fitted probe for other scans")
    segment.add_argument("--threshold", type=float, default=0.5, help="probability from 0 to 1 (default 0.5)")
    segment.add_argument(
        "--all-pieces",
        action="store_true",
        help="keep pieces that no prompt touches too, as is done anyway for a structure that is marked in ten or more",
    )
    segment.set_defaults(run=run_segment)

    similar = commands.add_parser("similar", parents=[common, encoding, scan], help="find regions that look alike")
    query = similar.add_mutually_exclusive_group(required=True)
    query.add_argument("--point", type=point, metavar="R,A,S", help="a place, RAS mm")
    query.add_argument("--prompts", nargs="+", metavar="FILE", help="the points of a stroke (JSON or .mrk.json)")
    query.add_argument("--segment", metavar="FILE", help="a labelmap or .seg.nrrd; see --label")
    similar.add_argument("--label", type=int, default=1, help="the segment's value in the labelmap (default 1)")
    similar.add_argument("--radius-mm", type=float, default=6.0, help="average over a ball around the point (default 6)")
    similar.add_argument("-k", type=int, default=10, help="most regions to find (default 10)")
    similar.add_argument("--min-distance-mm", type=float, default=20.0, help="between regions (default 20)")
    similar.add_argument("--map", metavar="FILE", help="write the similarity map (NRRD, NIfTI or MHA)")
    similar.set_defaults(run=run_similar)

    add_scans_command(commands, [common], [encoding])
    add_encoders_command(commands, [common])
    add_weights_command(commands, [common])
    add_library_command(commands, common, encoding)

    demo = commands.add_parser("demo", parents=[common, encoding], help="the whole job on a real chest CT")
    demo.add_argument("--output", "-o", default="output/demo", metavar="FOLDER")
    demo.add_argument("--seed", type=int, default=0, help="of the simulated annotator")
    demo.set_defaults(run=run_demo)

    cache = commands.add_parser("cache", parents=[common], help="list, remove or clear kept embeddings")
    cache.add_argument("action", choices=["list", "remove", "clear"], nargs="?", default="list")
    cache.add_argument("keys", nargs="*", help="for remove: keys, or their first digits")
    cache.set_defaults(run=run_cache)
    return parser


def run_embed(args: argparse.Namespace) -> dict:
    """`coralbay embed`."""
    _, pyramid, seconds, kept = embedded(args)
    levels = {level.name: [level.channels, *level.grid.shape] for level in pyramid.levels}
    done = "was in the store" if kept else f"computed in {seconds:.1f} s"
    size = f"{pyramid.channels} channels at {len(levels)} strides, {pyramid.nbytes() / 2**20:.0f} MB"
    say(args, f"{pyramid.identity['encoder']}: {size}, {done}, key {pyramid.key[:12]}", out=True)
    return {
        "key": pyramid.key,
        "from_store": kept,
        "seconds": seconds,
        "bytes": pyramid.nbytes(),
        "levels": levels,
        "working_shape_kji": pyramid.grid.shape,
        "ijk_to_ras": pyramid.grid.ijk_to_ras.tolist(),
        **pyramid.identity,
    }


def run_segment(args: argparse.Namespace) -> dict:
    """`coralbay segment`."""
    from CoralBayLib.core.errors import PromptError
    from CoralBayLib.fewshot.probe import Probe
    from CoralBayLib.fewshot.prompts import Prompts
    from CoralBayLib.fewshot.segmentation import labelmap_on
    from CoralBayLib.fewshot.transfer import for_scan
    from CoralBayLib.imaging.palette import label_color
    from CoralBayLib.imaging.segmentation_io import Segment, write_segmentation

    if not args.prompts and not args.probe:
        raise PromptError("Say what to segment: --prompts FILE with strokes or clicks, or --probe FILE with a saved probe.")
    prompts = Prompts.load(*args.prompts) if args.prompts else None
    probe = Probe.load(args.probe) if args.probe else None
    volume, pyramid, *_ = embedded(args)
    if probe is None:
        assert prompts is not None
        probe = Probe().fit(pyramid, prompts)
    elif (adapted := for_scan(probe, pyramid, prompts)) is not probe:
        say(args, "A probe from another scan is a start, not a result: look at it and correct it with prompts.")
        probe, prompts = adapted, adapted.prompts_
    if args.save_probe:
        probe.save(args.save_probe)
    touched = None if args.all_pieces else prompts
    with bar(args, "Segmenting") as progress:
        labelmap = labelmap_on(volume.grid, pyramid, probe, touched, args.threshold, progress, anywhere=args.all_pieces or None)
    segments = [Segment(label, probe.names_[label], label_color(label)) for label in probe.labels_]
    write_segmentation(labelmap, segments, args.output)
    millilitres = {
        probe.names_[label]: float((labelmap.array == label).sum() * volume.grid.voxel_volume_mm3 / 1000)
        for label in probe.labels_
    }
    for name, value in millilitres.items():
        say(args, f"{name}: {value:.1f} ml", out=True)
    say(args, f"Written: {args.output}", out=True)
    return {"output": str(args.output), "volume_ml": millilitres, "key": pyramid.key}


def run_similar(args: argparse.Namespace) -> dict:
    """`coralbay similar`."""
    from CoralBayLib.fewshot.prompts import Prompts
    from CoralBayLib.imaging.volume_io import read_labelmap, write_volume
    from CoralBayLib.similarity.search import Query, find_regions, similarity_map

    if args.segment:
        query = Query.segment(read_labelmap(args.segment), args.label)
    elif args.prompts:
        query = Query.stroke(Prompts.load(*args.prompts).points_ras)
    else:
        query = Query.sphere(args.point, args.radius_mm) if args.radius_mm > 0 else Query.point(args.point)
    _, pyramid, *_ = embedded(args)
    simmap = similarity_map(pyramid, query)
    if args.map:
        write_volume(simmap, args.map)
        say(args, f"Written: {args.map}", out=True)
    regions = find_regions(simmap, args.k, args.min_distance_mm)
    say(args, "rank  score  position (RAS mm)", out=True)
    for rank, region in enumerate(regions, 1):
        say(
            args,
            f"{rank:3d}  {region.score:6.3f}  R {region.ras[0]:7.1f}  A {region.ras[1]:7.1f}  S {region.ras[2]:7.1f}",
            True,
        )
    return {"regions": [{"rank": n, "score": r.score, "ras": r.ras} for n, r in enumerate(regions, 1)], "key": pyramid.key}


def run_demo(args: argparse.Namespace) -> dict:
    """`coralbay demo`."""
    from .demo import Demo

    say(args, NOTICE, out=True)
    encoder = open_encoder(args)
    return Demo(Path(args.output), encoder, args).run()


def run_cache(args: argparse.Namespace) -> dict:
    """`coralbay cache`."""
    from CoralBayLib.core.errors import StoreError
    from CoralBayLib.features.store import Store

    store = Store()
    removed = 0
    if args.action == "clear":
        removed = store.clear()
        say(args, f"Removed {removed} embeddings.", out=True)
    elif args.action == "remove":
        if not args.keys:
            raise StoreError("Say which to remove: the keys, or their first digits, that `coralbay cache list` shows.")
        for prefix in args.keys:
            matches = [entry.key for entry in store.entries() if entry.key.startswith(prefix)]
            if len(matches) != 1:
                raise StoreError(f"{len(matches)} kept embeddings have a key that starts with '{prefix}'; one is needed.")
            removed += store.remove(matches[0])
        say(args, f"Removed {removed} embeddings.", out=True)
    entries = store.entries()
    if args.action == "list":
        for entry in entries:
            used = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.used))
            say(args, f"{entry.key[:12]}  {entry.nbytes / 2**20:8.1f} MB  last used {used}", out=True)
        say(args, f"{len(entries)} embeddings, {store.nbytes() / 2**20:.1f} MB in {store.root}", out=True)
    listed = [{"key": e.key, "bytes": e.nbytes, "used": e.used} for e in entries]
    return {"folder": str(store.root), "removed": removed, "entries": listed}


def _joined(arguments: Sequence[str]) -> list[str]:
    """`--point -10,20,30` as `--point=-10,20,30`: the parser would take the negative number for an option."""
    words = list(arguments)
    for n in range(len(words) - 1, 0, -1):
        if words[n - 1] == "--point":
            words[n - 1 : n + 1] = [f"--point={words[n]}"]
    return words


if __name__ == "__main__":
    sys.exit(main())
