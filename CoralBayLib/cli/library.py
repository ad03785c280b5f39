"""`coralbay library`: many scans, and the regions and scans among them that are like a query."""

from __future__ import annotations

import argparse
import time
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .common import embedded, point
from .console import bar, say
from .encoders import open_encoder

if TYPE_CHECKING:
    from CoralBayLib.library import Library, Outcome

_MOST_LISTED = 50


def add_library_command(commands: Any, common: argparse.ArgumentParser, encoding: argparse.ArgumentParser) -> None:
    """Add the command to a parser's subcommands."""
    place = argparse.ArgumentParser(add_help=False)
    place.add_argument(
        "--library",
        metavar="DIR|ADDRESS",
        help="its folder, or s3://bucket/folder (default: CORALBAY_LIBRARY, or `library` in the cache folder)",
    )
    library = commands.add_parser("library", help="a library of scans: add, search, check")
    actions = library.add_subparsers(title="actions", required=True, metavar="ACTION")

    add = actions.add_parser("add", parents=[common, place, encoding], help="embed scans and add what is new")
    add.add_argument("scans", nargs="+", metavar="FOLDER|FILE", help="images, folders to search, folders of DICOM series")
    add.add_argument("--assume-hu", action="store_true", help="skip the check that the values look like HU")
    add.add_argument("--with-uids", action="store_true", help="keep DICOM SeriesInstanceUIDs, which lead back to the patient")
    add.add_argument("--ray", metavar="ADDRESS", help="embed on a Ray cluster (needs the package ray); local starts one here")
    add.set_defaults(run=run_add)

    search = actions.add_parser("search", parents=[common, place, encoding], help="find regions, or scans, like a query")
    search.add_argument("--ct", required=True, metavar="CT", help="the scan that the query is from; need not be in the library")
    search.add_argument("--series", help="UID of the DICOM series when its folder holds several")
    search.add_argument("--assume-hu", action="store_true", help="skip the check that the values look like HU")
    query = search.add_mutually_exclusive_group(required=True)
    query.add_argument("--point", type=point, metavar="R,A,S", help="a place in it, RAS mm")
    query.add_argument("--segment", metavar="LABELMAP[:LABEL]", help="a labelmap or .seg.nrrd, and the segment's value (1)")
    query.add_argument("--scan", action="store_true", help="the whole scan: find scans like it")
    search.add_argument("-k", type=int, default=10, help="most to find (default 10)")
    search.add_argument("--radius-mm", type=float, default=6.0, help="average over a ball around the point (default 6)")
    search.add_argument("--min-distance-mm", type=float, default=20.0, help="between regions of one scan (default 20)")
    search.add_argument(
        "--in", dest="within", action="extend", nargs="+", metavar="SCAN", help="search these: paths, or names' first digits"
    )
    search.add_argument(
        "--not-in", dest="without", action="extend", nargs="+", metavar="SCAN", default=[], help="leave these out"
    )
    search.add_argument("--others", action="store_true", help="leave out the scan that the query is from")
    search.add_argument("--exact", action="store_true", help="compare every region, without the approximate index")
    search.set_defaults(run=run_search)

    stats = actions.add_parser("stats", parents=[common, place], help="what the library holds")
    stats.set_defaults(run=run_stats)

    remove = actions.add_parser("remove", parents=[common, place], help="remove scans")
    remove.add_argument("scans", nargs="+", metavar="SCAN", help="paths, or the first digits of names")
    remove.set_defaults(run=run_remove)

    verify = actions.add_parser("verify", parents=[common, place], help="read it all and say what is wrong")
    verify.add_argument(
        "--repair", action="store_true", help="put right what can be, and delete files that are no longer needed"
    )
    verify.set_defaults(run=run_verify)

    cluster = actions.add_parser("cluster", parents=[common, place, encoding], help="kinds of anatomy: clusters of all regions")
    cluster.add_argument("--count", type=int, default=32, help="clusters, 2 to 255 (default 32)")
    cluster.add_argument("--to", metavar="FILE", help="write the cluster of each region as .csv or .json")
    cluster.add_argument("--ct", metavar="CT", help="a scan, in the library or not, to draw the clusters in")
    cluster.add_argument("--series", help="UID of the DICOM series when its folder holds several")
    cluster.add_argument("--assume-hu", action="store_true", help="skip the check that the values look like HU")
    cluster.add_argument("--map", metavar="FILE", help="labelmap of the clusters in that scan, on its features' grid")
    cluster.set_defaults(run=run_cluster)

    export = actions.add_parser("export", parents=[common, place], help="write the list of scans")
    export.add_argument("file", help="a .csv or .json")
    export.set_defaults(run=run_export)


def run_add(args: argparse.Namespace) -> dict:
    """`coralbay library add`."""
    from CoralBayLib.features.store import Store

    library = _library(args)
    encoder = _encoder(args, library)
    begin = time.perf_counter()
    outcomes: list[Outcome] = []
    with bar(args, "Adding") as progress:
        store = None if args.no_store else Store()
        options: dict[str, Any] = {"store": store, "assume_hu": args.assume_hu, "with_uids": args.with_uids}
        options["workers"] = _cluster(args, encoder.name) if args.ray else None
        for outcome in library.adding(args.scans, encoder, progress, **options):
            outcomes.append(outcome)
            if outcome.state != "known" and not args.quiet:
                done = f"{outcome.regions} regions, {outcome.embedding_s + outcome.storing_s:.1f} s"
                say(args, f"{outcome.state}: {outcome.path} ({outcome.detail or done})")
    counts = {state: sum(o.state == state for o in outcomes) for state in ("added", "known", "moved", "left out")}
    embedding, storing = sum(o.embedding_s for o in outcomes), sum(o.storing_s for o in outcomes)
    told = [f"{counts['added']} added ({sum(o.regions for o in outcomes)} regions)", f"{counts['known']} there already"]
    told += [f"{counts[state]} {state}" for state in ("moved", "left out") if counts[state]]
    say(args, f"{', '.join(told)}; {embedding:.1f} s reading and embedding, {storing:.1f} s writing.", out=True)
    return {
        "library": str(library.folder.root),
        "encoder": encoder.name,
        **{state.replace(" ", "_"): count for state, count in counts.items()},
        "seconds": time.perf_counter() - begin,
        "embedding_s": embedding,
        "storing_s": storing,
        "scans": [asdict(outcome) for outcome in outcomes],
        # Nothing of what was named can be searched now.
        "exit_status": int(bool(outcomes) and counts["left out"] == len(outcomes)),
    }


def run_search(args: argparse.Namespace) -> dict:
    """`coralbay library search`."""
    from CoralBayLib.imaging.volume_io import read_labelmap
    from CoralBayLib.similarity.search import Query

    library = _library(args)
    library.folder.require()
    query = None
    if args.segment:
        file, label = _labelled(args.segment)
        query = Query.segment(read_labelmap(file), label)
    elif args.point:
        query = Query.sphere(args.point, args.radius_mm) if args.radius_mm > 0 else Query.point(args.point)
    args.encoder = _encoder_name(args, library)
    pyramid = embedded(args)[1]
    limits = {"within": args.within, "without": args.without, "others": args.others}
    begin = time.perf_counter()
    hits: list[Any] = []
    if query is None:
        hits += library.search_scans(pyramid, args.k, **limits)
    else:
        distance = {"min_distance_mm": args.min_distance_mm, "exact": args.exact}
        hits += library.search_regions(pyramid, query, args.k, **limits, **distance)
    seconds = time.perf_counter() - begin
    say(args, "rank  score  " + ("" if query is None else "position (RAS mm)                 ") + "scan", out=True)
    for hit in hits:
        where = "" if query is None else "R {:7.1f}  A {:7.1f}  S {:7.1f}  ".format(*hit.ras)
        marks = (" (the query's own scan)" if hit.own else "") + ("" if hit.there else " (not there any more)")
        say(args, f"{hit.rank:4d}  {hit.score:5.3f}  {where}{hit.path or hit.scan[:12]}{marks}", out=True)
    kind = "scans" if query is None else "regions"
    return {kind: [asdict(hit) for hit in hits], "seconds": seconds, "encoder": pyramid.identity["encoder"]}


def run_stats(args: argparse.Namespace) -> dict:
    """`coralbay library stats`."""
    library = _library(args)
    found = library.stats()
    for each in found:
        index = f"index {each.index} over {each.indexed}" if each.index else "exact search"
        say(args, f"{each.encoder}: {each.scans} scans, {each.regions} regions of {each.dimension} numbers, {index}", out=True)
        say(args, f"  weights {each.weights_sha256[:16]}, {each.setting}; basis from {each.basis_scans} scans", out=True)
    nbytes = library.nbytes()
    say(args, f"{nbytes / 1e6:.1f} MB in {library.folder.root}", out=True)
    return {"library": str(library.folder.root), "bytes": nbytes, "encoders": [asdict(each) for each in found]}


def run_remove(args: argparse.Namespace) -> dict:
    """`coralbay library remove`."""
    library, removed = _library(args), []
    for scan in args.scans:
        for record in library.remove(scan):
            removed.append(record)
            say(args, f"Removed: {record.path or record.scan[:12]} ({record.encoder}, {record.regions} regions)", out=True)
    return {"removed": [{"scan": record.scan, "path": record.path, "encoder": record.encoder} for record in removed]}


def run_verify(args: argparse.Namespace) -> dict:
    """`coralbay library verify`; status 1 while searches suffer from something."""
    library = _library(args)
    with bar(args, "Checking") as progress:
        found = library.verify(args.repair, progress)
    for finding in found[:_MOST_LISTED]:
        where = f"{finding.path}: " if finding.path else ""
        say(args, f"{finding.encoder}: {where}{finding.text}{' Repaired.' if finding.repaired else ''}", out=True)
    if len(found) > _MOST_LISTED:
        say(args, f"... and {len(found) - _MOST_LISTED} more (--json lists all).", out=True)
    harmful = sum(finding.harmful for finding in found)
    say(args, f"{len(found)} findings, {harmful} to be repaired." if found else "All is well.", out=True)
    return {"findings": [asdict(finding) for finding in found], "harmful": harmful, "exit_status": int(harmful > 0)}


def run_cluster(args: argparse.Namespace) -> dict:
    """`coralbay library cluster`."""
    from CoralBayLib.core.errors import LibraryError
    from CoralBayLib.imaging.volume_io import write_volume

    if bool(args.ct) != bool(args.map):
        raise LibraryError("--ct names the scan to draw clusters in, and --map the file they go to; give both or neither.")
    library = _library(args)
    library.folder.require()
    args.encoder = _encoder_name(args, library)
    pyramid = embedded(args)[1] if args.ct else None
    name = pyramid.identity["encoder"] if pyramid is not None else args.encoder
    with bar(args, "Clustering") as progress:
        found = library.cluster(args.count, name, progress=progress)
    if args.to:
        library.export_clusters(found, args.to)
    if pyramid is not None:
        write_volume(library.cluster_map(found, pyramid), args.map)
    say(args, "cluster  regions  scans  where (R, A, S from 0 to 1)  most typical", out=True)
    for each in found.clusters:
        where = "  ".join(f"{value:.2f}" for value in each.position)
        best = each.examples[0] if each.examples else None
        typical = f"R {best.ras[0]:.0f} A {best.ras[1]:.0f} S {best.ras[2]:.0f} in {best.path}" if best else ""
        say(args, f"{each.number:7d}  {each.count:7d}  {each.scans:5d}  {where:26s}  {typical}", out=True)
    return {"encoder": found.encoder, "clusters": [asdict(each) for each in found.clusters], "to": args.to, "map": args.map}


def run_export(args: argparse.Namespace) -> dict:
    """`coralbay library export`."""
    count = _library(args).export(args.file)
    say(args, f"Written: {args.file}, {count} scans. It holds their paths.", out=True)
    return {"file": args.file, "scans": count}


def _library(args: argparse.Namespace) -> Library:
    from CoralBayLib.library import Library

    return Library(args.library)


def _encoder(args: argparse.Namespace, library: Library) -> Any:
    args.encoder = _encoder_name(args, library)
    return open_encoder(args)


def _encoder_name(args: argparse.Namespace, library: Library) -> str:
    """The encoder that was asked for; where none was, the one that the library has."""
    if args.encoder != "auto" or args.encoder_file or not library.folder.exists():
        return args.encoder
    names = [each.encoder for each in library.stats()]
    return names[0] if len(names) == 1 else args.encoder


def _cluster(args: argparse.Namespace, name: str) -> Any:
    from CoralBayLib.library.ray_workers import OnRay

    return OnRay(partial(_load, name, args.weights, args.device, args.setting, args.encoder_file), args.ray)


def _load(name: str, weights: str | None, device: str, setting: str | None, file: str | None) -> Any:
    """The encoder, in a worker of a cluster."""
    from CoralBayLib.encoders import load_encoder, load_encoder_file

    if file:
        load_encoder_file(file)
    return load_encoder(name, weights, device, setting=setting)


def _labelled(text: str) -> tuple[str, int]:
    """`file.nrrd:5` as the file and the label; 1 without one."""
    file, _, label = text.rpartition(":")
    if file and label.isdigit() and not Path(text).exists():
        return file, int(label)
    return text, 1
