"""Fit the click networks to samples."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

from .samples import Samples

Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Recipe:
    """How a perceptron is fitted.

    Attributes:
        hidden: units of the layers between inputs and output.
        epochs: passes through the samples.
        batch: samples a step.
        rate: largest learning rate.
        decay: of the weights.
        least_steps: there are more epochs where samples are so few that these would have fewer steps.
    """

    hidden: tuple[int, ...]
    epochs: int
    batch: int
    rate: float
    decay: float
    least_steps: int = 500


VOXELS = Recipe((48, 24), epochs=10, batch=2048, rate=4e-3, decay=0.01)
REGIONS = Recipe((32, 16), epochs=40, batch=512, rate=4e-3, decay=0.2)
MEMBERS = 4
"""Region networks; they differ in their first weights and in the order of their samples."""
MOST_WEIGHT = 0.1
"""Of a sampled voxel: it stands for no more than this share of the structure's volume."""
LEAST_SPREAD = 1e-3
"""Inputs that vary less than this are not scaled up further."""


def fit_voxels(samples: Samples, recipe: Recipe, seed: int) -> tuple[Tensors, list[float]]:
    """The voxel network: weighted cross-entropy. Returns tensors "voxels.*" and the mean loss of each epoch."""
    inside = torch.from_numpy(samples.inside)
    weights = torch.from_numpy(samples.weights).clamp(max=MOST_WEIGHT)
    weights = weights / weights.mean()

    def loss(outputs: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        return binary_cross_entropy_with_logits(outputs, inside[rows], weight=weights[rows])

    tensors, losses = fit(torch.from_numpy(samples.inputs), loss, recipe, seed)
    return {f"voxels.{name}": tensor for name, tensor in tensors.items()}, losses


def fit_regions(samples: Samples, recipe: Recipe, seed: int) -> tuple[Tensors, list[list[float]]]:
    """The region networks: squared error of the Dice. Returns tensors "regions.<n>.*" and each network's losses."""
    dice = torch.from_numpy(samples.dice)
    made: Tensors = {}
    losses = []

    def loss(outputs: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        return (outputs.sigmoid() - dice[rows]).square().mean()

    for member in range(MEMBERS):
        tensors, each = fit(torch.from_numpy(samples.descriptions), loss, recipe, seed + member)
        made |= {f"regions.{member}.{name}": tensor for name, tensor in tensors.items()}
        losses.append(each)
    return made, losses


def fit(
    inputs: torch.Tensor, loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], recipe: Recipe, seed: int
) -> tuple[Tensors, list[float]]:
    """Fit one perceptron with AdamW and one cycle of the learning rate.

    Args:
        inputs: (N, inputs) float32.
        loss: of the outputs (B,) for samples whose numbers are (B,).
        recipe: how.
        seed: of the first weights and the order of the samples.

    Returns:
        "<layer>.weight" and "<layer>.bias", with the scaling of inputs in the first layer, and the mean loss of each epoch.
    """
    torch.manual_seed(seed)
    mean, scale = inputs.mean(dim=0), 1 / inputs.std(dim=0).clamp_min(LEAST_SPREAD)
    scaled = (inputs - mean) * scale
    sizes = (inputs.shape[1], *recipe.hidden, 1)
    layers = [nn.Linear(one, two) for one, two in pairwise(sizes)]
    network = nn.Sequential(*(part for layer in layers for part in (layer, nn.ReLU())))[:-1]
    # A last batch that is not full is left out; another order leaves out others.
    steps = max(1, len(scaled) // recipe.batch)
    epochs = max(recipe.epochs, math.ceil(recipe.least_steps / steps))
    optimizer = torch.optim.AdamW(network.parameters(), lr=recipe.rate, weight_decay=recipe.decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.rate, total_steps=epochs * steps + 1)
    losses = []
    for _ in range(epochs):
        total = 0.0
        for rows in torch.randperm(len(scaled)).split(recipe.batch)[:steps]:
            value = loss(network(scaled[rows])[:, 0], rows)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            schedule.step()
            total += float(value.detach())
        losses.append(total / steps)
    return _folded(layers, mean, scale), losses


def _folded(layers: list[nn.Linear], mean: torch.Tensor, scale: torch.Tensor) -> Tensors:
    """The layers' tensors, for inputs that are not scaled."""
    tensors: Tensors = {}
    for number, layer in enumerate(layers):
        weight, bias = layer.weight.detach().clone(), layer.bias.detach().clone()
        if number == 0:
            weight = weight * scale
            bias = bias - weight @ mean
        tensors |= {f"{number}.weight": weight, f"{number}.bias": bias}
    return tensors
