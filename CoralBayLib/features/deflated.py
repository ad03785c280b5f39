"""Arrays as deflated bytes, in the store and on the way to a server. Imports no torch."""

from __future__ import annotations

import math
import zlib

import numpy as np
from numpy.typing import NDArray

_MOST_DEFLATED = 1100
"""Bytes that one byte of a deflated stream can stand for, at most: 1032 (https://zlib.net/zlib_tech.html)."""


def deflate_array(array: NDArray) -> bytes:
    """The bytes of an array, deflated (RFC 1951).

    The first bytes of all numbers come before all second bytes, and so on, and only runs are encoded (`Z_RLE`): in the noise
    of a CT or of features there are few other repetitions, so that this is smaller and twice as fast.
    """
    planes = np.ascontiguousarray(array).reshape(-1, 1).view(np.uint8).T
    deflater = zlib.compressobj(strategy=zlib.Z_RLE)
    return deflater.compress(np.ascontiguousarray(planes).data) + deflater.flush()


def inflate_array(packed: bytes | memoryview, dtype: str, shape: tuple[int, ...]) -> NDArray:
    """The array that `deflate_array` packed.

    Args:
        packed: from `deflate_array`.
        dtype: of the array.
        shape: of the array.

    Raises:
        ValueError: the bytes are damaged, or the array had another size.
    """
    expected = math.prod(shape) * np.dtype(dtype).itemsize
    if expected > _MOST_DEFLATED * (len(packed) + 1):
        raise ValueError(f"{len(packed)} bytes cannot hold an array of shape {tuple(shape)}")
    inflater = zlib.decompressobj()
    try:
        # One byte more than expected is allowed, so that a longer array is noticed and none fills the memory.
        data = inflater.decompress(packed, expected + 1)
    except zlib.error as error:
        raise ValueError(str(error)) from error
    if len(data) != expected or not inflater.eof or inflater.unused_data:
        raise ValueError(f"the deflated bytes are not of an array of shape {tuple(shape)}")
    planes = np.frombuffer(data, np.uint8)
    return planes.reshape(np.dtype(dtype).itemsize, -1).T.copy().view(dtype).reshape(shape)
