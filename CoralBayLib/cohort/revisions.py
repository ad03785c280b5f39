"""Segmentations and probes on disk, each with a JSON record beside it, in numbered revisions.

A file is written first and its record second; the record names the file and its checksum, and is what counts. A crash between
the two leaves the earlier revision in force and the new file without a record. Nothing is overwritten. Imports no torch.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from CoralBayLib.core import schemas
from CoralBayLib.core.errors import CohortError, StoreError
from CoralBayLib.core.paths import TEMPORARY, error_message, remove_quietly

from .description import write_json

if TYPE_CHECKING:
    from CoralBayLib.fewshot.prompts import Prompts

FORMAT_VERSION = 1
PROMPTS = ".prompts.json"


def _or_none(check: schemas.Check) -> schemas.Check:
    return lambda value: value is None or check(value)


def _numbers(value: Any) -> bool:
    return isinstance(value, dict) and all(map(schemas.number, value.values()))


_FIELDS: dict[str, schemas.Check] = {
    "file": schemas.text,
    "sha256": schemas.text,
    "prompts": _or_none(schemas.text),
    "scan": schemas.text,
    "by": schemas.text,
    "when": schemas.text,
    "structures": schemas.list_of(schemas.text),
    "volume_ml": _numbers,
    "empty": schemas.one_of(True, False),
    "encoder": _or_none(schemas.record(encoder=schemas.text, weights=schemas.text)),
    "probe": _or_none(schemas.text),
    "patients": _or_none(schemas.whole(0)),
    "suggestion": _or_none(schemas.text),
    "suggestion_dice": _numbers,
    "estimated_dice": _or_none(_numbers),
    "learned": schemas.list_of(schemas.tuple_of(schemas.text, schemas.whole(1))),
}
"""What the fields of records must be, where they are there."""


@dataclass(frozen=True)
class Revision:
    """One version of a file, with its record.

    Attributes:
        name: of the scan.
        number: 1 for the first.
        file: the segmentation or probe.
        record: the content of the JSON file.
    """

    name: str
    number: int
    file: Path
    record: dict[str, Any]


class Revisions:
    """The revisions in one folder.

    Args:
        folder: need not exist yet.
        suffix: of the files, such as ".seg.nrrd".
        required: fields that every record must have, beside the name of the file and its checksum.
    """

    def __init__(self, folder: Path, suffix: str, required: Sequence[str] = ()) -> None:
        self.folder = folder
        self._suffix = suffix
        self._required = ("file", "sha256", *required)

    def latest(self, name: str) -> Revision | None:
        """The newest revision of a scan that has a record; None if there is none.

        Raises:
            CohortError: the record is damaged, or its file is missing.
        """
        numbers = self._numbers().get(name, {})
        recorded = [number for number, suffixes in numbers.items() if ".json" in suffixes]
        if not recorded:
            return None
        number = max(recorded)
        path, file = self._path(name, number, ".json"), self._path(name, number, self._suffix)
        record = _read(path, self._required)
        if not file.is_file():
            raise CohortError(f"{file} is missing, but {path.name} describes it. Restore it from a backup, or delete {path}.")
        return Revision(name, number, file, record)

    def names(self) -> set[str]:
        """The scans that have a revision with a record."""
        return {name for name, numbers in self._numbers().items() if any(".json" in found for found in numbers.values())}

    def add(
        self,
        name: str,
        write: Callable[[Path], None],
        record: Mapping[str, Any],
        earlier: int | None = None,
        prompts: Prompts | None = None,
    ) -> Revision:
        """Write a file and then its record. The caller holds the lock of the cohort.

        Args:
            name: of the scan.
            write: writes the file completely or not at all.
            record: what the JSON file says, beside the checksum.
            earlier: how many earlier revisions stay when the new one is complete; all if None.
            prompts: written beside the file, as `read_prompts` reads them.

        Raises:
            StoreError: a file could not be written; the earlier revision is still the newest.
        """
        try:
            self.folder.mkdir(exist_ok=True)
        except OSError as error:
            raise StoreError(f"The folder {self.folder} cannot be made: {error_message(error)}.") from error
        numbers = self._numbers().get(name, {})
        number = max(numbers, default=0) + 1
        file = self._path(name, number, self._suffix)
        write(file)
        clicks = self._path(name, number, PROMPTS) if prompts is not None else None
        if prompts is not None and clicks is not None:
            prompts.save(clicks)
        own = {"format": FORMAT_VERSION, "file": file.name, "sha256": sha256_of(file)}
        complete = {**own, "prompts": clicks.name if clicks else None, **record}
        write_json(self._path(name, number, ".json"), complete)
        for old in sorted(numbers, reverse=True)[earlier:] if earlier is not None else ():
            # The record goes first: a file without one does not count.
            for suffix in sorted(numbers[old], key=lambda each: each != ".json"):
                remove_quietly(self._path(name, old, suffix))
        return Revision(name, number, file, complete)

    def require_intact(self, revision: Revision) -> Path:
        """The file of a revision.

        Raises:
            CohortError: it is not the file that the record describes.
        """
        if sha256_of(revision.file) != revision.record.get("sha256"):
            raise CohortError(
                f"{revision.file} is damaged, or was changed by another program: its checksum is not that of its record. "
                "Restore it from a backup, or accept the segmentation again."
            )
        return revision.file

    def unfinished(self) -> list[Path]:
        """Files without a record: writing them was interrupted before it was complete."""
        return [
            self._path(name, number, self._suffix)
            for name, numbers in sorted(self._numbers().items())
            for number, suffixes in numbers.items()
            if ".json" not in suffixes and self._suffix in suffixes
        ]

    def _path(self, name: str, number: int, suffix: str) -> Path:
        return self.folder / f"{name}.{number}{suffix}"

    def _numbers(self) -> dict[str, dict[int, set[str]]]:
        """The suffixes that are there, by scan and number."""
        pattern = re.compile(rf"(.+)\.([1-9]\d{{0,8}})({re.escape(self._suffix)}|\.json|{re.escape(PROMPTS)})")
        found: dict[str, dict[int, set[str]]] = {}
        try:
            files = [path.name for path in self.folder.iterdir() if not path.name.startswith((TEMPORARY, "."))]
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise CohortError(f"The folder {self.folder} cannot be read: {error_message(error)}.") from error
        for file in files:
            parts = pattern.fullmatch(file)
            if parts:
                found.setdefault(parts[1], {}).setdefault(int(parts[2]), set()).add(parts[3])
        return found


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, hexadecimal.

    Raises:
        CohortError: it cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise CohortError(f"{path} cannot be read ({error_message(error)}).") from error
    return digest.hexdigest()


def _read(path: Path, required: Sequence[str]) -> dict[str, Any]:
    try:
        record = json.loads(path.read_bytes())
        if not isinstance(record, dict) or type(record.get("format")) is not int:
            raise ValueError("it is not a record of a cohort")
        if record["format"] > FORMAT_VERSION:
            raise CohortError(
                f"{path} has format {record['format']}, which a newer version of CoralBay wrote. Update CoralBay."
            )
        missing = [name for name in required if name not in record]
        wrong = [name for name, value in record.items() if name in _FIELDS and not _FIELDS[name](value)]
        if missing or wrong:
            raise ValueError(f"its field '{(missing or wrong)[0]}' is missing or wrong")
    except CohortError:
        raise
    except OSError as error:
        raise CohortError(f"{path} cannot be read ({error_message(error)}).") from error
    except (ValueError, RecursionError) as error:
        raise CohortError(
            f"{path} is damaged ({error_message(error)}). The file beside it is not affected. Restore the record from a "
            "backup, or move it away, which puts the earlier revision in force, and accept the segmentation again."
        ) from error
    return record
