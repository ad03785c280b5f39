"""The basis of a library: one whitening projection for all its scans, which makes their features comparable."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from CoralBayLib.core import schemas
from CoralBayLib.core.errors import EncoderError, LibraryError, ProbeError, Remedy
from CoralBayLib.core.tensor_files import COPY, decode_tensors, encode_tensors
from CoralBayLib.encoders.base import Encoder
from CoralBayLib.features.identity import identity
from CoralBayLib.features.pyramid import SIMILARITY_COMPONENTS, FeaturePyramid
from CoralBayLib.features.whitening import SAMPLES, Basis, whitening

from .records import Draft
from .storage.base import Storage
from .storage.format import basis_name, slug

_KIND = "library-basis"
_BEGIN = b'{"__metadata__"'
"""What the header of a file begins with."""


@dataclass(frozen=True, eq=False)
class LibraryBasis:
    """A whitening projection of the pyramid levels that are compared, and the features that it is for.

    Attributes:
        projection: (D, channels) float32.
        offset: (D,) float32.
        identity: what made the features: encoder name, weights' SHA-256, tiling and version.
        signature: of the whole pyramid.
        levels: names of the levels that the projection is for.
        scans: number of scans that it was fitted on.
    """

    projection: torch.Tensor
    offset: torch.Tensor
    identity: dict[str, Any]
    signature: str
    levels: tuple[str, ...]
    scans: int

    def require_encoder(self, encoder: Encoder) -> None:
        """Refuse an encoder whose features are not those of the library.

        Raises:
            EncoderError: weights, inference mode or version differ; says which.
        """
        self._require_identity(identity(encoder))

    def view(self, pyramid: FeaturePyramid) -> FeaturePyramid:
        """The levels of a scan's pyramid that the library compares, with the library's basis.

        Raises:
            EncoderError: the scan's features are not those of the library.
        """
        self.require(pyramid.identity, pyramid.signature, self.levels)
        none = torch.empty(0, 3, dtype=torch.float64), torch.empty(0, len(self.projection))
        return replace(pyramid.select_levels(self.levels), stored_basis=Basis(self.projection, self.offset, *none))

    def project(self, features: torch.Tensor) -> NDArray[np.float32]:
        """(N, channels) features as (N, D) whitened vectors of unit length."""
        return unit((features @ self.projection.T + self.offset).numpy())

    def to_bytes(self) -> bytes:
        """The basis as the content of a safetensors file.

        It holds a copy of itself: without the basis all vectors of an encoder are lost.
        """
        header = {
            "identity": self.identity,
            "signature": self.signature,
            "levels": list(self.levels),
            "scans": self.scans,
        }
        tensors = {"projection": self.projection, "offset": self.offset}
        copy = torch.frombuffer(bytearray(encode_tensors(_KIND, header, tensors)), dtype=torch.uint8)
        return encode_tensors(_KIND, header, tensors | {COPY: copy})

    @classmethod
    def from_bytes(cls, data: bytes) -> LibraryBasis:
        """Read what `to_bytes` wrote.

        Raises:
            LibraryError: the data are damaged, or are no basis of a library.
        """
        try:
            header, tensors = decode_tensors(data, _KIND, schemas.LIBRARY_BASIS)
            _require_consistent(header, tensors["projection"].shape[1])
        except (ProbeError, ValueError) as error:
            raise LibraryError(f"The library's basis is damaged ({error}).", remedy=Remedy.CHECK_LIBRARY) from error
        projection, offset = tensors["projection"], tensors["offset"]
        return cls(projection, offset, header["identity"], header["signature"], tuple(header["levels"]), header["scans"])

    def require(self, identity: dict[str, Any], signature: str, levels: tuple[str, ...]) -> None:
        """Refuse features that are not those of the library.

        Args:
            identity: what made them.
            signature: of the whole pyramid.
            levels: names of the levels to be compared.

        Raises:
            EncoderError: they differ; says how.
        """
        self._require_identity(identity)
        if signature != self.signature or levels != self.levels:
            raise EncoderError("The scan was embedded with other pyramid levels. Embed it with the encoder's default levels.")

    def _require_identity(self, identity: dict[str, Any]) -> None:
        names = {
            "encoder": "encoder",
            "weights": "weights (SHA-256)",
            "tiling": "inference mode",
            "version": "version of the features",
        }
        for key, what in names.items():
            if identity.get(key) != self.identity.get(key):
                mine, other = (str(each.get(key))[:16] for each in (self.identity, identity))
                raise EncoderError(
                    f"The library holds features of '{self.identity.get('encoder')}' with another {what}: {mine}; the scan "
                    f"or encoder has {other}. They cannot be compared. Use the same {what}, or another library.",
                    remedy=Remedy.CHOOSE_ENCODER,
                    encoder=self.identity.get("encoder"),
                )


def fit_basis(drafts: Sequence[Draft]) -> LibraryBasis:
    """A basis fitted on the regions of the first scans, which have equal weight."""
    share, random, drawn = max(1, SAMPLES // len(drafts)), np.random.default_rng(0), []
    for draft in drafts:
        rows = random.choice(len(draft.features), min(share, len(draft.features)), replace=False)
        drawn.append(draft.features[torch.from_numpy(rows)])
    projection, offset = whitening(torch.cat(drawn), SIMILARITY_COMPONENTS)
    first = drafts[0]
    return LibraryBasis(projection, offset, first.identity, first.signature, first.levels, len(drafts))


def has_basis(storage: Storage, encoder: str) -> bool:
    """Whether a library has a basis of an encoder, damaged or not."""
    return storage.read_file(basis_name(encoder)) is not None


def load_basis(storage: Storage, encoder: str) -> LibraryBasis:
    """The basis of an encoder in a library; where it is damaged and the copy in its file is whole, the copy, with a warning.

    Raises:
        LibraryError: it is missing or damaged.
    """
    basis, damage = examine_basis(storage, encoder)
    if damage:
        warnings.warn(f"{damage} The copy in the same file is used. Repairing the library restores it.", stacklevel=2)
    return basis


def examine_basis(storage: Storage, encoder: str, copy_too: bool = False) -> tuple[LibraryBasis, str]:
    """The basis of an encoder in a library, and what is wrong with one of its copies in the file; "" if nothing is.

    Raises:
        LibraryError: it is missing, or damaged and so is the copy.
    """
    name = basis_name(encoder)
    data = storage.read_file(name)
    if data is None:
        raise LibraryError(f"The library's basis {name} is missing.", remedy=Remedy.CHECK_LIBRARY)
    damage = ""
    try:
        basis = LibraryBasis.from_bytes(data)
        if copy_too and _whole_in(data, 1) is None and b'"copy"' in data:
            damage = "The copy of the library's basis is damaged."
    except LibraryError as error:
        copy = _whole_in(data)
        if copy is None:
            raise
        basis, damage = copy, str(error)
    if slug(basis.identity["encoder"]) != slug(encoder):
        raise LibraryError(f"The library's basis {name} is of another encoder.", remedy=Remedy.CHECK_LIBRARY)
    return basis, damage


def _require_consistent(header: dict[str, Any], channels: int) -> None:
    """Compare parts of a header that tell the same; files of version 0.1.0 have no checksum.

    Raises:
        ValueError: they differ.
    """
    identity = header["identity"]
    start = "|".join(str(identity[key]) for key in sorted(identity))
    made_by, _, levels = header["signature"].rpartition("|")
    by_name = dict(level.rpartition(":")[::2] for level in levels.split(","))
    if made_by != start or not set(header["levels"]) <= set(by_name):
        raise ValueError("the signature does not fit the identity or the levels")
    if sum(int(by_name[name]) for name in header["levels"]) != channels:
        raise ValueError("the projection does not fit the channels of the levels")


def _whole_in(data: bytes, start: int = 0) -> LibraryBasis | None:
    """What is whole in the content of a damaged file from a position on, the basis or its copy; None if neither is.

    The copy is found by how such content begins, because the header that says where it lies may be what is damaged. The
    basis itself is whole in a file whose end was lost with a part of the copy.
    """
    position = data.find(_BEGIN, start + 8)
    while position >= 0:
        try:
            return LibraryBasis.from_bytes(_content_at(data, position - 8))
        except (LibraryError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
            position = data.find(_BEGIN, position + 1)
    return None


def _content_at(data: bytes, start: int) -> bytes:
    """The content of a safetensors file that starts within other bytes; zeros stand for an end that was lost."""
    length = int.from_bytes(data[start : start + 8], "little")
    header = json.loads(data[start + 8 : start + 8 + length])
    ends = [int(entry["data_offsets"][1]) for name, entry in header.items() if name != "__metadata__"]
    size = 8 + length + max(ends)
    if size > 2 * len(data):
        raise ValueError("the header is damaged")
    return data[start : start + size].ljust(size, b"\0")


def save_basis(storage: Storage, basis: LibraryBasis) -> None:
    """Write the basis of its encoder. The lock must be held.

    Raises:
        StoreError: it could not be written.
    """
    storage.write_file(basis_name(basis.identity["encoder"]), basis.to_bytes())


def unit(vectors: NDArray) -> NDArray[np.float32]:
    """(N, D) vectors scaled to unit length; those shorter than 1e-9 become zero."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, length, out=np.zeros_like(vectors, dtype=np.float32), where=length > 1e-9)
