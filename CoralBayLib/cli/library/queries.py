"""`coralbay library search` and `coralbay library cluster`: find similar regions and scans, and group all regions."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from CoralBayLib.cli.common import embed_scan, library_encoder_name, open_encoder, open_library, require_library_outputs
from CoralBayLib.cli.console import Console
from CoralBayLib.cli.options import add_radius_option, add_renamed_option, add_series_option, point
from CoralBayLib.core.errors import LibraryError
from CoralBayLib.imaging.formats import WRITABLE_SUFFIXES

from .reports import require_reports, show_sentences

if TYPE_CHECKING:
    from CoralBayLib.library import Library
    from CoralBayLib.similarity.search import Query

_FILE_MARKS = {True: "", False: " (file not found)", None: " (on a network share, not checked)"}
"""By `RegionHit.file_exists`."""


def add_search(actions: Any, parents: list[argparse.ArgumentParser]) -> None:
    """Add the action `search`."""
    parser = actions.add_parser("search", parents=parents, help="find regions, or whole scans, that look like a query")
    parser.add_argument(
        "--ct", metavar="CT", help="scan that the query is from, unless it is a text; it need not be in the library"
    )
    add_series_option(parser)
    query = parser.add_mutually_exclusive_group(required=True)
    query.add_argument("--point", type=point, metavar="R,A,S", help="query: a position in that scan, RAS mm")
    query.add_argument(
        "--segment",
        metavar="FILE[:LABEL]",
        help="query: a segment of a labelmap, .seg.nrrd or DICOM SEG, by its value (default 1)",
    )
    query.add_argument(
        "--text",
        metavar="TEXT",
        help="query: English words, such as 'pleural effusion'; finds scans, with an encoder that embeds texts",
    )
    query.add_argument("--scan", action="store_true", help="query: the whole scan; finds scans instead of regions")
    parser.add_argument("-k", type=int, default=10, metavar="N", help="number of results at most (default 10)")
    add_radius_option(parser)
    parser.add_argument(
        "--min-distance-mm",
        type=float,
        default=20.0,
        metavar="MM",
        help="smallest distance between regions of one scan, mm (default 20)",
    )
    several: dict[str, Any] = {"action": "extend", "nargs": "+", "metavar": "SCAN"}
    add_renamed_option(
        parser, "--include", old="--in", help="search these scans only: paths, or the first digits of names", **several
    )
    add_renamed_option(parser, "--exclude", old="--not-in", default=[], help="leave these scans out", **several)
    add_renamed_option(
        parser,
        "--exclude-query-scan",
        old="--others",
        action="store_true",
        help="leave out the scan that the query is from",
    )
    parser.add_argument(
        "--reports",
        action="store_true",
        help="with --scan or --text: the sentences of the reports of the scans found, grouped and counted",
    )
    parser.add_argument("--exact", action="store_true", help="compare with every region instead of using the approximate index")
    parser.set_defaults(run=run_search, refuse=parser.error)


def add_cluster(actions: Any, parents: list[argparse.ArgumentParser]) -> None:
    """Add the action `cluster`."""
    parser = actions.add_parser("cluster", parents=parents, help="group all regions into clusters of similar anatomy")
    parser.add_argument("--count", type=int, default=32, metavar="N", help="number of clusters, 2 to 255 (default 32)")
    add_renamed_option(
        parser, "--output", "-o", old="--to", metavar="FILE", help="write the cluster of each region, as .csv or .json"
    )
    parser.add_argument("--ct", metavar="CT", help="scan to draw the clusters in, from the library or not; needs --map")
    add_series_option(parser)
    parser.add_argument("--map", metavar="FILE", help="write the clusters in that scan as a labelmap; needs --ct")
    parser.set_defaults(run=run_cluster)


def run_search(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    """`coralbay library search`."""
    from CoralBayLib.similarity.search import require_limits

    if args.text is None and not args.ct:
        args.refuse("the query is from a scan; name it with --ct CT")
    if args.text is not None and (args.ct or args.exclude_query_scan):
        args.refuse("a text is not from a scan; leave --ct and --exclude-query-scan out")
    require_limits(args.k, args.min_distance_mm)
    if args.reports and not args.scan and args.text is None:
        raise LibraryError("--reports shows the reports of whole scans. Give --scan or --text with it.")
    library = open_library(args)
    library.storage.require()
    if args.reports:
        require_reports(library)  # before anything is computed
    limits = {"include": args.include, "exclude": args.exclude}
    if args.text is not None:
        return _search_text(args, console, library, limits)
    query = _query(args)
    pyramid = embed_scan(args, console, library_encoder_name(args, library)).pyramid
    begin = time.perf_counter()
    hits: list[Any] = []
    if query is None:
        hits += library.search_scans(pyramid, args.k, exclude_query_scan=args.exclude_query_scan, **limits)
    else:
        distance = {"min_distance_mm": args.min_distance_mm, "exact": args.exact}
        limits |= {"exclude_query_scan": args.exclude_query_scan}
        hits += library.search_regions(pyramid, query, args.k, **limits, **distance)
    seconds = time.perf_counter() - begin
    _print_hits(console, hits, with_positions=query is not None)
    kind = "scans" if query is None else "regions"
    sentences = _sentences(args, console, library, hits)
    return {**sentences, kind: [hit.as_dict() for hit in hits], "seconds": seconds, "encoder": pyramid.identity["encoder"]}


def _search_text(args: argparse.Namespace, console: Console, library: Library, limits: dict[str, Any]) -> dict[str, Any]:
    """The scans that a text describes best."""
    encoder = open_encoder(args, console, library_encoder_name(args, library))
    begin = time.perf_counter()
    hits = library.search_text(args.text, encoder, args.k, **limits)
    seconds = time.perf_counter() - begin
    _print_hits(console, hits, with_positions=False)
    sentences = _sentences(args, console, library, hits)
    return {**sentences, "scans": [hit.as_dict() for hit in hits], "seconds": seconds, "encoder": encoder.name}


def _sentences(args: argparse.Namespace, console: Console, library: Library, hits: list[Any]) -> dict[str, Any]:
    """Those of the reports of scans that were found, if they were asked for."""
    return {"sentences": show_sentences(library, hits, console)} if args.reports else {}


def _query(args: argparse.Namespace) -> Query | None:
    """The query that the options choose; None for the whole scan."""
    from CoralBayLib.imaging.segmentation_io import read_segmentation
    from CoralBayLib.similarity.search import Query

    if args.segment:
        file, label = _file_and_label(args.segment)
        return Query.segment(read_segmentation(file)[0], label)
    return Query.around_point(args.point, args.radius_mm) if args.point else None


def _print_hits(console: Console, hits: Sequence[Any], with_positions: bool) -> None:
    console.result("rank  score  " + ("position (RAS mm)                 " if with_positions else "") + "scan")
    for hit in hits:
        where = "R {:7.1f}  A {:7.1f}  S {:7.1f}  ".format(*hit.ras) if with_positions else ""
        marks = " (the query's own scan)" if hit.is_query_scan else ""
        marks += _FILE_MARKS[hit.file_exists]
        console.result(f"{hit.rank:4d}  {hit.score:5.3f}  {where}{hit.path or hit.scan[:12]}{marks}")


def run_cluster(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    """`coralbay library cluster`."""
    from CoralBayLib.imaging.volume_io import write_volume

    if bool(args.ct) != bool(args.map):
        raise LibraryError(
            "--ct (the scan to draw the clusters in) and --map (the file to write) need each other. Give both or neither."
        )
    library = open_library(args)
    library.storage.require()
    require_library_outputs(args, library, output=(".csv", ".json"), map=WRITABLE_SUFFIXES)
    name = library_encoder_name(args, library)
    pyramid = embed_scan(args, console, name).pyramid if args.ct else None
    if pyramid is not None:
        name = pyramid.identity["encoder"]
    with console.bar("Clustering") as progress:
        found = library.cluster(args.count, name, progress=progress)
    if args.output:
        library.export_clusters(found, args.output)
    if pyramid is not None:
        write_volume(library.cluster_map(found, pyramid), args.map)
    console.result("cluster  regions  scans  position (R, A, S, 0 to 1)  most typical region")
    for each in found.clusters:
        where = "  ".join(f"{value:.2f}" for value in each.position)
        best = each.examples[0] if each.examples else None
        typical = f"R {best.ras[0]:.0f} A {best.ras[1]:.0f} S {best.ras[2]:.0f} in {best.path}" if best else ""
        console.result(f"{each.number:7d}  {each.count:7d}  {each.scans:5d}  {where:26s}  {typical}")
    for path in filter(None, (args.output, args.map)):
        console.result(f"Written: {path}")
    return {"encoder": found.encoder, "clusters": [asdict(each) for each in found.clusters], **_written(args)}


def _written(args: argparse.Namespace) -> dict[str, str | None]:
    return {"to": str(args.output) if args.output else None, "map": str(args.map) if args.map else None}


def _file_and_label(text: str) -> tuple[str, int]:
    """`file.nrrd:5` as the file and the label, which is 1 when there is none."""
    file, _, label = text.rpartition(":")
    if file and label.isdigit() and not Path(text).exists():
        return file, int(label)
    return text, 1
