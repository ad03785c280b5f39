"""Tables of scans: rows that can be used, and the reasons for the others."""

from __future__ import annotations

import pytest

from CoralBayLib.core.errors import Remedy, ScansError
from CoralBayLib.scan_probes import Labels, read_table
from CoralBayLib.scan_probes.tables.table import table_of


def write(tmp_path, text):
    path = tmp_path / "study.csv"
    path.write_text(text, encoding="utf-8-sig")
    return path


def test_classes_and_relative_paths(tmp_path):
    table = read_table(write(tmp_path, "scan,patient,finding\na.nrrd,P1,yes\nsub/b.nrrd,P2,no\n"), "finding", "classification")
    assert table.scans == (tmp_path / "a.nrrd", tmp_path / "sub" / "b.nrrd")
    assert (table.labels.patients.tolist(), table.labels.values.tolist(), table.left_out) == (["P1", "P2"], ["yes", "no"], ())


def test_unusable_rows_are_left_out_with_the_reason(tmp_path):
    text = "scan,patient,age\na.nrrd,P1,63\nb.nrrd,P2,old\nc.nrrd,,50\n,P4,50\ne.nrrd,P5,nan\n"
    table = read_table(write(tmp_path, text), "age", "regression")
    assert table.labels.values.tolist() == [63.0]
    assert [str(skipped).split(":")[0] for skipped in table.left_out] == ["line 3", "line 4", "line 5", "line 6"]
    assert [skipped.row for skipped in table.left_out] == [3, 4, 5, 6]
    assert "patient is empty" in str(table.left_out[1]) and "scan is empty" in str(table.left_out[2])


def test_survival(tmp_path):
    text = "ct,who,event,days\na,1,1,100\nb,2,no,20\nc,3,maybe,20\nd,4,1,0\n"
    table = read_table(write(tmp_path, text), "event", "survival", scan="ct", patient="who", time="days")
    assert (table.labels.values.tolist(), table.labels.times.tolist()) == ([True, False], [100.0, 20.0])
    assert "'maybe'" in str(table.left_out[0]) and "must be above 0" in str(table.left_out[1])


def test_a_missing_column_is_named(tmp_path):
    path = write(tmp_path, "scan,finding\na.nrrd,yes\n")
    with pytest.raises(ScansError, match=r"no column patient; it has scan, finding\. Without the patients' names") as error:
        read_table(path, "finding", "classification")
    assert error.value.remedy is Remedy.NAME_PATIENTS
    assert read_table(path, "finding", "classification", patient=None).labels.patients.tolist() == ["row 2"]


def test_files_that_are_no_table_are_refused(tmp_path):
    with pytest.raises(ScansError, match="There is no file .*missing.csv"):
        read_table(tmp_path / "missing.csv", "x", "classification")
    (tmp_path / "latin.csv").write_bytes(b"scan,patient,x\na.nrrd,M\xfcller,1\n")
    with pytest.raises(ScansError, match="cannot be read as a table"):
        read_table(tmp_path / "latin.csv", "x", "classification")
    for damaged in (b"scan,patient,x\na.nrrd,P1,1\n" + bytes(512) + b"\nb.nrrd,P2,2\n", "scan,patient,x\n".encode("utf-16-le")):
        (tmp_path / "zeros.csv").write_bytes(damaged)
        with pytest.raises(ScansError, match="zeros.csv cannot be read as a table .it contains null bytes"):
            read_table(tmp_path / "zeros.csv", "x", "classification")
    with pytest.raises(
        ScansError, match="a cell has more than 131,072 characters. Look for a cell whose closing quotation mark"
    ):
        read_table(write(tmp_path, 'scan,patient,x\na.nrrd,P1,"1\n' + "b.nrrd,P2,2\n" * 12_000), "x", "classification")
    with pytest.raises(ScansError, match="line 2: 'large' is not a finite number"):
        read_table(write(tmp_path, "scan,patient,x\na.nrrd,P1,large\n"), "x", "regression")
    with pytest.raises(ScansError, match="No row"):
        read_table(write(tmp_path, "scan,patient,x\n,,\n"), "x", "classification")
    with pytest.raises(ScansError, match="no task 'guess'"):
        read_table(write(tmp_path, "scan,patient,x\n"), "x", "guess")


def test_a_table_from_cells():
    rows = [
        {"ct": "a.nrrd", "who": "P1", "n": "2"},
        {"ct": "", "who": "P2", "n": "3"},
        {"ct": "/x/c.nrrd", "who": "P3", "n": "4"},
    ]
    table = table_of(rows, ["ct", "who", "n"], "n", "regression", scan="ct", patient="who", folder="/data", first=1)
    assert [str(path) for path in table.scans] == ["/data/a.nrrd", "/x/c.nrrd"]
    assert table.rows.tolist() == [0, 2]
    assert [*map(str, table.left_out)] == ["line 2: ct is empty"]
    with pytest.raises(ScansError, match="The table has no column patient; it has ct, who, n"):
        table_of(rows, ["ct", "who", "n"], "n", "regression", scan="ct")


def test_task_names_of_version_0_1_0_are_deprecated(tmp_path):
    path = write(tmp_path, "scan,patient,age\na.nrrd,P1,63\n")
    with pytest.warns(DeprecationWarning, match="'regress' is called 'regression' now") as warned:
        assert read_table(path, "age", "regress").labels.task == "regression"
    assert len(warned) == 1 and warned[0].filename == __file__
    with pytest.warns(DeprecationWarning, match="'classify' is called 'classification' now") as warned:
        assert Labels.of("classify", ["a"], ["P1"]).task == "classification"
    assert len(warned) == 1 and warned[0].filename == __file__


@pytest.mark.parametrize("missing", ["NA", "nan", "N/A", "#N/A", "null", ".", "", "  ", "<NA>"])
def test_missing_labels_are_no_class(tmp_path, missing):
    (tmp_path / "t.csv").write_text(f"scan,patient,x\na,p1,yes\nb,p2,no\nc,p3,{missing}\nd,{missing},no\n")
    table = read_table(tmp_path / "t.csv", "x", "classification")
    assert table.labels.values.tolist() == ["yes", "no"]
    assert [skipped.row for skipped in table.left_out] == [4, 5]


def test_none_is_a_class(tmp_path):
    (tmp_path / "t.csv").write_text("scan,patient,x\na,p1,none\nb,p2,mild\n")
    assert read_table(tmp_path / "t.csv", "x", "classification").labels.values.tolist() == ["none", "mild"]


@pytest.mark.parametrize("header", ["scan,patient,x,x", "scan,patient,x, X", "scan,patient,x,patient", "scan,scan,patient,x"])
def test_a_column_that_is_there_twice_is_refused(tmp_path, header):
    (tmp_path / "t.csv").write_text(f"{header}\na,p1,yes,no\n")
    with pytest.raises(ScansError, match="more than one column"):
        read_table(tmp_path / "t.csv", "x", "classification")


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_separators(tmp_path, separator):
    rows = [["scan", "patient", '"x, or; y"'], ['"a, b; c"', "p1", "yes"], ["b", "p2", "no"]]
    (tmp_path / "t.csv").write_text("\n".join(separator.join(row) for row in rows))
    table = read_table(tmp_path / "t.csv", "x, or; y", "classification")
    assert table.scans[0].name == "a, b; c"
    assert table.labels.values.tolist() == ["yes", "no"]


def test_a_row_with_surplus_cells_is_left_out(tmp_path):
    (tmp_path / "t.csv").write_text("scan,patient,x\na,b,p1,yes\nc,p2,no\n")
    table = read_table(tmp_path / "t.csv", "x", "classification")
    assert len(table.labels) == 1
    assert "more cells" in str(table.left_out[0])


def test_spellings_of_one_patient_and_one_class(tmp_path):
    (tmp_path / "t.csv").write_text("scan,patient,x\na,M\u00fcller,Yes\nb,Mu\u0308ller,yes \nc,p2,no\n", encoding="utf-8")
    labels = read_table(tmp_path / "t.csv", "x", "classification").labels
    assert labels.patients.tolist() == ["M\u00fcller", "M\u00fcller", "p2"]
    assert labels.values.tolist() == ["Yes", "Yes", "no"]


def classes(tmp_path, *cells, separator=","):
    rows = "".join(f"{n}.nrrd{separator}p{n}{separator}{cell}\n" for n, cell in enumerate(cells))
    return read_table(write(tmp_path, separator.join(("scan", "patient", "y")) + "\n" + rows), "y", "classification")


@pytest.mark.parametrize(
    "cell",
    [
        "NaT",
        "#N/A N/A",
        "#DIV/0!",
        "#NAME?",
        "\u2014",
        "\u2013",
        "\uff2e\uff21",
        "(null)",
        "\\N",
        "missing",
        "unknown",
        "n.d.",
        "k. A.",
        "\u200bNA",
    ],
)
def test_more_ways_to_write_that_a_value_is_missing(tmp_path, cell):
    table = classes(tmp_path, "yes", cell, "no")
    assert table.labels.values.tolist() == ["yes", "no"]
    assert str(table.left_out[0]).startswith("line 3: y is missing")


def test_one_number_in_several_spellings_is_one_class(tmp_path):
    assert classes(tmp_path, "1", "1.0", "0", "0.0", "01").labels.values.tolist() == ["1", "1", "0", "0", "1"]
    assert classes(tmp_path, "1.5", "1.50").labels.values.tolist() == ["1.5", "1.50"]


def test_one_patient_in_several_spellings_is_one_patient(tmp_path):
    path = write(tmp_path, "scan,patient,y\na,7,A\nb,7.0,B\nc,007,B\nd,\uff30\uff11,A\ne,p1,B\n")
    assert read_table(path, "y", "classification").labels.patients.tolist() == ["7", "7", "7", "\uff30\uff11", "\uff30\uff11"]


def test_a_quote_without_an_end_does_not_swallow_the_rest(tmp_path):
    with pytest.raises(ScansError, match="unexpected end of data"):
        classes(tmp_path, "A", '"B', "C", "D")


def test_lines_are_counted_as_in_an_editor(tmp_path):
    path = write(tmp_path, 'scan,patient,y\n\n"a\nb",p,A\nc,q,NA\n\nd,r,\n')
    assert [each.row for each in read_table(path, "y", "classification").left_out] == [5, 7]


@pytest.mark.parametrize("again", ["a", "./a", "x/../a"])
def test_a_scan_in_two_rows(tmp_path, again):
    rows = "scan,patient,y\na,p,A\nb,q,B\n"
    alike = read_table(write(tmp_path, rows + f"{again},p,A\n"), "y", "classification")
    assert [path.name for path in alike.scans] == ["a", "b"]
    assert str(alike.left_out[0]) == "line 4: the scan is in line 2 already"
    for other in ("p,B", "q,A"):
        table = read_table(write(tmp_path, rows + f"{again},{other}\n"), "y", "classification")
        assert [path.name for path in table.scans] == ["b"]
        assert sorted(each.row for each in table.left_out) == [2, 4]


def test_columns_are_found_as_people_read_them(tmp_path):
    path = write(tmp_path, "Scan,PATIENT,y\u200b\na,p,A\n")
    assert read_table(path, "y", "classification").labels.values.tolist() == ["A"]


def test_bars_and_the_line_of_excel(tmp_path):
    assert classes(tmp_path, "A", separator="|").labels.values.tolist() == ["A"]
    path = write(tmp_path, "sep=;\nscan;patient;y\na;p;1\nb;q;1_000\nc;r;1,5\n")
    table = read_table(path, "y", "regression")
    assert table.labels.values.tolist() == [1.0]
    assert [each.row for each in table.left_out] == [4, 5]
    assert "decimal point" in str(table.left_out[1])


def test_one_scan_by_a_relative_and_an_absolute_path_is_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path, f"scan,patient,x\na.nrrd,P1,1\n{tmp_path}/a.nrrd,P1,2\nb.nrrd,P2,1\n")
    table = read_table("study.csv", "x", "classification")
    assert [path.name for path in table.scans] == ["b.nrrd"] and len(table.left_out) == 2


def test_numbers_whose_squares_are_infinite_are_refused(tmp_path):
    table = read_table(write(tmp_path, "scan,patient,x\na.nrrd,P1,1e200\nb.nrrd,P2,-3e30\nc.nrrd,P3,2\n"), "x", "regression")
    assert table.labels.values.tolist() == [2.0] and "larger than any measurement" in str(table.left_out[0])
