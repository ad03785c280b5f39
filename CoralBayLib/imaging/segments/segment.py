"""One structure of a labelmap."""

from __future__ import annotations

from dataclasses import dataclass

from CoralBayLib.core.errors import VolumeError
from CoralBayLib.imaging.palette import Color


@dataclass(frozen=True)
class Segment:
    """One structure of a labelmap.

    Attributes:
        label: value of its voxels, 1 or more.
        name: any characters.
        color_rgb: red, green and blue from 0 to 1.

    Raises:
        VolumeError: label below 1, an empty name, or a color out of range.
    """

    label: int
    name: str
    color_rgb: Color

    def __post_init__(self) -> None:
        if self.label < 1:
            raise VolumeError(f"Segment '{self.name}' has label {self.label}. Expected 1 or more: 0 is the background.")
        if not self.name.strip():
            raise VolumeError(f"The segment with label {self.label} has no name. Give it one.")
        if len(self.color_rgb) != 3 or not all(0 <= c <= 1 for c in self.color_rgb):
            raise VolumeError(f"Segment '{self.name}' has color {self.color_rgb}. Expected three numbers from 0 to 1.")
