"""What a client and a server say to each other: the request of a job, and voxels in parts. Imports no torch.

A job begins with its request in JSON. The voxels follow in parts of `PART_VOXELS`, each deflated on its own, so that an
interrupted transfer goes on with the next part. The result is the file of the store.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from CoralBayLib.core.schemas import SERVER_JOB
from CoralBayLib.features.deflated import deflate_array, inflate_array
from CoralBayLib.features.identity import FEATURES_VERSION, WORKING_VERSION
from CoralBayLib.features.store_folder import FORMAT_VERSION
from CoralBayLib.imaging.grid import Grid, Volume

PROTOCOL = 1
"""Increased when a client and a server of different versions would no longer understand each other."""
PART_VOXELS = 1 << 21
"""Voxels of a part: 4 MB of an ordinary CT before compression."""
RANGE_BYTES = 8 << 20
"""Most bytes of a result in one answer."""
MOST_REQUEST_BYTES = 1 << 16
"""Largest request of a job."""
RECEIVING, QUEUED, RUNNING, DONE, FAILED = "receiving", "queued", "running", "done", "failed"
"""States of a job."""
_INT16, _FLOAT32 = "<i2", "<f4"


def versions() -> dict[str, int]:
    """What has to be equal on both sides, by name."""
    return {"protocol": PROTOCOL, "features": FEATURES_VERSION, "working": WORKING_VERSION, "store": FORMAT_VERSION}


@dataclass(frozen=True)
class JobRequest:
    """What a client asks for.

    Attributes:
        versions: see `versions`.
        key: of the pyramid in the store, hexadecimal digits.
        encoder: name of the encoder.
        setting: inference mode of the encoder, as the server lists it.
        weights: SHA-256 of its weights.
        levels: names of the levels.
        shape: voxels along (K, J, I).
        ijk_to_ras: (4, 4) matrix of the volume.
        dtype: of the voxels, see `voxel_type`.
        assume_hu: skip the check that the values are HU.
    """

    versions: Mapping[str, int]
    key: str
    encoder: str
    setting: str
    weights: str
    levels: Sequence[str]
    shape: Sequence[int]
    ijk_to_ras: Sequence[Sequence[float]]
    dtype: str
    assume_hu: bool = False

    @classmethod
    def from_json(cls, content: Any) -> JobRequest:
        """The request that `as_json` described.

        Raises:
            ValueError: a field is missing, damaged or unknown; says which.
            VolumeError: the geometry is not one of a volume.
        """
        SERVER_JOB.check_header(content)
        unknown = sorted(set(content) - set(SERVER_JOB.header))
        if unknown:
            raise ValueError(f"holds the unknown field {unknown[0][:40]!r}")
        request = cls(**content)
        request.grid()
        return request

    def as_json(self) -> dict[str, Any]:
        """In values that JSON can represent."""
        return asdict(self)

    def grid(self) -> Grid:
        """The grid of the volume."""
        return Grid(tuple(self.shape), np.array(self.ijk_to_ras))  # type: ignore[arg-type]

    @property
    def voxels(self) -> int:
        """Number of voxels."""
        return math.prod(self.shape)

    @property
    def parts(self) -> int:
        """Number of parts in which the voxels are sent."""
        return -(-self.voxels // PART_VOXELS)

    def part_shape(self, number: int) -> tuple[int]:
        """Number of voxels of a part."""
        return (min(PART_VOXELS, self.voxels - number * PART_VOXELS),)

    def encode_part(self, volume: Volume, number: int) -> bytes:
        """One part of the voxels, deflated."""
        flat = volume.array.reshape(-1)[number * PART_VOXELS : (number + 1) * PART_VOXELS]
        return deflate_array(flat.astype(self.dtype))

    def decode_part(self, data: bytes, number: int) -> NDArray:
        """The voxels of one part.

        Raises:
            ValueError: the bytes are damaged, or those of another part.
        """
        return inflate_array(data, self.dtype, self.part_shape(number))

    def most_part_bytes(self) -> int:
        """Largest size of a deflated part; what cannot be compressed grows by less than this allows."""
        return int(PART_VOXELS * np.dtype(self.dtype).itemsize * 1.01) + 1024


def voxel_type(array: NDArray) -> str:
    """The smallest type that keeps the bits that `features.identity.content_hash` and `embed` see.

    Both use voxels as 32-bit floating-point numbers. Negative zero, which 16-bit integers do not have, is another number
    for the hash.
    """
    if array.dtype in (np.int16, np.int8, np.uint8):
        return _INT16
    for plane in array:
        with np.errstate(invalid="ignore"):
            exact, whole = np.ascontiguousarray(plane, _FLOAT32), np.asarray(plane).astype(_INT16)
        if not np.array_equal(exact.view("<u4"), whole.astype(_FLOAT32).view("<u4")):
            return _FLOAT32
    return _INT16
