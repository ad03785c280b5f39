"""Sizes, durations and the time left."""

from __future__ import annotations

import pytest

from CoralBayLib.core.formatting import format_bytes, format_duration, format_file_size
from CoralBayLib.core.progress import seconds_left


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0.0 MB"), (6_900_000, "6.9 MB"), (29_400_000, "29 MB"), (5 * 10**9, "5,000 MB")]
)
def test_sizes(count, text):
    assert format_bytes(count) == text


@pytest.mark.parametrize(("count", "text"), [(0, "0.0 kB"), (17_238, "17.2 kB"), (99_999, "100.0 kB"), (2_622_938, "2.6 MB")])
def test_sizes_of_files(count, text):
    assert format_file_size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "1 s"), (20.4, "20 s"), (89, "89 s"), (90, "2 min"), (300, "5 min"), (5399, "90 min"), (5400, "1.5 h")],
)
def test_durations(seconds, text):
    assert format_duration(seconds) == text


def test_the_time_left_follows_from_the_pace_so_far():
    assert seconds_left(10, 0) is None
    assert seconds_left(10, 1 / 3) == pytest.approx(20)
    assert seconds_left(10, 1) == 0
