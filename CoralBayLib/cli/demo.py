"""`coralbay demo`: segmentation and search on a public chest CT, with a simulated annotator."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from CoralBayLib.core.notice import NOTICE
from CoralBayLib.core.outputs import require_writable_folder

from .common import open_cache, open_encoder
from .console import Console
from .options import Common, path_argument


def add_parser(commands: Any, common: Common) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "demo",
        parents=[common.output, common.embedding],
        help="segment and search a public chest CT (35 MB download) with a simulated annotator",
    )
    parser.add_argument(
        "--output",
        "-o",
        type=path_argument,
        default=Path("output/demo"),
        metavar="FOLDER",
        help="folder to write to (default output/demo)",
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="random seed of the simulated annotator (default 0)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    """`coralbay demo`."""
    from CoralBayLib.demo.run import Demo

    console.result(NOTICE)
    args.output = require_writable_folder(args.output)
    encoder = open_encoder(args, console)
    return Demo(args.output, encoder, console, open_cache(args), args.seed).run()
