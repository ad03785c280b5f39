"""Names as people read them."""

import pytest

from CoralBayLib.core.names import BACKGROUND_NAMES, fold, is_background, printable_name, unique_names


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


@pytest.mark.parametrize(
    "name",
    [
        *(
            "\uff42\uff41\uff43\uff4b\uff47\uff52\uff4f\uff55\uff4e\uff44",
            "back ground",
            "Back-Ground 2",
            "background copy",
            "Background_Copy",
            "background (copy) 2",
            "BKG_1",
        ),
        *(
            "Background #2",
            "背景\uff08\uff12\uff09",
            "Arrière\u2011plan",
            "arriere-plan",
            "ARKAPLAN",
            "پس\u200cزمین\u0647 2",
            "тло_1",
            "Fundal",
            "Φόντο",
        ),
    ],
)
def test_more_names_of_the_background(name):
    assert is_background(name)


@pytest.mark.parametrize("name", ["background of the liver", "liver copy", "fundus", "backgroundcopy", "copy", "fondo de ojo"])
def test_names_that_only_begin_alike(name):
    assert not is_background(name)


@pytest.mark.parametrize(
    ("one", "other"),
    [("\uff4c\uff49\uff56\uff45\uff52", "liver"), ("L\uff11", "l1"), ("a\u2011b", "a-b"), ("a\u2013b", "a-b"), ("a\0b", "a b")],
)
def test_names_that_look_alike_are_one(one, other):
    assert fold(one) == fold(other)


def test_marks_that_make_a_difference_stay():
    assert fold("lesion²") != fold("lesion2")


def test_a_printable_name():
    assert printable_name(" a\0b\nc\ud800 ") == "a b c"
