"""Send damaged requests to `coralbay serve` with two replicas; ends with 1 if one was not refused or the server went down.

A job waits meanwhile for its voxels, to which damaged parts are sent; it must give the right features at the end.
"""

from __future__ import annotations

import argparse
import datetime
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import torch

from CoralBayLib.features.embedding import embed
from CoralBayLib.features.store import Store
from CoralBayLib.remote.embedder import RemoteEmbedder
from CoralBayLib.remote.wire import DONE
from Testing.lib.conftest import phantom, phantom_grid
from Testing.lib.serving.harness import Server, server
from Testing.lib.serving.small_encoder import SlowEncoder

from .job import OpenJob
from .requests import CLOSED, damaged_requests, send

_RESULTS = Path(__file__).parents[1] / "results" / "server.md"


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m Testing.fuzz.server", description=__doc__)
    parser.add_argument("--count", type=int, default=500, help="requests (default 500)")
    parser.add_argument("--seed", type=int, default=1, help="of the damage (default 1)")
    parser.add_argument("--output", type=Path, help="write the result to this file, such as Testing/fuzz/results/server.md")
    args = parser.parse_args()
    faults: list[str] = []
    statuses: dict[str, Counter[int]] = {}
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, server(Path(folder), "--replicas", "2") as served:
        processes = sorted(each.pid for each in served.replicas())
        job = OpenJob.begin(served.url, phantom(phantom_grid(), seed=1))
        for request in damaged_requests(args.count, args.seed, job):
            status = send(served.url, request)
            statuses.setdefault(request.kind, Counter())[status] += 1
            if not request.is_refused(status):
                faults.append(f"{request.name}: status {status}")
        if not _gives_what_this_computer_gives(served, job, Path(folder)):
            faults.append("the job that damaged parts were sent to did not give the right features")
        if sorted(each.pid for each in served.replicas()) != processes:
            faults.append("a process of the server ended")
    seconds = time.monotonic() - begin
    print("\n".join(faults), end="\n" if faults else "")
    print(f"{args.count} requests in {seconds:.0f} s, {len(faults)} faults")
    if args.output:
        args.output.write_text(_report(args.count, args.seed, statuses, faults), encoding="utf-8")
    return 1 if faults else 0


def _gives_what_this_computer_gives(served: Server, job: OpenJob, folder: Path) -> bool:
    if job.finish() != DONE:
        return False
    torch.set_num_threads(1)  # as in the replicas; with others the last digits differ
    stores = {name: Store(folder / name) for name in ("here", "there")}
    embed(job.volume, SlowEncoder(), store=stores["here"])
    RemoteEmbedder(served.url).embed(job.volume, store=stores["there"])
    files = [(store.root / f"{job.request.key}.safetensors").read_bytes() for store in stores.values()]
    return files[0] == files[1]


def _report(count: int, seed: int, statuses: dict[str, Counter[int]], faults: list[str]) -> str:
    known = sorted({status for counter in statuses.values() for status in counter}, key=lambda each: (each == CLOSED, each))
    titles = ["closed" if status == CLOSED else str(status) for status in known]
    lines = [
        "# Damaged requests",
        "",
        f"{count} damaged requests (seed {seed}, {datetime.date.today().isoformat()}) were sent to `coralbay serve` with two "
        f"replicas, {len(faults)} faults. Made by `python -m Testing.fuzz.server --output Testing/fuzz/results/server.md`.",
        "",
        "The table has the status of each answer. Each request must be refused with a status from 400 to 499; what is no "
        "complete request may end with a closed connection too. At the end the processes of the server must be the same "
        "ones, and the job that the damaged parts were sent to must give the features that this computer gives, to the last "
        "bit.",
        "",
        f"| requests | sent | {' | '.join(titles)} |",
        f"|---|{'---:|' * (1 + len(known))}",
    ]
    for kind, counter in statuses.items():
        lines.append(f"| {kind} | {counter.total()} | {' | '.join(str(counter[status]) for status in known)} |")
    lines += ["", *(f"- {fault}" for fault in faults), *([""] if faults else [])]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
