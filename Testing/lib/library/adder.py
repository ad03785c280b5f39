"""A process that adds the scans of a folder: `python -m Testing.lib.library.adder FOLDER LIBRARY [DIE_AT]`.

With DIE_AT it kills itself at that moment of the second scan, with a signal that nothing can catch.
"""

from __future__ import annotations

import json
import os
import signal
import sys

from CoralBayLib.library import Library, tables
from Testing.lib.conftest import PoolingEncoder

MOMENTS = ("embedding", "before its regions", "before its row", "after its row")


def die_at(moment: str, encoder: PoolingEncoder) -> None:
    """Arrange for the end."""
    counts = {"embedding": 0, "put_regions": 0, "put_scan": 0}

    def counting(what, action, before=True):
        def run(*args):
            counts[what] += 1
            if before and counts[what] == 2:
                os.kill(os.getpid(), signal.SIGKILL)
            result = action(*args)
            if counts[what] == 2:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return run

    if moment == "embedding":
        encoder.forward_features = counting("embedding", encoder.forward_features)
    elif moment == "before its regions":
        tables.Tables.put_regions = counting("put_regions", tables.Tables.put_regions)
    elif moment == "before its row":
        tables.Tables.put_scan = counting("put_scan", tables.Tables.put_scan)
    else:
        tables.Tables.put_scan = counting("put_scan", tables.Tables.put_scan, before=False)


def main(folder: str, library: str, moment: str = "") -> None:
    import torch

    torch.set_num_threads(1)
    encoder = PoolingEncoder(strides=(4, 8), spacing_mm=(2.5, 2.5, 2.5))
    if moment:
        die_at(moment, encoder)
    print(json.dumps([outcome.state for outcome in Library(library).add(folder, encoder)]))


if __name__ == "__main__":
    main(*sys.argv[1:])
