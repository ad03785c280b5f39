"""Tables of clicks on suggestions, from lines that are made here."""

from __future__ import annotations

from Testing.benchmarks.tables.taught_clicks import NOTHING, write_tables


def line(method, scan, structure, dice, clicks=3):
    return {"method": method, "draw": 0, "scan": scan, "structure": structure, "clicks": clicks, "dice": dice}


def test_methods_are_compared_on_the_structures_that_both_have(tmp_path):
    lines = [
        line(NOTHING, "a", "cord", [0.5, 0.7, 0.9]),
        line(NOTHING, "b", "cord", [0.1, 0.5, 0.7]),
        line(NOTHING, "b", "larynx", [0.0, 0.0, 0.0]),
        line("5 patients", "a", "cord", [0.6, 0.8, 0.9, 0.9]),
        line("5 patients", "b", "cord", [0.4, 0.6, 0.9, 0.9]),
    ]
    text = write_tables(lines, tmp_path / "taught-clicks.md")
    assert "2 structures of 2 patients: a, b." in text
    assert "| from nothing | - | 0.300 | 0.600 | 0.800 |" in text
    assert "| 5 patients | 0.500 | 0.700 | 0.900 | 0.900 |" in text
    # By the mean; by the median of sessions, one of which never gets there; how many do.
    assert "| from nothing | 3 | more than 3 | 1 of 2 |" in text
    assert "| 5 patients | 2 | 1.5 | 2 of 2 |" in text
    assert "larynx" not in text
    assert "| cord | - / 0.300 / 0.800 / 0.800 | 0.500 / 0.700 / 0.900 / 0.900 |" in text
    assert "0.800" in (tmp_path / "taught-clicks.md").read_text()
