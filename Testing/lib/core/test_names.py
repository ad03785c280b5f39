"""Names as people read them."""

import pytest

from CoralBayLib.core.names import BACKGROUND_NAMES, fold, is_background, unique_names


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("L\u00e4sion", "La\u0308sion"),
        ("Liver", "liver"),
        ("STRASSE", "stra\u00dfe"),
        ("left  kidney ", "left\u00a0kidney"),
        ("le\u200bsion", "lesion"),
    ],
)
def test_names_that_look_alike_are_the_same(one, other):
    assert fold(one) == fold(other)


@pytest.mark.parametrize(("one", "other"), [("lesion 1", "lesion 2"), ("kidney_left", "kidney left"), ("T2", "T\u00b2")])
def test_names_that_look_different_are_not(one, other):
    assert fold(one) != fold(other)


def test_background_names_are_folded():
    assert [fold(name) for name in BACKGROUND_NAMES] == list(BACKGROUND_NAMES)


@pytest.mark.parametrize(
    "name",
    ["Background", "background_1", "Background_1_2", "Hintergrund-2", "FOND (3)", "arrie\u0300re-plan", "bg2", "0", " fondo "],
)
def test_background(name):
    assert is_background(name)


@pytest.mark.parametrize("name", ["liver", "background fat", "10", "0_1", "1", "", "foreground_1", "fond de l'œil"])
def test_not_background(name):
    assert not is_background(name)


def test_background_in_another_language():
    assert is_background("Sf\u00e9ra_1", "sfe\u0301ra")


def test_equal_names_are_numbered():
    assert unique_names(["a", "b", "A", "a (2)", "a"]) == ["a", "b", "A (3)", "a (2)", "a (4)"]
    assert unique_names([]) == []
