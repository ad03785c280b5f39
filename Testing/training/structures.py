"""Labels of structures, where they are free to use: places of one structure are to be similar in all patients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

import CoralBayLib as cb
from CoralBayLib.imaging.patients import names_from_json
from CoralBayLib.imaging.patients.structures import read_json

REMEMBERED = 4000
_OF_EACH, _OF_REST, _KEPT = 40, 80, 400
"""Most points of a structure and of the rest of the body in a crop, and of a structure in a scan."""
_TEMPERATURE = 0.1


@dataclass(frozen=True, eq=False)
class LabeledPoints:
    """Points of a scan and the structures that they lie in.

    Attributes:
        points_ras: (N, 3) RAS mm of the scan.
        classes: (N,) from 1 on in the order of the names; 0 is none of the labeled structures.
    """

    points_ras: NDArray[np.float64]
    classes: NDArray[np.int64]

    @classmethod
    def read(cls, folder: Path, body_ras: NDArray[np.float64], names: Sequence[str]) -> LabeledPoints | None:
        """Draw the points; the same scan gives the same ones.

        Args:
            folder: with `labels.nii.gz` and `labels.json`, the names by label.
            body_ras: (N, 3) RAS mm of points of the body, from which those of no structure are taken.
            names: of the structures.

        Returns:
            The points, or None if the folder has no labels of these structures.
        """
        names_file = folder / "labels.json"
        if not names_file.is_file():
            return None
        label_of = {name: label for label, name in names_from_json(read_json(names_file), names_file.name).items()}
        labels = cb.read_volume(folder / "labels.nii.gz")
        random = np.random.default_rng(0)
        points, classes = [], []
        for number, name in enumerate(names, 1):
            kji = np.argwhere(labels.array == label_of[name]) if name in label_of else np.zeros((0, 3))
            chosen = kji[random.permutation(len(kji))[:_KEPT]]
            inside = chosen[:, ::-1] + random.uniform(-0.5, 0.5, chosen.shape)
            points.append(labels.grid.to_ras(inside))
            classes.append(np.full(len(chosen), number))
        if not sum(map(len, points)):
            return None
        rest = body_ras[labels.grid.contains(body_ras) & (labels.nearest_values(body_ras) == 0)]
        return cls(np.concatenate([*points, rest]), np.concatenate([*classes, np.zeros(len(rest), int)]).astype(np.int64))

    def drawn(self, held: NDArray[np.bool_], random: np.random.Generator) -> NDArray[np.int64]:
        """Rows of points, so many of each class, among those that a crop holds."""
        rows = []
        for number in np.unique(self.classes):
            every = np.flatnonzero(held & (self.classes == number))
            rows.append(random.permutation(every)[: _OF_EACH if number else _OF_REST])
        return np.concatenate(rows)


class StructureLoss(nn.Module):
    """Supervised contrastive loss (Khosla and others, arXiv 2004.11362) over places of a step and of earlier ones.

    Places of no structure are compared with, but ask nothing: they may be of structures that nobody labeled.

    Args:
        width: channels of the features at all levels.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("features", torch.zeros(REMEMBERED, width))
        self.register_buffer("classes", torch.zeros(REMEMBERED, dtype=torch.int64))
        self.register_buffer("added", torch.tensor(0))

    def forward(
        self, features: torch.Tensor, classes: torch.Tensor, directions: Callable[[torch.Tensor], torch.Tensor]
    ) -> torch.Tensor:
        """The loss, from 0 on, each structure weighing the same; the places are remembered.

        Args:
            features: (N, C) of the student at all levels.
            classes: (N,) of these places.
            directions: whitens features and scales them to length one.
        """
        if not classes.any():
            return features.sum() * 0
        filled = min(int(self.added), REMEMBERED)
        own = directions(features)
        known = torch.cat([own, directions(self.features[:filled])])
        itself = functional.pad(torch.eye(len(own), dtype=torch.bool, device=own.device), (0, filled))
        chances = (own @ known.T / _TEMPERATURE).masked_fill(itself, -torch.inf).log_softmax(dim=1)
        same = (classes[:, None] == torch.cat([classes, self.classes[:filled]])) & (classes[:, None] > 0) & ~itself
        self._remember(features, classes)
        asks = same.any(dim=1)
        if not asks.any():
            return features.sum() * 0
        counts = same.sum(dim=1)[asks]
        each = -chances.masked_fill(~same, 0).sum(dim=1)[asks] / counts - counts.log()
        weight = (1 / torch.bincount(classes).clamp_min(1))[classes[asks]]
        return (each * weight).sum() / weight.sum()

    def _remember(self, features: torch.Tensor, classes: torch.Tensor) -> None:
        rows = (int(self.added) + torch.arange(len(features))) % REMEMBERED
        self.features[rows], self.classes[rows] = features.detach(), classes
        self.added += len(rows)


def feature_change(maps: Sequence[torch.Tensor], kept: Sequence[torch.Tensor]) -> torch.Tensor:
    """How far features have moved from those of another network: mean square in units of each channel's variance there.

    Args:
        maps: (B, C, r, a, s) of each level.
        kept: of the other network.
    """
    total = maps[0].new_zeros(())
    for now, then in zip(maps, kept, strict=True):
        spread = then.std(dim=(0, 2, 3, 4), keepdim=True).clamp_min(1e-3)
        total = total + ((now - then) / spread).square().clamp_max(25).mean() / len(maps)
    return total
