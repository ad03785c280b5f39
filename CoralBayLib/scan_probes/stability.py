"""Does the embedding stay the same when the patient does? Test and retest by small changes of one scan."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from CoralBayLib.core.progress import CancelToken, Progress, raise_if_cancelled, subprogress
from CoralBayLib.encoders.base import Encoder
from CoralBayLib.features.embedding import embed
from CoralBayLib.imaging.grid import Grid, Volume, resample

NOISE_HU = 20.0
SPACING = 1.25
SHIFT_MM = 5.0


def perturbations(seed: int = 0) -> dict[str, Callable[[Volume], Volume]]:
    """Noise of 20 HU, voxels a quarter larger, and a grid that begins 5 mm further along each axis."""

    def noisy(volume: Volume) -> Volume:
        noise = np.random.default_rng(seed).normal(0, NOISE_HU, volume.array.shape)
        return Volume((volume.array + noise).astype(np.float32), volume.grid)

    def coarser(volume: Volume) -> Volume:
        return resample(volume, volume.grid.with_spacing(volume.grid.spacing_mm * SPACING))

    def shifted(volume: Volume) -> Volume:
        voxels = np.round(SHIFT_MM / volume.grid.spacing_mm).astype(int)
        i, j, k = np.minimum(voxels, np.array(volume.grid.size) - 1)
        grid: Grid = volume.grid.sub((i, j, k), 1, tuple(n - s for n, s in zip(volume.grid.shape, (k, j, i), strict=True)))
        return Volume(np.ascontiguousarray(volume.array[k:, j:, i:]), grid)

    return {f"noise of {NOISE_HU:g} HU": noisy, f"spacing x {SPACING:g}": coarser, f"shift of {SHIFT_MM:g} mm": shifted}


def stability(
    volume: Volume, encoder: Encoder, progress: Progress | None = None, cancel: CancelToken | None = None
) -> dict[str, float]:
    """Cosine of the scan embedding with that of the same scan changed a little, by change.

    Embeddings of different patients are alike too: compare with the cosine between two scans of a study.

    Raises:
        Cancelled: `cancel` was called.
    """
    changes = perturbations()
    first, cosines = None, {}
    for number, (name, change) in enumerate({"": lambda same: same, **changes}.items()):
        raise_if_cancelled(cancel)
        share = 1 / (len(changes) + 1)
        pyramid = embed(
            change(volume), encoder, subprogress(progress, number * share, (number + 1) * share), cancel, assume_hu=True
        )
        assert pyramid.scan_embedding is not None
        vector = pyramid.scan_embedding.double().numpy()
        if first is None:
            first = vector
        else:
            cosines[name] = float(first @ vector / np.linalg.norm(first) / np.linalg.norm(vector))
    return cosines
