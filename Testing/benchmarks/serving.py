"""`coralbay serve` on this computer: what the way to a server and back costs, and 20 clients at once.

The overhead is measured in pairs: the sample with one voxel changed, so that nothing is in a cache, is embedded here and on the
server, in turn first. The load is 20 clients with a scan each on the small encoder of the tests.

Usage: python -m Testing.benchmarks.serving [--pairs 5] [--clients 20] [--tables [FOLDER]]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import torch

import CoralBayLib as cb
from CoralBayLib.demo.sample import fetch_sample
from CoralBayLib.features.identity import store_key
from Testing.lib.conftest import phantom, phantom_grid
from Testing.lib.serving.harness import Server, server

from .tables.sections import add_tables_option, machine, put_section, table

FILE = "server.md"
_SAMPLE_S = 0.2


@dataclass
class Pair:
    """Times of one scan, in seconds.

    Attributes:
        here: embedded on this computer.
        there: embedded on the server.
        same: whether both files are equal.
    """

    here: float
    there: float
    same: bool


def overhead(folder: Path, pairs: int) -> list[Pair]:
    """Embed the sample here and on a server."""
    volume = cb.read_volume(fetch_sample().ct)
    local = cb.load_encoder("coralbay-mini", device="cpu")
    # As the replicas of the tests' server: with another number of threads the last digits of features differ.
    torch.set_num_threads(1)
    found = []
    with server(folder, encoder=("--encoder", "coralbay-mini")) as served:
        remote = cb.RemoteEmbedder(served.url).encoder("coralbay-mini", local.tiling.name)
        for n in range(pairs + 1):
            array = volume.array.copy()
            array[0, 0, n] += 1
            scan = cb.Volume(array, volume.grid)
            stores = {name: cb.Store(folder / f"{name}{n}") for name in ("here", "there")}
            seconds = {}
            for name in sorted(stores, reverse=bool(n % 2)):
                begin = time.perf_counter()
                cb.embed(scan, local if name == "here" else remote, store=stores[name])
                seconds[name] = time.perf_counter() - begin
            key = store_key(scan, local)
            files = [(store.root / f"{key}.safetensors").read_bytes() for store in stores.values()]
            if n:  # the first embedding of a process takes longer
                found.append(Pair(seconds["here"], seconds["there"], files[0] == files[1]))
    return found


@dataclass
class Load:
    """What became of clients that came at once.

    Attributes:
        seconds: from the first request to the last result.
        waits: of each client, in seconds.
        lost: clients without a result.
        order: rank correlation of the order in which scans had arrived and in which they were done.
        memory_mb: of all processes of the server alone, before, and at most.
    """

    seconds: float
    waits: list[float]
    lost: int
    order: float
    memory_mb: tuple[float, float]


def load(folder: Path, clients: int) -> Load:
    """Embed a scan for each of some clients that come at once, on two replicas."""
    scans = [phantom(phantom_grid(spacing=1.0), seed=n) for n in range(clients)]
    begun, done, errors = [0.0] * clients, [0.0] * clients, []
    with server(folder, "--replicas", "2", "--queue", str(clients), CORALBAY_TEST_WAIT_S="0.5") as served:
        encoder = cb.RemoteEmbedder(served.url).encoder()
        cb.embed(phantom(phantom_grid(spacing=1.0), seed=clients), encoder)
        before, peak = served.memory_mb(), [0.0]
        stop = threading.Event()
        watch = threading.Thread(target=_watch, args=(served, peak, stop))
        watch.start()

        def work(n: int) -> None:
            def show(fraction: float, message: str) -> None:
                if not begun[n] and "place" in message:
                    begun[n] = time.perf_counter()

            try:
                cb.embed(scans[n], cb.RemoteEmbedder(served.url).encoder(), show)
                done[n] = time.perf_counter()
            except cb.CoralBayError as error:
                errors.append(error)

        start = time.perf_counter()
        threads = [threading.Thread(target=work, args=(n,)) for n in range(clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        seconds = time.perf_counter() - start
        stop.set()
        watch.join()
    arrived = [n for n in range(clients) if begun[n] and done[n]]
    ranks = [np.argsort(np.argsort([times[n] for n in arrived])) for times in (begun, done)]
    order = float(np.corrcoef(ranks[0], ranks[1])[0, 1])
    return Load(seconds, [each - start for each in done if each], len(errors), order, (before, peak[0]))


def _watch(served: Server, peak: list[float], stop: threading.Event) -> None:
    while not stop.wait(_SAMPLE_S):
        peak[0] = max(peak[0], served.memory_mb())


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=5, help="pairs of embeddings (default 5)")
    parser.add_argument("--clients", type=int, default=20, help="clients at once (default 20)")
    add_tables_option(parser)
    args = parser.parse_args()
    busy = psutil.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "overhead").mkdir()
        (Path(folder) / "load").mkdir()
        pairs = overhead(Path(folder) / "overhead", args.pairs) if args.pairs else []
        loaded = load(Path(folder) / "load", args.clients) if args.clients else None
    text = f"{machine(1)} Load average of the computer before: {busy:.1f} (other programs ran beside).\n\n"
    if pairs:
        differences = [pair.there - pair.here for pair in pairs]
        rows = [
            ["on this computer", *_spread([pair.here for pair in pairs])],
            ["on the server", *_spread([pair.there for pair in pairs])],
            ["difference in pairs", *_spread(differences)],
        ]
        same = sum(pair.same for pair in pairs)
        text += f"The sample with coralbay-mini, {len(pairs)} pairs; {same} of {len(pairs)} files equal to the last bit.\n\n"
        text += table(["embedding", "median s", "least s", "most s"], rows) + "\n\n"
    if loaded is not None:
        rows = [
            ["lost", str(loaded.lost)],
            ["time until the last result, s", f"{loaded.seconds:.1f}"],
            ["wait of a client, median and most, s", f"{statistics.median(loaded.waits):.1f}, {max(loaded.waits):.1f}"],
            ["rank correlation of arrival and end", f"{loaded.order:.3f}"],
            ["memory of all processes before and at most, MB", " and ".join(f"{each:.0f}" for each in loaded.memory_mb)],
        ]
        text += f"{args.clients} clients at once, two replicas, the small encoder of the tests (0.5 s a scan).\n\n"
        text += table(["load", ""], rows) + "\n"
    print(text)
    if args.tables:
        put_section(args.tables / FILE, "Server", text)


def _spread(seconds: list[float]) -> list[str]:
    return [f"{value:.2f}" for value in (statistics.median(seconds), min(seconds), max(seconds))]


if __name__ == "__main__":
    main()
