"""Did `coralbay pretrain` teach anything? Retrieval of regions across patients, before and after.

For each weights file, its encoder is compared with the same network before training (the random start of the same size and
seed, or the pretrained weights it began with), on the same queries as `Testing.benchmarks.body_regions` asks. Several seeds
draw different places. The patients must not be among those trained on.

Usage: python -m Testing.benchmarks.pretraining mine.safetensors --scans FOLDER FOLDER... [--seeds 3] [--pairs N]
       [--results FILE] [--curves CSV] [--tables [FOLDER]]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

from safetensors import safe_open

import CoralBayLib as cb
from CoralBayLib.encoders.base import Encoder
from CoralBayLib.pretraining.network import ENCODERS, initial_backbone
from CoralBayLib.pretraining.settings import Settings

from .body_regions import measure, pairs_of, read_patient
from .quality import read
from .tables import summary
from .tables.pretraining import FILE, PICTURE, TITLE, draw_curves, write_tables
from .tables.sections import add_tables_option, put_section

REGION = "all"


def described(weights: Path) -> dict:
    """What the file says of its training: "settings" and "steps_done"."""
    with safe_open(weights, framework="np") as file:
        return json.loads(file.metadata()["coralbay.pretrain"])


def start_of(settings: Settings) -> Encoder:
    """The encoder before training."""
    if settings.init != "random":
        return cb.load_encoder(settings.init, device="cpu")
    title = f"random-{settings.feature_size}-{settings.seed}"
    return ENCODERS[settings.form](initial_backbone(settings)[0], title, "none", "whole")


def rows(weights: list[Path]) -> tuple[dict[str, Callable[[], Encoder]], dict[str, str]]:
    """What loads each encoder, by its title, and the title of the start of each file."""
    loads: dict[str, Callable[[], Encoder]] = {}
    starts: dict[str, str] = {}
    for path in weights:
        known = described(path)
        settings = Settings.from_dict(known["settings"])
        before = settings.init if settings.init != "random" else f"random, {settings.feature_size} wide, seed {settings.seed}"
        after = f"{path.stem}, {known['steps_done']} of {settings.steps} steps"
        loads.setdefault(before, lambda settings=settings: start_of(settings))
        loads[after] = lambda path=path, form=settings.form: cb.load_encoder(form, path, "cpu", setting="whole")
        starts[after] = before
    return loads, starts


def main() -> None:
    """Measure what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path, nargs="+", help="written by coralbay pretrain")
    parser.add_argument("--scans", type=Path, nargs="+", required=True, help="labeled patients, see body_regions")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--pairs", type=int, default=10, metavar="N", help="most pairs of patients")
    parser.add_argument("--results", type=Path, help="a file of results, so that a stopped benchmark continues")
    parser.add_argument("--curves", type=Path, metavar="CSV", help="curves of the training, to be drawn beside the table")
    add_tables_option(parser)
    args = parser.parse_args()
    pairs = pairs_of([read_patient(folder) for folder in args.scans], lambda wanted: REGION, args.pairs)
    if not pairs:
        parser.error("no two patients have a structure of the same kind that is large enough")
    loads, starts = rows(args.weights)
    store, known = cb.Store(), read(args.results) if args.results else []
    for title, load in loads.items():
        encoder = load()
        make = lambda volume, encoder=encoder: cb.embed(volume, encoder, store=store)  # noqa: E731
        for line in measure(title, make, pairs, args.seeds, known):
            known.append(line)
            if args.results:
                with args.results.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(line) + "\n")
    text = write_tables([line for line in known if line["row"] in loads], starts)
    print(text)
    if args.tables:
        if args.curves:
            draw_curves(args.curves, args.tables / PICTURE)
            text += f"\n![Curves of the training]({PICTURE})\n"
        put_section(args.tables / FILE, TITLE, text)
        summary.renew(args.tables)


if __name__ == "__main__":
    main()
