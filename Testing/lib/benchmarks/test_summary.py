"""The page of results holds the numbers of the long tables, and its plots are drawn from them."""

from __future__ import annotations

import shutil

import pytest

from Testing.benchmarks.tables import plots, summary
from Testing.benchmarks.tables.sections import RESULTS, headings, put_section, rows, table


def test_the_page_is_what_the_long_tables_say(tmp_path):
    page = RESULTS.parent / summary.PAGE
    shutil.copytree(RESULTS, tmp_path / "results")
    shutil.copy(page, tmp_path / summary.PAGE)
    for plot in (plots.DICE, plots.RETRIEVAL):
        (tmp_path / "results" / plot).unlink()
    summary.renew(tmp_path / "results")
    assert (tmp_path / summary.PAGE).read_text(encoding="utf-8") == page.read_text(encoding="utf-8")
    assert all((tmp_path / "results" / plot).stat().st_size > 1000 for plot in (plots.DICE, plots.RETRIEVAL))


def test_every_picture_and_file_that_the_page_names_is_there():
    import re

    page = RESULTS.parent / summary.PAGE
    named = re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8"))
    assert named
    assert [name for name in named if not (page.parent / name).exists()] == []


def test_without_a_page_nothing_is_written(tmp_path):
    summary.renew(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_block_is_replaced_and_the_words_around_it_stay():
    page = "Words.\n\n<!-- speed -->\nold\n<!-- end -->\n\nMore.\n\n<!-- library -->\nkept\n<!-- end -->\n"
    once = summary.put_block(page, "speed", "new \\1\n")
    assert once == page.replace("\nold\n", "\n\nnew \\1\n\n")
    assert summary.put_block(once, "speed", "new \\1") == once
    with pytest.raises(ValueError, match="no block quality"):
        summary.put_block(page, "quality", "")


def test_rows_are_those_under_the_heading(tmp_path):
    file = tmp_path / "some.md"
    text = "## One\n\n" + table(["a", "b"], [["1", "2"]]) + "\n## Two\n\n"
    put_section(file, "Title", text + table(["c"], [["3"]]) + "\n" + table(["d"], [["4"], ["5"]]))
    assert headings(file) == ["One", "Two"]
    assert rows(file) == rows(file, "One") == [{"a": "1", "b": "2"}]
    assert rows(file, "Two", 1) == [{"d": "4"}, {"d": "5"}]
    for wrong in (("Three", 0), ("Two", 2)):
        with pytest.raises(ValueError, match="no table"):
            rows(file, *wrong)
