"""What is known of each scan of a cohort. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class State(Enum):
    """How far a scan is; the value is the word for a person."""

    TO_DO = "to do"
    """Nothing has been done."""
    SUGGESTED = "suggested"
    """There is a segmentation by the probe, which nobody has checked."""
    CORRECTED = "corrected"
    """Somebody began to correct it, and kept the work without accepting it."""
    ACCEPTED = "accepted"
    """Somebody accepted a segmentation; the probe learns from it."""


@dataclass(frozen=True)
class ScanStatus:
    """One scan.

    Attributes:
        name: in the cohort.
        state: how far it is.
        path: where the scan is now; "" if it is not where it was.
        estimated_dice: the mean over the structures that is expected of its suggestion; None without one.
        flags: sentences on what is unlike the other scans, and what is wrong with its files.
        by: who accepted or corrected it last; "" if nobody said.
        when: of that, or of the suggestion, as ISO 8601; "" before.
    """

    name: str
    state: State
    path: str
    estimated_dice: float | None = None
    flags: tuple[str, ...] = ()
    by: str = ""
    when: str = ""

    def as_dict(self) -> dict[str, object]:
        """The same in values that JSON can represent."""
        return {**vars(self), "state": self.state.value, "flags": list(self.flags)}
