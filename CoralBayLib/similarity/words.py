"""Search in a scan by words, with an encoder that embeds texts: how well a text describes each place.

Each feature is mapped to the space of the texts as if it were the whole scan, as the authors of COLIPRI do, and compared with
the text by cosine. The cosines are computed at native stride and interpolated.
"""

from __future__ import annotations

import torch

from CoralBayLib.core.errors import EncoderError, Remedy
from CoralBayLib.core.progress import CancelToken, raise_if_cancelled
from CoralBayLib.encoders.base import Encoder
from CoralBayLib.encoders.language import require_text_encoder
from CoralBayLib.features.identity import identity
from CoralBayLib.features.pyramid import FeaturePyramid, Level
from CoralBayLib.imaging.grid import Volume
from CoralBayLib.imaging.resampling import sum_interpolated

_CHUNK = 1 << 12
"""Features mapped at a time, which limits the memory."""


def word_map(pyramid: FeaturePyramid, encoder: Encoder, text: str, cancel: CancelToken | None = None) -> Volume:
    """How well a text describes each place of a scan.

    Args:
        pyramid: of the scan, embedded with `encoder`.
        encoder: from `load_encoder`, one that embeds texts.
        text: in English, such as "pleural effusion".
        cancel: checked between parts of the scan.

    Returns:
        Cosines, float32 in [-1, 1], on the working grid.

    Raises:
        QueryError: the text is empty or too long.
        EncoderError: the encoder embeds no texts, a package is missing, or the scan was embedded with another encoder.
        WeightsError: the vocabulary is missing.
        Cancelled: `cancel` was called.
    """
    texts = require_text_encoder(encoder)
    if pyramid.identity != identity(encoder):
        raise EncoderError(
            "The scan was embedded with another encoder, weights or setting than the text.", remedy=Remedy.CHOOSE_ENCODER
        )
    vector = texts.embed_text(text)
    name = encoder.levels[0].name
    level = next((each for each in pyramid.levels if each.name == name), None)
    if level is None:
        raise EncoderError(f"These features have no level {name}, which texts are compared with. Embed the scan again.")
    weights, bias = texts.text_projection()
    native = _cosines(level, vector, weights, bias, cancel)
    shown = sum_interpolated([(native[None], level.grid)], pyramid.grid)[0]
    return Volume(shown.clamp_(-1, 1).numpy(), pyramid.grid)


def _cosines(
    level: Level, vector: torch.Tensor, weights: torch.Tensor, bias: torch.Tensor, cancel: CancelToken | None
) -> torch.Tensor:
    """Cosine of each mapped feature and the vector, (K, J, I)."""
    flat = level.features.reshape(level.channels, -1)
    cosines = []
    for part in flat.split(_CHUNK, dim=1):
        raise_if_cancelled(cancel)
        mapped = weights @ part.float() + bias[:, None]
        cosines.append((vector @ mapped) / torch.linalg.vector_norm(mapped, dim=0).clamp_min(1e-12))
    return torch.cat(cosines).reshape(level.features.shape[1:])
