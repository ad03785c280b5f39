"""The interface of an encoder that also embeds texts. Imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

from CoralBayLib.core.errors import EncoderError, Remedy
from CoralBayLib.encoders.base import Encoder

if TYPE_CHECKING:
    import torch


@runtime_checkable
class TextEncoder(Protocol):
    """An `Encoder` whose scan embedding can be compared with texts.

    The cosine of a text's vector and the scan embedding tells how well the text describes the scan. The cosine of a text's
    vector and a feature that `text_projection` maps tells how well it describes that place.
    """

    name: str
    title: str

    def embed_text(self, text: str) -> torch.Tensor:
        """The (D,) vector of unit length of a text; D is the size of the scan embedding.

        Raises:
            QueryError: the text is empty or too long.
            EncoderError: a package is missing (remedy INSTALL_PACKAGE).
            WeightsError: the vocabulary is missing or does not fit, or the weights file was changed.
        """
        ...

    def text_projection(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Weights (D, C) and bias (D,) that map the C features of the first level to vectors that texts are compared with."""
        ...


def require_text_encoder(encoder: Encoder) -> TextEncoder:
    """The encoder, if it embeds texts.

    Raises:
        EncoderError: it does not.
    """
    if not isinstance(encoder, TextEncoder):
        raise EncoderError(
            f"{encoder.title} cannot be searched by words. This needs an encoder that was trained with texts, such as "
            "'colipri', with its weights on this computer.",
            remedy=Remedy.CHOOSE_ENCODER,
        )
    return encoder
