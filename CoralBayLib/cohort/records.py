"""What the files in a cohort's folder say about its scans. Imports no torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from CoralBayLib.core.errors import CohortError
from CoralBayLib.core.paths import error_message
from CoralBayLib.imaging.formats import SEGMENTATION_SUFFIX
from CoralBayLib.imaging.patients.measures import is_measured, unlike_others, unlike_volumes

from .description import Description, ScanEntry, write_json
from .revisions import Revision, Revisions
from .status import ScanStatus, State

_PRIOR_SCANS = 2.0
"""The mean error of earlier estimates counts as n / (n + this) after n of them."""


class Records:
    """The records of a cohort.

    Args:
        folder: of the cohort.

    Attributes:
        accepted, corrections, suggestions: segmentations of the scans.
        probes: revisions of the one probe, named "probe".
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.accepted = Revisions(folder / "accepted", SEGMENTATION_SUFFIX, ("structures",))
        self.corrections = Revisions(folder / "corrections", SEGMENTATION_SUFFIX)
        self.suggestions = Revisions(folder / "suggestions", SEGMENTATION_SUFFIX, ("probe", "patients"))
        self.probes = Revisions(folder / "probe", ".safetensors", ("learned",))

    def of_state(self, state: State) -> Revisions:
        """The revisions that make a scan this state."""
        return {State.ACCEPTED: self.accepted, State.CORRECTED: self.corrections, State.SUGGESTED: self.suggestions}[state]

    def latest(self, scan: str) -> tuple[State, Revision] | None:
        """The state of a scan and its segmentation; None before anything was done.

        Raises:
            CohortError: the record is damaged.
        """
        for state in (State.ACCEPTED, State.CORRECTED, State.SUGGESTED):
            revision = self.of_state(state).latest(scan)
            if revision is not None:
                return state, revision
        return None

    def segmentation(self, scan: str) -> Path | None:
        """The segmentation of a scan that is in force, checked against its checksum; None without one."""
        found = self.latest(scan)
        return None if found is None else self.of_state(found[0]).require_intact(found[1])

    def accepted_records(self, description: Description) -> list[dict[str, Any]]:
        """The records of the accepted scans; damaged ones are left out."""
        records = []
        for scan in description.scans:
            try:
                revision = self.accepted.latest(scan.name)
            except CohortError:
                continue
            if revision is not None:
                records.append(revision.record)
        return records

    def unfinished(self) -> list[Path]:
        """Segmentations without a record."""
        return [path for revisions in (self.accepted, self.corrections, self.suggestions) for path in revisions.unfinished()]

    def scan_facts(self, scan: str) -> dict[str, Any] | None:
        """What was noted when a scan was read first: its fingerprint and numbers; None before, or if it is damaged."""
        try:
            facts = json.loads((self._folder / "scans" / f"{scan}.json").read_bytes())
        except (OSError, ValueError, RecursionError):
            return None  # It is made again from the scan.
        is_whole = isinstance(facts, dict) and isinstance(facts.get("content"), str) and is_measured(facts.get("numbers"))
        return facts if is_whole else None

    def note_scan(self, scan: str, content: str, numbers: Mapping[str, float]) -> None:
        """Write the fingerprint and the numbers of a scan.

        Args:
            scan: its name.
            content: fingerprint of its voxels and geometry.
            numbers: see `measures`.

        Raises:
            CohortError: the folder cannot be made.
            StoreError: the file cannot be written.
        """
        folder = self._folder / "scans"
        try:
            folder.mkdir(exist_ok=True)
        except OSError as error:
            raise CohortError(f"The folder {folder} cannot be made: {error_message(error)}.") from error
        write_json(folder / f"{scan}.json", {"content": content, "numbers": dict(numbers)})

    def measured(self) -> dict[str, dict[str, float]]:
        """Numbers of the scans that were read, by name; see `measures`."""
        folder = self._folder / "scans"
        names = [path.name.removesuffix(".json") for path in sorted(folder.glob("[!.]*.json"))]
        return {name: facts["numbers"] for name in names if (facts := self.scan_facts(name)) is not None}

    def status(self, description: Description) -> list[ScanStatus]:
        """See `Cohort.status`."""
        found: dict[str, tuple[State, Revision]] = {}
        faults: dict[str, str] = {}
        for scan in description.scans:
            try:
                latest = self.latest(scan.name)
            except CohortError as error:
                faults[scan.name] = str(error)
            else:
                if latest is not None:
                    found[scan.name] = latest
        measured = self.measured()
        volumes = {name: _numbers(revision.record.get("volume_ml")) for name, (_, revision) in found.items()}
        shift = self._mean_error(description)
        return [
            self._status_of(scan, found.get(scan.name), faults.get(scan.name, ""), measured, volumes, shift)
            for scan in description.scans
        ]

    def _status_of(
        self,
        scan: ScanEntry,
        found: tuple[State, Revision] | None,
        fault: str,
        measured: Mapping[str, Mapping[str, float]],
        volumes: Mapping[str, Mapping[str, float]],
        shift: float,
    ) -> ScanStatus:
        path = scan.locate(self._folder)
        state, record = (State.TO_DO, {}) if found is None else (found[0], found[1].record)
        flags = [fault] if fault else []
        flags += [] if path is not None else [f"The scan is no longer at {scan.absolute}."]
        flags += unlike_others(scan.name, measured) + unlike_volumes(scan.name, volumes)
        dice = None
        if state in (State.SUGGESTED, State.CORRECTED) or record.get("estimated_dice"):
            estimates = list(_numbers(record.get("estimated_dice")).values())
            dice = round(float(np.clip(np.mean(estimates) + shift, 0, 1)), 3) if estimates else None
        by, when = str(record.get("by", "")), str(record.get("when", ""))
        return ScanStatus(scan.name, state, "" if path is None else str(path), dice, tuple(flags), by, when)

    def _mean_error(self, description: Description) -> float:
        """By how much earlier estimates of the Dice were too low on average, less while they are few."""
        errors = []
        for record in self.accepted_records(description):
            achieved, estimated = _numbers(record.get("suggestion_dice")), _numbers(record.get("estimated_dice"))
            errors += (
                [float(np.mean([achieved[n] - estimated[n] for n in both]))] if (both := set(achieved) & set(estimated)) else []
            )
        return float(np.sum(errors)) / (len(errors) + _PRIOR_SCANS)


def _numbers(value: Any) -> dict[str, float]:
    """The numbers of an object from a file; nothing if it is something else."""
    return {str(k): float(v) for k, v in value.items() if type(v) in (int, float)} if isinstance(value, dict) else {}
