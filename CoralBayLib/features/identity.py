"""What determines the features of a CT, and the key under which they are stored. Imports no torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

import numpy as np

from CoralBayLib.core.errors import EncoderError
from CoralBayLib.encoders.base import EncoderProperties, LevelSpec
from CoralBayLib.imaging.grid import Volume

FEATURES_VERSION = 2
"""Increased when a change of preprocessing or tiling changes the features that an encoder gives for a CT."""
WORKING_VERSION = 3
"""Increased when the working grid changes. Stored pyramids are then computed again; probes and libraries stay usable."""


def choose_levels(encoder: EncoderProperties, names: Sequence[str] | None) -> list[LevelSpec]:
    """The encoder's levels of these names, in the encoder's order; without names all except the optional ones.

    Raises:
        EncoderError: the encoder has no such level.
    """
    known = [spec.name for spec in encoder.levels]
    unknown = [name for name in names or () if name not in known]
    if unknown or (names is not None and not names):
        raise EncoderError(f"Encoder '{encoder.name}' has levels {', '.join(known)}; asked for {list(names or ())}.")
    return [spec for spec in encoder.levels if (not spec.optional if names is None else spec.name in names)]


def identity(encoder: EncoderProperties) -> dict[str, str | int]:
    """The properties of an encoder that determine the features of a CT; features of equal identity are comparable."""
    return {
        "encoder": encoder.name,
        "weights": encoder.weights_sha256,
        "tiling": encoder.tiling.name,
        "version": FEATURES_VERSION,
    }


def store_key(volume: Volume, encoder: EncoderProperties, levels: Sequence[str] | None = None) -> str:
    """Key of the pyramid in the store that `embed` makes with the same arguments.

    Raises:
        EncoderError: the encoder has no such level.
    """
    names = [spec.name for spec in choose_levels(encoder, levels)]
    return content_hash(volume, identity(encoder) | {"working": WORKING_VERSION}, names)


def content_hash(volume: Volume, identity: dict, names: Sequence[str]) -> str:
    """SHA-256 (hexadecimal) of the voxels, the geometry and the identity of the features.

    Voxels are compared as float32, so that the number type of the file does not matter.
    """
    digest = hashlib.sha256(json.dumps([identity, list(names), volume.array.shape], sort_keys=True).encode())
    # Files and scenes store a matrix with limited precision, and some write zero as -0.
    matrix = np.round(volume.grid.ijk_to_ras, 6) + 0.0
    digest.update(np.ascontiguousarray(matrix, dtype="<f8").tobytes())
    for plane in volume.array:
        digest.update(np.ascontiguousarray(plane, dtype="<f4").data)
    return digest.hexdigest()
