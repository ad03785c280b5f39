"""Names of structures as people read them: which are the same, and which mean the background. Imports no torch."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

BACKGROUND_NAMES = (
    *("background", "negative", "bg", "0"),
    *("hintergrund", "fond", "arrière-plan", "fondo", "sfondo", "fundo", "achtergrond"),
    *("bakgrund", "bakgrunn", "baggrund", "tausta", "tło", "pozadí", "háttér", "arka plan", "фон", "背景", "배경"),
)
"""Names of the background, folded: English with abbreviations, then other languages that Slicer is used in."""
_NUMBER = re.compile(r"(?:[\s_.\-]*(?:\(\d+\)|\d+))+$")
"""What Slicer and file managers append to a second thing of one name: "_1", "-2", " 3", " (4)"."""


def fold(name: str) -> str:
    """A name in the form in which two names are equal when they look alike.

    Case, the Unicode form (composed or decomposed), invisible characters and repeated blanks make no difference.
    """
    visible = "".join(character for character in name if unicodedata.category(character) != "Cf")
    return " ".join(unicodedata.normalize("NFC", unicodedata.normalize("NFC", visible).casefold()).split())


def is_background(name: str, *others: str) -> bool:
    """Whether a name means the background, also with a number behind it, as in "background_1" or "Hintergrund-2".

    Args:
        name: of a structure, segment, list of points or file.
        others: further names of the background, such as a translation.
    """
    known, folded = {*BACKGROUND_NAMES, *map(fold, others)}, fold(name)
    if folded in known:
        return True
    word = _NUMBER.sub("", folded)
    return word in known and not word.isdigit()


def unique_names(names: Iterable[str]) -> list[str]:
    """The names with a number behind those that an earlier one is like: "lesion", "lesion (2)"; none is lost."""
    given, unique = list(names), []
    taken, seen = {fold(name) for name in given}, set[str]()
    for name in given:
        candidate, number = name, 2
        if fold(name) in seen:
            while fold(candidate := f"{name} ({number})") in taken:
                number += 1
        seen.add(fold(candidate))
        taken.add(fold(candidate))
        unique.append(candidate)
    return unique
