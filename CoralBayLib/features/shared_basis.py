"""A whitening basis that all scans of an encoder share, for encoders that come with one.

A basis that is fitted on one scan separates the features of that scan best, but differs between scans, and is unreliable for
a small scan. Features in a basis that is fitted on many scans (see `Testing/training/shared_basis.py`) can be compared
between patients directly.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch

from CoralBayLib.core import schemas
from CoralBayLib.core.resources import resources_dir
from CoralBayLib.core.tensor_files import read_tensors, write_tensors

from .pyramid import FeaturePyramid

KIND = "shared-basis"


@dataclass(frozen=True, eq=False)
class SharedBasis:
    """`z = projection @ features + offset`.

    Attributes:
        projection: (D, channels) float32.
        offset: (D,) float32.
    """

    projection: torch.Tensor
    offset: torch.Tensor


def shared_basis_path(encoder: str) -> Path:
    """Path of an encoder's shared basis beside the weights that come with CoralBay; the file need not exist."""
    return resources_dir() / "Weights" / f"{encoder}.basis.safetensors"


def shared_basis(pyramid: FeaturePyramid) -> SharedBasis | None:
    """The shared basis for features of the same weights, levels and tiling as these; None if there is none.

    Raises:
        ProbeError: the file is damaged.
    """
    return _read(shared_basis_path(str(pyramid.identity.get("encoder", ""))), pyramid.signature)


def write_basis(path: Path, basis: SharedBasis, signature: str, scans: list[str]) -> None:
    """Write a basis in half precision.

    Args:
        path: of the file; see `shared_basis_path`.
        basis: the basis, which is rounded.
        signature: of the pyramids it can be used on.
        scans: names of the scans it was fitted on.

    Raises:
        StoreError: the file could not be written.
    """
    tensors = {"projection": basis.projection.half(), "offset": basis.offset.half()}
    write_tensors(path, KIND, {"signature": signature, "scans": scans}, tensors)
    _read.cache_clear()


@lru_cache(maxsize=4)
def _read(path: Path, signature: str) -> SharedBasis | None:
    if not path.is_file():
        return None
    header, tensors = read_tensors(path, KIND, schemas.SHARED_BASIS)
    if header.get("signature") != signature:
        return None
    return SharedBasis(tensors["projection"].float(), tensors["offset"].float())
