"""Cells of exported tables do not run in a spreadsheet."""

from pathlib import Path

import numpy as np
import pytest

from CoralBayLib.core.formatting import safe_cell, safe_row


@pytest.mark.parametrize("text", ["=1+1", '=HYPERLINK("http://x")', "+cmd", "-2+3", "@SUM(A1)", "\t=1", " =1", "\uff1d1"])
def test_formulas_become_text(text):
    assert safe_cell(text) == f"'{text}"
    assert safe_cell(np.str_(text)) == f"'{text}"


@pytest.mark.parametrize("value", ["liver", "", "-1.5", "+3e4", "a=b", 5, -2.5, True, None])
def test_other_cells_stay(value):
    assert safe_cell(value) == value


def test_rows():
    assert safe_row([Path("=a"), np.int64(-3), "b"]) == ["'=a", "-3", "b"]
