"""`coralbay eva`: a configuration with which eva's runner evaluates an encoder of CoralBay."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import Any

from CoralBayLib.cli.common import open_encoder, require_outputs
from CoralBayLib.cli.console import Console
from CoralBayLib.cli.options import Common, add_download_option
from CoralBayLib.core.paths import atomic_write
from CoralBayLib.evaluation.eva.tasks import PACKAGE, PARSER, TASKS


def add_parser(commands: Any, common: Common) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "eva",
        parents=[common.output, common.choosing],
        help="write a configuration with which eva, the benchmark of kaiko-ai, evaluates an encoder",
        epilog="Nothing is computed here. eva trains a decoder on the frozen encoder, which needs a GPU, and a data set.",
    )
    parser.add_argument("task", choices=sorted(TASKS), metavar="TASK", help=f"what to evaluate on: {', '.join(sorted(TASKS))}")
    parser.add_argument("--output", "-o", metavar="FILE", help="configuration to write (default TASK.yaml)")
    parser.add_argument(
        "--range",
        choices=("board", "own"),
        help="HU that become 0 and 1 for the encoder: -175 to 250, as on eva's board, or the encoder's own range (default: "
        "board for coralbay, own for others)",
    )
    add_download_option(parser)
    # The encoder is opened for its description alone.
    parser.set_defaults(run=run, device="cpu")


def run(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    """`coralbay eva`."""
    from CoralBayLib.evaluation.eva.configuration import configuration

    task = TASKS[args.task]
    args.output = f"{task.name}.yaml" if args.output is None else args.output
    require_outputs(args, output=(".yaml", ".yml"))
    encoder = open_encoder(args, console)
    weights, encoder_file = (str(Path(each).resolve()) if each else None for each in (args.weights, args.encoder_file))
    own_range = None if args.range is None else args.range == "own"
    text = configuration(task, encoder, weights, encoder_file, own_range)
    with atomic_write(args.output) as temporary:
        temporary.write_text(text, encoding="utf-8")
    console.result(f"Written: {args.output}")
    command = f"DATA_ROOT=/data/{task.name} eva fit --config {shlex.quote(str(args.output))}"
    console.say(f"In an environment with CoralBay, {PACKAGE} and {PARSER}:")
    console.say(f"  {command}")
    return {"output": str(args.output), "encoder": encoder.name, "task": task.name, "command": command}
