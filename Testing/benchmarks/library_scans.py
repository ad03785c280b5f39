"""A library of real scans: time to add scans, retrieval of regions across patients, and clusters.

Precision@20: of the 20 regions of another patient's scan that the library ranks first, 10 mm apart, the share that is of the
query's kind of structure, averaged over queries, kinds and ordered pairs of scans. Chance is the share of that kind among all
regions of the scan. Clusters are compared with reference labels by adjusted mutual information, over the regions that have a
label, and between two patients by the overlap of an organ's distributions over clusters, 1 when they are the same.

Usage: python -m Testing.benchmarks.library_scans [--scans FOLDER...] [--adding FOLDER] [--tables [FOLDER]]
"""

from __future__ import annotations

import argparse
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import adjusted_mutual_info_score

import CoralBayLib as cb
from CoralBayLib.demo.sample import fetch_sample
from CoralBayLib.encoders.base import Encoder
from CoralBayLib.encoders.coralbay_mini import CoralBayMiniEncoder
from CoralBayLib.library import Library
from CoralBayLib.library.clusters import assign
from CoralBayLib.library.tables import Tables

from .encoders import APART_MM, TOP, Labelled, kind, places, read_scan, untrained
from .library import FILE, TITLE
from .tables import summary
from .tables.sections import add_tables_option, put_part, table

LEAST_ASKED_ML = 1.0
COUNTS, SEEDS = (16, 32, 64), range(3)
FEWEST = 20
"""Least number of regions of a kind in each of two scans for its clusters to be compared."""
NO_KIND = ("none", "tissue")


@dataclass(frozen=True, eq=False)
class Labels:
    """A labelled scan and its path in the library."""

    scan: Labelled
    path: str

    def kinds_at(self, ras: np.ndarray) -> list[str]:
        """The kind of structure at (N, 3) RAS mm."""
        return [kind(self.scan.names.get(int(value), "none")) for value in self.scan.reference.nearest_values(ras)]


def regions_of(library: Library, encoder: str, labels: list[Labels]) -> dict[str, list[str]]:
    """The kind of each region of each scan, by the scan's path."""
    names = {record.scan: record.path for record in library.scans(encoder)}
    by_path = {each.path: each for each in labels}
    found: dict[str, list[str]] = {each.path: [] for each in labels}
    tables = Tables(library.storage, encoder)
    for scan in names:
        rows = tables.regions.search().where(f"scan = '{scan}'").select(["ras"]).limit(10**7).to_arrow()
        path = names[scan]
        found[path] = by_path[path].kinds_at(np.array(rows["ras"].to_pylist(), float))
    return found


def precisions(
    library: Library, labels: list[Labels], embed: Callable[[Labelled], cb.FeaturePyramid], encoder: str
) -> tuple[dict[tuple[str, str], dict[str, float]], list[float]]:
    """Precision by pair (asked, searched) and kind, and the chance of each."""
    kinds, found, chance = regions_of(library, encoder, labels), {}, []
    for asked in labels:
        pyramid = embed(asked.scan)
        for searched in labels:
            shared = sorted(asked.scan.kinds(LEAST_ASKED_ML).keys() & searched.scan.kinds().keys() - set(NO_KIND))
            if asked is searched or not shared:
                continue
            by_kind = {}
            for each in shared:
                right = []
                for place in places(asked.scan, asked.scan.largest(each)):
                    hits = library.search_regions(
                        pyramid, cb.Query.sphere(place, 6.0), TOP, min_distance_mm=APART_MM, include=[searched.path]
                    )
                    right += [name == each for name in searched.kinds_at(np.array([hit.ras for hit in hits]))]
                by_kind[each] = float(np.mean(right))
                chance.append(np.mean(np.array(kinds[searched.path]) == each))
            found[(asked.scan.name, searched.scan.name)] = by_kind
    return found, chance


def overlap(first: tuple[list, list], second: tuple[list, list], count: int) -> float:
    """Overlap of the clusters of one kind in two scans, averaged over the kinds that both have.

    Args:
        first: kinds and clusters' numbers of one scan's regions.
        second: of another's.
        count: of clusters.
    """

    def spread(kinds: list, numbers: list, wanted: str) -> np.ndarray:
        mine = [number for each, number in zip(kinds, numbers, strict=True) if each == wanted]
        return np.bincount(mine, minlength=count + 1) / max(1, len(mine))

    shared = [
        each for each in set(first[0]) - set(NO_KIND) if first[0].count(each) >= FEWEST and second[0].count(each) >= FEWEST
    ]
    return float(np.mean([np.minimum(spread(*first, each), spread(*second, each)).sum() for each in shared]))


def clustered(library: Library, labels: list[Labels], encoder: str, count: int, seed: int) -> tuple[float, float]:
    """Adjusted mutual information of clusters and kinds over all scans, and the overlap between the first two."""
    by_path = {each.path: each for each in labels}
    paths = {record.scan: record.path for record in library.scans(encoder)}
    found: dict[str, tuple[list, list]] = {each.path: ([], []) for each in labels}
    clustering = library.cluster(count, encoder, seed)
    for scans, ras, numbers in assign(Tables(library.storage, encoder), clustering):
        for scan in sorted(set(scans)):
            mine = np.array(scans) == scan
            kinds, clusters = found[paths[scan]]
            kinds += by_path[paths[scan]].kinds_at(ras[mine].astype(float))
            clusters += numbers[mine].tolist()
    every = [pair for kinds, numbers in found.values() for pair in zip(kinds, numbers, strict=True) if pair[0] not in NO_KIND]
    score = adjusted_mutual_info_score([each for each, _ in every], [number for _, number in every])
    return float(score), overlap(found[labels[0].path], found[labels[1].path], count)


def across(labels: list[Labels], rows: dict[str, Callable[[], Encoder]], folder: Path) -> dict[str, str]:
    """The parts of the section about precision and clusters, by heading."""
    precision_rows, cluster_rows, pairs, chances = [], [], [], []
    store = cb.Store()
    for title, load in rows.items():
        encoder, library = load(), Library(folder / title)
        outcomes = library.add([each.path for each in labels], encoder, store=store)
        assert all(outcome.state == "added" for outcome in outcomes), outcomes
        found, chances = precisions(
            library, labels, lambda scan, encoder=encoder: cb.embed(scan.volume, encoder, store=store), encoder.name
        )
        pairs = list(found)
        every = [value for by_kind in found.values() for value in by_kind.values()]
        cells = [f"{np.mean(list(found[pair].values())):.3f} ({len(found[pair])})" for pair in pairs]
        precision_rows.append([title, f"{np.mean(every):.3f} ({len(every)})", *cells])
        scores = {n: [clustered(library, labels, encoder.name, n, seed) for seed in SEEDS] for n in COUNTS}
        means = [np.mean(scores[n], axis=0) for n in COUNTS]
        cluster_rows.append([title, *(f"{score:.3f} / {alike:.3f}" for score, alike in means)])
        print(precision_rows[-1], cluster_rows[-1], flush=True)
    names = ", ".join(each.scan.name for each in labels)
    head = ["encoder", f"all pairs (chance {np.mean(chances):.3f})", *(f"{asked} in {other}" for asked, other in pairs)]
    words = (
        f"Precision@{TOP} of regions in another patient's scan, through a library of {len(labels)} scans ({names}); "
        "in brackets kinds of structures."
    )
    heads = ["encoder", *(f"{n} clusters" for n in COUNTS)]
    told = (
        f"Regions of these scans in clusters: adjusted mutual information with the reference's kinds / overlap of a kind's "
        f"clusters in {labels[0].scan.name} and {labels[1].scan.name}; means of {len(SEEDS)} seeds."
    )
    return {
        "Regions across patients": f"{words}\n\n{table(head, precision_rows)}",
        "Clusters across patients": f"{told}\n\n{table(heads, cluster_rows)}",
    }


def embedding_seconds(scan: Path, rows: dict[str, Callable[[], Encoder]]) -> dict[str, str]:
    """Seconds by the clock, and of processors, to embed one scan with each encoder."""
    volume, found = cb.read_volume(scan), {}
    for title, load in rows.items():
        encoder = load()
        begin, busy = time.perf_counter(), time.process_time()
        cb.embed(volume, encoder)
        found[title] = f"{time.perf_counter() - begin:.1f} ({time.process_time() - busy:.1f})"
    return found


def adding(scans: list[Path], folder: Path, rows_of: dict[str, Callable[[], Encoder]]) -> str:
    """Time and bytes to add scans with coralbay-mini, without a store of embeddings."""
    library = Library(folder / "adding")
    encoder = cb.load_encoder("coralbay-mini", device="cpu")
    begin, busy = time.perf_counter(), time.process_time()
    outcomes = [each for each in library.add(scans, encoder) if each.state == "added"]
    whole, busy = time.perf_counter() - begin, time.process_time() - busy
    embedding = sum(each.embedding_s for each in outcomes)
    regions = sum(each.regions for each in outcomes)
    rows = [
        ["scans", str(len(outcomes))],
        ["regions a scan, least / mean / most", _three([each.regions for each in outcomes], ".0f")],
        ["seconds to read and embed a scan, least / mean / most", _three([each.embedding_s for each in outcomes], ".1f")],
        ["seconds of processors a scan, for everything, mean", f"{busy / len(outcomes):.1f}"],
        ["seconds to write a scan, least / mean / most", _three([each.storing_s for each in outcomes], ".2f")],
        ["everything but reading and embedding, of the whole time", f"{100 * (1 - embedding / whole):.1f} %"],
        ["bytes a region, all files, no index yet", f"{library.nbytes() / regions:.0f}"],
    ]
    alone = embedding_seconds(scans[0], rows_of)
    rows += [[f"seconds (of processors) to embed the sample, {title}", each] for title, each in alone.items()]
    words = f"coralbay-mini on the CPU, {torch.get_num_threads()} threads, {platform.machine()}; no embedding was in a store."
    return f"{words}\n\n{table(['what', 'measured'], rows)}"


def _three(values: list, form: str) -> str:
    return " / ".join(f"{value:{form}}" for value in (min(values), statistics.mean(values), max(values)))


def main() -> None:
    """Measure, print, and write the parts of the section."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scans", type=Path, nargs="*", default=[], help="labelled scans beside the sample")
    parser.add_argument("--adding", type=Path, help="measure adding on the scans of this folder")
    parser.add_argument("--rows", nargs="*", help="encoders to compare")
    add_tables_option(parser)
    args = parser.parse_args()
    fetched = fetch_sample()
    sample = Labelled("sample", cb.read_volume(fetched.ct), cb.read_labelmap(fetched.labelmap), fetched.names)
    labels = [Labels(sample, str(fetched.ct))]
    labels += [Labels(read_scan(folder), str((folder / "ct.nii.gz").absolute())) for folder in args.scans]
    rows: dict[str, Callable[[], Encoder]] = {
        "coralbay-mini": lambda: cb.load_encoder("coralbay-mini", device="cpu"),
        "astra": lambda: cb.load_encoder("astra", device="cpu"),
        "untrained": lambda: untrained(24, CoralBayMiniEncoder, "whole"),
    }
    with tempfile.TemporaryDirectory() as temporary:
        parts = {}
        if args.adding:
            scans = [fetched.ct, *sorted(args.adding.glob("*/ct.nii.gz"))]
            parts["Adding real scans"] = adding(
                scans, Path(temporary), {name: rows[name] for name in ("coralbay-mini", "astra")}
            )
        if args.scans:
            chosen = {title: load for title, load in rows.items() if not args.rows or title in args.rows}
            parts |= across(labels, chosen, Path(temporary))
    for part, text in parts.items():
        print(f"## {part}\n\n{text}")
        if args.tables:
            put_part(args.tables / FILE, TITLE, part, text)
            summary.renew(args.tables)


if __name__ == "__main__":
    main()
