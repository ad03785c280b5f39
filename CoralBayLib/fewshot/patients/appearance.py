"""A small network that tells structures apart by projected features, intensity, and place in a template.

It learns from few patients, which differ more from the next one than their own voxels differ from each other. Strong noise on
the inputs and dropout keep it from learning a patient by heart; without them it is worse than the atlas alone (DECISIONS.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import numpy as np
import torch
from torch.nn import functional

from CoralBayLib.core.progress import CancelToken, raise_if_cancelled
from CoralBayLib.fewshot.evidence.voxel_features import KNOTS_BY_HU, KNOTS_HU

_HIDDEN = 128
_NETWORKS = 3
"""Networks of different starts, whose log-probabilities are averaged."""
_BATCH, _RATE, _DECAY = 1024, 3e-3, 0.1
_HAT = 1.5
"""Height of the hat functions of the HU."""
_PLACES = 9


@dataclass(frozen=True)
class Training:
    """How a network is trained.

    Attributes:
        steps: of the optimizer.
        noise: standard deviation of noise on projected features; half of it on the place.
        dropout: share of the projected features that are set to 0.
        balance: 0 if all structures count alike, 1 if each counts by its volume.
    """

    steps: int
    noise: float
    dropout: float
    balance: float


FEW = Training(steps=500, noise=1.0, dropout=0.5, balance=0.0)
MANY = Training(steps=1000, noise=0.7, dropout=0.3, balance=0.5)


def inputs_of(
    vectors: torch.Tensor,
    mean: torch.Tensor,
    spread: torch.Tensor,
    hu_index: torch.Tensor,
    place: torch.Tensor,
    probabilities: torch.Tensor | None,
) -> torch.Tensor:
    """The inputs of the network.

    Args:
        vectors: (N, D) projected features.
        mean: (D,) of the scan.
        spread: (D,) standard deviation of the scan.
        hu_index: (N, 2) HU and smoothed HU as indices of tables.
        place: (N, 3) coordinates of about unit variance.
        probabilities: (S, N) of the atlas, or None.

    Returns:
        (N, inputs) float32.
    """
    table = _hats()
    x, y, z = place.T
    parts = [(vectors.float() - mean) / spread, table[hu_index[:, 0].long()], table[hu_index[:, 1].long()]]
    parts += [place, place**2 - 1, torch.stack([x * y, x * z, y * z], dim=1)]
    if probabilities is not None:
        parts.append(torch.logit(probabilities.clamp(0.003, 0.997)).T / 2)
    return torch.cat(parts, dim=1)


@cache
def _hats() -> torch.Tensor:
    """(HU, knots) values of the hat functions, by index of the HU."""
    knots = np.arange(len(KNOTS_HU))
    return torch.from_numpy(_HAT * np.stack([np.interp(KNOTS_BY_HU, knots, row) for row in np.eye(len(knots))], axis=1)).float()


class AppearanceNetwork:
    """Gives the log-probability of background and of each structure.

    Args:
        layers: of each network, (weight, bias) of three linear layers.
    """

    def __init__(self, layers: list[list[tuple[torch.Tensor, torch.Tensor]]]) -> None:
        self.layers = layers

    def __call__(self, inputs: torch.Tensor) -> torch.Tensor:
        """Mean log-probabilities of the networks, (N, 1 + S); background is first."""
        with torch.no_grad():
            return sum((functional.log_softmax(_forward(inputs, each), dim=1) for each in self.layers), torch.zeros(())) / len(
                self.layers
            )

    @classmethod
    def fit(
        cls,
        inputs: torch.Tensor,
        classes: torch.Tensor,
        volumes: torch.Tensor,
        looked_for: torch.Tensor,
        components: int,
        how: Training,
        cancel: CancelToken | None = None,
    ) -> AppearanceNetwork:
        """Train networks on samples.

        Args:
            inputs: (N, inputs) of `inputs_of`.
            classes: (N,) int64, 0 is background.
            volumes: (N,) that each sample represents.
            looked_for: (N, 1 + S) whether the class was looked for in the sample's patient; where it was not, background may
                be that structure, too.
            components: number of the first inputs, the projected features.
            how: settings.
            cancel: checked between steps.

        Raises:
            Cancelled: `cancel` was called.
        """
        weights = volumes**how.balance
        weights = weights / weights.mean()
        unknown = ~looked_for
        unknown[:, 0] = True
        data = (inputs, classes, weights, unknown)
        return cls([_trained(data, looked_for.shape[1], components, how, seed, cancel) for seed in range(_NETWORKS)])

    def tensors(self) -> dict[str, torch.Tensor]:
        """The weights by name, as `from_tensors` takes them."""
        return {
            f"{n}.{m}.{name}": part
            for n, layers in enumerate(self.layers)
            for m, layer in enumerate(layers)
            for name, part in zip(("weight", "bias"), layer, strict=True)
        }

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, torch.Tensor]) -> AppearanceNetwork:
        """The network of `tensors`.

        Raises:
            KeyError: a part is missing.
        """
        count = 1 + max(int(name.split(".")[0]) for name in tensors)
        return cls([[(tensors[f"{n}.{m}.weight"], tensors[f"{n}.{m}.bias"]) for m in range(3)] for n in range(count)])


def _forward(
    inputs: torch.Tensor,
    layers: list[tuple[torch.Tensor, torch.Tensor]],
    dropout: float = 0.0,
    random: torch.Generator | None = None,
) -> torch.Tensor:
    out = inputs
    for weight, bias in layers[:-1]:
        out = functional.relu(functional.linear(out, weight, bias))
        if dropout:
            out = out * (torch.rand(out.shape, generator=random) > dropout) / (1 - dropout)
    return functional.linear(out, *layers[-1])


def _trained(
    data: tuple[torch.Tensor, ...], classes: int, components: int, how: Training, seed: int, cancel: CancelToken | None
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    inputs, targets, weights, unknown = data
    random = torch.Generator().manual_seed(seed)
    sizes = [inputs.shape[1], _HIDDEN, _HIDDEN, classes]
    with torch.enable_grad():
        layers = []
        for n, m in pairwise(sizes):
            bound = n**-0.5
            weight = ((torch.rand(m, n, generator=random) * 2 - 1) * bound).requires_grad_(True)
            layers.append((weight, ((torch.rand(m, generator=random) * 2 - 1) * bound).requires_grad_(True)))
        optimizer = torch.optim.AdamW([part for layer in layers for part in layer], lr=_RATE, weight_decay=_DECAY)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, total_steps=how.steps)
        place = slice(components + 2 * len(KNOTS_HU), components + 2 * len(KNOTS_HU) + _PLACES)
        for _ in range(how.steps):
            raise_if_cancelled(cancel)
            some = torch.randint(len(inputs), (_BATCH,), generator=random)
            batch = inputs[some]
            batch[:, :components] += how.noise * torch.randn(_BATCH, components, generator=random)
            batch[:, :components] *= (torch.rand(_BATCH, components, generator=random) > how.dropout) / (1 - how.dropout)
            batch[:, place] += 0.5 * how.noise * torch.randn(_BATCH, _PLACES, generator=random)
            logs = functional.log_softmax(_forward(batch, layers, 0.2, random), dim=1)
            background = torch.logsumexp(logs.masked_fill(~unknown[some], -1e4), dim=1)
            own = logs.gather(1, targets[some][:, None])[:, 0]
            loss = -(torch.where(targets[some] == 0, background, own) * weights[some]).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return [(weight.detach(), bias.detach()) for weight, bias in layers]
