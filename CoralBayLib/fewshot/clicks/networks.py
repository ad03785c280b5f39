"""The small networks of clicks: for voxels, for regions, and for regions in boxes. They are shipped with the library."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch

from CoralBayLib.core import schemas
from CoralBayLib.core.errors import ProbeError
from CoralBayLib.core.resources import resources_dir
from CoralBayLib.core.tensor_files import read_tensors

from . import box_regions, inputs, level_sets

FILE = "clicks.safetensors"
KIND = "click networks"
BOXES_FILE = "boxes.safetensors"
BOXES_KIND = "box networks"
_CHUNK = 1 << 16
"""Voxels at a time, so that intermediate results stay in the cache of a CPU."""


@dataclass(frozen=True, eq=False)
class Perceptron:
    """Linear layers with rectifiers between them; the scaling of inputs is part of the first layer.

    Attributes:
        layers: weight (out, in) and bias (out, 1) of each, float32.
    """

    layers: tuple[tuple[torch.Tensor, torch.Tensor], ...]

    def __call__(self, inputs: torch.Tensor) -> torch.Tensor:
        """Apply to (inputs, N); returns (N,) float32."""
        out = torch.empty(inputs.shape[1])
        for start in range(0, inputs.shape[1], _CHUNK):
            values = inputs[:, start : start + _CHUNK]
            for number, (weight, bias) in enumerate(self.layers):
                if number:
                    values = values.relu_()
                values = torch.addmm(bias, weight, values)
            out[start : start + _CHUNK] = values[0]
        return out

    @property
    def n_inputs(self) -> int:
        """Number of inputs."""
        return int(self.layers[0][0].shape[1])

    @classmethod
    def from_tensors(cls, tensors: dict[str, torch.Tensor], prefix: str) -> Perceptron:
        """From tensors `<prefix>.0.weight`, `<prefix>.0.bias`, `<prefix>.1.weight` and so on."""
        layers: list[tuple[torch.Tensor, torch.Tensor]] = []
        while f"{prefix}.{len(layers)}.weight" in tensors:
            name = f"{prefix}.{len(layers)}"
            layers.append((tensors[f"{name}.weight"].float(), tensors[f"{name}.bias"].float()[:, None]))
        return cls(tuple(layers))


@dataclass(frozen=True, eq=False)
class ClickNetworks:
    """Both networks.

    Attributes:
        voxels: from `inputs.NAMES` to the log-odds that a voxel belongs to the clicked structure.
        regions: from `level_sets.NAMES` to the logit of the Dice that a region is expected to have.
    """

    voxels: Perceptron
    regions: tuple[Perceptron, ...]

    def expected_dice(self, descriptions: torch.Tensor) -> torch.Tensor:
        """Of (N, len(NAMES)) descriptions; returns (N,) in [0, 1]."""
        return _mean_dice(self.regions, descriptions)

    @classmethod
    def from_tensors(cls, tensors: dict[str, torch.Tensor]) -> ClickNetworks:
        """From tensors `voxels.*` and `regions.<number>.*`."""
        members = sorted({name.split(".")[1] for name in tensors if name.startswith("regions.")})
        regions = tuple(Perceptron.from_tensors(tensors, f"regions.{n}") for n in members)
        return cls(Perceptron.from_tensors(tensors, "voxels"), regions)


@dataclass(frozen=True, eq=False)
class BoxNetworks:
    """Which region a box means that was drawn around a structure.

    Attributes:
        members: from `level_sets.NAMES` and `box_regions.NAMES` to the logit of the Dice that a region is expected to have.
    """

    members: tuple[Perceptron, ...]

    def expected_dice(self, descriptions: torch.Tensor) -> torch.Tensor:
        """Of (N, inputs) descriptions; returns (N,) in [0, 1]."""
        return _mean_dice(self.members, descriptions)

    @classmethod
    def from_tensors(cls, tensors: dict[str, torch.Tensor]) -> BoxNetworks:
        """From tensors `boxes.<number>.*`."""
        numbers = sorted({name.split(".")[1] for name in tensors})
        return cls(tuple(Perceptron.from_tensors(tensors, f"boxes.{n}") for n in numbers))


def _mean_dice(networks: tuple[Perceptron, ...], descriptions: torch.Tensor) -> torch.Tensor:
    inputs = descriptions.T.contiguous()
    return torch.stack([network(inputs).sigmoid() for network in networks]).mean(dim=0)


@cache
def packaged_box_networks() -> BoxNetworks:
    """The shipped networks of boxes.

    Raises:
        ProbeError: the file is missing, damaged or of another version.
    """
    _, tensors = read_tensors(resources_dir() / "Weights" / BOXES_FILE, BOXES_KIND, schemas.BOX_NETWORKS)
    networks = BoxNetworks.from_tensors(tensors)
    if networks.members[0].n_inputs != len(level_sets.NAMES) + len(box_regions.NAMES):
        raise ProbeError(f"{BOXES_FILE} belongs to another version of CoralBay. Install CoralBay again.")
    return networks


@cache
def packaged_networks() -> ClickNetworks:
    """The shipped networks.

    Raises:
        ProbeError: the file is missing, damaged or of another version.
    """
    _, tensors = read_tensors(resources_dir() / "Weights" / FILE, KIND, schemas.CLICK_NETWORKS)
    networks = ClickNetworks.from_tensors(tensors)
    expected = len(inputs.NAMES), len(level_sets.NAMES)
    if (networks.voxels.n_inputs, networks.regions[0].n_inputs) != expected:
        raise ProbeError(f"{FILE} belongs to another version of CoralBay. Install CoralBay again.")
    return networks
