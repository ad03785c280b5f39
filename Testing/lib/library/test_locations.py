r"""Paths of a library that somebody else made: network shares are not touched unasked.

A share is `\\server\share`, also on this computer, where no such path exists.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

import CoralBayLib as cb
from CoralBayLib.core.paths import cache_dir
from CoralBayLib.library import Library, locations
from CoralBayLib.library.tables import Tables

from .conftest import make_scan, spot

SHARES = {
    r"\\Evil\Share\ct.nrrd": r"\\evil\share",
    r"\\evil@SSL\DavWWWRoot\ct.nrrd": r"\\evil@ssl\davwwwroot",
    r"\\?\UNC\evil\share\ct.nrrd": r"\\evil\share",
    r"\\.\pipe\x": r"\\.\pipe",
    r"\\?\GLOBALROOT\Device\Mup\evil\share": r"\\?",
    r"\\?\C:\scans\ct.nrrd": "",
    r"C:\scans\ct.nrrd": "",
    "/net/evil/share/ct.nrrd": "/net/evil",
    "/network/ct.nrrd": "",
    "/data/ct.nrrd": "",
    "": "",
}


@pytest.mark.parametrize(("path", "share"), SHARES.items())
def test_the_share_of_a_path(path, share):
    assert locations.share_of(path) == share


def test_slashes_are_backslashes_on_windows(monkeypatch):
    assert locations.share_of("//evil/share/ct.nrrd") == ""
    monkeypatch.setattr(sys, "platform", "win32")
    assert locations.share_of("//evil/share/ct.nrrd") == locations.share_of(r"\/evil/share\ct.nrrd") == r"\\evil\share"


def test_a_share_is_looked_at_after_it_was_named(monkeypatch):
    looked: list[str] = []
    monkeypatch.setattr(os.path, "exists", lambda path: looked.append(path) or True)
    path = r"\\archive\ct\1.nrrd"
    assert locations.file_exists(path) is None
    locations.remember(["/data", r"\\ARCHIVE\ct\folder"])
    assert locations.file_exists(path) is True
    assert locations.file_exists(r"\\archive\other\1.nrrd") is None
    assert looked == [path]
    file = cache_dir() / "network_shares.json"
    assert json.loads(file.read_text()) == [r"\\archive\ct"]
    for damaged in ("", "{", "[1, {}]", '"x"', "[" * 100000):
        file.write_text(damaged)
        assert locations.file_exists(path) is None


@pytest.mark.slow
def test_a_library_from_elsewhere_touches_no_share(filled, scans, encoder, monkeypatch, tmp_path):
    """Searched, checked, listed, and added to: the share is not looked at. Scans on this computer are."""
    pytest.importorskip("lancedb", reason="a library of scans needs LanceDB")
    record = next(each for each in filled.scans() if each.path.endswith("a.nrrd"))
    foreign = r"\\evil\share\a.nrrd"
    Tables(filled.storage, "pooling").update_path(record.scan, foreign, record.fingerprint)
    looked = []
    stat, exists = os.stat, os.path.exists
    monkeypatch.setattr(os.path, "exists", lambda path: looked.append(str(path)) or exists(path))
    monkeypatch.setattr(os, "stat", lambda path, *args, **named: looked.append(str(path)) or stat(path, *args, **named))
    pyramid = cb.embed(make_scan("a"), encoder)
    library = Library(filled.storage.root)
    hits = library.search_regions(pyramid, cb.Query.point(spot("a")), k=9, min_distance_mm=0)
    assert {hit.file_exists for hit in hits if hit.path == foreign} == {None}
    assert {hit.file_exists for hit in library.search_scans(pyramid)} == {None, True}
    assert hits[0].as_dict()["there"] is None
    assert library.verify() == []
    library.export(tmp_path / "list.json")
    listed = {row["path"]: row["there"] for row in json.loads((tmp_path / "list.json").read_text())["scans"]}
    assert listed[foreign] is None
    (outcome,) = library.add(scans / "a.nrrd", encoder)
    assert (outcome.state, outcome.detail) == ("known", f"as {foreign}")
    assert [path for path in looked if "evil" in path] == []
    assert any(path.endswith("b.nrrd") for path in looked)


@pytest.mark.slow
def test_who_adds_from_a_share_has_named_it(library, encoder, monkeypatch):
    pytest.importorskip("lancedb", reason="a library of scans needs LanceDB")
    monkeypatch.setattr(locations, "share_of", lambda path: "mine" if Path(path).name.startswith("mine") else "")
    library.add(["mine.nrrd", "other.nrrd"], encoder)
    assert json.loads((cache_dir() / "network_shares.json").read_text()) == ["mine"]
