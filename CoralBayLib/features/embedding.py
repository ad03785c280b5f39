"""Computes the feature pyramid of a CT, or takes it from the store or a server."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Sequence

import numpy as np
import torch

from CoralBayLib.core.errors import ServerError, StoreError
from CoralBayLib.core.progress import CancelToken, Progress, raise_if_cancelled, report, subprogress
from CoralBayLib.encoders.base import DistantEncoder, Encoder, LevelSpec, is_distant
from CoralBayLib.imaging.grid import Volume
from CoralBayLib.imaging.hounsfield import check_ct

from .identity import choose_levels, identity, store_key
from .preprocessing import on_working_grid, prepare, to_level
from .pyramid import FeaturePyramid, Level
from .store import Store
from .windows import run_windows

FOUND_IN_STORE = "Found in the store"
"""Progress message when nothing had to be computed."""


def embed(
    volume: Volume,
    encoder: Encoder,
    progress: Progress | None = None,
    cancel: CancelToken | None = None,
    *,
    store: Store | None = None,
    levels: Sequence[str] | None = None,
    assume_hu: bool = False,
) -> FeaturePyramid:
    """Compute the features of a CT, or read them from the store.

    Args:
        volume: a CT in HU on any grid.
        encoder: from `load_encoder`, or one on a server from `RemoteEmbedder.encoder`.
        progress: called with the fraction done and a message.
        cancel: checked between the network's layers.
        store: where pyramids are read and written; None for neither.
        levels: names of the encoder's levels to compute; by default all except the optional ones.
        assume_hu: skip the check that the values are HU.

    Returns:
        The pyramid, with its whitening bases fitted.

    Raises:
        VolumeError: the volume is not a CT in HU.
        EncoderError: the encoder has no such level.
        MemoryLimitError: the computation does not fit into memory.
        ServerError: the encoder is on a server, which could not be reached or did not do the work.
        Cancelled: `cancel` was called; nothing is stored.
    """
    check_ct(volume, assume_hu=assume_hu)
    specs = choose_levels(encoder, levels)
    key = store_key(volume, encoder, levels)
    if store is not None:
        stored = store.get(key)
        if stored is not None:
            report(progress, 1.0, FOUND_IN_STORE)
            return stored
    raise_if_cancelled(cancel)
    if is_distant(encoder):
        return _fetch(volume, encoder, key, [spec.name for spec in specs], store, progress, cancel, assume_hu)
    pyramid = compute_pyramid(volume, encoder, specs, key, subprogress(progress, 0.0, 0.97), cancel)
    if store is not None:
        report(progress, 0.97, "Storing the features")
        try:
            store.put(pyramid)
            # The rounded features, so that this session has the same results as later ones.
            pyramid = store.get(key) or pyramid
        except StoreError as error:
            _warn_not_stored(error)
    report(progress, 1.0, "Embedded")
    return pyramid


def compute_pyramid(
    volume: Volume,
    encoder: Encoder,
    specs: Sequence[LevelSpec],
    key: str,
    progress: Progress | None = None,
    cancel: CancelToken | None = None,
) -> FeaturePyramid:
    """Compute the features of a CT on this computer; neither the CT is checked nor is the store used.

    Args:
        volume: a CT in HU on any grid.
        encoder: from `load_encoder`.
        specs: levels to compute, see `choose_levels`.
        key: of the pyramid, see `store_key`.
        progress: called with the fraction done and a message.
        cancel: checked between the network's layers.

    Returns:
        The pyramid, with its whitening bases fitted. Its features are not rounded as those in the store are.

    Raises:
        MemoryLimitError: the computation does not fit into memory.
        Cancelled: `cancel` was called.
    """
    report(progress, 0.0, "Preparing the CT")
    prepared = prepare(volume, encoder.input)
    maps, token = run_windows(prepared, encoder, specs, subprogress(progress, 0.05, 0.95), cancel)
    computed = tuple(to_level(m, spec, prepared.image.grid) for m, spec in zip(maps, specs, strict=True))
    working = on_working_grid(volume, prepared)
    pyramid = FeaturePyramid(
        levels=computed,
        image=Volume(np.clip(np.round(working.image.array), -1024, 3071).astype(np.int16), working.image.grid),
        body=working.body,
        identity=identity(encoder),
        source_grid=volume.grid,
        key=key,
        scan_embedding=token if token is not None else _pooled(computed, encoder),
    )
    raise_if_cancelled(cancel)
    report(progress, 0.96, "Whitening the features")
    # Fitted here, so that the first stroke and the first query do not wait for it.
    _ = pyramid.basis, pyramid.for_similarity.basis
    raise_if_cancelled(cancel)
    return pyramid


def _fetch(
    volume: Volume,
    encoder: DistantEncoder,
    key: str,
    levels: Sequence[str],
    store: Store | None,
    progress: Progress | None,
    cancel: CancelToken | None,
    assume_hu: bool,
) -> FeaturePyramid:
    """Have the pyramid computed elsewhere; it is read from the store, or from a temporary one if that cannot be written."""

    def received(target: Store) -> FeaturePyramid | None:
        with target.receive(key) as path:
            encoder.fetch(volume, key, levels, path, progress, cancel, assume_hu=assume_hu)
        return target.get(key)

    pyramid, is_stored = None, False
    if store is not None:
        try:
            pyramid, is_stored = received(store), True
        except StoreError as error:
            if "server" in error.details:  # the disk there, not this one
                raise
            _warn_not_stored(error)
    if not is_stored:
        with tempfile.TemporaryDirectory(prefix="coralbay-") as folder:
            pyramid = received(Store(folder))
    if pyramid is None or pyramid.identity != identity(encoder):
        raise ServerError("The features that the server sent are damaged, or are those of another encoder.")
    report(progress, 1.0, "Embedded")
    return pyramid


def _warn_not_stored(error: StoreError) -> None:
    warnings.warn(f"The features could not be stored for later sessions. {error}", stacklevel=3)


def _pooled(levels: Sequence[Level], encoder: Encoder) -> torch.Tensor | None:
    """(D,) concatenated averages of the pooled levels; None if one of them was not computed."""
    names = {spec.name for spec in encoder.levels if spec.pooled}
    pooled = [level.features.float().mean(dim=(1, 2, 3)) for level in levels if level.name in names]
    return torch.cat(pooled) if len(pooled) == len(names) else None
