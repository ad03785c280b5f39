"""What is learned from: the teacher's passes of all scans, and corresponding places of pairs of patients.

Both take long to make, so they are made during the training, in a fixed order: how many there are follows from the step alone.
What was made is kept in the state folder.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations, pairwise, zip_longest
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

import CoralBayLib as cb
from CoralBayLib.encoders.base import Encoder

from .correspondence import Body, Correspondence, corresponding
from .teacher import LAYERS, Reduction, TeacherPass, fit_reductions, magnified, reduced, teach, zoom_of

_FIRST = 8
"""Scans of each group whose passes are made before the first step, and on which the PCA of the teacher's features is fitted."""
_EVERY = 8
"""Steps after which the next pass or pair is made."""

_POINTS = 20_000

Item = tuple[str, int, int]
"""("pass", scan, number) or ("pair", scan, other scan)."""


@dataclass(frozen=True, eq=False)
class Source:
    """A pass and what its crops are drawn by.

    Attributes:
        made: the pass.
        zoom: RAS mm of the pass by RAS mm of the scan.
        points_ras: (N, 3) RAS mm of the pass, drawn at random from the body.
        liters: volume of the body.
    """

    made: TeacherPass
    zoom: float
    points_ras: NDArray[np.float64]
    liters: float

    @classmethod
    def of(cls, made: TeacherPass, zoom: float) -> Source:
        """Draw the points; the same pass gives the same ones."""
        body, random = made.body, np.random.default_rng(0)
        kji = np.argwhere(body.array)
        drawn = kji[random.integers(len(kji), size=_POINTS)] + random.uniform(-0.5, 0.5, (_POINTS, 3))
        return cls(made, zoom, body.grid.to_ras(drawn[:, ::-1]), len(kji) * body.grid.voxel_volume_mm3 / 1e6)


class Material:
    """What has been made so far.

    Args:
        groups: folders of scans, one sequence for each region of the body.
        state: folder in which passes and pairs are kept.
        seed: of the pairs and of the magnification of passes.
        rounds: passes of each scan.
        pairs: most pairs of a group.

    Raises:
        SystemExit: the folder holds other material.
    """

    def __init__(self, groups: Sequence[Sequence[Path]], state: Path, seed: int, rounds: int, pairs: int) -> None:
        self.groups = [sorted(group, key=lambda folder: folder.name) for group in groups]
        self.scans = [folder for group in self.groups for folder in group]
        ends = np.cumsum([0, *map(len, self.groups)]).tolist()
        self.members = [range(start, end) for start, end in pairwise(ends)]
        self.state, self.seed, self.rounds = state, seed, rounds
        self.first = [m[n] for m in self.members for n in np.unique(np.linspace(0, len(m) - 1, _FIRST).astype(int))]
        self.sources: dict[tuple[int, int], Source] = {}
        self.pairs: dict[tuple[int, int], Correspondence] = {}
        self.items = self._ordered(pairs)
        self._done = 0
        self._require_own(pairs)

    def _require_own(self, pairs: int) -> None:
        """Refuse a state folder of other material: its steps would learn from something else than they say."""
        about = {"groups": [[folder.name for folder in group] for group in self.groups], "seed": self.seed, "pairs": pairs}
        file = self.state / "material.json"
        if not file.is_file():
            file.write_text(json.dumps(about), encoding="utf-8")
        elif json.loads(file.read_text(encoding="utf-8")) != about:
            raise SystemExit("This folder holds a training with other scans, pairs or seed. Choose another one with --state.")

    def _ordered(self, pairs: int) -> list[Item]:
        """The first passes, then the other first passes and the pairs in turn, then further passes."""
        random = np.random.default_rng((self.seed, 2))
        others = [scan for scan in range(len(self.scans)) if scan not in self.first]
        random.shuffle(others)
        drawn: list[tuple[int, int]] = []
        for members in self.members:
            every = list(combinations(members, 2))
            drawn += [every[n] for n in random.permutation(len(every))[:pairs]]
        random.shuffle(drawn)
        # Pairs of scans that have their passes first.
        late = {scan: n for n, scan in enumerate(others)}
        drawn.sort(key=lambda pair: max(late.get(scan, -1) for scan in pair) // 6)
        items: list[Item] = [("pass", scan, 0) for scan in self.first]
        for scan, pair in zip_longest(others, drawn):
            items += [] if scan is None else [("pass", scan, 0)]
            items += [] if pair is None else [("pair", *pair)]
        return items + [("pass", scan, n) for n in range(1, self.rounds) for scan in range(len(self.scans))]

    def until(self, step: int) -> None:
        """Make or read what there is to be at a step."""
        if not self._done:
            self._first_passes()
        wanted = min(len(self.first) + step // _EVERY, len(self.items))
        for kind, one, other in self.items[self._done : wanted]:
            if kind == "pass":
                made = self._kept_pass(one, other)
                self.sources[one, other] = Source.of(made, zoom_of(one, other, self.seed))
            else:
                self._add_pair(one, other)
        self._done = max(self._done, wanted)

    def _first_passes(self) -> None:
        """The first passes, and the PCA that is fitted on them."""
        kept = self.state / "reductions.safetensors"
        if kept.is_file():
            return
        files = {scan: self.state / f"raw-{self.scans[scan].name}.safetensors" for scan in self.first}
        for scan, file in files.items():
            if not file.is_file():
                teach(self._volume(scan), self.teacher).save(file)
        raw = {scan: TeacherPass.load(file) for scan, file in files.items()}
        reductions = fit_reductions(list(raw.values()), self.seed)
        for scan, made in raw.items():
            reduced(made, reductions).save(self._pass_file(scan, 0))
        tensors = {f"projection{n}": r.projection for n, r in enumerate(reductions)}
        save_file(tensors | {f"offset{n}": r.offset for n, r in enumerate(reductions)}, kept)
        for file in files.values():
            file.unlink()

    @cached_property
    def reductions(self) -> list[Reduction]:
        """Of the teacher's features."""
        tensors = load_file(self.state / "reductions.safetensors")
        return [Reduction(tensors[f"projection{n}"], tensors[f"offset{n}"]) for n in range(len(LAYERS))]

    @cached_property
    def teacher(self) -> Encoder:
        """Astra."""
        return cb.load_encoder("astra")

    @cached_property
    def encoder(self) -> Encoder:
        """The shipped network, whose features begin the registration of patients."""
        return cb.load_encoder("coralbay-mini")

    def _kept_pass(self, scan: int, number: int) -> TeacherPass:
        path = self._pass_file(scan, number)
        if not path.is_file():
            volume = magnified(self._volume(scan), zoom_of(scan, number, self.seed))
            teach(volume, self.teacher, self.reductions).save(path)
        return TeacherPass.load(path)

    def _add_pair(self, one: int, other: int) -> None:
        """Both ways; nothing if the scans have too little in common."""
        for here, there in ((one, other), (other, one)):
            path = self._pair_file(here, there)
            if not path.is_file():
                both = corresponding(self._body(one), self._body(other))
                both[0].save(self._pair_file(one, other))
                both[1].save(self._pair_file(other, one))
            found = Correspondence.load(path)
            if len(found.here):
                self.pairs[here, there] = found

    def _body(self, scan: int) -> Body:
        return Body.of(cb.embed(self._volume(scan), self.encoder, store=cb.Store()))

    def _volume(self, scan: int) -> cb.Volume:
        return cb.read_volume(self.scans[scan] / "ct.nii.gz")

    def _pass_file(self, scan: int, number: int) -> Path:
        return self.state / f"pass-{self.scans[scan].name}-{number}.safetensors"

    def _pair_file(self, one: int, other: int) -> Path:
        return self.state / f"pair-{self.scans[one].name}-{self.scans[other].name}.safetensors"

    def source(self, scan: int, random: np.random.Generator) -> Source:
        """One of a scan's passes."""
        numbers = [number for number in range(self.rounds) if (scan, number) in self.sources]
        return self.sources[scan, numbers[int(random.integers(len(numbers)))]]

    def drawn(self, random: np.random.Generator, across: float) -> tuple[int, int, Correspondence | None]:
        """A scan twice, or two scans and what corresponds in them; large groups and scans less often than by their size.

        Args:
            random: of the draw.
            across: how often it is two scans, if the group has pairs.
        """
        liters = {scan: source.liters for (scan, number), source in self.sources.items() if number == 0}
        whole = np.array([sum(liters.get(scan, 0.0) for scan in members) for members in self.members])
        members = self.members[_one(random, np.cbrt(whole))]
        pairs = [pair for pair in self.pairs if pair[0] in members and all(scan in liters for scan in pair)]
        if pairs and random.random() < across:
            pair = pairs[int(random.integers(len(pairs)))]
            return *pair, self.pairs[pair]
        scans = [scan for scan in members if scan in liters]
        scan = scans[_one(random, np.sqrt([liters[scan] for scan in scans]))]
        return scan, scan, None

    def told(self) -> str:
        """What there is, for the log."""
        return f"{len(self.sources)} teacher passes, {len(self.pairs) // 2} pairs of patients"


def _one(random: np.random.Generator, shares: NDArray[np.float64]) -> int:
    """A number drawn in proportion to the shares."""
    return int(random.choice(len(shares), p=shares / shares.sum()))
