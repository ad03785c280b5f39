"""The student's heads and what they are judged by. Heads are linear, so that the features themselves must know."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from CoralBayLib.encoders.coralbay import CoralBayNetwork

from .crops import Example
from .teacher import COMPONENTS

LEVELS = ("enc1", "enc2", "enc3", "hidden3", "dec4")
"""enc1 to hidden3 learn the teacher's layers 1 to 4; dec4 learns layer 4 averaged over its larger block."""
_WIDTHS = (1, 2, 4, 8, 16)
_RIDGE = 1e-3
"""Of the least squares, as a share of the mean square of the features."""


class Student(nn.Module):
    """The network that is kept and the linear heads that are not.

    Args:
        feature_size: of the network.
    """

    def __init__(self, feature_size: int) -> None:
        super().__init__()
        self.network = CoralBayNetwork(feature_size)
        widths = [feature_size * w for w in _WIDTHS]
        outputs = (*COMPONENTS, COMPONENTS[3])
        self.heads = nn.ModuleList(nn.Conv3d(w, d, 1) for w, d in zip(widths, outputs, strict=True))
        # Probes read all levels together, so what one level leaves out another may hold.
        self.fine = nn.Conv3d(sum(widths[:4]), COMPONENTS[1], 1)
        self.middle = nn.Conv3d(sum(widths[1:]), COMPONENTS[2] + COMPONENTS[3], 1)

    def all_heads(self) -> list[nn.Conv3d]:
        """One a level, then the fused ones at enc2's and enc3's stride."""
        return [*self.heads, self.fine, self.middle]  # type: ignore[list-item]

    def forward(self, image: torch.Tensor) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """(B, 1, R, A, S) to the maps of `LEVELS` and the predictions, one a head."""
        maps = self.network.maps(image, LEVELS)
        return maps, [head(m) for head, m in zip(self.all_heads(), read(maps), strict=True)]


def read(maps: list[torch.Tensor]) -> list[torch.Tensor]:
    """What each head reads of the levels."""
    return [*maps, together(maps[:4], 1), together(maps[1:], 1)]


class HeadFit:
    """Least squares for the heads of a network that is trained already, so that they do not teach it noise.

    Args:
        student: its heads are set.
    """

    def __init__(self, student: Student) -> None:
        self.student = student
        heads = student.all_heads()
        self.inner = [torch.zeros(h.in_channels + 1, h.in_channels + 1, dtype=torch.float64) for h in heads]
        self.outer = [torch.zeros(h.in_channels + 1, h.out_channels, dtype=torch.float64) for h in heads]

    def add(self, maps: list[torch.Tensor], examples: list[Example]) -> None:
        """Take account of some examples."""
        for n, (m, target, weight) in enumerate(zip(read(maps), *wanted(examples, maps[0].device), strict=True)):
            rows, columns, weights = (each.movedim(1, -1).flatten(0, 3).double().cpu() for each in (m, target, weight))
            rows = torch.cat([rows, torch.ones(len(rows), 1)], dim=1)
            self.inner[n] += (rows * weights).T @ rows
            self.outer[n] += (rows * weights).T @ columns

    def finish(self) -> None:
        """Set the heads."""
        for head, inner, outer in zip(self.student.all_heads(), self.inner, self.outer, strict=True):
            solved = torch.linalg.solve(inner + _RIDGE * inner.diagonal().mean() * torch.eye(len(inner)), outer)
            with torch.no_grad():
                head.weight.copy_(solved[:-1].T[:, :, None, None, None])
                head.bias.copy_(solved[-1])  # type: ignore[union-attr]


def together(maps: list[torch.Tensor], at: int) -> torch.Tensor:
    """All maps on the lattice of one of them; blocks tile the input, so their centres keep their place both ways.

    A side that its next stride does not divide has one more block, half of it beyond the end, which is cut off.
    """
    size = maps[at].shape[2:]

    def fit(m: torch.Tensor, steps: int) -> torch.Tensor:
        if steps < 0:
            m = functional.avg_pool3d(m, 2**-steps, ceil_mode=True)
        elif steps > 0:
            m = functional.interpolate(m, scale_factor=2**steps, mode="trilinear", align_corners=False)
        return m[:, :, : size[0], : size[1], : size[2]]

    return torch.cat([fit(m, level - at) for level, m in enumerate(maps)], dim=1)


def halved(m: torch.Tensor) -> torch.Tensor:
    """Averages of 2^3 blocks; an odd side is made even with zeros."""
    return functional.avg_pool3d(functional.pad(m, [side for n in reversed(m.shape[2:]) for side in (0, n % 2)]), 2)


def wanted(examples: list[Example], device: torch.device) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """The target of each head, and its weights; all examples are of one size."""
    targets = [torch.stack(t).to(device) for t in zip(*(e.targets for e in examples), strict=True)]
    weights = [torch.stack(w).to(device) for w in zip(*(e.weights for e in examples), strict=True)]
    deepest = halved(targets[3] * weights[3]) / halved(weights[3]).clamp_min(1e-3)
    deep = together([targets[2], targets[3]], 0)
    targets += [deepest, targets[1], deep]
    weights += [halved(weights[3]), weights[1], weights[2]]
    return targets, weights


def losses(predictions: list[torch.Tensor], examples: list[Example]) -> list[torch.Tensor]:
    """One a head."""
    both = wanted(examples, predictions[0].device)
    return [distance(p.float(), t, w) for p, t, w in zip(predictions, *both, strict=True)]


def distance(prediction: torch.Tensor, target: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Cosine distance and smooth L1 over (B, D, r, a, s), averaged with (B, 1, r, a, s) weights."""
    apart = 1 - functional.cosine_similarity(prediction, target, dim=1)
    apart = apart + functional.smooth_l1_loss(prediction, target, reduction="none").mean(dim=1)
    return (apart * weight[:, 0]).sum() / weight.sum().clamp_min(1e-3)
