"""How far a match can be trusted: a probability, from what speaks for it.

A logistic regression on 588 matches says whether a match is within 10 mm of the right place: points in scans of two patients
of the neck, points whose place is not in the other scan, and simulated follow-ups (see DECISIONS.md).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

_INTERCEPT, _CYCLE, _COSINE, _OUTSIDE, _SAME_PATIENT = 1.92, -1.09, 1.10, -0.87, 1.96
"""Weights of the logistic regression."""


@dataclass(frozen=True)
class Evidence:
    """What speaks for a match.

    Attributes:
        cycle_mm: mm by which the way back misses the point.
        cosine: mean cosine of the features around both.
        outside_mm: how far the alignment of the bodies puts the point outside the other scan, mm.
        same_patient: whether the scans look like two of one patient.
    """

    cycle_mm: float
    cosine: float
    outside_mm: float
    same_patient: bool


def match_score(evidence: Evidence) -> float:
    """Estimated probability, 0 to 1, that a match is within 10 mm of the right place."""
    value = _INTERCEPT + _COSINE * evidence.cosine + _SAME_PATIENT * evidence.same_patient
    value += _CYCLE * math.log1p(evidence.cycle_mm) + _OUTSIDE * math.log1p(evidence.outside_mm)
    return 1 / (1 + math.exp(-value))


def score_in_words(score: float) -> str:
    """What a score means, for a person."""
    if score >= 0.8:
        return "good match"
    return "uncertain match: check it" if score >= 0.4 else "no reliable match: the place may not be in this scan"
