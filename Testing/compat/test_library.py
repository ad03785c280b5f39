"""A library that was filled before, whose scans are not where they were."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

import CoralBayLib as cb

from .results import CENTRE, ct, of_library

pytest.importorskip("lancedb")

FLOATS = {"score": 1e-4, "ras": 1e-3}


@pytest.fixture
def library(old: Path, tmp_path: Path) -> cb.Library:
    """A copy in another folder than it was made in."""
    shutil.copytree(old / "library", tmp_path / "moved")
    return cb.Library(tmp_path / "moved")


def test_scans_are_listed_as_they_were(library: cb.Library, pyramids: Any, texts: dict[str, Any]) -> None:
    found, expected = of_library(library, pyramids["c"]), texts["library"]
    for key in ("names", "findings"):
        assert found[key] == expected[key]
    assert len(found["records"]) == 3
    for now, then in zip(found["records"], expected["records"], strict=True):
        assert {key: list(value) if isinstance(value, tuple) else value for key, value in now.items()} == then


@pytest.mark.parametrize("what", ["regions", "others", "scans"])
def test_searches_find_what_they_found(what: str, library: cb.Library, pyramids: Any, texts: dict[str, Any]) -> None:
    found, expected = of_library(library, pyramids["c"])[what], texts["library"][what]
    assert len(found) == len(expected) > 0
    for now, then in zip(found, expected, strict=True):
        for key, value in then.items():
            assert now[key] == (pytest.approx(value, abs=FLOATS[key]) if key in FLOATS else value), key


def test_nothing_is_wrong_with_it_but_that_the_scans_are_gone(library: cb.Library) -> None:
    findings = library.verify()
    assert [finding.kind for finding in findings] == ["gone"] * 3
    assert not any(finding.harmful for finding in findings)


def test_a_scan_that_is_in_it_is_known_and_another_is_added(library: cb.Library, own: Any) -> None:
    [again] = library.add(ct("a"), own)
    assert again.state == "known"
    moved = cb.Volume(ct("c").array[::-1].copy(), ct("c").grid)
    [new] = library.add(moved, own, name="new")
    assert new.state == "added"
    hits = library.search_regions(cb.embed(moved, own), cb.Query.point(CENTRE), k=1)
    assert (hits[0].path, hits[0].is_query_scan) == ("new", True)
    assert len(library.scans()) == 4
    assert not any(finding.harmful for finding in library.verify())


def test_a_scan_is_removed(library: cb.Library) -> None:
    assert len(library.remove("/archive/ct/b.nrrd")) == 1
    assert [record.path for record in library.scans()] == ["/archive/ct/a.nrrd", "/archive/ct/c.nrrd"]
