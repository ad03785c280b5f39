"""`coralbay landmarks`: learn named points from a few scans, and place them in others."""

from __future__ import annotations

import argparse
from typing import Any

from CoralBayLib.cli.common import embed_scan, require_outputs
from CoralBayLib.cli.console import Console
from CoralBayLib.cli.options import Common
from CoralBayLib.core.errors import QueryError


def add_parser(commands: Any, common: Common) -> None:
    """Add the command and its actions."""
    landmarks = commands.add_parser("landmarks", help="learn named points from a few scans, and place them in others")
    actions = landmarks.add_subparsers(title="actions", required=True, metavar="ACTION")

    fit = actions.add_parser(
        "fit", parents=[common.output, common.embedding], help="learn landmarks from scans with point lists"
    )
    fit.add_argument(
        "examples", nargs="+", metavar="CT POINTS", help="scans, each followed by its point list (.mrk.json or .fcsv)"
    )
    fit.add_argument("--output", "-o", required=True, metavar="FILE", help="write the landmarks (.safetensors)")
    fit.set_defaults(run=run_fit)

    place = actions.add_parser(
        "place", parents=[common.output, common.embedding, common.scan], help="place learned landmarks in a scan"
    )
    place.add_argument("landmarks", metavar="LANDMARKS", help="a file that `coralbay landmarks fit` wrote")
    place.add_argument("--output", "-o", metavar="FILE", help="write a point list (.mrk.json)")
    place.set_defaults(run=run_place)


def run_fit(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    """`coralbay landmarks fit`."""
    from CoralBayLib.similarity.landmarks import Landmarks
    from CoralBayLib.similarity.point_lists import read_landmarks

    require_outputs(args, output=(".safetensors",))
    if len(args.examples) % 2:
        raise QueryError("Each scan must be followed by its point list: CT POINTS CT POINTS ... One of them is missing.")
    named = [read_landmarks(path) for path in args.examples[1::2]]
    scans = [
        embed_scan(argparse.Namespace(**{**vars(args), "ct": ct, "series": None}), console).pyramid for ct in args.examples[::2]
    ]
    with console.bar("Learning") as progress:
        learned = Landmarks().fit(list(zip(scans, named, strict=True)), progress)
    learned.save(args.output)
    listed = []
    for name in learned.names:
        errors, count = learned.errors_mm[name], sum(name in points for points in named)
        mean = sum(errors) / len(errors) if errors else None
        tested = (
            f"error in examples placed by the others: {mean:.1f} mm" if mean is not None else "not tested: one example only"
        )
        console.result(f"{name}: {count} examples, {tested}")
        listed.append({"name": name, "examples": count, "errors_mm": errors})
    console.result(f"Written: {args.output}")
    return {"landmarks": listed, "output": str(args.output)}


def run_place(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    """`coralbay landmarks place`."""
    from CoralBayLib.similarity.landmarks import Landmarks
    from CoralBayLib.similarity.point_lists import write_points

    require_outputs(args, output=(".mrk.json",))
    learned = Landmarks.load(args.landmarks)
    pyramid = embed_scan(args, console).pyramid
    with console.bar("Placing") as progress:
        placed = learned.place(pyramid, progress)
    console.result("score  expected error  position (RAS mm)                 landmark")
    for name, landmark in placed.items():
        r, a, s = landmark.point_ras
        error = f"{landmark.expected_error_mm:5.1f} mm"
        console.result(f"{landmark.score:5.2f}  {error:>14}  R {r:7.1f}  A {a:7.1f}  S {s:7.1f}  {name}")
    if args.output:
        notes = [f"expected error {each.expected_error_mm:.1f} mm, score {each.score:.2f}" for each in placed.values()]
        write_points(args.output, list(placed), [each.point_ras for each in placed.values()], notes)
        console.result(f"Written: {args.output}")
    return {"landmarks": [{"name": name, **vars(landmark)} for name, landmark in placed.items()]}
