"""Embeddings and tokens of scans for the tasks on whole scans, kept in files; whitening, which they need not, is left out."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import CoralBayLib as cb
from CoralBayLib.encoders.base import Encoder
from CoralBayLib.features.embedding import _pooled
from CoralBayLib.features.identity import choose_levels, identity, store_key
from CoralBayLib.features.preprocessing import on_working_grid, prepare, to_level
from CoralBayLib.features.pyramid import FeaturePyramid
from CoralBayLib.features.windows import run_windows
from CoralBayLib.imaging.grid import Volume
from CoralBayLib.scan_probes.embeddings import ScanEmbeddings
from CoralBayLib.scan_probes.tokens import ScanTokens, join_tokens, sample_tokens


def features_of(scans: Sequence[Path], encoder: Encoder, folder: Path) -> ScanEmbeddings:
    """Embeddings and tokens of scans.

    Args:
        scans: N files.
        encoder: from `load_encoder`, or untrained.
        folder: where features are kept.
    """
    folder.mkdir(parents=True, exist_ok=True)
    vectors, tokens = zip(*(_one(path, encoder, folder) for path in scans), strict=True)
    pooled = tuple((spec.name, spec.channels) for spec in encoder.levels if spec.pooled)
    return ScanEmbeddings(np.stack(vectors), np.arange(len(scans)), encoder.name, pooled, (), join_tokens(tokens))


def _one(path: Path, encoder: Encoder, folder: Path) -> tuple[NDArray[np.float32], ScanTokens]:
    name = hashlib.sha256(f"{path.resolve()} {encoder.name} {encoder.weights_sha256}".encode()).hexdigest()[:24]
    levels = tuple((spec.name, spec.channels) for spec in encoder.levels)
    file = folder / f"{name}.npz"
    if file.exists():
        with np.load(file) as kept:
            return kept["vector"], ScanTokens(levels, (tuple(kept[name] for name, _ in levels),))
    volume = cb.read_volume(path)
    pyramid = cb.Store().get(store_key(volume, encoder)) or _pyramid(volume, encoder)
    assert pyramid.scan_embedding is not None
    vector, tokens = pyramid.scan_embedding.float().numpy(), sample_tokens(pyramid)
    partial = folder / f"{name}.partial.npz"
    np.savez(partial, vector=vector, **dict(zip((name for name, _ in levels), tokens.scans[0], strict=True)))
    partial.replace(file)
    return vector, tokens


def _pyramid(volume: Volume, encoder: Encoder) -> FeaturePyramid:
    """As `embed` makes it, without the whitening bases, which take as long as the network on a small part of a scan."""
    prepared, specs = prepare(volume, encoder.input), choose_levels(encoder, None)
    maps, _ = run_windows(prepared, encoder, specs, None, None)
    levels = tuple(to_level(m, spec, prepared.image.grid) for m, spec in zip(maps, specs, strict=True))
    working = on_working_grid(volume, prepared)
    mean = _pooled(levels, encoder)
    return FeaturePyramid(levels, working.image, working.body, identity(encoder), volume.grid, "", mean)
