"""Send damaged requests to `coralbay serve` with two replicas; ends with 1 if one was not refused or the server went down."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from CoralBayLib.remote.embedder import RemoteEmbedder
from Testing.lib.conftest import phantom, phantom_grid
from Testing.lib.serving.harness import server

from .requests import damaged_requests, send


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m Testing.fuzz.server", description=__doc__)
    parser.add_argument("--count", type=int, default=500, help="requests (default 500)")
    parser.add_argument("--seed", type=int, default=1, help="of the damage (default 1)")
    args = parser.parse_args()
    bad = 0
    statuses: dict[int, int] = {}
    with tempfile.TemporaryDirectory() as folder, server(Path(folder), "--replicas", "2") as served:
        processes = sorted(each.pid for each in served.replicas())
        for request in damaged_requests(args.count, args.seed):
            status = send(served.url, request)
            statuses[status] = statuses.get(status, 0) + 1
            if not 400 <= status < 500:
                bad += 1
                print(f"{request.name}: status {status}")
        client = RemoteEmbedder(served.url)
        works = client.embed(phantom(phantom_grid())).levels and processes == sorted(each.pid for each in served.replicas())
    state = "up" if works else "DOWN"
    print(f"{args.count} requests, {bad} not refused, statuses {dict(sorted(statuses.items()))}, server {state}")
    return 0 if works and not bad else 1


if __name__ == "__main__":
    sys.exit(main())
