"""Our own folder for weights: one folder an encoder, holding the file and a record of what it is."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from CoralBayLib.core.errors import WeightsError
from CoralBayLib.core.paths import atomic_write, cache_dir, error_message

from .sources import PackagedWeights, Weights, WeightsSource, sha256_of

_RECORD = "weights.json"
_LOCK = ".lock"
STAGED = ".import-"
"""How the names of files begin that are being imported."""
_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Record:
    """What a weights file is: beside the file on the shelf, and in a bundle's manifest.

    Attributes:
        encoder: name of the encoder.
        repo: where it is published, a repository on the hub or a package on PyPI.
        revision: commit on the hub, or "".
        file: name of the file, without folders.
        sha256: of the file.
        bytes: its size.
        licence: of the weights.
        licence_text: its text, where it came along.
    """

    encoder: str
    repo: str
    revision: str
    file: str
    sha256: str
    bytes: int
    licence: str
    licence_text: str = ""

    @classmethod
    def of(cls, weights: Weights, path: Path) -> Record:
        """The record of a file that is known to be these weights."""
        repo = weights.repo_id if isinstance(weights, WeightsSource) else getattr(weights, "package", "")
        revision = weights.revision if isinstance(weights, WeightsSource) else ""
        text = weights.notice() if isinstance(weights, PackagedWeights) else ""
        name = Path(weights.filename).name
        return cls(weights.encoder, repo, revision, name, sha256_of(path), path.stat().st_size, weights.licence, text)

    @classmethod
    def read(cls, content: Any) -> Record:
        """From the JSON of a record.

        Raises:
            ValueError: it is none, or its names could lead out of a folder.
        """
        if not isinstance(content, dict) or set(content) != {field.name for field in fields(cls)}:
            raise ValueError("a record lacks fields or has others")
        if not all(isinstance(value, int if name == "bytes" else str) for name, value in content.items()):
            raise ValueError("a field is of another kind")
        record = cls(**content)
        if not _SAFE.fullmatch(record.encoder) or not _SAFE.fullmatch(record.file) or record.file == _RECORD:
            raise ValueError(f"'{record.encoder}/{record.file}' is no usable name")
        if not _SHA256.fullmatch(record.sha256) or record.bytes < 0:
            raise ValueError("the SHA-256 or the size is none")
        return record

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self)

    def mismatch(self, weights: Weights) -> str:
        """What keeps this file from being an encoder's weights; "" when nothing does."""
        if isinstance(weights, PackagedWeights):
            return "" if self.sha256 == weights.sha256 else f"another file (its SHA-256 is {self.sha256})"
        if isinstance(weights, WeightsSource) and (self.repo, self.revision) != (weights.repo_id, weights.revision):
            return f"revision {self.revision or 'none'} of {self.repo or 'no repository'}"
        return ""


def folder(encoder: str) -> Path:
    """Where an encoder's weights are kept; it need not exist.

    Raises:
        WeightsError: the encoder's name cannot be a folder's.
    """
    if not _SAFE.fullmatch(encoder):
        raise WeightsError(f"'{encoder}' cannot name a folder: use letters, digits, dots, dashes and underscores.")
    return cache_dir() / "weights" / encoder


def peek(weights: Weights) -> tuple[Record | None, str]:
    """What the shelf holds of an encoder, not yet verified, or None and why not."""
    place = folder(weights.encoder)
    try:
        record = Record.read(json.loads((place / _RECORD).read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None, "does not hold the file"
    except (OSError, ValueError) as error:
        return None, f"holds a record that cannot be read ({error})"
    if other := record.mismatch(weights):
        return None, f"holds {other}"
    path = path_of(record)
    if not path.is_file() or path.stat().st_size != record.bytes:
        return None, "holds a damaged copy (its size is not the recorded one)"
    return record, "found"


def verified(weights: Weights) -> tuple[Record | None, str]:
    """As `look`, verified."""
    record, outcome = peek(weights)
    if record is not None and sha256_of(path_of(record)) != record.sha256:
        return None, "holds a damaged copy (its SHA-256 is not the recorded one)"
    return record, outcome


def path_of(record: Record) -> Path:
    """Where a file is on the shelf."""
    return folder(record.encoder) / record.file


@contextmanager
def locked(encoder: str) -> Iterator[None]:
    """Keep other processes from changing what the shelf holds of an encoder, whose folder must exist.

    Raises:
        WeightsError: another process is at it, or the folder cannot be written.
    """
    from filelock import FileLock, Timeout

    place = folder(encoder)
    lock = FileLock(place / _LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise WeightsError(
            f"Another CoralBay on this computer is downloading or changing the weights of '{encoder}'. Wait for it to end."
        ) from None
    except OSError as error:
        raise WeightsError(
            f"Cannot write in {place}: {error_message(error)}. Check that you may, or set CORALBAY_CACHE to another folder."
        ) from error
    try:
        yield
    finally:
        lock.release()


def install(record: Record, temporary: Path) -> Path:
    """Move a verified file, which lies in the encoder's folder, to its place on the shelf. The file it replaces goes;
    any other that lies there is left alone.

    Raises:
        StoreError: the folder cannot be written; the earlier file is still there.
    """
    place = folder(record.encoder)
    target = place / record.file
    previous = _recorded(record.encoder)
    with atomic_write(place / _RECORD) as file:
        # What needs space on the disk comes first.
        file.write_text(json.dumps(record.as_dict(), indent=2), encoding="utf-8")
        os.replace(temporary, target)
    if previous is not None and previous.file != record.file:
        (place / previous.file).unlink(missing_ok=True)
    return target


def _recorded(encoder: str) -> Record | None:
    try:
        return Record.read(json.loads((folder(encoder) / _RECORD).read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return None


def make_folder(encoder: str) -> Path:
    """The encoder's folder, made if need be.

    Raises:
        WeightsError: it cannot be made.
    """
    place = folder(encoder)
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WeightsError(f"Cannot make the folder {place}: {error_message(error)}. Set CORALBAY_CACHE to another.") from error
    return place


def partial(encoder: str, sha256: str) -> Path:
    """Where a download of the file with this SHA-256 is kept until it is whole."""
    return folder(encoder) / f"{sha256}.part"


def partial_bytes(encoder: str) -> int:
    """How much of unfinished downloads there is."""
    place = folder(encoder)
    return sum(path.stat().st_size for path in place.glob("*.part")) if place.is_dir() else 0


def drop_partials(encoder: str) -> None:
    """Delete unfinished downloads, as of a file that was published before."""
    for path in folder(encoder).glob("*.part"):
        path.unlink(missing_ok=True)


def clear(weights: Weights) -> int:
    """Delete what the shelf holds of an encoder, unfinished downloads and imports too; returns the bytes freed. Other
    files that lie there are left alone.

    Raises:
        WeightsError: something could not be deleted, or is being downloaded.
    """
    place = folder(weights.encoder)
    if not place.is_dir():
        return 0
    freed = 0
    with locked(weights.encoder):
        recorded = _recorded(weights.encoder)
        names = {_RECORD, Path(weights.filename).name} | ({recorded.file} if recorded else set())
        try:
            for path in [*(place / name for name in names), *place.glob("*.part"), *place.glob(f"{STAGED}*")]:
                if path.is_file():
                    size = path.stat().st_size
                    path.unlink()
                    freed += size
        except OSError as error:
            raise WeightsError(
                f"Not all of {place} could be deleted: {error_message(error)}. Close other programs that use "
                "CoralBay, then try again."
            ) from error
    return freed
