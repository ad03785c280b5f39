"""`coralbay embed`: compute a scan's features and keep them in the cache."""

from __future__ import annotations

import argparse
from typing import Any

from CoralBayLib.core.formatting import format_bytes

from .common import embed_scan
from .console import Console
from .options import Common


def add_parser(commands: Any, common: Common) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "embed",
        parents=[common.output, common.embedding, common.scan],
        help="compute a scan's features and keep them in the cache",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    """`coralbay embed`."""
    scan = embed_scan(args, console)
    pyramid = scan.pyramid
    levels = {level.name: [level.channels, *level.grid.shape] for level in pyramid.levels}
    size = f"{pyramid.channels} channels at {len(levels)} strides, {format_bytes(pyramid.nbytes())}"
    origin = "read from the cache" if scan.from_cache else f"computed in {scan.seconds:.1f} s"
    console.result(f"{pyramid.identity['encoder']}: {size}, {origin}, key {pyramid.key[:12]}")
    return {
        "key": pyramid.key,
        "from_store": scan.from_cache,
        "seconds": scan.seconds,
        "bytes": pyramid.nbytes(),
        "levels": levels,
        "working_shape_kji": pyramid.grid.shape,
        "ijk_to_ras": pyramid.grid.ijk_to_ras.tolist(),
        **pyramid.identity,
    }
