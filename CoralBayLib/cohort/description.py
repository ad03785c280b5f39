"""What `cohort.json` holds: the cohort's name, its structures, the encoder, and its scans.

The file is replaced as a whole, by renaming, and a second copy is kept beside it. Imports no torch.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from CoralBayLib.core import schemas
from CoralBayLib.core.errors import CohortError, Remedy, StoreError
from CoralBayLib.core.locks import lock_file
from CoralBayLib.core.names import fold, is_background, printable_name
from CoralBayLib.core.paths import atomic_write, error_message
from CoralBayLib.core.progress import CancelToken

FORMAT_VERSION = 1
FILE, COPY = "cohort.json", "cohort.copy.json"
_LOCK = ".lock"
_MOST_ID = 80
"""Characters of a scan's name at most: it becomes part of file names."""


@dataclass(frozen=True)
class ScanEntry:
    """One scan of a cohort.

    Attributes:
        name: unique in the cohort; part of the names of its files.
        path: of the scan, relative to the cohort's folder, with slashes; absolute where no relative path leads there.
        absolute: the path when the scan was added.
    """

    name: str
    path: str
    absolute: str

    def locate(self, folder: Path) -> Path | None:
        """Where the scan is: relative to the cohort's folder, or where it was; None if it is in neither place."""
        for path in (folder / self.path, Path(self.absolute)):
            try:
                if path.exists():
                    return Path(os.path.abspath(path))  # noqa: PTH100 - normalizes "..", keeps symbolic links
            except (OSError, ValueError):  # such as a NUL byte
                continue
        return None

    def require(self, folder: Path) -> Path:
        """Where the scan is.

        Raises:
            CohortError: it is nowhere that the cohort knows of.
        """
        path = self.locate(folder)
        if path is None:
            raise CohortError(
                f"The scan '{self.name}' is no longer at {self.absolute}. If the drive is not connected, connect it. If the "
                "scan was moved, tell the cohort where it is now; everything that was done is kept.",
                remedy=Remedy.RELOCATE_SCANS,
            )
        return path


@dataclass(frozen=True)
class Description:
    """What a cohort is about.

    Attributes:
        name: of the cohort.
        structures: names of the structures that are looked for in every scan; the first has label 1.
        encoder: identity of the features, with the name of the encoder and the checksum of its weights; None until the first
            suggestion or acceptance.
        created: when, as ISO 8601.
        scans: in the order in which they were added.
    """

    name: str
    structures: tuple[str, ...]
    encoder: dict[str, Any] | None
    created: str
    scans: tuple[ScanEntry, ...] = field(default=())

    @property
    def labels(self) -> dict[int, str]:
        """Names of the structures by label."""
        return dict(enumerate(self.structures, start=1))

    def scan(self, name: str) -> ScanEntry:
        """The scan of a name.

        Raises:
            CohortError: there is none.
        """
        for each in self.scans:
            if each.name == name:
                return each
        raise CohortError(
            f"The cohort has no scan '{name}'. Its scans are {', '.join(s.name for s in self.scans[:20]) or 'none'}."
        )


_ENTRY = schemas.record(name=schemas.text, path=schemas.text, absolute=schemas.text)
_FIELDS = {
    "name": schemas.text,
    "structures": schemas.list_of(schemas.text, unique=True, least=1),
    "encoder": lambda value: value is None or schemas.record(encoder=schemas.text, weights=schemas.text)(value),
    "created": schemas.text,
    "scans": schemas.list_of(_ENTRY),
}


def now() -> str:
    """The time, as ISO 8601 with the time zone UTC, to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def checked_structures(names: Sequence[str]) -> tuple[str, ...]:
    """The names of the structures of a new cohort.

    Raises:
        CohortError: none, a name is empty, two are alike, or one means the background.
    """
    cleaned = tuple(printable_name(name) for name in names)
    if not cleaned or not all(map(fold, cleaned)):
        raise CohortError("Name the structures that are to be segmented in every scan, at least one.")
    if len({fold(name) for name in cleaned}) < len(cleaned):
        raise CohortError("Two structures have the same name. Give each its own.")
    if any(map(is_background, cleaned)):
        raise CohortError("One of the structures is named like the background, which needs no name. Leave it out.")
    if len(cleaned) > schemas.MAX_LABEL:
        raise CohortError(f"A cohort has {schemas.MAX_LABEL} structures at most.")
    return cleaned


def read_description(folder: Path) -> Description:
    """Read `cohort.json`.

    Raises:
        CohortError: there is none, it is damaged, or a newer version of CoralBay wrote it.
    """
    path = folder / FILE
    if not path.is_file():
        raise CohortError(f"There is no cohort in {folder}.", remedy=Remedy.CREATE_COHORT, path=str(folder))
    try:
        document = json.loads(path.read_bytes())
        version = document["format"]
        if type(version) is not int:
            raise ValueError("its format is not a number")
        if version > FORMAT_VERSION:
            raise CohortError(
                f"The cohort in {folder} has format {version}; this version of CoralBay reads formats up to {FORMAT_VERSION}. "
                "Update CoralBay."
            )
        wrong = [name for name, check in _FIELDS.items() if name not in document or not check(document[name])]
        if wrong:
            raise ValueError(f"its field '{wrong[0]}' is missing or wrong")
        scans = tuple(ScanEntry(each["name"], each["path"], each["absolute"]) for each in document["scans"])
        if len({scan.name for scan in scans}) < len(scans) or any(scan.name != safe_name(scan.name) for scan in scans):
            raise ValueError("a name of a scan is wrong, or given twice")
        structures = checked_structures(document["structures"])
    except OSError as error:
        raise CohortError(f"{path} cannot be read ({error_message(error)}).") from error
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        if isinstance(error, CohortError) and str(error).startswith("The cohort in"):
            raise
        raise CohortError(
            f"{path} is damaged ({error}). Segmentations and their records are not affected. Copy {COPY}, which lies beside "
            f"it, over {FILE}, or restore it from a backup."
        ) from error
    return Description(document["name"], structures, document["encoder"], document["created"], scans)


def write_description(folder: Path, description: Description) -> None:
    """Replace `cohort.json`, and then its copy.

    Raises:
        StoreError: it could not be written; the existing one is unchanged.
    """
    document = {
        "format": FORMAT_VERSION,
        "name": description.name,
        "structures": list(description.structures),
        "encoder": description.encoder,
        "created": description.created,
        "scans": [vars(scan) for scan in description.scans],
    }
    for name in (FILE, COPY):
        write_json(folder / name, document)


def write_json(path: Path, document: Any) -> None:
    """Write a JSON file completely or not at all."""
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def safe_name(text: str) -> str:
    """A name of a scan that can be part of a file name on every system."""
    return re.sub(r"[^\w.-]+", "_", printable_name(text)).strip("._ ")[:_MOST_ID].rstrip("._") or "scan"


@contextmanager
def locked(folder: Path, cancel: CancelToken | None = None) -> Iterator[None]:
    """Hold the lock of a cohort's folder while it is changed; waits until it is free.

    Raises:
        StoreError: the folder cannot be written.
        Cancelled: `cancel` was called while waiting.
    """
    with ExitStack() as held:
        try:
            held.enter_context(lock_file(folder / _LOCK, cancel))
        except OSError as error:
            raise StoreError(
                f"The cohort's folder {folder} cannot be written: {error_message(error)}. Check that you may write there."
            ) from error
        yield
