"""Sentences of reports, grouped where they say the same.

Two sentences are one when they have nearly the same words. Case, punctuation and numbers make no difference: "A nodule of 5 mm"
and "A nodule of 8 mm" are shown together, each with its own wording. Words that change what a sentence says must be the same in
both: those of negation, doubt, side and change.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from CoralBayLib.core.names import fold

LEAST_OVERLAP = 0.8
"""Words that two sentences share, as a fraction of all their words."""
_DECISIVE = frozenset(
    (
        *("no", "not", "none", "without", "neither", "nor", "never", "absent", "negative", "free"),
        *("left", "right", "bilateral", "upper", "lower", "middle", "anterior", "posterior", "medial", "lateral"),
        *("possible", "probable", "likely", "unlikely", "suspected", "suspicious", "questionable"),
        *("new", "stable", "unchanged", "increased", "decreased", "larger", "smaller", "resolved", "progressive"),
        *("normal", "abnormal", "enlarged"),
        # Negation and sides in German, French, Spanish and Italian.
        *("kein", "keine", "keinen", "keiner", "nicht", "ohne", "links", "rechts", "linke", "rechte", "linken", "rechten"),
        *("pas", "sans", "aucun", "aucune", "gauche", "droit", "droite"),
        *("sin", "ningun", "ninguna", "izquierdo", "izquierda", "derecho", "derecha"),
        *("non", "senza", "nessun", "nessuna", "sinistro", "sinistra", "destro", "destra"),
    )
)
"""Words that must be in both sentences or in neither."""
_ABBREVIATIONS = frozenset(("e.g", "i.e", "approx", "ca", "cf", "dr", "fig", "nr", "vs", "incl", "resp", "max", "min", "seg"))
_END = re.compile(r"(?<=[.!?])\s+(?=[^\W\d_a-z]|\d|$)|\s*\n+\s*")


@dataclass(frozen=True)
class Group:
    """Sentences that say the same.

    Attributes:
        text: its most frequent wording, as it is in a report.
        wordings: all wordings, the most frequent first.
        ranks: of the scans whose reports have it, ascending.
    """

    text: str
    wordings: tuple[str, ...]
    ranks: tuple[int, ...]

    def as_dict(self) -> dict[str, Any]:
        """In values that JSON can represent."""
        return asdict(self)


def split_sentences(report: str) -> list[str]:
    """The sentences of a report, in its order.

    A sentence ends at the end of a line, or at a full stop, question or exclamation mark before a capital letter or number.
    """
    parts: list[str] = []
    for part in _END.split(report):
        text = part.strip().lstrip("-*\u2022 ").strip()
        if not text:
            continue
        if parts and parts[-1].rsplit(" ", 1)[-1].rstrip(".").lower() in _ABBREVIATIONS and parts[-1].endswith("."):
            parts[-1] = f"{parts[-1]} {text}"
        else:
            parts.append(text)
    return parts


def group_sentences(reports: Iterable[tuple[int, str]], least_overlap: float = LEAST_OVERLAP) -> list[Group]:
    """Group the sentences of several reports.

    Each sentence joins the first group whose first sentence it is like, in the order of the reports.

    Args:
        reports: rank of the scan, and its report.
        least_overlap: words in common from which two sentences are like each other, from 0 to 1.

    Returns:
        The groups: those of most scans first, then those of the best ranks.
    """
    found: list[tuple[frozenset[str], Counter[str], set[int]]] = []
    for rank, report in reports:
        for sentence in split_sentences(report):
            words = _words(sentence)
            if not words:
                continue
            for known, wordings, ranks in found:
                if _are_alike(words, known, least_overlap):
                    wordings[sentence] += 1
                    ranks.add(rank)
                    break
            else:
                found.append((words, Counter([sentence]), {rank}))
    groups = [_group(wordings, ranks) for _, wordings, ranks in found]
    return sorted(groups, key=lambda each: (-len(each.ranks), each.ranks))


def _group(wordings: Counter[str], ranks: set[int]) -> Group:
    ordered: Sequence[str] = [text for text, _ in wordings.most_common()]
    return Group(ordered[0], tuple(ordered), tuple(sorted(ranks)))


def _words(sentence: str) -> frozenset[str]:
    """The words of a sentence, without numbers."""
    return frozenset(re.findall(r"[^\W\d_]+", fold(sentence)))


def _are_alike(one: frozenset[str], other: frozenset[str], least: float) -> bool:
    if one & _DECISIVE != other & _DECISIVE:
        return False
    return len(one & other) >= least * len(one | other)
