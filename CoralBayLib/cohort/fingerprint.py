"""Whether a scan is still the one that it was. Imports no torch."""

from __future__ import annotations

import hashlib

import numpy as np

from CoralBayLib.imaging.grid import Volume


def content_fingerprint(volume: Volume) -> str:
    """SHA-256 (hexadecimal) of the voxels and the geometry, whatever the number type of the file."""
    digest = hashlib.sha256(repr(volume.array.shape).encode())
    # Formats store a matrix with limited precision, and some write zero as -0.
    digest.update(np.ascontiguousarray(np.round(volume.grid.ijk_to_ras, 4) + 0.0, dtype="<f8").tobytes())
    for plane in volume.array:
        digest.update(np.ascontiguousarray(plane, dtype="<f4").data)
    return digest.hexdigest()
