"""Test-retest stability of the scan embedding under small changes of the scan."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from CoralBayLib.core.progress import CancelToken, Progress, raise_if_cancelled, subprogress
from CoralBayLib.encoders.base import Encoder
from CoralBayLib.features.embedding import embed
from CoralBayLib.imaging.grid import Grid, Volume
from CoralBayLib.imaging.resampling import resample

NOISE_HU = 20.0
"""Standard deviation of the added noise."""
SPACING_FACTOR = 1.25
"""Factor of the voxel size."""
SHIFT_MM = 5.0
"""Thickness of the slab that is cut off at the start of each axis."""


def perturbations(seed: int = 0) -> dict[str, Callable[[Volume], Volume]]:
    """Small changes of a scan, by name: added noise, larger voxels, and a grid that starts later along each axis.

    Args:
        seed: of the noise.
    """

    def add_noise(volume: Volume) -> Volume:
        noise = np.random.default_rng(seed).normal(0, NOISE_HU, volume.array.shape)
        return Volume((volume.array + noise).astype(np.float32), volume.grid)

    def coarsen(volume: Volume) -> Volume:
        return resample(volume, volume.grid.with_spacing(volume.grid.spacing_mm * SPACING_FACTOR))

    def shift(volume: Volume) -> Volume:
        voxels = np.round(SHIFT_MM / volume.grid.spacing_mm).astype(int)
        i, j, k = np.minimum(voxels, np.array(volume.grid.size) - 1)
        grid: Grid = volume.grid.subgrid((i, j, k), 1, tuple(n - s for n, s in zip(volume.grid.shape, (k, j, i), strict=True)))
        return Volume(np.ascontiguousarray(volume.array[k:, j:, i:]), grid)

    return {
        f"noise of {NOISE_HU:g} HU": add_noise,
        f"spacing x {SPACING_FACTOR:g}": coarsen,
        f"shift of {SHIFT_MM:g} mm": shift,
    }


def stability(
    volume: Volume, encoder: Encoder, progress: Progress | None = None, cancel: CancelToken | None = None
) -> dict[str, float]:
    """Cosine similarity between the embeddings of a scan and of the same scan after each of `perturbations`.

    Embeddings of different patients are similar too: compare with the cosine similarity between two scans of a study.

    Args:
        volume: the scan.
        encoder: from `load_encoder`.
        progress: called with the fraction done and a message.
        cancel: checked between embeddings and between the network's layers.

    Returns:
        Cosine similarity by the perturbation's name.

    Raises:
        Cancelled: `cancel` was called.
    """
    changes = perturbations()
    first, cosines = None, {}
    for number, (name, change) in enumerate({"": lambda same: same, **changes}.items()):
        raise_if_cancelled(cancel)
        step = 1 / (len(changes) + 1)
        pyramid = embed(
            change(volume), encoder, subprogress(progress, number * step, (number + 1) * step), cancel, assume_hu=True
        )
        assert pyramid.scan_embedding is not None
        vector = pyramid.scan_embedding.double().numpy()
        if first is None:
            first = vector
        else:
            cosines[name] = float(first @ vector / np.linalg.norm(first) / np.linalg.norm(vector))
    return cosines
