"""All colors that the module uses, red, green and blue from 0 to 1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from CoralBayLib.imaging.palette import Color, label_color

__all__ = ["Color", "Ramp", "label_color"]

Ramp = Sequence[Color]
"""Colors from the lowest to the highest value, at equal steps."""

BACKGROUND: Color = (0.95, 0.95, 0.95)
"""Of the background's prompts: near white, because gray is not seen on soft tissue."""
QUERY: Color = (1.0, 0.2, 0.7)
"""Of the query point; it does not occur in the similarity map."""
LIBRARY_REGION: Color = (0.2, 0.9, 1.0)
"""Marks a region that was found in a library, in the views and in thumbnails; differs from `QUERY` and the similarity map."""
SIMILAR_REGIONS: Color = (0.99, 0.91, 0.14)
"""Of the segment of similar regions: the top of the similarity map."""

PLOT: tuple[Color, ...] = (
    (0.12, 0.47, 0.71),
    (0.90, 0.49, 0.13),
    (0.17, 0.63, 0.17),
    (0.84, 0.15, 0.16),
    (0.58, 0.40, 0.74),
)
"""Of the series of a chart, in turn."""
PLOT_REFERENCE: Color = (0.4, 0.4, 0.4)
"""Of a chart's reference line."""

UNCERTAINTY: Ramp = ((0.15, 0.0, 0.3), (0.7, 0.1, 0.5), (1.0, 0.6, 0.3), (1.0, 1.0, 0.7))
SALIENCY: Ramp = ((0.25, 0.0, 0.0), (0.75, 0.1, 0.05), (1.0, 0.6, 0.1), (1.0, 1.0, 0.75))
SIMILARITY: Ramp = ((0.27, 0.0, 0.33), (0.23, 0.32, 0.55), (0.13, 0.57, 0.55), (0.37, 0.79, 0.38), SIMILAR_REGIONS)
"""Perceptually even, and readable without red and green (after viridis)."""


def shades(color: Sequence[float]) -> Ramp:
    """The ramp of a structure's probability: from a dark shade of its color to the color itself."""
    red, green, blue = color
    return (0.25 * red, 0.25 * green, 0.25 * blue), (red, green, blue)


def by_name(names: Mapping[int, str]) -> dict[str, Color]:
    """The colors of structures by name.

    Args:
        names: by label.
    """
    return {name: label_color(label) for label, name in names.items()}
