"""The file of results keeps what other benchmarks wrote."""

from __future__ import annotations

from Testing.benchmarks.tables.sections import put_part, put_section, table


def test_a_section_is_replaced_and_the_others_stay(tmp_path):
    file = tmp_path / "RESULTS.md"
    put_section(file, "Quality", "first\n\n## Part\n\nmore")
    put_section(file, "Speed", "second")
    put_section(file, "Quality", "third")
    assert file.read_text(encoding="utf-8") == "# Quality\n\nthird\n\n# Speed\n\nsecond\n"


def test_table_has_a_cell_for_every_heading():
    assert table(["a", "b"], [["1", "2"]]).splitlines() == ["| a | b |", "|---|---|", "| 1 | 2 |"]


def test_a_part_leaves_the_others_of_its_section_as_they_are(tmp_path):
    path = tmp_path / "RESULTS.md"
    put_section(path, "Mine", "Words before.")
    for part, text in (("One", "1"), ("Two", "2"), ("One", "3")):
        put_part(path, "Mine", part, text)
    put_section(path, "Other", "4")
    assert path.read_text(encoding="utf-8") == "# Mine\n\nWords before.\n\n## One\n\n3\n\n## Two\n\n2\n\n# Other\n\n4\n"
