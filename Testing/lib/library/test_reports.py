"""Reports that a library keeps: asked for, removable, never read from scans; and their sentences."""

from __future__ import annotations

import json

import pytest

from CoralBayLib.cli import main
from CoralBayLib.core.errors import LibraryError, ScansError
from CoralBayLib.encoders import EncoderCard, registry
from CoralBayLib.library.reports import add_reports, group_sentences, read_reports, remove_reports, split_sentences

TEXTS = {
    "a": "No pleural effusion. Nodule of 5 mm in the right upper lobe.\nHeart is not enlarged.",
    "b": "Pleural effusion on the left. A nodule of 8 mm in the right upper lobe.",
    "c": "no pleural effusion\nNodule of 12 mm in the left upper lobe",
}


@pytest.fixture
def table(scans):
    path = scans / "reports.csv"
    lines = [f'{name}.nrrd,"{text}"' for name, text in TEXTS.items()]
    path.write_text("\n".join(["Scan,Report", *lines, 'gone.nrrd,"Normal."', "b.nrrd,"]) + "\n", encoding="utf-8")
    return path


def test_sentences():
    text = "Lungs: clear. Nodule of 2.5 mm, e.g. in seg. 3.\n\n- No effusion!  Is it new? yes, ca. 3 cm"
    assert split_sentences(text) == [
        "Lungs: clear.",
        "Nodule of 2.5 mm, e.g. in seg. 3.",
        "No effusion!",
        "Is it new? yes, ca. 3 cm",
    ]
    assert split_sentences(" \n ") == []


def test_what_turns_a_sentence_around_keeps_it_apart():
    groups = group_sentences([(1, TEXTS["a"]), (2, TEXTS["b"]), (5, TEXTS["c"])])
    found = {group.text: (group.ranks, len(group.wordings)) for group in groups}
    assert found["No pleural effusion."] == ((1, 5), 2)
    assert found["Nodule of 5 mm in the right upper lobe."] == ((1, 2), 2)
    assert found["Nodule of 12 mm in the left upper lobe"] == ((5,), 1)
    assert found["Pleural effusion on the left."] == ((2,), 1)
    assert [len(group.ranks) for group in groups] == sorted((len(group.ranks) for group in groups), reverse=True)
    # Every sentence shown is one of a report, as it is written there.
    assert all(wording in "\n".join(TEXTS.values()) for group in groups for wording in group.wordings)


def test_reports_are_kept_replaced_and_removed(filled, table):
    records = filled.scans()
    count, unknown = add_reports(filled.storage, table, records)
    assert (count, unknown) == (3, ["gone.nrrd"])
    by_path = {record.path.rsplit("/", 1)[-1]: record.scan for record in records}
    assert read_reports(filled.storage)[by_path["a.nrrd"]] == TEXTS["a"]
    table.write_text("scan\treport\na.nrrd\tNew text.\n")
    assert add_reports(filled.storage, table, records)[0] == 3
    assert read_reports(filled.storage)[by_path["a.nrrd"]] == "New text."
    # With its scan, a report goes too.
    filled.remove(by_path["a.nrrd"])
    assert set(read_reports(filled.storage)) == {by_path["b.nrrd"], by_path["c.nrrd"]}
    assert filled.report_count() == 2 and remove_reports(filled.storage) == 2
    assert not (filled.storage.root / "reports.json").exists() and remove_reports(filled.storage) == 0


def test_a_report_does_not_come_back_after_its_scan_was_removed_meanwhile(filled, table):
    records = filled.scans()
    filled.remove(str(table.parent / "a.nrrd"))
    count, unknown = add_reports(filled.storage, table, records)
    assert count == 2 and unknown == ["gone.nrrd", str(table.parent / "a.nrrd")]
    assert set(read_reports(filled.storage)) == {record.scan for record in filled.scans()}


def test_a_scan_whose_removal_was_interrupted_keeps_no_report(filled, table, monkeypatch):
    add_reports(filled.storage, table, filled.scans())

    def interrupted(*_args):
        raise KeyboardInterrupt

    monkeypatch.setattr("CoralBayLib.library.transactions.remove", interrupted)
    with pytest.raises(KeyboardInterrupt):
        filled.remove(str(table.parent / "a.nrrd"))
    assert filled.report_count() == 2 and len(filled.scans()) == 3


def test_without_a_table_nothing_is_kept(filled):
    assert read_reports(filled.storage) == {} and not (filled.storage.root / "reports.json").exists()


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        # Cut off at the comma, the text would say the opposite.
        (["a.nrrd,No nodule, but a mass of 3 cm."], "more cells than columns in line 2"),
        (["a.nrrd,Normal.", "b.nrrd,x", "./a.nrrd,A mass."], r"two different reports of \./a\.nrrd, in the lines 2 and 4"),
    ],
)
def test_a_table_that_would_lose_text_is_refused(filled, scans, lines, message):
    (scans / "reports.csv").write_text("\n".join(["scan,report", *lines]))
    with pytest.raises(ScansError, match=message):
        add_reports(filled.storage, scans / "reports.csv", filled.scans())
    assert filled.report_count() == 0


def test_marks_of_missing_values_are_no_reports(filled, scans):
    (scans / "reports.csv").write_text("scan,report\na.nrrd,nan\nb.nrrd,N/A\nc.nrrd,Normal.\nc.nrrd,Normal.\n")
    assert add_reports(filled.storage, scans / "reports.csv", filled.scans()) == (1, [])


def test_damage_and_wrong_tables_are_explained(filled, table, tmp_path):
    records = filled.scans()
    add_reports(filled.storage, table, records)
    file = filled.storage.root / "reports.json"
    whole = file.read_text()
    for damaged in (whole.replace("effusion", "effusiom", 1), whole[:40], "[]", whole.replace('"format": 1', '"format": 2')):
        file.write_text(damaged)
        with pytest.raises(LibraryError, match=r"reports\.json\) are damaged"):
            read_reports(filled.storage)
    remove_reports(filled.storage)
    assert not file.exists()
    wrong = tmp_path / "wrong.csv"
    wrong.write_text("scan,text\na.nrrd,x\n")
    with pytest.raises(ScansError, match="columns scan, text. Expected a column 'scan'"):
        add_reports(filled.storage, wrong, records)
    wrong.write_text("scan,report\nother.nrrd,x\n")
    with pytest.raises(ScansError, match="No scan of wrong.csv with a report is in the library"):
        add_reports(filled.storage, wrong, records)


def test_the_commands(filled, scans, table, encoder, monkeypatch, capsys):
    entry = registry.EncoderEntry(EncoderCard(encoder.name, "Pooling", "for tests"), lambda *_args, **_options: encoder)
    monkeypatch.setitem(registry._registry, encoder.name, entry)
    where = ["--library", str(filled.storage.root)]
    search = ["library", "search", *where, "--ct", str(scans / "a.nrrd"), "--scan", "--reports", "--no-cache"]
    assert main(search) == 1
    told = capsys.readouterr()
    assert "keeps no reports" in told.err and told.out == "", "the search went first"
    assert main(["library", "add", str(scans / "a.nrrd"), *where, "--reports", str(table), "--no-cache"]) == 0
    assert "3 scans have a report" in capsys.readouterr().out
    assert main([*search, "--exclude-query-scan"]) == 0
    out = capsys.readouterr().out
    assert "reports of 2 of these scans" in out and "describe those scans, not the query" in out and "1 of 2" in out
    assert main(search) == 0
    assert "describe those scans; rank 1 is the query's own scan:" in capsys.readouterr().out
    assert main([*search, "--json"]) == 0
    sentences = json.loads(capsys.readouterr().out)["sentences"]
    assert any(each["text"].lower().startswith("no pleural effusion") and len(each["ranks"]) == 2 for each in sentences)
    assert main(["library", "stats", *where]) == 0 and "3 scans have a report" in capsys.readouterr().out
    assert main(["library", "reports", "--remove", *where]) == 0 and "reports of 3 scans" in capsys.readouterr().out
    region = ["library", "search", *where, "--ct", str(scans / "a.nrrd"), "--point", "0,0,0", "--reports"]
    assert main(region) == 1 and "Give --scan or --text with it" in capsys.readouterr().err
