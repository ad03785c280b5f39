"""`coralbay match`: find the places of points of one scan in another."""

from __future__ import annotations

import argparse
from typing import Any

from CoralBayLib.cli.common import embed_scan, require_outputs
from CoralBayLib.cli.console import Console
from CoralBayLib.cli.options import Common, point


def add_parser(commands: Any, common: Common) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "match",
        parents=[common.output, common.embedding, common.scan],
        help="find points of one scan in another scan: a follow-up, or another patient",
    )
    parser.add_argument("other", metavar="OTHER_CT", help="the scan to find the points in; as CT")
    points = parser.add_mutually_exclusive_group(required=True)
    points.add_argument(
        "--point", type=point, action="append", metavar="R,A,S", help="a position in CT, RAS mm; may be repeated"
    )
    points.add_argument("--points", metavar="FILE", help="a point list of Slicer (.mrk.json or .fcsv) with positions in CT")
    parser.add_argument("--output", "-o", metavar="FILE", help="write the matches as a point list (.mrk.json)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    """`coralbay match`."""
    import numpy as np

    from CoralBayLib.similarity.match_scores import score_in_words
    from CoralBayLib.similarity.matching import match_points
    from CoralBayLib.similarity.point_lists import read_points, write_points

    require_outputs(args, output=(".mrk.json",))
    if args.points:
        names, points = read_points(args.points)
    else:
        names, points = [f"point {n}" for n in range(1, len(args.point) + 1)], np.array(args.point)
    source = embed_scan(args, console).pyramid
    target = embed_scan(argparse.Namespace(**{**vars(args), "ct": args.other, "series": None}), console).pyramid
    with console.bar("Matching") as progress:
        matches = match_points(source, target, points, progress)
    words = [score_in_words(score) for score in matches.scores]
    same, different = "The scans appear to be of the same patient.", "The scans are of different patients."
    console.result(same if matches.same_patient else different)
    console.result("score  position in the other scan (RAS mm)   point")
    listed = []
    for name, (r, a, s), score, cycle, text in zip(
        names, matches.points_ras.tolist(), matches.scores.tolist(), matches.cycle_mm.tolist(), words, strict=True
    ):
        console.result(f"{score:5.2f}  R {r:7.1f}  A {a:7.1f}  S {s:7.1f}       {name}: {text}")
        listed.append({"name": name, "ras": [r, a, s], "score": score, "cycle_mm": cycle})
    if args.output:
        notes = [f"match score {score:.2f}: {text}" for score, text in zip(matches.scores, words, strict=True)]
        write_points(args.output, names, matches.points_ras, notes)
        console.result(f"Written: {args.output}")
    return {"same_patient": matches.same_patient, "matches": listed}
