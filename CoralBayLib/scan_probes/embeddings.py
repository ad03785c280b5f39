"""Scan embeddings of a table's scans, and whose they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from CoralBayLib.core.errors import Cancelled, CoralBayError, ScansError
from CoralBayLib.core.progress import CancelToken, Progress, raise_if_cancelled, subprogress
from CoralBayLib.encoders.base import Encoder
from CoralBayLib.features.embedding import embed
from CoralBayLib.features.store import Store
from CoralBayLib.imaging.volume_io import read_volume


@dataclass(frozen=True, eq=False)
class ScanEmbeddings:
    """One vector a scan.

    Attributes:
        vectors: (N, D) float32.
        rows: (N,) which rows of the table they are of.
        signature: of the features; probes carry over between scans of one signature.
        pooled: the levels whose averages the vector holds, with their channels; empty when it is a network's own token.
        left_out: scans that could not be embedded, with the reason.
    """

    vectors: NDArray[np.float32]
    rows: NDArray[np.int64]
    signature: str
    pooled: tuple[tuple[str, int], ...]
    left_out: tuple[str, ...] = ()


def embed_scans(
    scans: Sequence[Path],
    encoder: Encoder,
    progress: Progress | None = None,
    cancel: CancelToken | None = None,
    *,
    store: Store | None = None,
    assume_hu: bool = False,
) -> ScanEmbeddings:
    """Embed scans one after another, from the store where they are there; those that cannot be are left out and named.

    Args:
        scans: CT files or folders.
        encoder: from `load_encoder`.
        progress: called with the fraction done and a message.
        cancel: checked between scans and between the network's layers.
        store: where pyramids are kept.
        assume_hu: skip the check that the values look like HU.

    Raises:
        ScansError: no scan could be embedded.
        Cancelled: `cancel` was called; what the store has is kept there.
    """
    vectors, rows, left_out, signature = [], [], [], ""
    for row, path in enumerate(scans):
        raise_if_cancelled(cancel)
        try:
            one = subprogress(progress, row / len(scans), (row + 1) / len(scans))
            pyramid = embed(read_volume(path), encoder, one, cancel, store=store, assume_hu=assume_hu)
            if pyramid.scan_embedding is None:
                raise ScansError(f"{encoder.title} has no scan embedding.")
        except Cancelled:
            raise
        except CoralBayError as error:
            left_out.append(f"{path}: {error}")
            continue
        signature = pyramid.signature
        vectors.append(pyramid.scan_embedding.float().numpy())
        rows.append(row)
    if not vectors:
        raise ScansError("None of the scans could be embedded. " + "; ".join(left_out[:3]))
    pooled = tuple((spec.name, spec.channels) for spec in encoder.levels if spec.pooled and not encoder.scan_token)
    return ScanEmbeddings(np.stack(vectors), np.array(rows), signature, pooled, tuple(left_out))
