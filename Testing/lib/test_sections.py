"""The file of results keeps what other benchmarks wrote."""

from __future__ import annotations

from Testing.benchmarks.sections import put_section, table


def test_a_section_is_replaced_and_the_others_stay(tmp_path):
    file = tmp_path / "RESULTS.md"
    put_section(file, "Quality", "first\n\n## Part\n\nmore")
    put_section(file, "Speed", "second")
    put_section(file, "Quality", "third")
    assert file.read_text() == "# Quality\n\nthird\n\n# Speed\n\nsecond\n"


def test_table_has_a_cell_for_every_heading():
    assert table(["a", "b"], [["1", "2"]]).splitlines() == ["| a | b |", "|---|---|", "| 1 | 2 |"]
