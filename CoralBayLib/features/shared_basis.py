"""The whitening basis that all scans of an encoder share, where one comes with it.

A scan's own basis tells its features apart best, but means something else in each scan, and that of a small scan is ruled by
chance. In a basis made from many scans (see `Testing/training/shared_basis.py`) features of different patients can be
compared as they are.
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


def path_of(encoder: str) -> Path:
    """Where the basis of an encoder's features lies, if there is one: with the weights that come with CoralBay."""
    return resources_dir() / "Weights" / f"{encoder}.basis.safetensors"


def shared_basis(pyramid: FeaturePyramid) -> SharedBasis | None:
    """The basis for features such as these: of the same weights, levels and tiling; None where there is none.

    Raises:
        ProbeError: the file is damaged.
    """
    return _read(path_of(str(pyramid.identity.get("encoder", ""))), pyramid.signature)


def write_basis(path: Path, basis: SharedBasis, signature: str, scans: list[str]) -> None:
    """Write a basis in half precision.

    Args:
        path: see `path_of`.
        basis: to be rounded.
        signature: of the features it is for.
        scans: names of those it was made from.
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
