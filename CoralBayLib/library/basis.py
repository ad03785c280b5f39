"""The basis of a library: whitened features of all its scans are comparable because it is the same for all."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from CoralBayLib.core.errors import EncoderError, LibraryError, ProbeError
from CoralBayLib.core.tensor_files import read_tensors, write_tensors
from CoralBayLib.encoders.base import Encoder
from CoralBayLib.features.embedding import identity
from CoralBayLib.features.pyramid import SIMILARITY_COMPONENTS, FeaturePyramid
from CoralBayLib.features.whitening import SAMPLES, Basis, whitening

if TYPE_CHECKING:
    from .records import Draft

_KIND = "library-basis"


@dataclass(frozen=True, eq=False)
class LibraryBasis:
    """A whitening projection for the levels that tell like regions, and the features it is for.

    Attributes:
        projection: (D, channels) float32.
        offset: (D,) float32.
        identity: what made the features: encoder name, weights' SHA-256, tiling and version.
        signature: of the whole pyramids.
        levels: names of the levels the projection is for.
        scans: how many scans it was fitted on.
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
            EncoderError: weights, setting or version differ; says which.
        """
        self._require_identity(identity(encoder))

    def view(self, pyramid: FeaturePyramid) -> FeaturePyramid:
        """The levels of a scan that the library compares, with the library's basis.

        Raises:
            EncoderError: the scan has other features.
        """
        self.require(pyramid.identity, pyramid.signature, self.levels)
        none = torch.empty(0, 3, dtype=torch.float64), torch.empty(0, len(self.projection))
        return replace(pyramid.select_levels(self.levels), stored_basis=Basis(self.projection, self.offset, *none))

    def project(self, features: torch.Tensor) -> NDArray[np.float32]:
        """(N, channels) features as (N, D) whitened vectors of unit length."""
        return unit((features @ self.projection.T + self.offset).numpy())

    def save(self, path: str | os.PathLike) -> None:
        """Write the basis as safetensors.

        Raises:
            StoreError: the file could not be written.
        """
        header = {
            "identity": self.identity,
            "signature": self.signature,
            "levels": list(self.levels),
            "scans": self.scans,
        }
        write_tensors(path, _KIND, header, {"projection": self.projection, "offset": self.offset})

    @classmethod
    def load(cls, path: str | os.PathLike) -> LibraryBasis:
        """Read a basis that `save` wrote.

        Raises:
            LibraryError: the file is missing, damaged, or no basis of a library.
        """
        try:
            header, tensors = read_tensors(path, _KIND)
            return cls(
                tensors["projection"],
                tensors["offset"],
                header["identity"],
                header["signature"],
                tuple(header["levels"]),
                int(header["scans"]),
            )
        except (ProbeError, KeyError, TypeError, ValueError) as error:
            raise LibraryError(
                f"The library's basis {Path(path).name} is missing or damaged ({error}). `coralbay library verify` tells "
                "what can be done."
            ) from error

    def require(self, identity: dict[str, Any], signature: str, levels: tuple[str, ...]) -> None:
        """Refuse features that are not those of the library.

        Args:
            identity: what made them.
            signature: of the whole pyramid.
            levels: names of those to be compared.

        Raises:
            EncoderError: they are others; says which.
        """
        self._require_identity(identity)
        if signature != self.signature or levels != self.levels:
            raise EncoderError("The scan was embedded with another choice of levels. Embed it with the encoder's own choice.")

    def _require_identity(self, identity: dict[str, Any]) -> None:
        names = {
            "encoder": "encoder",
            "weights": "weights (SHA-256)",
            "tiling": "setting",
            "version": "version of the features",
        }
        for key, what in names.items():
            if identity.get(key) != self.identity.get(key):
                mine, other = (str(each.get(key))[:16] for each in (self.identity, identity))
                raise EncoderError(
                    f"The library holds features of '{self.identity.get('encoder')}' with another {what}: {mine}, and the "
                    f"scan or encoder has {other}. They cannot be compared. Use the same one, or another library."
                )


def fit(drafts: Sequence[Draft]) -> LibraryBasis:
    """A basis from the first scans, each of which counts alike."""
    share, random, drawn = max(1, SAMPLES // len(drafts)), np.random.default_rng(0), []
    for draft in drafts:
        rows = random.choice(len(draft.features), min(share, len(draft.features)), replace=False)
        drawn.append(draft.features[torch.from_numpy(rows)])
    projection, offset = whitening(torch.cat(drawn), SIMILARITY_COMPONENTS)
    first = drafts[0]
    return LibraryBasis(projection, offset, first.identity, first.signature, first.levels, len(drafts))


def unit(vectors: NDArray) -> NDArray[np.float32]:
    """(N, D) vectors brought to unit length; what has none becomes zero."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, length, out=np.zeros_like(vectors, dtype=np.float32), where=length > 1e-9)
