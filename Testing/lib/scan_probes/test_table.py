"""Tables of scans: what can be used of them, and what is said of the rest."""

from __future__ import annotations

import pytest

from CoralBayLib.core.errors import ScansError
from CoralBayLib.scan_probes import read_table
from CoralBayLib.scan_probes.table import table_of


def write(tmp_path, text):
    path = tmp_path / "study.csv"
    path.write_text(text, encoding="utf-8-sig")
    return path


def test_classes_and_scans_beside_the_table(tmp_path):
    table = read_table(write(tmp_path, "scan,patient,finding\na.nrrd,P1,yes\nsub/b.nrrd,P2,no\n"), "finding", "classify")
    assert table.scans == (tmp_path / "a.nrrd", tmp_path / "sub" / "b.nrrd")
    assert (table.labels.patients.tolist(), table.labels.values.tolist(), table.left_out) == (["P1", "P2"], ["yes", "no"], ())


def test_rows_that_cannot_be_used_are_left_out_with_the_reason(tmp_path):
    text = "scan,patient,age\na.nrrd,P1,63\nb.nrrd,P2,old\nc.nrrd,,50\n,P4,50\ne.nrrd,P5,nan\n"
    table = read_table(write(tmp_path, text), "age", "regress")
    assert table.labels.values.tolist() == [63.0]
    assert [line.split(":")[0] for line in table.left_out] == ["line 3", "line 4", "line 5", "line 6"]
    assert "patient is empty" in table.left_out[1] and "scan is empty" in table.left_out[2]


def test_survival(tmp_path):
    text = "ct,who,event,days\na,1,1,100\nb,2,no,20\nc,3,maybe,20\nd,4,1,0\n"
    table = read_table(write(tmp_path, text), "event", "survive", scan="ct", patient="who", time="days")
    assert (table.labels.values.tolist(), table.labels.times.tolist()) == ([True, False], [100.0, 20.0])
    assert "'maybe'" in table.left_out[0] and "not after the start" in table.left_out[1]


def test_a_missing_column_is_named_and_patients_are_asked_for(tmp_path):
    path = write(tmp_path, "scan,finding\na.nrrd,yes\n")
    with pytest.raises(ScansError, match=r"no column patient; it has scan, finding\. Without such a column"):
        read_table(path, "finding", "classify")
    assert read_table(path, "finding", "classify", patient=None).labels.patients.tolist() == ["row 2"]


def test_what_is_no_table_is_refused(tmp_path):
    with pytest.raises(ScansError, match="There is no file .*missing.csv"):
        read_table(tmp_path / "missing.csv", "x", "classify")
    (tmp_path / "latin.csv").write_bytes(b"scan,patient,x\na.nrrd,M\xfcller,1\n")
    with pytest.raises(ScansError, match="cannot be read as a table"):
        read_table(tmp_path / "latin.csv", "x", "classify")
    with pytest.raises(ScansError, match="line 2: 'large' is no number to learn from"):
        read_table(write(tmp_path, "scan,patient,x\na.nrrd,P1,large\n"), "x", "regress")
    with pytest.raises(ScansError, match="No row"):
        read_table(write(tmp_path, "scan,patient,x\n,,\n"), "x", "classify")
    with pytest.raises(ScansError, match="no task 'guess'"):
        read_table(write(tmp_path, "scan,patient,x\n"), "x", "guess")


def test_cells_from_elsewhere_are_a_table_too():
    rows = [
        {"ct": "a.nrrd", "who": "P1", "n": "2"},
        {"ct": "", "who": "P2", "n": "3"},
        {"ct": "/x/c.nrrd", "who": "P3", "n": "4"},
    ]
    table = table_of(rows, ["ct", "who", "n"], "n", "regress", scan="ct", patient="who", folder="/data", first=1)
    assert [str(path) for path in table.scans] == ["/data/a.nrrd", "/x/c.nrrd"]
    assert table.rows.tolist() == [0, 2]
    assert table.left_out == ("line 2: ct is empty",)
    with pytest.raises(ScansError, match="The table has no column patient; it has ct, who, n"):
        table_of(rows, ["ct", "who", "n"], "n", "regress", scan="ct")
