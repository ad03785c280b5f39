"""How a library of scans searches when it is large: what the approximate index finds of what an exact search finds, how
long a query takes, bytes and build time.

The vectors are made for the purpose: 64 numbers each, of some 300 kinds of tissue that vary along eight directions of
their own, with a shift of each scan and noise; queries are drawn in the same way. `--library DIR` measures a library that
is there in place of a made one, with its own regions, slightly blurred, as queries; it is left as it is.

Usage: python Testing/benchmarks/library.py [--vectors 1000000] [--indices rq pq sq] [--library DIR]
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from CoralBayLib.library import index
from CoralBayLib.library.basis import unit
from CoralBayLib.library.folder import Folder
from CoralBayLib.library.rows import ScanRecord, ScanRows
from CoralBayLib.library.search import search_regions
from CoralBayLib.library.tables import Tables
from CoralBayLib.library.writing import commit, tidy

DIMENSION = 64
KINDS = 300
PER_SCAN = 10_000
ENCODER = "made-up"


class Tissue:
    """Draws vectors of the kinds of tissue."""

    def __init__(self, seed: int = 0) -> None:
        random = np.random.default_rng(seed)
        self.centres = random.normal(size=(KINDS, DIMENSION)).astype(np.float32)
        self.directions = (0.35 * random.normal(size=(KINDS, 8, DIMENSION))).astype(np.float32)

    def draw(self, count: int, seed: int) -> NDArray[np.float32]:
        """(count, 64) float32 of unit length, as from one scan."""
        random = np.random.default_rng(seed)
        kind = random.integers(0, KINDS, count)
        along = random.normal(size=(count, 8)).astype(np.float32)
        vectors = self.centres[kind] + 0.1 * random.normal(size=DIMENSION).astype(np.float32)
        for start in range(0, count, 1000):
            part = slice(start, start + 1000)
            vectors[part] += np.einsum("nk,nkd->nd", along[part], self.directions[kind[part]])
        vectors += 0.3 * random.normal(size=vectors.shape).astype(np.float32)
        return unit(vectors)


def fill(folder: Folder, tissue: Tissue, count: int) -> float:
    """Commit made-up scans until there are so many vectors; returns the seconds of committing."""
    seconds = 0.0
    for number, start in enumerate(range(0, count, PER_SCAN)):
        size = min(PER_SCAN, count - start)
        name = f"{number:064x}"
        record = ScanRecord(name, name, "", "", (1,) * 3, (1.0,) * 3, (1.0,) * 16, size, ENCODER, "", "")
        places = np.random.default_rng(number).uniform(-250, 250, (size, 3)).astype(np.float32)
        rows = ScanRows(record, np.ones(8, np.float32), places, tissue.draw(size, number + 1).astype(np.float16))
        begin = time.perf_counter()
        commit(folder, rows)
        seconds += time.perf_counter() - begin
    return seconds


def timed(action: Callable[[NDArray], object], queries: NDArray) -> tuple[list, list[float]]:
    """Results and milliseconds of an action on each query; the first is run once more before."""
    action(queries[0])
    results, milliseconds = [], []
    for query in queries:
        begin = time.perf_counter()
        results.append(action(query))
        milliseconds.append(1000 * (time.perf_counter() - begin))
    return results, milliseconds


def ten_best(tables: Tables, exact: bool) -> Callable[[NDArray], set]:
    """The places of the ten regions most like a query."""

    def search(query: NDArray) -> set:
        rows = index.nearest(tables.regions, query, 10, exact).select(["scan", "ras", "_distance"]).to_arrow()
        return {(scan, *ras) for scan, ras in zip(rows["scan"].to_pylist(), rows["ras"].to_pylist(), strict=True)}

    return search


def configurations(names: list[str]) -> dict[str, object]:
    """LanceDB's settings of the kinds of index to compare."""
    from lancedb.index import HnswSq, IvfPq, IvfRq, IvfSq

    known = {
        "rq": IvfRq(distance_type="cosine"),
        "pq": IvfPq(distance_type="cosine", num_sub_vectors=DIMENSION // 8),
        "sq": IvfSq(distance_type="cosine"),
        "hnsw": HnswSq(distance_type="cosine"),
    }
    return {name: known[name] for name in names}


def nbytes(folder: Path) -> int:
    """Bytes of a folder's files."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def measure(tables: Tables, queries: NDArray, names: list[str]) -> None:
    """Print the table, a row for each kind of index."""
    rows = tables.regions.count_rows()
    place = Path(tables.regions.uri if hasattr(tables.regions, "uri") else "")
    truth, exact_ms = timed(ten_best(tables, True), queries)
    print("\n| search | build s | bytes a vector | recall@10 | ten best, ms median / worst | `search_regions` k=10, ms |")
    print("|---|---|---|---|---|---|")

    def whole_search(exact: bool) -> list[float]:
        return timed(lambda q: search_regions(tables, q, (), 10, 20.0, None, (), exact), queries)[1]

    def row(name: str, build: str, size: float, found: list, ms: list[float], exact: bool) -> None:
        recall = statistics.mean(len(a & b) / len(b) for a, b in zip(found, truth, strict=True))
        spread = whole_search(exact)
        print(
            f"| {name} | {build} | {size:.1f} | {recall:.3f} | {statistics.median(ms):.1f} / {max(ms):.1f} "
            f"| {statistics.median(spread):.1f} / {max(spread):.1f} |",
            flush=True,
        )

    row("exact", "-", tables.regions.stats()["total_bytes"] / rows, truth, exact_ms, True)
    for name, config in configurations(names).items():
        before, begin = nbytes(place / "_indices"), time.perf_counter()
        index.build(tables.regions, config)
        build = time.perf_counter() - begin
        row(name, f"{build:.0f}", (nbytes(place / "_indices") - before) / rows, *timed(ten_best(tables, False), queries), False)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vectors", type=int, default=1_000_000)
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--indices", nargs="+", default=["rq"], choices=["rq", "pq", "sq", "hnsw"])
    parser.add_argument("--library", help="measure this library's regions in place of made-up ones")
    parser.add_argument("--encoder", help="of which encoder, where it has several")
    parser.add_argument("--folder", help="where the made-up library goes for a while (default: the system's folder)")
    args = parser.parse_args()
    print(f"{platform.machine()}, {os.cpu_count()} cores, numpy {np.__version__}")
    with tempfile.TemporaryDirectory(dir=args.folder) as temporary:
        place = Path(temporary) / "library"
        if args.library:
            # A copy, since an index is built in it.
            shutil.copytree(args.library, place)
            folder = Folder(place)
            tables = Tables(folder, args.encoder or folder.names()[0])
            vectors = tables.regions.search().select(["vector"]).limit(tables.regions.count_rows()).to_arrow()["vector"]
            random = np.random.default_rng(0)
            chosen = vectors.take(random.choice(len(vectors), args.queries, replace=False)).to_pylist()
            queries = unit(
                np.array(chosen, np.float32) + 0.05 * random.normal(size=(args.queries, len(chosen[0]))).astype("f4")
            )
        else:
            folder, tissue = Folder(place), Tissue()
            with folder.locked():
                folder.create()
            seconds = fill(folder, tissue, args.vectors)
            tables = Tables(folder, ENCODER)
            queries = tissue.draw(args.queries, 0)
            index.FROM_ROWS = args.vectors + 1
            begin = time.perf_counter()
            tidy(tables)
            print(f"Committed in {seconds:.1f} s, {PER_SCAN} regions a scan; tidied in {time.perf_counter() - begin:.1f} s")
        print(f"{tables.regions.count_rows()} vectors, {args.queries} queries")
        measure(tables, queries, args.indices)
    print(f"\nAt most {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GB of memory")


if __name__ == "__main__":
    main()
