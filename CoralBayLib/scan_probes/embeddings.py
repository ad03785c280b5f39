"""Scan embeddings: one vector for each scan of a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from CoralBayLib.core.errors import Cancelled, CoralBayError, Remedy, ScansError
from CoralBayLib.core.progress import CancelToken, Progress, raise_if_cancelled, subprogress
from CoralBayLib.encoders.base import Encoder
from CoralBayLib.features.embedding import embed
from CoralBayLib.features.store import Store
from CoralBayLib.imaging.volume_io import read_volume

from .tables.table import Skipped
from .tokens import ScanTokens, join_tokens, sample_tokens


@dataclass(frozen=True, eq=False)
class ScanEmbeddings:
    """One vector for each scan.

    Attributes:
        vectors: (N, D) float32.
        rows: (N,) index of each vector's scan in the given sequence.
        signature: of the features; a probe applies to all scans with the signature it was fitted on.
        pooled: names and channels of the levels whose averages make up the vector; empty when the encoder has a token for
            the whole scan.
        left_out: scans that could not be embedded.
        tokens: (N) of the same scans; None if they were not asked for.
    """

    vectors: NDArray[np.float32]
    rows: NDArray[np.int64]
    signature: str
    pooled: tuple[tuple[str, int], ...]
    left_out: tuple[Skipped, ...] = ()
    tokens: ScanTokens | None = None


def embed_scans(
    scans: Sequence[Path],
    encoder: Encoder,
    progress: Progress | None = None,
    cancel: CancelToken | None = None,
    *,
    store: Store | None = None,
    assume_hu: bool = False,
    with_tokens: bool = False,
) -> ScanEmbeddings:
    """Embed scans one after another. A scan that cannot be embedded is left out.

    Args:
        scans: CT files or DICOM folders.
        encoder: from `load_encoder`.
        progress: called with the fraction done and a message.
        cancel: checked between scans and between the network's layers.
        store: which embedded scans are read from and written to.
        assume_hu: skip the check that the values look like HU.
        with_tokens: also sample the tokens that an attentive probe needs.

    Raises:
        ScansError: no scan could be embedded.
        Cancelled: `cancel` was called; scans that were embedded before stay in the store.
    """
    vectors, rows, left_out, signature = [], [], [], ""
    tokens: list[ScanTokens] = []
    for row, path in enumerate(scans):
        raise_if_cancelled(cancel)
        try:
            scan_progress = subprogress(progress, row / len(scans), (row + 1) / len(scans))
            pyramid = embed(read_volume(path), encoder, scan_progress, cancel, store=store, assume_hu=assume_hu)
            if pyramid.scan_embedding is None:
                raise ScansError(f"{encoder.title} has no scan embedding.", remedy=Remedy.CHOOSE_ENCODER)
        except Cancelled:
            raise
        except CoralBayError as error:
            left_out.append(Skipped(error, scan=path))
            continue
        signature = pyramid.signature
        vectors.append(pyramid.scan_embedding.float().numpy())
        rows.append(row)
        if with_tokens:
            tokens.append(sample_tokens(pyramid))
    if not vectors:
        raise ScansError("None of the scans could be embedded. " + "; ".join(map(str, left_out[:3])), **_common(left_out))
    pooled = tuple((spec.name, spec.channels) for spec in encoder.levels if spec.pooled and not encoder.scan_token)
    joined = join_tokens(tokens) if tokens else None
    return ScanEmbeddings(np.stack(vectors), np.array(rows), signature, pooled, tuple(left_out), joined)


def take_scans(embedded: ScanEmbeddings, chosen: NDArray[np.int64]) -> ScanEmbeddings:
    """Some of the scans, given by the number of their vector."""
    tokens = embedded.tokens[chosen] if embedded.tokens is not None else None
    return replace(embedded, vectors=embedded.vectors[chosen], rows=embedded.rows[chosen], tokens=tokens)


def _common(left_out: Sequence[Skipped]) -> dict:
    """Remedy and details of the errors where all have the same remedy."""
    errors = [skipped.error for skipped in left_out]
    if len({error.remedy for error in errors}) != 1:
        return {}
    return {"remedy": errors[0].remedy, **errors[0].details}
