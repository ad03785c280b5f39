"""Which scan to annotate next: the one that the probe is likely to learn most from. Imports no torch.

The rule, in this order:

1. A scan that somebody began to correct: most of its work is done.
2. Of the scans that are not flagged as unlike the others, or of all if every one is flagged:
   - before anything was accepted, the scan that is most like all others, because what is learned from it holds for most;
   - afterwards, the one with the largest product of the error to expect, 1 - Dice, and novelty. The error of a scan without a
     suggestion is the mean of the known ones. Novelty is the distance (see `measures.distances`) to the nearest accepted scan
     as a fraction of the largest such distance, from 1/2 (like an accepted scan) to 1.
3. Among equals, the one that was added first. Scans that were not read yet count as average.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from CoralBayLib.imaging.patients.measures import distances

from .status import ScanStatus, State

_UNKNOWN_ERROR = 0.5


def choose_next(
    scans: Sequence[ScanStatus], measured: Mapping[str, Mapping[str, float]], skip: Sequence[str] = ()
) -> ScanStatus | None:
    """The scan to annotate next; None if all that can be read are accepted.

    Args:
        scans: all, in the order in which they were added.
        measured: numbers that describe the scans, by name, of those that were read.
        skip: names of scans to pass over.
    """
    open_scans = [scan for scan in scans if scan.state is not State.ACCEPTED and scan.path and scan.name not in skip]
    begun = [scan for scan in open_scans if scan.state is State.CORRECTED]
    if begun or not open_scans:
        return begun[0] if begun else None
    candidates = [scan for scan in open_scans if not scan.flags] or open_scans
    accepted = {scan.name for scan in scans if scan.state is State.ACCEPTED}
    scores = _by_error_and_novelty(candidates, accepted, measured) if accepted else _by_likeness(candidates, measured)
    # max takes the first of equal ones.
    return max(candidates, key=lambda scan: scores[scan.name])


def _by_likeness(candidates: Sequence[ScanStatus], measured: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    names, apart = distances(measured)
    likeness = dict(zip(names, (-apart.mean(axis=1)).round(6).tolist(), strict=True)) if names else {}
    known = [likeness[scan.name] for scan in candidates if scan.name in likeness]
    average = float(np.mean(known)) if known else 0.0
    return {scan.name: likeness.get(scan.name, average) for scan in candidates}


def _by_error_and_novelty(
    candidates: Sequence[ScanStatus], accepted: set[str], measured: Mapping[str, Mapping[str, float]]
) -> dict[str, float]:
    names, apart = distances(measured)
    learned = [n for n, name in enumerate(names) if name in accepted]
    nearest = dict(zip(names, apart[:, learned].min(axis=1).tolist(), strict=True)) if learned else {}
    largest = max((nearest[scan.name] for scan in candidates if scan.name in nearest), default=0.0)
    errors = {scan.name: 1 - scan.estimated_dice for scan in candidates if scan.estimated_dice is not None}
    mean_error = float(np.mean(list(errors.values()))) if errors else _UNKNOWN_ERROR

    def score(scan: ScanStatus) -> float:
        novelty = nearest[scan.name] / largest if largest > 0 and scan.name in nearest else 0.5
        return round(errors.get(scan.name, mean_error) * (0.5 + 0.5 * novelty), 6)

    return {scan.name: score(scan) for scan in candidates}
