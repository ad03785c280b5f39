"""Search in a large library of scans: recall of the approximate index, time of a query, bytes and build time.

The vectors are synthetic: 64 numbers each, of 300 kinds of tissue, each with eight directions of variation, a shift of each
scan and noise; queries are drawn in the same way. `--library DIR` measures an existing library instead; its queries are its
regions with added noise, and the library is not changed.

Usage: python -m Testing.benchmarks.library [--vectors 1000000] [--indices rq pq sq] [--library DIR] [--tables [FOLDER]]
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
from typing import Any

import numpy as np
from numpy.typing import NDArray

from CoralBayLib.library.basis import unit
from CoralBayLib.library.records import ScanRecord, ScanRows
from CoralBayLib.library.search import search_regions
from CoralBayLib.library.storage import index
from CoralBayLib.library.storage.folder import Folder
from CoralBayLib.library.tables import Tables
from CoralBayLib.library.transactions import commit, compact

from .tables import summary
from .tables.sections import add_tables_option, put_part, table

DIMENSION = 64
KINDS = 300
PER_SCAN = 10_000
ENCODER = "made-up"
BEST = 10
EXACT_QUERIES = 10
TITLE = "Library of scans"
FILE = "library.md"
HEAD = ["search", "build s (of processors)", "bytes a vector", "recall@10", "queries"]
HEAD += ["ten best, ms median / 95 % / worst", "`search_regions` k=10, ms median / 95 % / worst"]


class Tissue:
    """Draws vectors of kinds of tissue."""

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
    """Commit synthetic scans until there are so many vectors; returns the seconds of committing."""
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


def timed(action: Callable[[NDArray], Any], queries: NDArray) -> tuple[list, list[float]]:
    """Results and milliseconds of an action on each query, after a first run that is not counted."""
    action(queries[0])
    results, milliseconds = [], []
    for query in queries:
        begin = time.perf_counter()
        results.append(action(query))
        milliseconds.append(1000 * (time.perf_counter() - begin))
    return results, milliseconds


def ten_best(tables: Tables, exact: bool) -> Callable[[NDArray], set]:
    """The places of the ten regions most similar to a query."""

    def search(query: NDArray) -> set:
        return _places(index.nearest(tables.regions, query, BEST, ["scan", "ras", "_distance"], exact=exact))

    return search


def true_best(tables: Tables, queries: NDArray) -> list[set]:
    """The same for all queries, by matrix products over the whole table, which is exact."""
    scores = np.full((len(queries), BEST), -np.inf, np.float32)
    rows = np.zeros((len(queries), BEST), np.int64)
    seen = 0
    table = tables.regions.lance.search().select(["vector"]).limit(tables.regions.count()).with_row_id(True)
    for batch in table.to_batches(100_000):
        vectors = batch["vector"].flatten().to_numpy(zero_copy_only=False).reshape(len(batch), -1).astype(np.float32)
        # Half precision keeps unit length only approximately.
        found = unit(queries) @ unit(vectors).T
        best = np.argpartition(-found, BEST - 1, axis=1)[:, :BEST] if len(batch) > BEST else np.arange(len(batch))[None]
        best = np.broadcast_to(best, (len(queries), best.shape[1]))
        ids = batch["_rowid"].to_numpy().astype(np.int64)[best]
        scores = np.concatenate([scores, np.take_along_axis(found, best, 1)], 1)
        rows = np.concatenate([rows, ids], 1)
        kept = np.argsort(-scores, axis=1)[:, :BEST]
        scores, rows = np.take_along_axis(scores, kept, 1), np.take_along_axis(rows, kept, 1)
        seen += len(batch)
    assert seen == tables.regions.count()
    return [_places(tables.regions.lance.take_row_ids(ids.tolist()).select(["scan", "ras"]).to_arrow()) for ids in rows]


def _places(rows: Any) -> set:
    return {(scan, *ras) for scan, ras in zip(rows["scan"].to_pylist(), rows["ras"].to_pylist(), strict=True)}


def configurations(names: list[str], rows: int) -> dict[str, object]:
    """LanceDB's settings of the indices to compare; None is the one that a library uses."""
    from lancedb.index import HnswSq, IvfPq, IvfSq

    parts = {"distance_type": "cosine", "num_partitions": index.partitions(rows)}
    known = {
        "rq": None,
        "pq": IvfPq(**parts, num_sub_vectors=DIMENSION // 8),
        "sq": IvfSq(**parts),
        "hnsw": HnswSq(distance_type="cosine"),
    }
    return {name: known[name] for name in names}


def nbytes(folder: Path) -> int:
    """Bytes of a folder's files."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def spread(milliseconds: list[float]) -> str:
    """Median, 95th percentile and worst."""
    return " / ".join(f"{value:.1f}" for value in (*np.percentile(milliseconds, (50, 95)), max(milliseconds)))


def measure(tables: Tables, queries: NDArray, names: list[str], folder: Path) -> list[list[str]]:
    """A row of the table for each kind of index."""
    rows = tables.regions.count()
    truth = true_best(tables, queries)

    def found_rows(name: str, build: str, size: float, exact: bool, asked: NDArray) -> list[str]:
        found, ms = timed(ten_best(tables, exact), asked)
        recall = statistics.mean(len(a & b) / len(b) for a, b in zip(found, truth[: len(found)], strict=True))
        whole = timed(lambda query: search_regions(tables, query, (), BEST, 20.0, None, (), exact), asked)[1]
        row = [name, build, f"{size:.1f}", f"{recall:.3f}", str(len(asked)), spread(ms), spread(whole)]
        print(" | ".join(row), flush=True)
        return row

    # Exact search is slow and finds all, so a few queries suffice to time it.
    result = [found_rows("exact", "-", tables.regions.nbytes / rows, True, queries[:EXACT_QUERIES])]
    for name, config in configurations(names, rows).items():
        before, begin, busy = nbytes(folder), time.perf_counter(), time.process_time()
        index.build(tables.regions, config)
        build = f"{time.perf_counter() - begin:.0f} ({time.process_time() - busy:.0f})"
        result.append(found_rows(name, build, (nbytes(folder) - before) / rows, False, queries))
    return result


def opened(path: Path, encoder: str | None, count: int) -> tuple[Tables, NDArray, str]:
    """An existing library, some of its regions with added noise as queries, and a description."""
    folder, random = Folder(path), np.random.default_rng(0)
    tables = Tables(folder, encoder or folder.encoders()[0])
    rows = tables.regions.count()
    vectors = tables.regions.read(["vector"])["vector"]
    chosen = np.array(vectors.take(random.choice(rows, count, replace=False)).to_pylist(), np.float32)
    queries = unit(chosen + 0.05 * random.normal(size=chosen.shape).astype(np.float32))
    return tables, queries, f"A library of {len(tables.records())} real scans, {tables.encoder}."


def made(path: Path, vectors: int, count: int) -> tuple[Tables, NDArray, str]:
    """A synthetic library, queries drawn in the same way, and a description."""
    folder, tissue = Folder(path), Tissue()
    with folder.locked():
        folder.create()
    seconds = fill(folder, tissue, vectors)
    tables = Tables(folder, ENCODER)
    # No index is built before it is timed.
    index.FROM_ROWS = vectors + 1
    begin = time.perf_counter()
    compact(tables)
    words = (
        f"Synthetic vectors, {PER_SCAN} a scan; committed in {seconds:.0f} s, compacted in {time.perf_counter() - begin:.0f} s."
    )
    return tables, tissue.draw(count, 0), words


def main() -> None:
    """Measure, print, and write the part of the section."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vectors", type=int, default=1_000_000)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--indices", nargs="+", default=["rq"], choices=["rq", "pq", "sq", "hnsw"])
    parser.add_argument("--library", help="measure this library's regions instead of synthetic ones")
    parser.add_argument("--encoder", help="the encoder, if the library has several")
    parser.add_argument("--folder", help="folder for the temporary synthetic library (default: the system's)")
    add_tables_option(parser)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.folder) as temporary:
        place = Path(temporary) / "library"
        if args.library:
            # A copy, since an index is built in it.
            shutil.copytree(args.library, place)
            tables, queries, words = opened(place, args.encoder, args.queries)
        else:
            tables, queries, words = made(place, args.vectors, args.queries)
        rows = tables.regions.count()
        print(f"{rows} vectors. {words}", flush=True)
        found = measure(tables, queries, args.indices, place)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    threads = os.environ.get("LANCE_CPU_THREADS") or os.cpu_count()
    text = f"{words} {threads} threads, {platform.machine()}; at most {memory:.1f} GB of memory.\n\n{table(HEAD, found)}"
    print(text)
    if args.tables:
        kind = "regions of real scans" if args.library else "synthetic vectors"
        put_part(args.tables / FILE, TITLE, f"Search among {rows:,} {kind}", text)
        summary.renew(args.tables)


if __name__ == "__main__":
    main()
