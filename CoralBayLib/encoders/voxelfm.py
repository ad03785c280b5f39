"""VoxelFM: a 3D vision transformer pretrained on CT by self-distillation (arXiv 2604.04133).

Of the published checkpoint the teacher's backbone is used. Its rotary positions run from -1 to 1 over the image, so
the scan is run whole, whatever its size. The authors crop the image to whole patches; here air is added instead, so
that no border goes without features.
"""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from CoralBayLib.core.errors import WeightsError

from .base import Axes, InputSpec, LevelSpec, Tiling
from .frozen import FrozenEncoder, loader
from .networks.attention import attend, depth_of, feed_forward
from .networks.checkpoints import encoder_tree, load_strictly, read_checkpoint
from .networks.orientation import check_sides, from_spl, to_spl
from .weights import WeightsSource, find_weights

PATCH = 14
TOKEN = "cls"  # noqa: S105 - a token of a transformer
WINDOW_HU = (-1000.0, 1900.0)
# Of the training set, from the configuration that the authors publish beside their code.
_MEAN_HU, _STD_HU = -573.8, 461.3

_MARKER = "patch_embed.proj.weight"
_ROOTS = ("patch_embed", "rope_embed", "blocks", "norm", "cls_token", "register_tokens", "mask_token")

WEIGHTS = WeightsSource(
    encoder="voxelfm",
    repo_id="rmaguado/VoxelFM",
    filename="vitb_3d/checkpoints/99999.pth",
    revision="",
    env="VOXELFM_WEIGHTS",
    licence="Apache-2.0",
    by_hand="Get vitb_3d/checkpoints/99999.pth from https://huggingface.co/rmaguado/VoxelFM.",
)

SETTINGS = {"1mm": 1.0, "0.75mm": 0.75, "1.5mm": 1.5}

# Measured: 79 MB for 140^3 voxels, 336 MB for 280 x 196 x 252.
_FIXED_BYTES = 150 * 2**20
_BYTES_PER_VOXEL = 26


class Positions(nn.Module):
    """Rotary positions in 3D: a third of each head's channels turns with each axis.

    Args:
        pairs: pairs of channels an axis.
        base: of the geometric series of periods, which runs from 1 to nearly the base.
    """

    periods: torch.Tensor

    def __init__(self, pairs: int, base: float = 100.0) -> None:
        super().__init__()
        self.register_buffer("periods", base ** (torch.arange(pairs, dtype=torch.float32) / pairs))

    def forward(self, counts: tuple[int, ...]) -> torch.Tensor:
        """Rotations (patches, 3 pairs), complex, for so many patches an axis; their centres lie in (-1, 1)."""
        axes = [(torch.arange(n, device=self.periods.device) + 0.5) * (2 / n) - 1 for n in counts]
        places = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).reshape(-1, 3)
        angles = (2 * math.pi * places[:, :, None] / self.periods).flatten(1)
        return torch.polar(torch.ones_like(angles), angles)


class LayerScale(nn.Module):
    """A learnt factor for each of C channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(..., C) to the same."""
        return x * self.gamma


class Block(nn.Module):
    """Attention and feed-forward layers, each on normalised tokens and added to them after scaling."""

    def __init__(self, channels: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(channels, eps=1e-5)
        self.attn = nn.ModuleDict({"qkv": nn.Linear(channels, 3 * channels), "proj": nn.Linear(channels, channels)})
        self.ls1 = LayerScale(channels)
        self.norm2 = nn.LayerNorm(channels, eps=1e-5)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(channels, hidden), "fc2": nn.Linear(hidden, channels)})
        self.ls2 = LayerScale(channels)

    def forward(self, x: torch.Tensor, turns: torch.Tensor) -> torch.Tensor:
        """(B, N, C) to the same, patches last; for `turns` see `attend`."""
        x = x + self.ls1(attend(self.norm1(x), self.attn["qkv"], self.attn["proj"], self.heads, turns))
        return x + self.ls2(feed_forward(self.norm2(x), self.mlp["fc1"], self.mlp["fc2"]))


class VoxelFMNetwork(nn.Module):
    """The transformer, with the state-dict keys of VoxelFM's `DinoVisionTransformer`.

    Args:
        channels: C of every token; a multiple of 6 heads.
        depth: blocks.
        heads: of attention.
        registers: tokens beside the CLS token that belong to no patch.
        hidden: channels inside the feed-forward layers.
    """

    def __init__(
        self, channels: int = 864, depth: int = 12, heads: int = 12, registers: int = 4, hidden: int | None = None
    ) -> None:
        super().__init__()
        self.channels = channels
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv3d(1, channels, PATCH, PATCH)})
        self.rope_embed = Positions(channels // heads // 6)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, channels))
        self.register_tokens = nn.Parameter(torch.zeros(1, registers, channels))
        self.mask_token = nn.Parameter(torch.zeros(1, channels))  # of training alone
        self.blocks = nn.ModuleList(Block(channels, heads, hidden or 4 * channels) for _ in range(depth))
        self.norm = nn.LayerNorm(channels, eps=1e-5)

    def forward_features(self, x: torch.Tensor, names: tuple[str, ...] = ("patches", TOKEN)) -> list[torch.Tensor]:
        """The normalised patch tokens as a map, and the normalised CLS token.

        Args:
            x: (B, 1, R, A, S) in [0, 1], each side a multiple of 14.
            names: "patches", "cls" or both.

        Returns:
            One tensor a name, in their order: (B, C, r, a, s) for the patches, (B, C) for the token.

        Raises:
            EncoderError: a side is unusable.
        """
        check_sides(x, PATCH, VoxelFMEncoder.title)
        low, high = WINDOW_HU
        hu = to_spl(x).mul_((high - low) / _STD_HU).add_((low - _MEAN_HU) / _STD_HU)
        maps = self.patch_embed["proj"](hu)
        counts = tuple(maps.shape[2:])
        special = torch.cat((self.cls_token, self.register_tokens), dim=1).expand(len(x), -1, -1)
        tokens = torch.cat((special, maps.flatten(2).transpose(1, 2)), dim=1)
        turns = self.rope_embed(counts)
        for block in self.blocks:
            tokens = block(tokens, turns)
        tokens = self.norm(tokens)
        made = {
            "patches": from_spl(tokens[:, special.shape[1] :].transpose(1, 2).unflatten(2, counts)),
            TOKEN: tokens[:, 0],
        }
        return [made[name] for name in names]


class VoxelFMEncoder(FrozenEncoder):
    """VoxelFM as an `Encoder`, set to a spacing in mm: "1mm", "0.75mm" or "1.5mm".

    "0.75mm" is its authors' rule: isotropic at the scan's finest spacing, but no finer than 0.75 mm. In their
    evaluations they also bring a scan down to 25,000 patches, which is a box of 50 litres at 0.9 mm. The time that
    attention takes grows with the sixth power of the inverse of the spacing. Training brought crops of 0.32 to 1 of a
    scan's shortest side to 112 voxels, so 1 and 1.5 mm are within what the network has seen.
    """

    name = "voxelfm"
    title = "VoxelFM"
    settings = tuple(SETTINGS)
    scan_token = TOKEN
    network: VoxelFMNetwork

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        spacing = SETTINGS[self.setting]
        self.tiling = Tiling(f"whole-{self.setting}", None)
        self.input = InputSpec((spacing,) * 3, WINDOW_HU, (PATCH,) * 3, at_least=True)  # type: ignore[arg-type]
        self.levels = (LevelSpec("patches", self.network.channels, (PATCH,) * 3, ((PATCH - 1) / 2,) * 3),)  # type: ignore[arg-type]

    def memory_bytes(self, window: Axes, names: tuple[str, ...]) -> int:
        """See `Encoder.memory_bytes`; fitted to peak resident memory measured on a CPU."""
        return _FIXED_BYTES + _BYTES_PER_VOXEL * window[0] * window[1] * window[2]


def read_network(path: Path) -> VoxelFMNetwork:
    """The network that a published checkpoint calls for, with its weights: {"teacher": {"backbone...": ...}}.

    Raises:
        WeightsError: the file cannot be used, is another network's, or keys are missing, unexpected or of another shape.
    """
    tree = encoder_tree(read_checkpoint(path, ("teacher",)), _MARKER, _ROOTS)
    shapes = {key: tuple(tensor.shape) for key, tensor in tree.items()}
    channels, *rest = shapes[_MARKER]
    pairs = math.prod(shapes.get("rope_embed.periods", ()))
    if rest != [1, PATCH, PATCH, PATCH] or not pairs or channels % (6 * pairs):
        raise WeightsError(
            f"Expected '{_MARKER}' of shape (C, 1, 14, 14, 14) and 'rope_embed.periods' of C / heads / 6 numbers, got "
            f"{shapes[_MARKER]} and {shapes.get('rope_embed.periods')}. This is not a checkpoint of VoxelFM."
        )
    network = VoxelFMNetwork(
        channels,
        depth_of(tree),
        channels // (6 * pairs),
        (shapes.get("register_tokens") or (1, 4))[1],
        (shapes.get("blocks.0.mlp.fc1.weight") or (4 * channels,))[0],
    )
    load_strictly(network, tree, VoxelFMEncoder.title)
    return network


load = loader(VoxelFMEncoder, partial(find_weights, WEIGHTS), read_network)
