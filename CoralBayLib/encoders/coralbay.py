"""CoralBay: a pretrained Swin encoder for CT with feature maps at six strides (arXiv 2606.03888)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from CoralBayLib.core.errors import EncoderError, WeightsError

from .base import Axes, InputSpec, LevelSpec, Tiling
from .frozen import FrozenEncoder, loader
from .networks.checkpoints import declared_encoder, read_checkpoint
from .networks.strict_loading import build_strictly, encoder_tree
from .networks.swin_attention import PositionBias, run_stage
from .weights import WeightsSource, find_weights

LEVEL_NAMES = ("enc0", "enc1", "enc2", "enc3", "hidden3", "dec4")
_WIDTHS = (1, 1, 2, 4, 8, 16)
_TRUNK_LEVEL = {"enc1": 0, "enc2": 1, "enc3": 2, "hidden3": 3, "dec4": 4}
_BLOCKS = {"enc1": "encoder2", "enc2": "encoder3", "enc3": "encoder4", "dec4": "encoder10"}

_MARKER = "swinViT.patch_embed.proj.weight"
_ROOTS = ("swinViT", "encoder1", *_BLOCKS.values())

WEIGHTS = WeightsSource(
    encoder="coralbay",
    repo_id="kaiko-ai/coralbay",
    filename="model.safetensors",
    revision="eb7ef5f523ae3acf8b39db3c311d0bb42d507075",
    env="CORALBAY_WEIGHTS",
    licence="MIT",
)

SETTINGS = {
    # As in training: the last stage uses the position bias in a way that is specific to windows of 96 voxels.
    "faithful": (Tiling("windows-96", (96, 96, 96), (64, 64, 64)), (96, 96, 96)),
    # One pass without seams, but with window sizes and normalization statistics that differ from training.
    "whole": (Tiling("whole", None), (64, 64, 64)),
}
"""Tiling and smallest input size by inference mode."""

_TRAINED_HERE = ("coralbay", "coralbay-mini")
"""Encoders whose weights, when CoralBay trained them, name them."""

# Peak memory in floats per voxel and channel of the first level. Measured at C = 48 on 96^3 and 160 x 160 x 128 voxels:
# 62 MB and 2.9 with the stride-1 level, 157 MB and 1.5 without it.
_FLOATS_WITH_ENC0 = 3.2
_FLOATS_WITHOUT_ENC0 = 1.7
_FIXED_BYTES = 150 * 2**20


class CoralBayNetwork(nn.Module):
    """The encoder half of a Swin UNETR, with the state-dict keys of kaiko-eva's `SwinUNETREncoder`.

    It consists of MONAI's modules, except the attention (see `swin_attention`). MONAI is imported when it is built.

    Args:
        feature_size: C, channels of the first level; a multiple of 12 (24 heads share 8C channels).
        in_channels: channels of the image.
        use_v2: whether a residual convolution block precedes each Swin stage.

    Attributes:
        checkpointing: for training: keep only the inputs of blocks and stages, and compute the rest again for the gradient,
            which saves memory and costs time.
    """

    checkpointing = False

    def __init__(self, feature_size: int = 48, in_channels: int = 1, use_v2: bool = True) -> None:
        super().__init__()
        from monai.networks.blocks import UnetrBasicBlock
        from monai.networks.nets.swin_unetr import SwinTransformer

        def block(channels_in: int, channels_out: int) -> nn.Module:
            return UnetrBasicBlock(
                spatial_dims=3,
                in_channels=channels_in,
                out_channels=channels_out,
                kernel_size=3,
                stride=1,
                norm_name="instance",
                res_block=True,
            )

        c = feature_size
        self.feature_size = c
        self.swinViT = SwinTransformer(
            in_chans=in_channels,
            embed_dim=c,
            window_size=(7, 7, 7),
            patch_size=(2, 2, 2),
            depths=(2, 2, 2, 2),
            num_heads=(3, 6, 12, 24),
            mlp_ratio=4.0,
            qkv_bias=True,
            use_v2=use_v2,
        )
        self.encoder1 = block(in_channels, c)
        self.encoder2 = block(c, c)
        self.encoder3 = block(2 * c, 2 * c)
        self.encoder4 = block(4 * c, 4 * c)
        self.encoder10 = block(16 * c, 16 * c)
        self._bias = PositionBias()

    def forward_features(self, x: torch.Tensor, names: tuple[str, ...] = LEVEL_NAMES) -> list[torch.Tensor]:
        """Compute the requested feature maps; stages beyond the deepest one are not run.

        Args:
            x: (B, channels, R, A, S), each side a multiple of 32 and at least 64 voxels.
            names: names from `LEVEL_NAMES`.

        Returns:
            One (B, channels, r, a, s) tensor for each name, in the same order: C channels at strides 1 and 2, 2C at 4, 4C
            at 8, 8C at 16, 16C at 32.

        Raises:
            EncoderError: the size of x cannot be used.
        """
        if any(side % 32 or side < 64 for side in x.shape[2:]):
            raise EncoderError(
                f"CoralBay needs sides that are multiples of 32 and at least 64 voxels, got {tuple(x.shape[2:])}; "
                "pad the image with air."
            )
        return self.maps(x, names)

    def maps(self, x: torch.Tensor, names: tuple[str, ...]) -> list[torch.Tensor]:
        """As `forward_features`, without checks, for training.

        Sides that are not a multiple of a stride are padded with zeros.
        """
        maps = {}
        if "enc0" in names:
            maps["enc0"] = self._run(self.encoder1, x)
        deepest = max((_TRUNK_LEVEL[name] for name in names if name != "enc0"), default=-1)
        tokens = self.swinViT.patch_embed(x) if deepest >= 0 else x
        for name, depth in _TRUNK_LEVEL.items():
            if depth > deepest:
                break
            if depth > 0:
                tokens = self._run(partial(self._stage, depth), tokens)
            if name in names:
                hidden = _normalized(tokens)
                maps[name] = self._run(getattr(self, _BLOCKS[name]), hidden) if name in _BLOCKS else hidden
        return [maps[name] for name in names]

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """All six feature maps."""
        return self.forward_features(x)

    def clear_cache(self) -> None:
        """Forget what was computed from the weights, such as before the network is copied."""
        self._bias.clear()

    def _run(self, part: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor) -> torch.Tensor:
        if not (self.checkpointing and torch.is_grad_enabled()):
            return part(x)
        from torch.utils.checkpoint import checkpoint

        return checkpoint(part, x, use_reentrant=False)

    def _stage(self, depth: int, tokens: torch.Tensor) -> torch.Tensor:
        trunk = self.swinViT
        if trunk.use_v2:
            tokens = getattr(trunk, f"layers{depth}c")[0](tokens)
        return run_stage(getattr(trunk, f"layers{depth}")[0], tokens, self._bias).contiguous()


def _normalized(tokens: torch.Tensor) -> torch.Tensor:
    """Layer norm over the channels of (B, C, ...) without weights, as `proj_out` of MONAI's SwinTransformer."""
    return functional.layer_norm(tokens.movedim(1, -1), tokens.shape[1:2]).movedim(-1, 1).contiguous()


class CoralBayEncoder(FrozenEncoder):
    """CoralBay as an `Encoder`, with the inference modes "faithful" (windows of 96 voxels) and "whole" (one pass).

    A mode may be followed by a window of HU, such as "faithful@-175:250"; it was trained with random ones.

    Example::

        encoder = load_encoder("coralbay", weights="model.safetensors", setting="whole")
        enc2, dec4 = encoder.forward_features(x, ("enc2", "dec4"))    # x: (1, 1, R, A, S) in [0, 1], 1.5 mm
    """

    name = "coralbay"
    title = "CoralBay"
    settings = (*SETTINGS, "faithful@-175:250")
    spacing_mm: tuple[float, float, float] = (1.5, 1.5, 1.5)
    window_hu: tuple[float, float] = (-1000.0, 1000.0)
    any_window = True
    level_names: tuple[str, ...] = LEVEL_NAMES
    network: CoralBayNetwork

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        mode, _at, window = self.setting.partition("@")
        self.tiling, minimum = SETTINGS[mode]
        if window:
            # Part of the key of stored features.
            self.tiling = replace(self.tiling, name=f"{self.tiling.name}@{window}")
        self.input = InputSpec(self.spacing_mm, _window(window) or self.window_hu, (32, 32, 32), minimum)
        self.levels = tuple(
            LevelSpec(
                name,
                self.network.feature_size * width,
                (stride, stride, stride),
                ((stride - 1) / 2,) * 3,  # type: ignore[arg-type]
                pooled=name != "hidden3",
                optional=name == "enc0",
            )
            for name, width, stride in zip(LEVEL_NAMES, _WIDTHS, (1, 2, 4, 8, 16, 32), strict=True)
            if name in self.level_names
        )

    @classmethod
    def validate_setting(cls, setting: str | None) -> str:
        """Return the setting, or the default for None; the default window of HU is left out.

        Raises:
            EncoderError: the mode is unknown, or what follows it is not a window of HU.
        """
        mode, at, text = (setting or "").partition("@")
        known = super().validate_setting(setting if not at or not cls.any_window else mode)
        if not at:
            return known
        window = _window(text)
        if window is None:
            raise EncoderError(
                f"'{text}' is not a window of HU. Write two whole numbers from -2000 to 4000, the lower first, such as "
                f"{mode}@-175:250."
            )
        return mode if window == cls.window_hu else f"{mode}@{window[0]:.0f}:{window[1]:.0f}"

    def memory_bytes(self, window: Axes, names: tuple[str, ...]) -> int:
        """See `Encoder.memory_bytes`. Fitted to peak resident memory measured on a CPU."""
        voxels = window[0] * window[1] * window[2]
        floats = _FLOATS_WITH_ENC0 if "enc0" in names else _FLOATS_WITHOUT_ENC0
        return _FIXED_BYTES + int(4 * floats * self.network.feature_size * voxels)

    def to(self, device: torch.device) -> None:
        """Move the network to a device."""
        self.network.clear_cache()
        super().to(device)


def _window(text: str) -> tuple[float, float] | None:
    """The window of HU that "low:high" is; None if it is none."""
    found = re.fullmatch(r"(-?\d{1,4}):(-?\d{1,4})", text)
    low, high = (float(found[1]), float(found[2])) if found else (0.0, 0.0)
    return (low, high) if -2000 <= low < high <= 4000 else None


def network_from(tensors: Mapping[str, torch.Tensor]) -> CoralBayNetwork:
    """Build the network of a checkpoint, with its size and weights.

    Raises:
        WeightsError: the checkpoint belongs to another network, or keys are missing, unexpected or of another shape.
    """
    tree = encoder_tree(tensors, _MARKER, _ROOTS)
    shape = tuple(tree[_MARKER].shape)
    if len(shape) != 5 or shape[2:] != (2, 2, 2) or shape[0] < 1 or shape[0] % 12 or shape[1] != 1:
        raise WeightsError(
            f"Expected '{_MARKER}' of shape (C, 1, 2, 2, 2) with C a multiple of 12, got {shape}. "
            "This is not a CoralBay checkpoint for CT."
        )
    use_v2 = any(key.startswith("swinViT.layers1c.") for key in tree)
    return build_strictly(lambda: CoralBayNetwork(shape[0], shape[1], use_v2), tree, "CoralBay")


def read_network(name: str, path: Path) -> CoralBayNetwork:
    """Read the weights of one of the encoders with this network; they differ in voxel size and window of HU.

    Args:
        name: of the encoder.
        path: of the weights.

    Raises:
        WeightsError: the file cannot be read, says that it belongs to another encoder, or see `network_from`.
    """
    tensors, declared = read_checkpoint(path), declared_encoder(path)
    if declared in _TRAINED_HERE and declared != name:
        raise WeightsError(
            f"'{path.name}' holds weights of {declared}, which works on other voxels than {name}. Use the encoder {declared}."
        )
    return network_from(tensors)


load = loader(CoralBayEncoder, partial(find_weights, WEIGHTS), partial(read_network, CoralBayEncoder.name))
