"""`coralbay pretrain`: train CoralBay's network on your own CTs, without labels."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from CoralBayLib.cli.console import Console
from CoralBayLib.cli.options import Common
from CoralBayLib.core.errors import Cancelled, TrainingError
from CoralBayLib.core.notice import NOTICE
from CoralBayLib.core.progress import Progress

if TYPE_CHECKING:
    from CoralBayLib.pretraining.settings import Settings
    from CoralBayLib.pretraining.signals import StopRequest
    from CoralBayLib.pretraining.state import StateFolder

_SETTINGS = {
    "steps": "number of updates of the weights",
    "batch": "crops of how many scans a step takes, on all devices together",
    "global_size": "side of the two large crops in voxels, a multiple of 8",
    "local_size": "side of the small crops in voxels, a multiple of 8 and 40 or more",
    "local_crops": "number of small crops of a scan in a step",
    "prototypes": "outputs of the projection head",
    "hidden": "width of the projection head",
    "seed": "random seed of the initial weights and of the crops",
}
"""Options that are whole numbers, with their help; the defaults are those of `Settings`."""
_LINE_EVERY_S = 60.0
"""How often a line tells the progress where no bar can be drawn, in seconds."""


def add_parser(commands: Any, common: Common) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "pretrain",
        parents=[common.output],
        help="train CoralBay's network on your own CTs, without labels",
        description="Train CoralBay's network on CTs without labels, by self-distillation (DINO), or train pretrained weights "
        f"further. {NOTICE}",
        epilog="Interrupt it whenever you like (Ctrl+C): the same command goes on where it stopped, with the same result as "
        "without the interruption. Curves are in curves.csv in the folder with the state, beside the weights.",
    )
    parser.add_argument(
        "scans",
        nargs="*",
        metavar="FOLDER|LIBRARY",
        help="folders with CTs, files, or libraries of `coralbay library`",
    )
    parser.add_argument(
        "--output",
        "-o",
        required=True,
        metavar="FILE",
        help="weights file to write, .safetensors; it names the encoder",
    )
    parser.add_argument("--resume", action="store_true", help="continue a training with its settings and scans")
    parser.add_argument("--overwrite", action="store_true", help="start again, and replace existing files")
    _add_settings(parser)
    _add_running(parser)
    parser.set_defaults(run=run)


def _add_settings(parser: argparse.ArgumentParser) -> None:
    from CoralBayLib.pretraining.settings import CENTERINGS, FORMS, INITS, Settings

    defaults = Settings()
    parser.add_argument("--init", default=INITS[0], choices=INITS, help=f"initial weights (default {INITS[0]})")
    parser.add_argument("--weights", metavar="FILE", help="local file of the initial weights")
    parser.add_argument("--download", action="store_true", help="allow the initial weights to be downloaded")
    parser.add_argument(
        "--form",
        choices=FORMS,
        help="for --init random: the encoder whose voxel spacing and levels the result has, coralbay (1.5 mm) or coralbay-mini "
        "(3 mm, default)",
    )
    parser.add_argument(
        "--feature-size",
        type=int,
        metavar="N",
        help="for --init random: channels of the first level, a multiple of 12 (default 48, or 24 for coralbay-mini)",
    )
    for name, text in _SETTINGS.items():
        default = getattr(defaults, name)
        option = f"--{name.replace('_', '-')}"
        parser.add_argument(option, type=int, default=default, metavar="N", help=f"{text} (default {default})")
    parser.add_argument("--lr", type=float, metavar="X", help="highest learning rate (default 0.004 * sqrt(batch / 1024))")
    parser.add_argument(
        "--teacher-momentum",
        type=float,
        default=defaults.teacher_momentum,
        metavar="X",
        help=f"momentum of the teacher at the first step; it rises to 1 (default {defaults.teacher_momentum})",
    )
    first, last = defaults.teacher_temperature
    parser.add_argument(
        "--teacher-temperature",
        type=float,
        default=last,
        metavar="X",
        help=f"temperature of the teacher after its warm-up from {first} (default {last}); up to 0.07 for long trainings",
    )
    parser.add_argument(
        "--centering",
        default=CENTERINGS[0],
        choices=CENTERINGS,
        help="what keeps the teacher from collapsing: a running mean (default), or Sinkhorn-Knopp for large batches",
    )


def _add_running(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:1 (default auto)")
    parser.add_argument("--devices", type=int, default=1, metavar="N", help="number of GPUs, or of CPU processes (default 1)")
    parser.add_argument(
        "--precision",
        default="auto",
        choices=("auto", "32", "bf16"),
        help="bf16 for mixed precision (default auto: bf16 where the GPU computes with it)",
    )
    parser.add_argument(
        "--checkpointing", action="store_true", help="save memory by computing intermediate results twice, which takes longer"
    )
    parser.add_argument(
        "--workers",
        type=int,
        default=0,
        metavar="N",
        help="processes that make crops, for each device (default 0)",
    )
    parser.add_argument(
        "--save-minutes", type=float, default=10.0, metavar="X", help="write state and weights this often (default 10)"
    )
    parser.add_argument("--stop-minutes", type=float, metavar="X", help="stop after this time; the same command continues")
    parser.add_argument("--assume-hu", action="store_true", help="skip the check that the values look like HU")


def run(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    """`coralbay pretrain`."""
    from CoralBayLib.pretraining.run import Devices, Running, pretrain
    from CoralBayLib.pretraining.signals import StopRequest
    from CoralBayLib.pretraining.state import StateFolder

    is_first = os.environ.get("LOCAL_RANK", "0") == "0"
    folder = StateFolder(Path(args.output).expanduser())
    if args.resume and args.overwrite:
        raise TrainingError("A training cannot be continued and started again at once. Leave out --resume or --overwrite.")
    if args.resume and not folder.has_plan:
        raise TrainingError(f"There is no training in {folder.path} to continue.")
    if args.devices < 1 or args.workers < 0:
        raise TrainingError("Expected at least one device, and 0 or more workers.")
    if min(args.save_minutes, args.stop_minutes or 0) < 0:
        raise TrainingError("Expected 0 or more minutes.")
    settings = _resumed(args, folder) if args.resume else _settings(args)
    if not args.scans and not folder.has_plan:
        raise TrainingError("Name a folder with CTs, or a library.")
    say = console.say if is_first else lambda text: None
    stop = StopRequest()
    with stop, _ended_by(stop), console.bar("Training") as bar:
        outcome = pretrain(
            [path for each in args.scans for path in _scans_of(each)] if not folder.has_plan or args.overwrite else [],
            args.output,
            settings,
            Devices(args.device, args.devices, args.precision, args.checkpointing),
            Running(
                workers=args.workers,
                save_every_s=60 * args.save_minutes,
                stop_after_s=None if args.stop_minutes is None else 60 * args.stop_minutes,
                stop_requested=lambda: stop.requested,
                on_warning=lambda text: say(f"\nWarning: {text}"),
            ),
            weights=args.weights,
            consent=args.download,
            assume_hu=args.assume_hu,
            overwrite=args.overwrite,
            progress=bar if sys.stderr.isatty() or console.quiet or not is_first else _lines(console),
            say=say,
        )
    if is_first and outcome.done < outcome.steps:
        console.say(f"\nStopped after step {outcome.done} of {outcome.steps}. The same command continues there.")
    stop.deliver()
    if is_first:
        written = f"{outcome.output}: {outcome.done} of {outcome.steps} steps on {outcome.scans} scans"
        console.result(f"{written}; curves in {folder.curves}")
        console.result(f"Use it with --encoder {settings.form} --weights {outcome.output}")
    return {
        "notice": NOTICE,
        "weights": str(outcome.output),
        "state": str(outcome.state),
        "steps_done": outcome.done,
        "steps": outcome.steps,
        "scans": outcome.scans,
    }


@contextmanager
def _ended_by(stop: StopRequest) -> Iterator[None]:
    """Where work was cancelled because of a signal, end as the signal demands."""
    try:
        yield
    except Cancelled:
        stop.deliver()
        raise


def _resumed(args: argparse.Namespace, folder: StateFolder) -> Settings:
    """The settings that a training began with.

    Raises:
        TrainingError: the options contradict them, or their file is damaged.
    """
    from dataclasses import replace

    from CoralBayLib.pretraining.settings import Settings

    settings, defaults = folder.read_plan().settings, Settings()
    named = {"form": args.form, "feature_size": args.feature_size}
    given = {name: value for name, value in named.items() if value}
    for name in (*_SETTINGS, "init", "lr", "teacher_momentum", "centering"):
        if getattr(args, name) != getattr(defaults, name):
            given[name] = getattr(args, name)
    if given.get("init", "random") != "random":
        given["form"] = given["init"]
    first, last = settings.teacher_temperature
    if args.teacher_temperature not in (defaults.teacher_temperature[1], last):
        given["teacher_temperature"] = (min(first, args.teacher_temperature), args.teacher_temperature)
    return folder.plan_to_continue(replace(settings, **given)).settings


def _settings(args: argparse.Namespace) -> Settings:
    from CoralBayLib.pretraining.settings import Settings, default_feature_size

    if args.init == "random" and args.weights:
        raise TrainingError("--weights is for --init coralbay or coralbay-mini. Random weights come from no file.")
    if args.init != "random" and (args.form or args.feature_size):
        raise TrainingError("--form and --feature-size are for --init random. Pretrained weights have their own.")
    form = args.form or ("coralbay-mini" if args.init == "random" else args.init)
    return Settings(
        init=args.init,
        form=form,
        feature_size=args.feature_size or default_feature_size(form),
        lr=args.lr,
        teacher_momentum=args.teacher_momentum,
        teacher_temperature=(min(Settings.teacher_temperature[0], args.teacher_temperature), args.teacher_temperature),
        centering=args.centering,
        **{name: getattr(args, name) for name in _SETTINGS},
    )


def _scans_of(location: str) -> list[str]:
    """The paths of a library's scans; another folder as it is.

    Raises:
        TrainingError: the library holds no path of a scan.
    """
    from CoralBayLib.library.storage.format import MARK

    if "://" not in location and not (Path(location).expanduser() / MARK).is_file():
        return [location]
    from CoralBayLib.library import Library

    paths = sorted({record.path for record in Library(location).scans() if record.path})
    if not paths:
        raise TrainingError(f"The library {location} holds no scans with a path.")
    return paths


def _lines(console: Console) -> Progress:
    """A progress callback that prints a line now and then, for logs."""
    last = [0.0]

    def show(fraction: float, message: str) -> None:
        if fraction >= 1 or time.monotonic() - last[0] >= _LINE_EVERY_S:
            last[0] = time.monotonic()
            console.say(message)

    return show
