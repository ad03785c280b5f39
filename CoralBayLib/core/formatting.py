"""Sizes and durations as text for a person to read."""

from __future__ import annotations


def format_bytes(count: int) -> str:
    """A size in decimal megabytes, such as "29 MB" or "6.9 MB"."""
    return f"{count / 1e6:,.0f} MB" if count >= 1e7 else f"{count / 1e6:.1f} MB"


def format_duration(seconds: float) -> str:
    """A duration in the unit that suits it, such as "20 s", "5 min" or "1.5 h"."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
