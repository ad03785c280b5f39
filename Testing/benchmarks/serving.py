"""`coralbay serve` on this computer: what the way to a server and back costs, and 20 clients at once.

The overhead is measured in pairs: the sample with one voxel changed, so that nothing is in a cache, is embedded here and on the
server, in turn first. The load is 20 clients with a scan each on the small encoder of the tests.

Usage: python -m Testing.benchmarks.serving [--pairs 5] [--clients 20] [--tables [FOLDER]]
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import requests
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


@dataclass
class Cost:
    """What one scan costs a server, beside time.

    Attributes:
        sent_mb, received_mb: voxels to the server and features from it, on average.
        memory_mb: of all processes of the server alone, before the first scan, and at most during it.
    """

    sent_mb: float
    received_mb: float
    memory_mb: tuple[float, float]


def overhead(folder: Path, pairs: int) -> tuple[list[Pair], Cost]:
    """Embed the sample here and on a server."""
    volume = cb.read_volume(fetch_sample().ct)
    local = cb.load_encoder("coralbay-mini", device="cpu")
    # As the replicas of the tests' server: with another number of threads the last digits of features differ.
    torch.set_num_threads(1)
    found = []
    with server(folder, encoder=("--encoder", "coralbay-mini")) as served:
        before, peak = served.memory_mb(), [0.0]
        remote = cb.RemoteEmbedder(served.url).encoder("coralbay-mini", local.tiling.name)
        for n in range(pairs + 1):
            array = volume.array.copy()
            array[0, 0, n] += 1
            scan = cb.Volume(array, volume.grid)
            stores = {name: cb.Store(folder / f"{name}{n}") for name in ("here", "there")}
            seconds = {}
            for name in sorted(stores, reverse=bool(n % 2)):
                # Only while no time is taken: the watch takes some itself.
                watched = _watching(served, peak) if not n and name == "there" else contextlib.nullcontext()
                with watched:
                    begin = time.perf_counter()
                    cb.embed(scan, local if name == "here" else remote, store=stores[name])
                    seconds[name] = time.perf_counter() - begin
            key = store_key(scan, local)
            files = [(store.root / f"{key}.safetensors").read_bytes() for store in stores.values()]
            if n:  # the first embedding of a process takes longer
                found.append(Pair(seconds["here"], seconds["there"], files[0] == files[1]))
        sent, received = (_counted(served.url, name) / (pairs + 1) / 1e6 for name in ("received_bytes", "sent_bytes"))
    return found, Cost(sent, received, (before, peak[0]))


def _counted(url: str, name: str) -> float:
    text = requests.get(f"{url}/metrics", timeout=60).text
    return next(float(line.split()[1]) for line in text.splitlines() if line.startswith(f"coralbay_{name}_total "))


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
        with _watching(served, peak):
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        seconds = max(done) - start
    arrived = [n for n in range(clients) if begun[n] and done[n]]
    ranks = [np.argsort(np.argsort([times[n] for n in arrived])) for times in (begun, done)]
    order = float(np.corrcoef(ranks[0], ranks[1])[0, 1])
    return Load(seconds, [each - start for each in done if each], len(errors), order, (before, peak[0]))


@contextlib.contextmanager
def _watching(served: Server, peak: list[float]) -> Iterator[None]:
    """Keep the most memory of a server while the block runs."""
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(_SAMPLE_S):
            peak[0] = max(peak[0], served.memory_mb())

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


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
        pairs, cost = overhead(Path(folder) / "overhead", args.pairs) if args.pairs else ([], None)
        loaded = load(Path(folder) / "load", args.clients) if args.clients else None
    text = f"{machine(1)} Load average of the computer before: {busy:.1f} (other programs ran beside).\n\n"
    if cost is not None:
        differences = [pair.there - pair.here for pair in pairs]
        rows = [
            ["on this computer", *_spread([pair.here for pair in pairs])],
            ["on the server", *_spread([pair.there for pair in pairs])],
            ["difference in pairs", *_spread(differences)],
        ]
        same = sum(pair.same for pair in pairs)
        text += f"The sample with coralbay-mini, {len(pairs)} pairs; {same} of {len(pairs)} files equal to the last bit.\n\n"
        text += table(["embedding", "median s", "least s", "most s"], rows) + "\n\n"
        text += f"Sent {cost.sent_mb:.1f} MB, received {cost.received_mb:.1f} MB for a scan. Memory of all processes of the "
        text += "server, one replica, before the first scan and at most during it: "
        text += " and ".join(f"{each:.0f}" for each in cost.memory_mb) + " MB.\n\n"
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
