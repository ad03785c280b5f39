"""CT-FM: a residual convolution encoder pretrained on CT with feature maps at five strides (arXiv 2501.09001).

The network is MONAI's `SegResEncoder`, trained on arrays in S, P, L order. Batch norm makes a feature independent of
what else is in a window, but for the zeros that the convolutions see beyond its border.
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
from .networks.checkpoints import encoder_tree, load_strictly, read_checkpoint
from .networks.orientation import check_sides, from_spl, strided_offset, to_spl
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
    # What its authors search anatomy with.
    "1mm": (Tiling("windows-128-1mm", (128, 128, 128), (96, 96, 96)), (1.0, 1.0, 1.0)),
    # Spacing and patches of its pretraining: thick slices, a third of the work.
    "pretraining": (Tiling("windows-128x128x32-3mm", (128, 128, 32), (96, 96, 16)), (1.0, 1.0, 3.0)),
}

# Peak memory in floats per voxel and channel of the first level. Measured at 32 channels: 416 MB for 96^3 voxels, 1036 MB
# for 128^3.
_FIXED_BYTES = 100 * 2**20
_FLOATS = 4.0


class CTFMNetwork(nn.Module):
    """The encoder of a SegResNet, with the state-dict keys of MONAI's `SegResEncoder`.

    Built of MONAI's modules; MONAI is imported when one is built.

    Args:
        filters: channels of the first level; each further one has twice as many.
        blocks: residual blocks of each level.
    """

    def __init__(self, filters: int = 32, blocks: tuple[int, ...] = (1, 2, 2, 4, 4)) -> None:
        super().__init__()
        from monai.networks.nets.segresnet_ds import SegResEncoder

        built = SegResEncoder(spatial_dims=3, in_channels=1, init_filters=filters, blocks_down=blocks, norm="batch")
        self.filters = filters
        self.conv_init = built.conv_init
        self.layers: Any = built.layers

    def forward_features(self, x: torch.Tensor, names: tuple[str, ...] = LEVEL_NAMES) -> list[torch.Tensor]:
        """The feature maps asked for; the network stops at the deepest of them.

        Args:
            x: (B, 1, R, A, S), each side a multiple of 16.
            names: which of `LEVEL_NAMES`.

        Returns:
            One (B, C, r, a, s) tensor a name, in their order: C at stride 1, 2C at 2, 4C at 4, 8C at 8, 16C at 16.

        Raises:
            EncoderError: a side is unusable.
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
        """Fold the batch norm between the two convolutions of each block into the first of them.

        The function stays the same to rounding; the network can no longer be trained or reloaded. Returns self.
        """
        self.eval()
        for level in self.layers:
            for block in level["blocks"]:
                block.conv1 = fuse_conv_bn_eval(block.conv1, block.norm2)
                block.norm2 = nn.Identity()
        return self


class CTFMEncoder(FrozenEncoder):
    """CT-FM as an `Encoder`, set to "1mm" or to the "pretraining" spacing of 1 x 1 x 3 mm.

    Its authors scale HU from [-1024, 2048] to [0, 1] and pool the deepest map to embed a patch or a scan.
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
        """See `Encoder.memory_bytes`; fitted to peak resident memory measured on a CPU. The first level sets the peak,
        whatever levels are asked for."""
        return _FIXED_BYTES + int(4 * _FLOATS * self.network.filters * window[0] * window[1] * window[2])


def network_from(tensors: Mapping[str, torch.Tensor]) -> CTFMNetwork:
    """A network of the size that a checkpoint calls for, with its weights, folded.

    Raises:
        WeightsError: the checkpoint is another network's, or keys are missing, unexpected or of another shape.
    """
    tree = encoder_tree(tensors, _MARKER, _ROOTS)
    shape = tuple(tree[_MARKER].shape)
    if len(shape) != 5 or shape[1:] != (1, 3, 3, 3):
        raise WeightsError(f"Expected '{_MARKER}' of shape (C, 1, 3, 3, 3), got {shape}. This is not a CT-FM checkpoint.")
    places = {match[0] for match in map(re.compile(r"layers\.\d+\.blocks\.\d+\.").match, tree) if match}
    blocks = tuple(sum(place.startswith(f"layers.{depth}.") for place in places) for depth in range(len(LEVEL_NAMES)))
    network = CTFMNetwork(shape[0], blocks)
    load_strictly(network, tree, CTFMEncoder.title)
    return network.fold()


load = loader(CTFMEncoder, partial(find_weights, WEIGHTS), lambda path: network_from(read_checkpoint(path)))
