"""The basis of a library: one whitening projection for all its scans, which makes their features comparable."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from CoralBayLib.core import schemas
from CoralBayLib.core.errors import EncoderError, LibraryError, ProbeError, Remedy
from CoralBayLib.core.tensor_files import decode_tensors, encode_tensors
from CoralBayLib.encoders.base import Encoder
from CoralBayLib.features.embedding import identity
from CoralBayLib.features.pyramid import SIMILARITY_COMPONENTS, FeaturePyramid
from CoralBayLib.features.whitening import SAMPLES, Basis, whitening

from .records import Draft
from .storage.base import Storage
from .storage.format import basis_name

_KIND = "library-basis"


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
        """The basis as the content of a safetensors file."""
        header = {
            "identity": self.identity,
            "signature": self.signature,
            "levels": list(self.levels),
            "scans": self.scans,
        }
        return encode_tensors(_KIND, header, {"projection": self.projection, "offset": self.offset})

    @classmethod
    def from_bytes(cls, data: bytes) -> LibraryBasis:
        """Read what `to_bytes` wrote.

        Raises:
            LibraryError: the data are damaged, or are no basis of a library.
        """
        try:
            header, tensors = decode_tensors(data, _KIND, schemas.LIBRARY_BASIS)
            return cls(
                tensors["projection"],
                tensors["offset"],
                header["identity"],
                header["signature"],
                tuple(header["levels"]),
                int(header["scans"]),
            )
        except (ProbeError, KeyError, TypeError, ValueError) as error:
            raise LibraryError(f"The library's basis is damaged ({error}).", remedy=Remedy.CHECK_LIBRARY) from error

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
    """The basis of an encoder in a library.

    Raises:
        LibraryError: it is missing or damaged.
    """
    data = storage.read_file(basis_name(encoder))
    if data is None:
        raise LibraryError(f"The library's basis {basis_name(encoder)} is missing.", remedy=Remedy.CHECK_LIBRARY)
    return LibraryBasis.from_bytes(data)


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
