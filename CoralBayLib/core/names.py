"""Names of structures as people read them: which are the same, and which mean the background. Imports no torch."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

BACKGROUND_NAMES = (
    *("background", "back ground", "back-ground", "negative", "negatives", "negative points", "bg", "bkg", "bkgd", "0"),
    *("hintergrund", "negativ", "fond", "arrière-plan", "arrière plan", "arriere-plan", "négatif", "fondo", "negativo"),
    *("sfondo", "fundo", "achtergrond", "fons", "fundal", "bakgrund", "bakgrunn", "bakgrunnur", "baggrund", "tausta"),
    *("taust", "fonas", "tło", "tlo", "pozadí", "pozadie", "pozadina", "ozadje", "háttér", "arka plan", "arkaplan"),
    *("фон", "тло", "позадина", "φόντο", "רקע", "خلفية", "پسزمینه", "پس زمینه", "पृष्ठभूमि", "พื้นหลัง", "nền"),
    *("latar belakang", "背景", "バックグラウンド", "배경"),
)
"""Names of the background, folded: English with abbreviations, then other languages that Slicer is used in."""
_NUMBER = re.compile(r"(?:[\s_.\-]*(?:\(\d+\)|#?\d+|(?<=[\s_.\-])\(?(?:copy|kopie|copie|copia|cópia)\)?))+$")
"""What Slicer, file managers and people append to a second thing of one name: "_1", "-2", " 3", " (4)", " #5", " copy"."""
_FORMS = ("<wide>", "<narrow>", "<noBreak>")
"""Kinds of characters that look like another one: full-width, half-width and unbreakable forms."""


def fold(name: str) -> str:
    """A name in the form in which two names are equal when they look alike.

    Case, the Unicode form (composed or decomposed), the width of characters, the kind of dash, invisible characters and
    repeated blanks make no difference.
    """
    visible = "".join(map(_plain, printable_name(name)))
    return " ".join(unicodedata.normalize("NFC", unicodedata.normalize("NFC", visible).casefold()).split())


def printable_name(name: str) -> str:
    """A name that every file can hold: control characters and broken ones become blanks, and those at the ends go."""
    kept = "".join(" " if unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") else character for character in name)
    return kept.strip()


def _plain(character: str) -> str:
    kind = unicodedata.category(character)
    if kind == "Cf":
        return ""
    if unicodedata.decomposition(character).startswith(_FORMS):
        character = unicodedata.normalize("NFKC", character)
    return "-" if kind == "Pd" else character


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
