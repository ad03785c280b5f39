"""Train the networks that answer single clicks, on simulated sessions with labelled scans.

Usage: python -m Testing.training.clicks.train --data FOLDER... --state FOLDER [--no-sample] [--rounds 4] [--clicks 12]
       [--structures 48] [--auto NAME[:SCAN,...]...] [--encoder coralbay-mini] [--seed 0]

Each data folder holds ct.nii.gz, labels.nii.gz and labels.json (names by label). Everything is kept in the state folder: the
samples of each scan and round, the networks after each round, `log.txt`, and at the end `clicks.safetensors`. The same
command continues where it stopped.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import CoralBayLib as cb
from CoralBayLib.core import schemas
from CoralBayLib.core.tensor_files import read_tensors, write_tensors
from CoralBayLib.encoders.base import Encoder
from CoralBayLib.fewshot.clicks.networks import FILE, KIND, ClickNetworks
from Testing.benchmarks.clicks import AUTO, read_any
from Testing.benchmarks.encoders import Labelled

from .fitting import REGIONS, VOXELS, fit_regions, fit_voxels
from .samples import Samples
from .sessions import collect, starting_network

NOISE = (0.0, 0.05, 0.03)
"""On the expected Dice of regions, by round; later rounds have the last."""


@dataclass(frozen=True)
class Settings:
    """What the samples depend on beside the scans.

    Attributes:
        encoder: name.
        clicks: of a session.
        structures: at most so many of a scan.
        seed: of everything.
    """

    encoder: str
    clicks: int
    structures: int
    seed: int


class Training:
    """The rounds of a training.

    Args:
        scans: functions that read the scans, by name.
        encoder: of the features.
        settings: what else the samples depend on.
        state: folder where everything is kept.
    """

    def __init__(self, scans: Mapping[str, Callable[[], Labelled]], encoder: Encoder, settings: Settings, state: Path) -> None:
        self.scans, self.encoder, self.settings, self.state = scans, encoder, settings, state
        state.mkdir(parents=True, exist_ok=True)
        told = {"scans": list(scans), **asdict(settings)}
        kept = state / "settings.json"
        if kept.is_file() and json.loads(kept.read_text(encoding="utf-8")) != told:
            raise SystemExit(f"{state} belongs to a training with other scans or settings. Give another folder as --state.")
        kept.write_text(json.dumps(told, indent=1), encoding="utf-8")

    def run(self, rounds: int) -> Path:
        """Do the rounds that are missing; returns the file of the last networks.

        Args:
            rounds: at least two, since region networks learn from the second on.
        """
        if rounds < 2:
            raise SystemExit("--rounds must be 2 or more: region networks learn from the second round on.")
        networks = ClickNetworks(starting_network(), ())
        for number in range(rounds):
            made = self.state / f"round-{number}.safetensors"
            if not made.is_file():
                self.collect(number, networks)
                self.fit(number, made)
            tensors = read_tensors(made, KIND, schemas.CLICK_NETWORKS)[1]
            networks = ClickNetworks.from_tensors(tensors)
        write_tensors(self.state / FILE, KIND, {"scans": list(self.scans)}, tensors)
        return self.state / FILE

    def collect(self, number: int, networks: ClickNetworks) -> None:
        """The samples of a round, of scans that have none yet."""
        for name, read in self.scans.items():
            if self.samples_file(number, name).is_file():
                continue
            scan = read()
            samples = collect(
                scan,
                cb.embed(scan.volume, self.encoder, store=cb.Store()),
                networks,
                clicks=self.settings.clicks,
                most=self.settings.structures,
                noise=NOISE[min(number, len(NOISE) - 1)],
                seed=(self.settings.seed, number),
            )
            samples.save(self.samples_file(number, name))
            self.say(f"round {number} {name}: {len(samples.inside)} voxels, {len(samples.dice)} regions")
        self.say(self.samples(number).by_click())

    def fit(self, number: int, path: Path) -> None:
        """Networks of all rounds so far.

        Descriptions of regions follow from the log-odds of voxels. Those of round 0 come from no network, so that the region
        networks leave them out.
        """
        rounds = [self.samples(each) for each in range(number + 1)]
        tensors, losses = fit_voxels(Samples.joined(rounds), VOXELS, self.settings.seed)
        self.say(f"round {number}: loss of voxels {losses[0]:.4f} to {losses[-1]:.4f}")
        if number:
            regions, each = fit_regions(Samples.joined(rounds[1:]), REGIONS, self.settings.seed)
            tensors |= regions
            self.say(f"round {number}: loss of regions " + ", ".join(f"{one[0]:.4f} to {one[-1]:.4f}" for one in each))
        write_tensors(path, KIND, {"scans": list(self.scans)}, tensors)

    def samples(self, number: int) -> Samples:
        """All samples of a round."""
        return Samples.joined(Samples.load(self.samples_file(number, name)) for name in self.scans)

    def samples_file(self, number: int, name: str) -> Path:
        """Where a scan's samples of a round are kept."""
        return self.state / f"round-{number}-{name}.npz"

    def say(self, line: str) -> None:
        """Print, and append to the log."""
        with (self.state / "log.txt").open("a", encoding="utf-8") as log:
            log.write(f"{line}\n")
        print(line, flush=True)


def main() -> None:
    """Train as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, nargs="*", default=[], help="folders with ct, labels and their names")
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--no-sample", action="store_true", help="without the sample chest CT")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--clicks", type=int, default=12, help="of a session")
    parser.add_argument("--structures", type=int, default=48, help="of a scan, at most")
    parser.add_argument("--auto", nargs="*", default=list(AUTO), help="structures of labels that a network made; of some scans")
    parser.add_argument("--encoder", default="coralbay-mini")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    def reader(folder: Path | None) -> Callable[[], Labelled]:
        return lambda: read_any(folder, tuple(args.auto))

    scans = {} if args.no_sample else {"sample": reader(None)}
    scans |= {folder.name: reader(folder) for folder in args.data}
    if not scans:
        parser.error("Give scans with --data, or leave out --no-sample.")
    settings = Settings(args.encoder, args.clicks, args.structures, args.seed)
    print(Training(scans, cb.load_encoder(args.encoder, device="cpu"), settings, args.state).run(args.rounds))


if __name__ == "__main__":
    main()
