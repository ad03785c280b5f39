"""Colors of segments: the same label has the same color in every file and view."""

from __future__ import annotations

import colorsys

Color = tuple[float, float, float]
"""Red, green and blue from 0 to 1."""

_FIRST: tuple[Color, ...] = (
    (0.90, 0.62, 0.00),
    (0.34, 0.71, 0.91),
    (0.00, 0.62, 0.45),
    (0.94, 0.89, 0.26),
    (0.80, 0.47, 0.65),
    (0.84, 0.37, 0.00),
    (0.00, 0.45, 0.70),
    (0.60, 0.90, 0.40),
)
"""Colors of labels 1 to 8. They differ from each other and from gray, also with most color vision deficiencies (after Okabe
and Ito, 2008)."""
_HUE_STEP = 0.381966
"""1 - 1 / golden ratio: every new hue falls into the widest remaining gap."""


def label_color(label: int) -> Color:
    """The color of a structure. Consecutive labels are easy to tell apart; no color is near black.

    Args:
        label: 1 or more.
    """
    if label <= len(_FIRST):
        return _FIRST[label - 1]
    index = label - len(_FIRST) - 1
    saturation, value = ((0.65, 0.95), (0.85, 0.75), (0.4, 1.0))[index // 8 % 3]
    red, green, blue = colorsys.hsv_to_rgb((0.92 + index * _HUE_STEP) % 1.0, saturation, value)
    return round(red, 4), round(green, 4), round(blue, 4)
