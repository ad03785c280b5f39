"""Killed, crowded, out of space, damaged: what is in a library is whole, and the rest can be put right."""

from __future__ import annotations

import errno
import json
import resource
import shutil
import signal
import subprocess
import sys
from collections import namedtuple
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

import CoralBayLib as cb
from CoralBayLib.core.errors import LibraryError, Remedy, StoreError
from CoralBayLib.library import Library, transactions
from CoralBayLib.library.tables import Tables

from .adder import MOMENTS
from .conftest import make_scan, spot

pytestmark = pytest.mark.slow

pytest.importorskip("lancedb", reason="a library of scans needs LanceDB")


def adder(*arguments) -> subprocess.Popen:
    command = [sys.executable, "-m", "Testing.lib.library.adder", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[3])


def contents(library):
    """All rows, in an order that does not depend on who wrote first."""
    tables = Tables(library.storage, "pooling")
    regions = tables.regions.read().to_pylist()
    rows = sorted((row["scan"], *row["ras"], *np.array(row["vector"]).tolist()) for row in regions)
    return rows, sorted((record.scan, record.path, record.regions) for record in tables.records())


def whole(library, count):
    return library.verify() == [] and len(library.scans()) == count


@pytest.fixture
def one_first(library, scans, encoder):
    """A library whose basis is settled, with one of the scans."""
    library.add(scans / "a.nrrd", encoder)
    return library


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_in_the_middle(one_first, scans, encoder, moment, tmp_path):
    """Of the two scans that are left the first is done when the process is killed with the second in work."""
    straight = Library(tmp_path / "straight")
    shutil.copytree(one_first.storage.root, straight.storage.root)
    straight.add(scans, encoder)
    process = adder(scans, one_first.storage.root, moment)
    process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL
    before = len(one_first.scans())
    assert before == (3 if moment == "after its row" else 2)
    pyramid = cb.embed(make_scan("c"), encoder)
    hits = one_first.search_regions(pyramid, cb.Query.point(spot("c")), k=99, min_distance_mm=0)
    assert len({hit.scan for hit in hits}) <= before
    assert {issue.kind for issue in one_first.verify()} == ({"orphans"} if moment == "before its row" else set())
    states = [outcome.state for outcome in one_first.add(scans, encoder)]
    assert states.count("added") == 3 - before
    assert whole(one_first, 3)
    assert contents(one_first) == contents(straight)


def test_killed_while_the_basis_is_found(library, scans, encoder):
    process = adder(scans, library.storage.root, "embedding")
    process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL
    assert library.stats() == []
    library.add(scans, encoder)
    assert whole(library, 3)


def test_a_library_with_nothing_but_its_basis(library, scans, encoder, monkeypatch):
    """As it is left when the first scan could not be written."""
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10, 10, 0))
    with pytest.raises(StoreError, match="is full"):
        library.add(scans, encoder)
    monkeypatch.undo()
    assert whole(library, 0)
    assert library.stats()[0].scans == 0
    with pytest.raises(LibraryError, match="no scans of pooling yet"):
        library.search_scans(cb.embed(make_scan("a"), encoder))
    library.add(scans, encoder)
    assert whole(library, 3)


def test_a_search_passes_over_regions_whose_scan_is_not_there(filled, scans, encoder):
    tables = Tables(filled.storage, "pooling")
    lost = next(record for record in filled.scans() if record.path.endswith("b.nrrd"))
    tables.scans.delete(f"scan = '{lost.scan}'")
    pyramid = cb.embed(cb.read_volume(scans / "b.nrrd"), encoder)
    hits = filled.search_regions(pyramid, cb.Query.point(spot("b")), k=5, min_distance_mm=0)
    assert len(hits) == 5
    assert lost.scan not in {hit.scan for hit in hits}
    found = filled.verify()
    assert [issue.kind for issue in found] == ["orphans"]
    assert found[0].harmful
    assert str(lost.regions) in found[0].text
    assert all(issue.repaired for issue in filled.verify(repair=True))
    assert whole(filled, 2)


def test_two_processes_add_at_once(library, scans, encoder):
    """Both find the library new, and each has scans that the other has too."""
    cb.write_volume(make_scan("a", "axial"), scans / "d.nrrd")
    first, second = adder(scans, library.storage.root), adder(scans, library.storage.root)
    states = [json.loads(process.communicate(timeout=180)[0]) for process in (first, second)]
    assert first.returncode == second.returncode == 0
    assert sorted(a for s in states for a in s) == ["added"] * 4 + ["known"] * 4
    assert whole(library, 4)
    assert len(library.storage.encoders()) == 1


def test_full_disk_is_told_before_anything_is_written(one_first, scans, encoder, monkeypatch):
    before = contents(one_first)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10, 10, 0))
    with pytest.raises(StoreError, match="is full"):
        one_first.add(scans, encoder)
    monkeypatch.undo()
    assert contents(one_first) == before
    assert whole(one_first, 1)


@pytest.mark.skipif(sys.platform == "win32", reason="a limit on file size stands in for a full disk")
@pytest.mark.parametrize("limit", [1 << 9, 1 << 12])
def test_write_that_fails_in_the_middle(one_first, scans, encoder, limit):
    """The kernel refuses to let a file grow: a real failing write, after the space looked sufficient."""
    before = contents(one_first)
    old_limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    old_handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, old_limit[1]))
        with pytest.raises(StoreError, match="as it was"):
            one_first.add(scans, encoder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old_limit)
        signal.signal(signal.SIGXFSZ, old_handler)
    assert contents(one_first) == before
    one_first.add(scans, encoder)
    assert whole(one_first, 3)


def test_a_folder_that_cannot_be_made(scans, encoder):
    with pytest.raises(StoreError, match="cannot be written"):
        Library(scans / "a.nrrd" / "library").add(scans, encoder)
    assert encoder.calls == 0


@pytest.mark.parametrize("table", ["regions", "scans"])
@pytest.mark.parametrize("part", ["data", "_versions"])
def test_a_damaged_table(filled, scans, encoder, table, part):
    for path in (filled.storage.root / f"{table}_pooling.lance" / part).iterdir():
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    pyramid = cb.embed(cb.read_volume(scans / "a.nrrd"), encoder)
    with pytest.raises(LibraryError, match="cannot be read") as caught:
        filled.search_regions(pyramid, cb.Query.point(spot("a")))
    assert caught.value.remedy is Remedy.CHECK_LIBRARY
    found = filled.verify()
    assert {(issue.kind, issue.harmful) for issue in found} == {("table", True)}
    repaired = filled.verify(repair=True)
    assert not any(issue.harmful for issue in repaired)
    if table == "regions":
        # What is to be added again can still be told.
        assert {issue.path for issue in repaired if issue.path} == {str(path) for path in scans.iterdir()}
    assert filled.stats() == []
    filled.add(scans, encoder)
    assert whole(filled, 3)
    assert len(filled.search_regions(pyramid, cb.Query.point(spot("a")), k=3)) == 3


@pytest.mark.parametrize(("table", "column"), [("regions", "vector"), ("regions", "ras"), ("scans", "stamp")])
def test_a_table_that_lacks_a_column(filled, scans, encoder, table, column):
    """As one whose manifest is damaged."""
    lance = Tables(filled.storage, "pooling").find(table).lance
    rows = lance.to_arrow()
    filled.storage.connect().lance.create_table(f"{table}_pooling", rows.drop_columns([column]), mode="overwrite")
    for use in (lambda: filled.search_scans(cb.embed(make_scan("a"), encoder)), lambda: filled.scans()):
        with pytest.raises(LibraryError, match=f"'{table}' of the library is damaged: it lacks the columns {column}"):
            use()
    issues = filled.verify()
    assert any(issue.kind == "table" and column in issue.text for issue in issues)
    filled.verify(repair=True)
    assert [outcome.state for outcome in filled.add(scans, encoder)] == ["added"] * 3


def test_a_panic_of_lance_is_an_error_in_words(filled, monkeypatch):
    """A damaged manifest may make its Rust code panic, which Python sees as an exception of its own kind."""

    class RustPanic(Exception):  # noqa: N818 - the name by which it is known
        pass

    def panics(*_arguments, **_options):
        raise RustPanic("rust future panicked: unknown error")

    monkeypatch.setattr("lancedb.db.LanceDBConnection.open_table", panics)
    with pytest.raises(LibraryError, match="'regions' of the library cannot be read .rust future panicked"):
        filled.scans()


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_bytes(b"nonsense")])
def test_without_its_basis(filled, scans, encoder, damage):
    path = filled.storage.root / "pooling.basis.safetensors"
    damage(path)
    calls = encoder.calls
    with pytest.raises(LibraryError, match="basis"):
        filled.add(make_scan("a", "axial"), encoder)
    assert encoder.calls == calls
    assert [issue.kind for issue in filled.verify()] == ["basis"]
    repaired = filled.verify(repair=True)
    assert {issue.path for issue in repaired if issue.path} == {str(path) for path in scans.iterdir()}
    filled.add(scans, encoder)
    assert whole(filled, 3)


def test_a_scan_without_its_regions(filled):
    record = filled.scans()[2]
    Tables(filled.storage, "pooling").regions.delete(f"scan = '{record.scan}'")
    found = filled.verify()
    assert [(issue.kind, issue.path) for issue in found] == [("incomplete", record.path)]
    assert found[0].remedy is Remedy.REPAIR_LIBRARY
    assert found[0].as_dict()["remedy"] == "repair_library"
    (repaired,) = filled.verify(repair=True)
    assert (repaired.repaired, repaired.remedy) == (True, Remedy.ADD_SCANS_AGAIN)
    assert whole(filled, 2)


def test_values_that_were_never_written(filled, scans, encoder):
    """A bad disk has changed some bytes in the middle of a file, which still can be read."""
    record = filled.scans()[1]
    tables = Tables(filled.storage, "pooling")
    row = tables.regions.read(where=f"scan = '{record.scan}'")["vector"][8]
    written = np.array(row.as_py(), np.float16).tobytes()
    changed = 0
    for path in (filled.storage.root / "regions_pooling.lance" / "data").iterdir():
        data = path.read_bytes()
        changed += data.count(written)
        path.write_bytes(data.replace(written, b"X" * len(written)))
    assert changed
    found = filled.verify()
    assert [(issue.kind, issue.path, issue.harmful) for issue in found] == [("values", record.path, True)]
    assert found[0].text.startswith("1 of its ")
    filled.verify(repair=True)
    assert whole(filled, 2)
    filled.add(scans, encoder)
    assert whole(filled, 3)


def test_a_library_that_cannot_be_compacted_has_changed_all_the_same(filled, monkeypatch):
    def full(_regions):
        raise OSError(errno.ENOSPC, "No space left on device, /some/where/in/a/library.rs:12")

    monkeypatch.setattr(transactions, "maintain", full)
    with pytest.raises(StoreError, match=r"The change was made, .* \(No space left on device\)"):
        filled.remove(filled.scans()[0].path)
    assert whole(filled, 2)


def test_a_repair_deletes_what_removed_scans_have_left(filled, monkeypatch):
    path = filled.scans()[0].path.encode()

    def kept():
        return any(path in file.read_bytes() for file in filled.storage.root.rglob("*") if file.is_file())

    filled.remove(filled.scans()[0].path)
    filled.verify(repair=True)
    assert kept()
    monkeypatch.setattr(transactions, "_KEPT", timedelta(0))
    assert filled.verify(repair=True) == []
    assert not kept()
    assert whole(filled, 2)


def test_a_scan_that_is_there_twice(filled):
    tables = Tables(filled.storage, "pooling")
    tables.scans.append(tables.scans.read().slice(0, 1))
    assert [issue.kind for issue in filled.verify()] == ["double"]
    filled.verify(repair=True)
    assert whole(filled, 2)
