"""BERT: the transformer that turns the tokens of a text into vectors (Devlin et al., arXiv 1810.04805)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn
from torch.nn import functional

HEAD_CHANNELS = 64
"""Channels of each attention head in the published sizes; not recorded in checkpoints."""
_EPS = 1e-12


class Embeddings(nn.Module):
    """The sum of the vectors of words, places and kind of sentence, after a norm."""

    def __init__(self, words: int, channels: int, places: int) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(words, channels)
        self.position_embeddings = nn.Embedding(places, channels)
        self.token_type_embeddings = nn.Embedding(2, channels)
        self.LayerNorm = nn.LayerNorm(channels, eps=_EPS)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Map (B, N) numbers of tokens to (B, N, C)."""
        places = self.position_embeddings.weight[: ids.shape[1]]
        return self.LayerNorm(self.word_embeddings(ids) + places + self.token_type_embeddings.weight[0])


class Layer(nn.Module):
    """Attention and feed-forward layers with residual connections, each before layer norm."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.heads = channels // HEAD_CHANNELS
        parts = {name: nn.Linear(channels, channels) for name in ("query", "key", "value")}
        attended = nn.ModuleDict({"dense": nn.Linear(channels, channels), "LayerNorm": nn.LayerNorm(channels, eps=_EPS)})
        self.attention = nn.ModuleDict({"self": nn.ModuleDict(parts), "output": attended})
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(channels, hidden)})
        self.output = nn.ModuleDict({"dense": nn.Linear(hidden, channels), "LayerNorm": nn.LayerNorm(channels, eps=_EPS)})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, N, C) tokens to the same shape."""
        own, out = self.attention["self"], self.attention["output"]
        parts = [own[name](x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for name in ("query", "key", "value")]  # type: ignore[index]
        attended = functional.scaled_dot_product_attention(*parts).transpose(1, 2).flatten(2)
        x = out["LayerNorm"](x + out["dense"](attended))  # type: ignore[index]
        made = self.output["dense"](functional.gelu(self.intermediate["dense"](x)))
        return self.output["LayerNorm"](x + made)


class Bert(nn.Module):
    """The state-dict keys are those of `BertModel` of the package transformers, without its pooler.

    Args:
        words: number of tokens in the vocabulary.
        channels: channels C of every token; a multiple of `HEAD_CHANNELS`.
        depth: number of layers.
        hidden: channels inside the feed-forward layers.
        places: most tokens of a text.
    """

    def __init__(self, words: int = 30522, channels: int = 768, depth: int = 12, hidden: int = 3072, places: int = 512) -> None:
        super().__init__()
        self.embeddings = Embeddings(words, channels, places)
        self.encoder = nn.ModuleDict({"layer": nn.ModuleList(Layer(channels, hidden) for _ in range(depth))})

    @classmethod
    def of_size(cls, shapes: Mapping[str, tuple[int, ...]]) -> Bert:
        """Build one of the size of a checkpoint.

        Args:
            shapes: of its tensors, by key.

        Raises:
            LookupError, ValueError: a tensor that tells the size is missing or has another number of axes.
        """
        words, channels = shapes["embeddings.word_embeddings.weight"]
        places, _channels = shapes["embeddings.position_embeddings.weight"]
        hidden, _channels = shapes["encoder.layer.0.intermediate.dense.weight"]
        depth = len({key.split(".")[2] for key in shapes if key.startswith("encoder.layer.")})
        return cls(words, channels, depth, hidden, places)

    @property
    def words(self) -> int:
        """Number of tokens in the vocabulary."""
        return self.embeddings.word_embeddings.num_embeddings

    @property
    def places(self) -> int:
        """Most tokens of a text."""
        return self.embeddings.position_embeddings.num_embeddings

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Map (B, N) numbers of tokens, without padding, to (B, N, C)."""
        x = self.embeddings(ids)
        for layer in self.encoder["layer"]:  # type: ignore[attr-defined]
            x = layer(x)
        return x
