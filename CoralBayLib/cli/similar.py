"""`coralbay similar`: find the regions of a scan that look like a query."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from CoralBayLib.core.errors import PromptError
from CoralBayLib.imaging.formats import WRITABLE_SUFFIXES

from .common import embed_scan, require_outputs
from .console import Console
from .options import Common, add_radius_option, point

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from CoralBayLib.fewshot.prompts import Prompts


def add_parser(commands: Any, common: Common) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "similar", parents=[common.output, common.embedding, common.scan], help="find regions of a scan that look like a query"
    )
    query = parser.add_mutually_exclusive_group(required=True)
    query.add_argument("--point", type=point, metavar="R,A,S", help="query: a position, RAS mm")
    query.add_argument(
        "--prompts",
        nargs="+",
        metavar="FILE",
        help="query: the points of a structure, without those of the background (JSON, .mrk.json or .fcsv)",
    )
    query.add_argument("--segment", metavar="FILE", help="query: a segment of a labelmap, .seg.nrrd or DICOM SEG; see --label")
    parser.add_argument("--label", type=int, default=1, metavar="N", help="the segment's value in the labelmap (default 1)")
    query.add_argument(
        "--text", metavar="TEXT", help="query: English words, such as 'pleural effusion'; needs an encoder that embeds texts"
    )
    add_radius_option(parser)
    parser.add_argument("-k", type=int, default=10, metavar="N", help="number of regions to find at most (default 10)")
    parser.add_argument(
        "--min-distance-mm", type=float, default=20.0, metavar="MM", help="smallest distance between regions, mm (default 20)"
    )
    parser.add_argument("--map", metavar="FILE", help="write the similarity map, -1 to 1 (NRRD, NIfTI or MetaImage)")
    parser.set_defaults(run=run)


def _stroke(prompts: Prompts) -> NDArray[np.float64]:
    """The points of the one structure that prompts mark, (N, 3) RAS mm.

    Raises:
        PromptError: they mark none or several, or have a box.
    """
    if prompts.boxes:
        raise PromptError("A box cannot be a query. Give points of the structure to search for, or --segment FILE.")
    if len(prompts.structures) != 1:
        names = ", ".join(map(prompts.name, prompts.structures)) or "none; all points are background"
        raise PromptError(f"Expected points of one structure to search for. The prompts are of: {names}.")
    return prompts.structures_only().points_ras


def run(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    """`coralbay similar`."""
    from CoralBayLib.fewshot.prompt_io import read_prompts
    from CoralBayLib.imaging.segmentation_io import read_segmentation
    from CoralBayLib.imaging.segments.origin import note_on_origin
    from CoralBayLib.imaging.volume_io import write_volume
    from CoralBayLib.similarity.search import Query, find_regions, require_limits, similarity_map
    from CoralBayLib.similarity.words import word_map

    require_outputs(args, map=WRITABLE_SUFFIXES)
    require_limits(args.k, args.min_distance_mm)
    query = None
    if args.segment:
        query = Query.segment(read_segmentation(args.segment)[0], args.label)
        if note := note_on_origin(args.segment, args.ct, args.series):
            console.say(note)
    elif args.prompts:
        query = Query.stroke(_stroke(read_prompts(*args.prompts)))
    elif args.point:
        query = Query.around_point(args.point, args.radius_mm)
    scan = embed_scan(args, console)
    pyramid = scan.pyramid
    simmap = similarity_map(pyramid, query) if query is not None else word_map(pyramid, scan.encoder, args.text)
    if args.map:
        write_volume(simmap, args.map)
        console.result(f"Written: {args.map}")
    regions = find_regions(simmap, args.k, args.min_distance_mm)
    console.result("rank  score  position (RAS mm)")
    for rank, region in enumerate(regions, 1):
        r, a, s = region.ras
        console.result(f"{rank:3d}  {region.score:6.3f}  R {r:7.1f}  A {a:7.1f}  S {s:7.1f}")
    listed = [{"rank": rank, "score": region.score, "ras": region.ras} for rank, region in enumerate(regions, 1)]
    return {"regions": listed, "key": pyramid.key}
