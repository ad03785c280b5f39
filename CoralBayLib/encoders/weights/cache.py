"""CoralBay's folder for weights. Each encoder has a subfolder with the weights file and a record that describes it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from CoralBayLib.core.errors import WeightsError
from CoralBayLib.core.paths import atomic_write, cache_dir, error_message, is_leftover, remove_leftovers, remove_quietly

from .sources import PackagedWeights, Weights, WeightsSource, sha256_of

_RECORD = "weights.json"
_LOCK = ".lock"
STAGED = ".import-"
"""Prefix of the names of files during an import."""
_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Record:
    """Description of a weights file. It is stored beside the file, and in the manifest of a bundle.

    Attributes:
        encoder: name of the encoder.
        repo: repository on the hub or package on PyPI.
        revision: commit on the hub, or "".
        file: name of the file, without folders.
        sha256: SHA-256 of the file.
        bytes: size of the file.
        licence: license of the weights.
        licence_text: text of the license, when it was part of the packages.
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
        """Describe a file that is known to hold these weights."""
        repo = weights.repo_id if isinstance(weights, WeightsSource) else getattr(weights, "package", "")
        revision = weights.revision if isinstance(weights, WeightsSource) else ""
        text = weights.notice() if isinstance(weights, PackagedWeights) else ""
        name = Path(weights.filename).name
        return cls(weights.encoder, repo, revision, name, sha256_of(path), path.stat().st_size, weights.licence, text)

    @classmethod
    def read(cls, content: Any) -> Record:
        """Read a record from JSON content.

        Raises:
            ValueError: the content is not a record, or its names could lead out of the folder.
        """
        if not isinstance(content, dict) or set(content) != {field.name for field in fields(cls)}:
            raise ValueError("a record lacks fields or has unknown ones")
        if not all(isinstance(value, int if name == "bytes" else str) for name, value in content.items()):
            raise ValueError("a field is of another type")
        record = cls(**content)
        if not _SAFE.fullmatch(record.encoder) or not _SAFE.fullmatch(record.file) or record.file == _RECORD:
            raise ValueError(f"'{record.encoder}/{record.file}' is not a usable name")
        if not _SHA256.fullmatch(record.sha256) or record.bytes < 0:
            raise ValueError("the SHA-256 or the size is not valid")
        return record

    def as_dict(self) -> dict[str, Any]:
        """All fields, ready for JSON."""
        return asdict(self)

    def mismatch(self, weights: Weights) -> str:
        """Why this file does not hold the given weights; "" when it does."""
        if isinstance(weights, PackagedWeights):
            return "" if self.sha256 == weights.sha256 else f"another file (its SHA-256 is {self.sha256})"
        if isinstance(weights, WeightsSource) and (self.repo, self.revision) != (weights.repo_id, weights.revision):
            return f"revision {self.revision or 'none'} of {self.repo or 'no repository'}"
        return ""


def folder(encoder: str) -> Path:
    """The folder of an encoder's weights; it need not exist.

    Raises:
        WeightsError: the encoder's name cannot be used as a folder name.
    """
    if not _SAFE.fullmatch(encoder):
        raise WeightsError(f"'{encoder}' cannot be used as a folder name: use letters, digits, dots, dashes and underscores.")
    return cache_dir() / "weights" / encoder


def peek(weights: Weights) -> tuple[Record | None, str]:
    """Look up the cached file of these weights without reading it.

    Returns:
        The record and "found", or None and the reason.
    """
    place = folder(weights.encoder)
    try:
        record = Record.read(json.loads((place / _RECORD).read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None, "does not hold the file"
    except (OSError, ValueError, RecursionError) as error:
        return None, f"holds a record that cannot be read ({error})"
    if other := record.mismatch(weights):
        return None, f"holds {other}"
    path = path_of(record)
    if not path.is_file() or path.stat().st_size != record.bytes:
        return None, "holds a damaged copy (its size is not the recorded one)"
    return record, "found"


def verified(weights: Weights) -> tuple[Record | None, str]:
    """As `peek`, and verify the file's SHA-256."""
    record, outcome = peek(weights)
    if record is not None and sha256_of(path_of(record)) != record.sha256:
        return None, "holds a damaged copy (its SHA-256 is not the recorded one)"
    return record, outcome


def path_of(record: Record) -> Path:
    """Path of a cached file."""
    return folder(record.encoder) / record.file


@contextmanager
def locked(encoder: str) -> Iterator[None]:
    """Lock an encoder's folder, which must exist, against changes by other processes.

    Raises:
        WeightsError: another process holds the lock, or the folder cannot be written.
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
            f"Cannot write in {place}: {error_message(error)}. Check your permissions, or set CORALBAY_CACHE to another folder."
        ) from error
    try:
        yield
    finally:
        lock.release()


def install(record: Record, temporary: Path) -> Path:
    """Give a verified file its final name, and write its record.

    The file that it replaces is deleted; other files in the folder are kept.

    Args:
        record: description of the file.
        temporary: the file, in the encoder's folder.

    Returns:
        The final path.

    Raises:
        StoreError: the folder cannot be written; the earlier file is kept.
    """
    place = folder(record.encoder)
    target = place / record.file
    previous = _recorded(record.encoder)
    with atomic_write(place / _RECORD) as file:
        # First, since it needs disk space and may fail.
        file.write_text(json.dumps(record.as_dict(), indent=2), encoding="utf-8")
        temporary.replace(target)
    if previous is not None and previous.file != record.file:
        (place / previous.file).unlink(missing_ok=True)
    return target


def _recorded(encoder: str) -> Record | None:
    try:
        return Record.read(json.loads((folder(encoder) / _RECORD).read_text(encoding="utf-8")))
    except (OSError, ValueError, RecursionError):
        return None


def make_folder(encoder: str) -> Path:
    """Create the encoder's folder if necessary.

    Raises:
        WeightsError: the folder cannot be created.
    """
    place = folder(encoder)
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WeightsError(
            f"Cannot create the folder {place}: {error_message(error)}. Set CORALBAY_CACHE to another folder."
        ) from error
    return place


def partial(encoder: str, sha256: str) -> Path:
    """Path of an unfinished download of the file with this SHA-256."""
    return folder(encoder) / f"{sha256}.part"


def partial_bytes(encoder: str) -> int:
    """Size of the encoder's unfinished downloads."""
    place = folder(encoder)
    return sum(path.stat().st_size for path in place.glob("*.part")) if place.is_dir() else 0


def drop_partials(encoder: str) -> None:
    """Delete the encoder's unfinished downloads, including those of earlier revisions."""
    for path in folder(encoder).glob("*.part"):
        path.unlink(missing_ok=True)


def drop_leftovers(encoder: str) -> None:
    """Delete the copies of imports whose process has ended, and other temporary files of ended processes."""
    place = folder(encoder)
    remove_leftovers(place)
    for path in place.glob(f"{STAGED}*"):
        if is_leftover(path.name.removeprefix(STAGED), path):
            remove_quietly(path)


def clear(weights: Weights) -> int:
    """Delete the cached file of these weights, unfinished downloads and unfinished imports. Other files are kept.

    Returns:
        The bytes freed.

    Raises:
        WeightsError: a file could not be deleted, or another process is changing the folder.
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
                f"Some files in {place} could not be deleted: {error_message(error)}. Close other programs that use "
                "CoralBay, then try again."
            ) from error
    return freed
