"""What the student is to learn: Astra's features of some CTs, in fewer dimensions, beside the CTs they belong to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from CoralBayLib.encoders.base import Encoder
from CoralBayLib.features.preprocessing import prepare, to_level
from CoralBayLib.features.pyramid import trilinear_neighbors
from CoralBayLib.features.windows import run_windows
from CoralBayLib.imaging.grid import Grid, Volume

LAYERS = ("layer1", "layer2", "layer3", "layer4")
COMPONENTS = (64, 128, 128, 128)
LARGEST_ZOOM = 0.14
_SAMPLES = 3000


@dataclass(frozen=True, eq=False)
class TeacherPass:
    """One run of the teacher.

    Attributes:
        image: the CT in HU, canonical axes, at its own spacing (magnified when the pass was).
        body: mask of the patient on the teacher's working grid.
        targets: (D, K, J, I) half precision and their grid, one a layer.
    """

    image: Volume
    body: Volume
    targets: tuple[tuple[torch.Tensor, Grid], ...]

    def save(self, path: Path) -> None:
        """Write as safetensors."""
        grids = [self.image.grid, self.body.grid, *(grid for _, grid in self.targets)]
        tensors = {
            "image": torch.from_numpy(self.image.array),
            "body": torch.from_numpy(self.body.array),
            "matrices": torch.from_numpy(np.stack([grid.ijk_to_ras for grid in grids])),
            **{f"target{n}": target for n, (target, _) in enumerate(self.targets)},
        }
        save_file(tensors, path.with_suffix(".part"))
        path.with_suffix(".part").rename(path)

    @classmethod
    def load(cls, path: Path) -> TeacherPass:
        """Read what `save` wrote."""
        tensors = load_file(path)
        image, body, *others = (matrix.numpy() for matrix in tensors["matrices"])

        def volume(name: str, matrix: np.ndarray) -> Volume:
            array = tensors[name].numpy()
            return Volume(array, Grid(array.shape, matrix))

        targets = [tensors[f"target{n}"] for n in range(len(others))]
        return cls(
            volume("image", image),
            volume("body", body),
            tuple((t, Grid(tuple(t.shape[1:]), m)) for t, m in zip(targets, others, strict=True)),
        )


@dataclass(frozen=True, eq=False)
class Reduction:
    """PCA of one layer, half whitened: full whitening would make the student learn rounding noise as hard as anatomy,
    none would let a few components rule.

    Attributes:
        projection: (D, C).
        offset: (D,).
    """

    projection: torch.Tensor
    offset: torch.Tensor

    @classmethod
    def fit(cls, features: torch.Tensor, components: int) -> Reduction:
        """From (N, C) features of body voxels; the result has mean square one."""
        mean = features.mean(dim=0)
        covariance = torch.cov(features.double().T)
        variance, vectors = torch.linalg.eigh(covariance)
        variance, vectors = variance.flip(0)[:components], vectors.flip(1)[:, :components]
        projection = vectors.T / variance.clamp_min(1e-9).pow(0.25)[:, None]
        projection = (projection / variance.sqrt().mean().sqrt()).float()
        return cls(projection, -(projection @ mean))

    def __call__(self, maps: torch.Tensor) -> torch.Tensor:
        """(C, K, J, I) to (D, K, J, I) in half precision."""
        flat = self.projection @ maps.float().flatten(1) + self.offset[:, None]
        return flat.unflatten(1, maps.shape[1:]).half()


def magnified(volume: Volume, factor: float) -> Volume:
    """The scan of a patient `factor` times as large."""
    matrix = volume.grid.ijk_to_ras.copy()
    matrix[:3] *= factor
    return Volume(volume.array, Grid(volume.grid.shape, matrix))


def zoom_of(scan: int, number: int, seed: int) -> float:
    """Magnification of a scan's pass of this number: the first is as it is, others fall at random between whole steps
    of the range, so that the teacher's lattice lies elsewhere in the body each time."""
    if number == 0:
        return 1.0
    return float(1 + np.random.default_rng((seed, scan, number)).uniform(-LARGEST_ZOOM, LARGEST_ZOOM))


def teach(volume: Volume, teacher: Encoder, reductions: Sequence[Reduction] | None = None) -> TeacherPass:
    """Run the teacher; without reductions the targets are its features as they are."""
    specs = [spec for spec in teacher.levels if spec.name in LAYERS]
    prepared = prepare(volume, teacher.input)
    maps, _token = run_windows(prepared, teacher, specs)
    levels = [to_level(m, spec, prepared.image.grid) for m, spec in zip(maps, specs, strict=True)]
    canonical = volume.canonical()
    image = np.ascontiguousarray(np.clip(np.round(canonical.array), -1024, 3071).astype(np.int16))
    made = TeacherPass(Volume(image, canonical.grid), prepared.body, tuple((level.features, level.grid) for level in levels))
    return made if reductions is None else reduced(made, reductions)


def reduced(made: TeacherPass, reductions: Sequence[Reduction]) -> TeacherPass:
    """The pass with its targets in fewer dimensions."""
    targets = [(reduce(t), grid) for reduce, (t, grid) in zip(reductions, made.targets, strict=True)]
    return TeacherPass(made.image, made.body, tuple(targets))


def fit_reductions(passes: Sequence[TeacherPass], seed: int) -> list[Reduction]:
    """One PCA a layer over body voxels, as many from each scan."""
    random = np.random.default_rng(seed)
    drawn: list[list[torch.Tensor]] = [[] for _ in LAYERS]
    for made in passes:
        kji = np.argwhere(made.body.array)
        points = made.body.grid.to_ras(kji[random.choice(len(kji), min(_SAMPLES, len(kji)), replace=False)][:, ::-1])
        for rows, (target, grid) in zip(drawn, made.targets, strict=True):
            rows.append(sample(target, grid, points))
    return [Reduction.fit(torch.cat(rows), d) for rows, d in zip(drawn, COMPONENTS, strict=True)]


def sample(maps: torch.Tensor, grid: Grid, ras: np.ndarray) -> torch.Tensor:
    """(N, C) float32 of (C, K, J, I) maps at (N, 3) RAS points, linearly interpolated, held to the border."""
    index, weight = trilinear_neighbors(grid, ras)
    flat = maps.flatten(1)
    out = torch.zeros(len(index), len(flat))
    for corner in range(8):
        rows = flat[:, torch.from_numpy(index[:, corner])].float().T
        out += rows * torch.from_numpy(weight[:, corner])[:, None]
    return out
