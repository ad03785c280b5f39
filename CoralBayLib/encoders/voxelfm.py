"""VoxelFM: a 3D vision transformer pretrained on CT by self-distillation (arXiv 2604.04133).

The backbone of the teacher in the published checkpoint is used. Its rotary positions range from -1 to 1 over the image, so
the whole scan is run at once. The authors crop the image to a multiple of the patch size; here it is padded with air, so
that the borders have features, too.
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
from .networks.checkpoints import read_checkpoint
from .networks.orientation import check_sides, from_spl, to_spl
from .networks.strict_loading import build_strictly, encoder_tree
from .weights import WeightsSource, find_weights

PATCH = 14
TOKEN = "cls"  # noqa: S105 - a token of a transformer
WINDOW_HU = (-1000.0, 1900.0)
# Of the training set, from the configuration in the authors' repository.
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
    by_hand="Download vitb_3d/checkpoints/99999.pth from https://huggingface.co/rmaguado/VoxelFM.",
)

SETTINGS = {"1mm": 1.0, "0.75mm": 0.75, "1.5mm": 1.5}
"""Smallest voxel spacing in mm by inference mode."""

# Fitted to measured peak memory: 79 MB for 140^3 voxels, 336 MB for 280 x 196 x 252.
_FIXED_BYTES = 150 * 2**20
_BYTES_PER_VOXEL = 26


class Positions(nn.Module):
    """Rotary position embedding in 3D: one third of the channels of each head is rotated by the position along each axis.

    Args:
        pairs: number of channel pairs for each axis.
        base: the periods are a geometric series from 1 to almost this value.
    """

    periods: torch.Tensor

    def __init__(self, pairs: int, base: float = 100.0) -> None:
        super().__init__()
        self.register_buffer("periods", base ** (torch.arange(pairs, dtype=torch.float32) / pairs))

    def forward(self, counts: tuple[int, ...]) -> torch.Tensor:
        """Complex rotations (patches, 3 pairs) for these numbers of patches along the axes; patch centers lie in (-1, 1)."""
        axes = [(torch.arange(n, device=self.periods.device) + 0.5) * (2 / n) - 1 for n in counts]
        positions = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).reshape(-1, 3)
        angles = (2 * math.pi * positions[:, :, None] / self.periods).flatten(1)
        return torch.polar(torch.ones_like(angles), angles)


class LayerScale(nn.Module):
    """A learned factor for each of C channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (..., C) to the same shape."""
        return x * self.gamma


class Block(nn.Module):
    """Attention and feed-forward layers with residual connections, each after layer norm and before a learned scale."""

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
        """Map (B, N, C) tokens, patches last, to the same shape; for `turns` see `attend`."""
        x = x + self.ls1(attend(self.norm1(x), self.attn["qkv"], self.attn["proj"], self.heads, turns))
        return x + self.ls2(feed_forward(self.norm2(x), self.mlp["fc1"], self.mlp["fc2"]))


class VoxelFMNetwork(nn.Module):
    """The transformer, with the state-dict keys of VoxelFM's `DinoVisionTransformer`.

    Args:
        channels: channels C of every token; a multiple of 6 times `heads`.
        depth: number of blocks.
        heads: number of attention heads.
        registers: number of register tokens, which belong to no patch.
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
        self.mask_token = nn.Parameter(torch.zeros(1, channels))  # used in training only
        self.blocks = nn.ModuleList(Block(channels, heads, hidden or 4 * channels) for _ in range(depth))
        self.norm = nn.LayerNorm(channels, eps=1e-5)

    def forward_features(self, x: torch.Tensor, names: tuple[str, ...] = ("patches", TOKEN)) -> list[torch.Tensor]:
        """Compute the normalized patch tokens as a map, and the normalized CLS token.

        Args:
            x: (B, 1, R, A, S) in [0, 1], each side a multiple of 14 voxels.
            names: "patches", "cls" or both.

        Returns:
            One tensor for each name, in the same order: (B, C, r, a, s) for the patches, (B, C) for the token.

        Raises:
            EncoderError: the size of x cannot be used.
        """
        check_sides(x, PATCH, VoxelFMEncoder.title)
        low, high = WINDOW_HU
        hu = to_spl(x).mul_((high - low) / _STD_HU).add_((low - _MEAN_HU) / _STD_HU)
        maps = self.patch_embed["proj"](hu)
        counts = tuple(maps.shape[2:])
        extra = torch.cat((self.cls_token, self.register_tokens), dim=1).expand(len(x), -1, -1)
        tokens = torch.cat((extra, maps.flatten(2).transpose(1, 2)), dim=1)
        turns = self.rope_embed(counts)
        for block in self.blocks:
            tokens = block(tokens, turns)
        tokens = self.norm(tokens)
        by_name = {
            "patches": from_spl(tokens[:, extra.shape[1] :].transpose(1, 2).unflatten(2, counts)),
            TOKEN: tokens[:, 0],
        }
        return [by_name[name] for name in names]


class VoxelFMEncoder(FrozenEncoder):
    """VoxelFM as an `Encoder`, with the inference modes "1mm", "0.75mm" and "1.5mm", named by the voxel spacing.

    The scan is resampled to its finest spacing along all axes, but not finer than the mode says. "0.75mm" is the authors'
    rule; in their evaluations they also limit a scan to 25,000 patches, a box of 50 liters at 0.9 mm. The time for attention
    grows with the sixth power of 1 / spacing. In training, crops of 0.32 to 1 times the shortest side of a scan were
    resampled to 112 voxels, so the network has seen spacings of 1 and 1.5 mm.
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
        """See `Encoder.memory_bytes`. Fitted to peak resident memory measured on a CPU."""
        return _FIXED_BYTES + _BYTES_PER_VOXEL * window[0] * window[1] * window[2]


def read_network(path: Path) -> VoxelFMNetwork:
    """Build the network of a published checkpoint, {"teacher": {"backbone...": ...}}, with its size and weights.

    Raises:
        WeightsError: the file cannot be used or belongs to another network, or keys are missing, unexpected or of another
            shape.
    """
    tree = encoder_tree(read_checkpoint(path, ("teacher",)), _MARKER, _ROOTS)
    shapes = {key: tuple(tensor.shape) for key, tensor in tree.items()}
    channels, *rest = shapes[_MARKER] or (0,)
    pairs = math.prod(shapes.get("rope_embed.periods", ()))
    if channels < 1 or rest != [1, PATCH, PATCH, PATCH] or not pairs or channels % (6 * pairs):
        raise WeightsError(
            f"Expected '{_MARKER}' of shape (C, 1, 14, 14, 14) and 'rope_embed.periods' of C / heads / 6 numbers, got "
            f"{shapes[_MARKER]} and {shapes.get('rope_embed.periods')}. This is not a checkpoint of VoxelFM."
        )
    return build_strictly(
        lambda: VoxelFMNetwork(
            channels,
            depth_of(tree),
            channels // (6 * pairs),
            (*shapes.get("register_tokens", ()), 1, 4)[1],
            (shapes.get("blocks.0.mlp.fc1.weight") or (4 * channels,))[0],
        ),
        tree,
        VoxelFMEncoder.title,
    )


load = loader(VoxelFMEncoder, partial(find_weights, WEIGHTS), read_network)
