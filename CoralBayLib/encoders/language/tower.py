"""The network that embeds a text: BERT and attention pooling."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from CoralBayLib.encoders.networks.bert import Bert
from CoralBayLib.encoders.networks.pooling import AttentionPool

from .vocabulary import Vocabulary, VocabularySource


class TextTower(nn.Module):
    """The state-dict keys are those of COLIPRI's `TextEncoder`; runs on the CPU.

    Args:
        backbone: the network of tokens.
        channels: channels of its tokens, and of the vector of a text.
    """

    def __init__(self, backbone: Bert, channels: int) -> None:
        super().__init__()
        self.backbone, self.pooler = backbone, AttentionPool(channels)
        self._vocabulary: Vocabulary | None = None

    def open_vocabulary(self, source: VocabularySource, weights: Path) -> None:
        """Read the vocabulary; errors as in `VocabularySource.find` and `Vocabulary`."""
        self._vocabulary = Vocabulary(source.find(weights), self.backbone.words, self.backbone.places)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Map (B, N) numbers of words, without padding, to (B, D) vectors of unit length."""
        return nn.functional.normalize(self.pooler(self.backbone(ids)), dim=1)

    def embed(self, text: str) -> torch.Tensor:
        """The (D,) vector of unit length of a text.

        Raises:
            QueryError: as `Vocabulary.split`.
        """
        if self._vocabulary is None:
            raise RuntimeError("open_vocabulary was not called")
        with torch.inference_mode():
            return self(torch.tensor([self._vocabulary.split(text)]))[0]
