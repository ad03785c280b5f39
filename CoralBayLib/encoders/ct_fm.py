"""CT-FM: a residual convolutional encoder pretrained on CT, with feature maps at five strides (arXiv 2501.09001).

The network is MONAI's `SegResEncoder`, trained on arrays in S, P, L order. With batch norm a feature does not depend on the
other content of the window, except through the zero padding of the convolutions at its border.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from CoralBayLib.core.errors import WeightsError

from .base import Axes, InputSpec, LevelSpec, Tiling
from .frozen import FrozenEncoder, loader
from .networks.checkpoints import read_checkpoint
from .networks.orientation import check_sides, from_spl, strided_offset, to_spl
from .networks.strict_loading import build_strictly, encoder_tree
from .weights import WeightsSource, find_weights

LEVEL_NAMES = ("stage1", "stage2", "stage3", "stage4", "stage5")
_STRIDES = (1, 2, 4, 8, 16)

_MARKER = "conv_init.weight"
_ROOTS = ("conv_init", "layers")

WEIGHTS = WeightsSource(
    encoder="ct-fm",
    repo_id="project-lighter/ct_fm_feature_extractor",
    filename="model.safetensors",
    revision="527b0d1c262b433396c85ff2de84c427b26945a1",
    env="CTFM_WEIGHTS",
    licence="Apache-2.0",
)

SETTINGS = {
    # The authors use it for the search of anatomy.
    "1mm": (Tiling("windows-128-1mm", (128, 128, 128), (96, 96, 96)), (1.0, 1.0, 1.0)),
    # Spacing and window size of the pretraining: thick slices, a third of the computation.
    "pretraining": (Tiling("windows-128x128x32-3mm", (128, 128, 32), (96, 96, 16)), (1.0, 1.0, 3.0)),
}
"""Tiling and voxel spacing in mm by inference mode."""

# Peak memory in floats per voxel and channel of the first level. Measured at 32 channels: 416 MB for 96^3 voxels, 1036 MB
# for 128^3.
_FIXED_BYTES = 100 * 2**20
_FLOATS = 4.0


class CTFMNetwork(nn.Module):
    """The encoder of a SegResNet, with the state-dict keys of MONAI's `SegResEncoder`.

    It consists of MONAI's modules; MONAI is imported when it is built.

    Args:
        filters: channels of the first level; each further level has twice as many as the one before.
        blocks: number of residual blocks of each level.
    """

    def __init__(self, filters: int = 32, blocks: tuple[int, ...] = (1, 2, 2, 4, 4)) -> None:
        super().__init__()
        from monai.networks.nets.segresnet_ds import SegResEncoder

        built = SegResEncoder(spatial_dims=3, in_channels=1, init_filters=filters, blocks_down=blocks, norm="batch")
        self.filters = filters
        self.conv_init = built.conv_init
        self.layers: Any = built.layers

    def forward_features(self, x: torch.Tensor, names: tuple[str, ...] = LEVEL_NAMES) -> list[torch.Tensor]:
        """Compute the requested feature maps; levels beyond the deepest one are not run.

        Args:
            x: (B, 1, R, A, S), each side a multiple of 16 voxels.
            names: names from `LEVEL_NAMES`.

        Returns:
            One (B, channels, r, a, s) tensor for each name, in the same order: C channels at stride 1, 2C at 2, 4C at 4,
            8C at 8, 16C at 16.

        Raises:
            EncoderError: the size of x cannot be used.
        """
        check_sides(x, _STRIDES[-1], CTFMEncoder.title)
        x = self.conv_init(to_spl(x))
        maps = {}
        deepest = max(map(LEVEL_NAMES.index, names))
        for depth, (name, level) in enumerate(zip(LEVEL_NAMES, self.layers, strict=True)):
            x = level["blocks"](x)
            if name in names:
                maps[name] = from_spl(x)
            if depth == deepest:
                break
            x = level["downsample"](x)
        return [maps[name] for name in names]

    def fold(self) -> CTFMNetwork:
        """Fold the batch norm between the two convolutions of each block into the first convolution.

        The output stays the same up to rounding; the network can then no longer be trained or reloaded.

        Returns:
            This network.
        """
        self.eval()
        for level in self.layers:
            for block in level["blocks"]:
                block.conv1 = fuse_conv_bn_eval(block.conv1, block.norm2)
                block.norm2 = nn.Identity()
        return self


class CTFMEncoder(FrozenEncoder):
    """CT-FM as an `Encoder`, with the inference modes "1mm" and "pretraining" (spacing 1 x 1 x 3 mm).

    As in the authors' code, HU from -1024 to 2048 are scaled to [0, 1], and the embedding of a scan is the average of the
    deepest map.
    """

    name = "ct-fm"
    title = "CT-FM"
    settings = tuple(SETTINGS)
    network: CTFMNetwork

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.tiling, spacing = SETTINGS[self.setting]
        self.input = InputSpec(spacing, (-1024.0, 2048.0), (16, 16, 16))
        self.levels = tuple(
            LevelSpec(
                name,
                self.network.filters * stride,
                (stride, stride, stride),
                strided_offset(stride),
                pooled=stride == _STRIDES[-1],
                optional=stride == 1,
            )
            for name, stride in zip(LEVEL_NAMES, _STRIDES, strict=True)
        )

    def memory_bytes(self, window: Axes, names: tuple[str, ...]) -> int:
        """See `Encoder.memory_bytes`.

        Fitted to peak resident memory measured on a CPU; the first level determines the peak for all levels.
        """
        return _FIXED_BYTES + int(4 * _FLOATS * self.network.filters * window[0] * window[1] * window[2])


def network_from(tensors: Mapping[str, torch.Tensor]) -> CTFMNetwork:
    """Build the network of a checkpoint, with its size and weights, folded.

    Raises:
        WeightsError: the checkpoint belongs to another network, or keys are missing, unexpected or of another shape.
    """
    tree = encoder_tree(tensors, _MARKER, _ROOTS)
    shape = tuple(tree[_MARKER].shape)
    if len(shape) != 5 or shape[1:] != (1, 3, 3, 3) or shape[0] < 1:
        raise WeightsError(f"Expected '{_MARKER}' of shape (C, 1, 3, 3, 3), got {shape}. This is not a CT-FM checkpoint.")
    prefixes = {match[0] for match in map(re.compile(r"layers\.\d+\.blocks\.\d+\.").match, tree) if match}
    blocks = tuple(sum(prefix.startswith(f"layers.{depth}.") for prefix in prefixes) for depth in range(len(LEVEL_NAMES)))
    return build_strictly(lambda: CTFMNetwork(shape[0], blocks), tree, CTFMEncoder.title).fold()


load = loader(CTFMEncoder, partial(find_weights, WEIGHTS), lambda path: network_from(read_checkpoint(path)))
