"""The estimated Dice of a preview in words. Imports no torch."""

from __future__ import annotations

CHECK_FROM, COMPLETE_FROM = 0.70, 0.85
"""Estimated Dice from which borders are to be checked, and above which a structure is likely complete."""


def describe_dice(dice: float) -> str:
    """What an estimated Dice, from 0 to 1, means for the user."""
    if dice < CHECK_FROM:
        return "likely incomplete: click again"
    return "check the borders" if dice <= COMPLETE_FROM else "likely complete"


def brief_dice(dice: float) -> str:
    """`describe_dice` in at most two words, for a narrow column."""
    if dice < CHECK_FROM:
        return "incomplete"
    return "check borders" if dice <= COMPLETE_FROM else "complete"


def explain_dice(dice: float, error: float) -> str:
    """The estimate itself with its standard deviation, in two decimals."""
    return f"Estimated Dice {dice:.2f} ± {error:.2f}; 1 is perfect"
