"""COLIPRI: a 3D vision transformer pretrained on chest CTs and their reports (arXiv 2510.15042).

Network and preprocessing are those of the package colipri 0.1.3. It pads or crops the scan to 192 x 192 x 192 voxels of 2 mm.
Here the scan is cropped to the patient and padded with air on both sides to that size; a larger one is divided into windows
of that size, as the package can do, too. All tokens of the windows, those of air included, are pooled to the scan embedding.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from CoralBayLib.core.errors import WeightsError

from .base import Axes, InputSpec, LevelSpec, Tiling
from .frozen import FrozenEncoder, loader
from .language.tower import TextTower
from .language.vocabulary import VocabularySource
from .networks import pooling, primus
from .networks.bert import Bert
from .networks.checkpoints import read_checkpoint
from .networks.orientation import check_sides
from .networks.strict_loading import build_strictly, encoder_tree
from .weights import WeightsSource, find_weights
from .weights.sources import sha256_of, unchanged

PATCH, SIDE = 8, 192
TOKEN = "pooled"  # noqa: S105 - a token of a transformer
_SPACING_MM = 2.0
_MARKER = "image_encoder.backbone.down_projection.proj.weight"
_IMAGE, _TEXT = "image_encoder.", "text_encoder."
_ROOTS = ("image_encoder", "text_encoder", "softmax_temperature")
# Kept in checkpoints by old releases of transformers: the numbers 0, 1, 2 and so on.
_COUNTED = "backbone.embeddings.position_ids"

WEIGHTS = WeightsSource(
    encoder="colipri",
    repo_id="microsoft/colipri",
    filename="model.safetensors",
    revision="",
    env="COLIPRI_WEIGHTS",
    licence="MIT",
    by_hand="Download model.safetensors from https://huggingface.co/microsoft/colipri.",
)
VOCABULARY = VocabularySource(
    filename="vocab.txt",
    env="COLIPRI_VOCABULARY",
    by_hand=(
        "Download vocab.txt of revision 5157bdba1437a3aed316dacb1a5b68edf96b9902 from "
        "https://huggingface.co/microsoft/BiomedVLP-CXR-BERT-specialized (MIT)."
    ),
)

SETTINGS = {"ras": (2, 3, 4), "sar": (4, 3, 2)}
"""Axes of the network's input by inference mode, as axes of a tensor (B, C, R, A, S); equal to their inverse."""

# Computed from the sizes of tensors: attention of one window, and the tokens of all windows with their projections.
_WINDOW_BYTES = 900 * 2**20
_BYTES_PER_TOKEN = 16_000


class ColipriNetwork(nn.Module):
    """The image encoder, with the state-dict keys of COLIPRI's `ImageEncoder`.

    Args:
        channels: channels C of every token.
        depth: number of blocks.
        hidden: channels inside the feed-forward layers.
        projected: channels D of the scan embedding.
        side: side of a window in voxels, `SIDE` if None; not recorded in checkpoints.
    """

    def __init__(
        self, channels: int = 864, depth: int = 16, hidden: int = 2304, projected: int = 768, side: int | None = None
    ) -> None:
        super().__init__()
        self.backbone = primus.Primus(channels, depth, hidden, PATCH)
        self.projector = nn.Conv3d(channels, projected, 1)
        self.pooler = pooling.AttentionPool(projected)
        self.channels, self.projected, self.side = channels, projected, side or SIDE
        self.axes = SETTINGS["ras"]
        self.open_text: Callable[[str], TextTower] | None = None

    def forward_features(self, x: torch.Tensor, names: tuple[str, ...] = ("patches", TOKEN)) -> list[torch.Tensor]:
        """Compute the normalized patch tokens as a map, and the scan embedding.

        Args:
            x: (B, 1, R, A, S) in [0, 1], each side a multiple of 8 voxels.
            names: "patches", "pooled" or both.

        Returns:
            One tensor for each name, in the same order: (B, C, r, a, s) for the patches, (B, D) for the scan embedding.

        Raises:
            EncoderError: the size of x cannot be used.
        """
        check_sides(x, PATCH, ColipriEncoder.title)
        before = [max(0, self.side - n) // 2 // PATCH for n in x.shape[2:]]
        pads = [(PATCH * b, max(0, self.side - n) - PATCH * b) for b, n in zip(before, x.shape[2:], strict=True)]
        padded = nn.functional.pad(x, [n for pair in reversed(pads) for n in pair])
        tokens = self._tokens(padded.permute(0, 1, *self.axes)).permute(0, 1, *self.axes)
        inner = (slice(b, b + n // PATCH) for b, n in zip(before, x.shape[2:], strict=True))
        made: dict[str, Callable[[], torch.Tensor]] = {
            "patches": lambda: tokens[(slice(None), slice(None), *inner)],
            TOKEN: lambda: self.pooler(self.projector(tokens).flatten(2).transpose(1, 2)),
        }
        return [made[name]() for name in names]

    def _tokens(self, x: torch.Tensor) -> torch.Tensor:
        """Tokens (B, C, i, j, k) of all windows of (B, 1, x, y, z) in [0, 1]; those of overlapping windows are averaged."""
        starts = [sorted({*range(0, n - self.side, self.side), n - self.side}) for n in x.shape[2:]]
        counts = [n // PATCH for n in x.shape[2:]]
        total = x.new_zeros(len(x), self.channels, *counts)
        times = x.new_zeros(counts)
        for corner in itertools.product(*starts):
            voxels = tuple(slice(p, p + self.side) for p in corner)
            at = tuple(slice(p // PATCH, (p + self.side) // PATCH) for p in corner)
            total[(slice(None), slice(None), *at)] += self.backbone(x[(slice(None), slice(None), *voxels)] * 2 - 1)
            times[at] += 1
        return total.div_(times)


class ColipriEncoder(FrozenEncoder):
    """COLIPRI as an `Encoder` and a `TextEncoder`, for chest CT.

    Inference modes are the order of the input's axes: "ras" as in versions 0.1.2 and 0.1.3 of the authors' package, "sar" as
    in 0.1.0 and 0.1.1. The weights are the same, and the authors do not say which order they were trained with.
    """

    name = "colipri"
    title = "COLIPRI (chest CT)"
    settings = tuple(SETTINGS)
    scan_token = TOKEN
    input = InputSpec((_SPACING_MM,) * 3, (-1000.0, 1000.0), (PATCH,) * 3)  # type: ignore[arg-type]
    network: ColipriNetwork

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.tiling = Tiling(f"windows-{SIDE}-{self.setting}", None)
        self.network.axes = SETTINGS[self.setting]
        self.levels = (LevelSpec("patches", self.network.channels, (PATCH,) * 3, ((PATCH - 1) / 2,) * 3),)  # type: ignore[arg-type]
        self._text: TextTower | None = None

    def memory_bytes(self, window: Axes, names: tuple[str, ...]) -> int:
        """See `Encoder.memory_bytes`; `window` is the whole scan."""
        tokens = 1
        for n in window:
            tokens *= max(n, SIDE) // PATCH
        return _WINDOW_BYTES + _BYTES_PER_TOKEN * tokens

    def embed_text(self, text: str) -> torch.Tensor:
        """See `TextEncoder.embed_text`; the text network is read from the weights file at the first call."""
        if self._text is None:
            if self.network.open_text is None:
                raise WeightsError(f"{self.title} was made without its text network. Load it with load_encoder('colipri').")
            self._text = self.network.open_text(self.weights_sha256)
        return self._text.embed(text)

    def text_projection(self) -> tuple[torch.Tensor, torch.Tensor]:
        """See `TextEncoder.text_projection`: projector and pooling of a token that attends to itself only."""
        with torch.inference_mode():
            weights, bias = self.network.pooler.dense()
            projector = self.network.projector
            return (
                (weights @ projector.weight.flatten(1)).float().cpu(),
                (weights @ projector.bias + bias).float().cpu(),  # type: ignore[operator]
            )


def read_network(path: Path) -> ColipriNetwork:
    """Build the image network of a published checkpoint with its size and weights; the text network is read when needed.

    Raises:
        WeightsError: the file cannot be used or belongs to another network, or keys are missing, unexpected or of another
            shape.
    """
    tree = _tree(path)
    own = {
        key.removeprefix(_IMAGE): tensor for key, tensor in tree.items() if not key.startswith((_TEXT, "softmax_temperature"))
    }
    shapes = {key: tuple(tensor.shape) for key, tensor in own.items()}
    channels, *rest = shapes[_MARKER.removeprefix(_IMAGE)] or (0,)
    projected = (*shapes.get("projector.weight", ()), 0)[0]
    heads = (primus.HEAD_CHANNELS, pooling.HEAD_CHANNELS)
    if channels < 1 or rest != [1, PATCH, PATCH, PATCH] or channels % heads[0] or not projected or projected % heads[1]:
        raise WeightsError(
            f"Expected '{_MARKER}' of shape (C, 1, 8, 8, 8) with C a multiple of {heads[0]}, and 'projector.weight' of shape "
            f"(D, C, 1, 1, 1) with D a multiple of {heads[1]}, got {shapes[_MARKER.removeprefix(_IMAGE)]} and "
            f"{shapes.get('projector.weight')}. This is not a checkpoint of COLIPRI."
        )
    depth = len({key.split(".")[3] for key in own if key.startswith("backbone.eva.blocks.")})
    hidden = (shapes.get("backbone.eva.blocks.0.mlp.fc1_g.weight") or (1,))[0]
    network = build_strictly(lambda: ColipriNetwork(channels, depth, hidden, projected), own, ColipriEncoder.title)
    network.open_text = partial(_read_text, path)
    return network


def _tree(path: Path) -> dict[str, torch.Tensor]:
    return encoder_tree(read_checkpoint(path), _MARKER, _ROOTS)


def _read_text(path: Path, sha256: str) -> TextTower:
    """Build the text network of a checkpoint, and read its vocabulary.

    Raises:
        WeightsError: the file was changed since the image network was read; or as `read_network`; or the vocabulary is
            missing.
    """
    with unchanged(path):
        if sha256_of(path) != sha256:
            raise WeightsError(f"The weights file '{path.name}' was changed since it was loaded. Load it again.")
        tree = {
            key.removeprefix(_TEXT): tensor
            for key, tensor in _tree(path).items()
            if key.startswith(_TEXT) and not key.endswith(_COUNTED)
        }
    shapes = {key.removeprefix("backbone."): tuple(tensor.shape) for key, tensor in tree.items()}
    try:
        channels = shapes["embeddings.word_embeddings.weight"][1]
    except LookupError as error:
        raise WeightsError(f"'{path.name}' holds no text network, so it cannot be searched by words.") from error
    tower = build_strictly(lambda: TextTower(Bert.of_size(shapes), channels), tree, "COLIPRI's text network")
    tower.eval().requires_grad_(False).open_vocabulary(VOCABULARY, path)
    return tower


load = loader(ColipriEncoder, partial(find_weights, WEIGHTS), read_network)
