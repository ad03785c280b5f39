"""The folder of files that come with CoralBay: encoder cards, small weights, examples."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]


def resources_dir() -> Path:
    """The folder `Resources`: inside the package when it is installed (wheel, Slicer), beside it in a source checkout."""
    inside = _PACKAGE / "Resources"
    return inside if inside.is_dir() else _PACKAGE.parent / "Resources"
