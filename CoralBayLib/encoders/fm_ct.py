"""FM-CT: a 3D vision transformer for head CT, pretrained on 361,663 scans (arXiv 2502.02779).

The bounding box of the patient is resampled to 96 x 96 x 96 voxels, with three HU windows as channels. The authors use the
bounding box of all voxels above 0 HU; here it is that of the patient, without a head rest. The authors do not
give the weights out, except by agreement.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch
from torch import nn

from CoralBayLib.core.errors import EncoderError, WeightsError

from .base import Axes, InputSpec, LevelSpec, Tiling
from .frozen import FrozenEncoder, loader
from .networks.attention import attend, depth_of, feed_forward
from .networks.checkpoints import read_checkpoint
from .networks.strict_loading import build_strictly, encoder_tree
from .weights import WeightsSource, find_weights

SIDE, PATCH = 96, 12
TOKEN = "cls"  # noqa: S105 - a token of a transformer
WINDOWS_HU = ((0.0, 80.0), (-20.0, 180.0), (-800.0, 2000.0))
"""(low, high) in HU for brain, blood and bone: center and width (40, 80), (80, 200), (600, 2800). The last includes the
others."""

_MARKER = "patch_embedding.patch_embeddings.weight"
_ROOTS = ("patch_embedding", "blocks", "norm", "cls_token")
_HEAD_CHANNELS = 64  # 768 channels in 12 heads; not recorded in checkpoints

WEIGHTS = WeightsSource(
    encoder="fm-ct",
    repo_id="",
    filename="model_weights.pth",
    revision="",
    env="FMCT_WEIGHTS",
    licence="by agreement with NYU Langone",
    by_hand=(
        "The weights are not given out: public release is not permitted. They need an institutional agreement: write to the "
        "authors "
        "(https://github.com/NYUMedML/headCT_foundation) and to DataSharing@nyulangone.org."
    ),
)

_MEMORY_BYTES = 150 * 2**20  # measured: 54 MB


class Block(nn.Module):
    """Attention and feed-forward layers with residual connections, each after layer norm."""

    def __init__(self, channels: int, heads: int, hidden: int, bias: bool) -> None:
        super().__init__()
        self.heads = heads
        self.mlp = nn.ModuleDict({"linear1": nn.Linear(channels, hidden), "linear2": nn.Linear(hidden, channels)})
        self.att_norm = nn.LayerNorm(channels)
        self.ffn_norm = nn.LayerNorm(channels)
        self.attn = nn.ModuleDict({"qkv": nn.Linear(channels, 3 * channels, bias), "proj": nn.Linear(channels, channels)})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, N, C) tokens to the same shape."""
        x = x + attend(self.att_norm(x), self.attn["qkv"], self.attn["proj"], self.heads)
        return x + feed_forward(self.ffn_norm(x), self.mlp["linear1"], self.mlp["linear2"])


class PatchEmbedding(nn.Module):
    """Patches of three channels as tokens, plus the position embedding."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.position_embeddings = nn.Parameter(torch.zeros(1, (SIDE // PATCH) ** 3, channels))
        self.patch_embeddings = nn.Conv3d(len(WINDOWS_HU), channels, PATCH, PATCH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, 3, 96, 96, 96) to (B, 512, C)."""
        return self.patch_embeddings(x).flatten(2).transpose(1, 2) + self.position_embeddings


class FMCTNetwork(nn.Module):
    """The transformer, with the state-dict keys of headCT_foundation's `ViT`.

    Args:
        channels: channels C of every token.
        depth: number of blocks.
        heads: number of attention heads.
        hidden: channels inside the feed-forward layers.
        bias: whether queries, keys and values have a bias; not so in the authors' example, but in some configurations.
    """

    def __init__(self, channels: int = 768, depth: int = 12, heads: int = 12, hidden: int = 3072, bias: bool = False) -> None:
        super().__init__()
        self.channels = channels
        self.patch_embedding = PatchEmbedding(channels)
        self.blocks = nn.ModuleList(Block(channels, heads, hidden, bias) for _ in range(depth))
        self.cls_token = nn.Parameter(torch.zeros(1, 1, channels))
        self.norm = nn.LayerNorm(channels, eps=1e-6)

    def forward_features(self, x: torch.Tensor, names: tuple[str, ...] = ("patches", TOKEN)) -> list[torch.Tensor]:
        """Compute the normalized patch tokens as a map, and the normalized CLS token.

        Args:
            x: (B, 1, 96, 96, 96) in [0, 1], axes R, A, S.
            names: "patches", "cls" or both.

        Returns:
            One tensor for each name, in the same order: (B, C, 8, 8, 8) for the patches, (B, C) for the token.

        Raises:
            EncoderError: x has another size.
        """
        if tuple(x.shape[2:]) != (SIDE, SIDE, SIDE):
            raise EncoderError(f"FM-CT needs {SIDE} voxels on each side, got {tuple(x.shape[2:])}; see `InputSpec.fit`.")
        low, high = WINDOWS_HU[-1]
        hu = x * (high - low) + low
        windowed = torch.cat([((hu - a) / (b - a)).clamp_(0, 1) for a, b in WINDOWS_HU], dim=1)
        tokens = torch.cat((self.cls_token.expand(len(x), -1, -1), self.patch_embedding(windowed)), dim=1)
        for block in self.blocks:
            tokens = block(tokens)
        tokens = self.norm(tokens)
        maps = {"patches": tokens[:, 1:].transpose(1, 2).unflatten(2, (SIDE // PATCH,) * 3), TOKEN: tokens[:, 0]}
        return [maps[name] for name in names]


class FMCTEncoder(FrozenEncoder):
    """FM-CT as an `Encoder`, for head CT only."""

    name = "fm-ct"
    title = "FM-CT (head CT)"
    settings = ("fit-96",)
    scan_token = TOKEN
    input = InputSpec((1.0,) * 3, WINDOWS_HU[-1], (PATCH,) * 3, fit=(SIDE,) * 3)  # type: ignore[arg-type]
    tiling = Tiling("fit-96", None)
    network: FMCTNetwork

    @property
    def levels(self) -> tuple[LevelSpec, ...]:  # type: ignore[override]
        """One level of 8 x 8 x 8 patches."""
        return (LevelSpec("patches", self.network.channels, (PATCH,) * 3, ((PATCH - 1) / 2,) * 3),)  # type: ignore[arg-type]

    def memory_bytes(self, window: Axes, names: tuple[str, ...]) -> int:
        """See `Encoder.memory_bytes`; the input has a fixed size."""
        return _MEMORY_BYTES


def read_network(path: Path) -> FMCTNetwork:
    """Build the network of a checkpoint, with its size and weights; the prefix of keys may be `module.` or `backbone.`.

    Raises:
        WeightsError: the file cannot be used or belongs to another network, or keys are missing, unexpected or of another
            shape.
    """
    tree = encoder_tree(read_checkpoint(path), _MARKER, _ROOTS)
    shapes = {key: tuple(tensor.shape) for key, tensor in tree.items()}
    channels, *rest = shapes[_MARKER] or (0,)
    if channels < 1 or rest != [len(WINDOWS_HU), PATCH, PATCH, PATCH] or channels % _HEAD_CHANNELS:
        raise WeightsError(
            f"Expected '{_MARKER}' of shape (C, 3, 12, 12, 12) with C a multiple of {_HEAD_CHANNELS}, got "
            f"{shapes[_MARKER]}. This is not a checkpoint of FM-CT."
        )
    return build_strictly(
        lambda: FMCTNetwork(
            channels,
            depth_of(tree),
            channels // _HEAD_CHANNELS,
            (shapes.get("blocks.0.mlp.linear1.weight") or (4 * channels,))[0],
            "blocks.0.attn.qkv.bias" in tree,
        ),
        tree,
        FMCTEncoder.title,
    )


load = loader(FMCTEncoder, partial(find_weights, WEIGHTS), read_network)
