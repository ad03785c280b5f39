"""The alignment of two bodies, where `fewshot` looks for it; see `features.alignment`."""

from CoralBayLib.features.alignment import AxisAlignment, align

__all__ = ["AxisAlignment", "align"]
