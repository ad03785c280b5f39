"""The estimated Dice in words."""

import pytest

from CoralBayLib.fewshot.wording import brief_dice, describe_dice, explain_dice


@pytest.mark.parametrize(
    ("dice", "words", "brief"),
    [
        (0.0, "likely incomplete: click again", "incomplete"),
        (0.699, "likely incomplete: click again", "incomplete"),
        (0.70, "check the borders", "check borders"),
        (0.85, "check the borders", "check borders"),
        (0.851, "likely complete", "complete"),
        (1.0, "likely complete", "complete"),
    ],
)
def test_an_estimate_is_worded(dice, words, brief):
    assert describe_dice(dice) == words
    assert brief_dice(dice) == brief


def test_the_number_comes_with_its_uncertainty():
    assert explain_dice(0.623, 0.132) == "Estimated Dice 0.62 ± 0.13; 1 is perfect"
