"""Scans and segments that are unlike the rest, with the reason that was put into the phantom."""

from __future__ import annotations

import json

import numpy as np
import pytest

import CoralBayLib as cb
from CoralBayLib.core.errors import LibraryError, Remedy, VolumeError
from CoralBayLib.library import outliers
from CoralBayLib.library.outliers import find_outliers
from CoralBayLib.library.tables import Tables
from Testing.lib.conftest import phantom, phantom_grid

from .conftest import CENTRE

COUNT = 7


def patient(n, **changes):
    """A ball with a bright spot; the changes make it unlike the others."""
    grid = phantom_grid("axial", extent_mm=changes.get("extent_mm", 90.0), spacing=changes.get("spacing", 3.0))
    spot = CENTRE + (14.0, n % 3, 0)
    volume = phantom(grid, [(spot, changes.get("radius_mm", 8.0), 300.0)], radius_mm=38.0, seed=n)
    array = np.where(volume.array > -500, volume.array + changes.get("hu", 0), volume.array).astype(np.int16)
    points = grid.to_ras(np.argwhere(np.ones(grid.shape, bool))[:, ::-1])
    near = np.linalg.norm(points - spot, axis=1) < changes.get("radius_mm", 8.0)
    return cb.Volume(array, grid), cb.Volume(near.reshape(grid.shape).astype(np.uint8), grid)


@pytest.fixture
def folder(tmp_path):
    """Patients 0 to 6: 4 has a larger spot, 5 has other HU, 6 is longer."""
    changes = {4: {"radius_mm": 14.0}, 5: {"hu": 250}, 6: {"extent_mm": 320.0}}
    root = tmp_path / "patients"
    for n in range(COUNT):
        (root / f"p{n}").mkdir(parents=True)
        volume, labels = patient(n, **changes.get(n, {}))
        cb.write_volume(volume, root / f"p{n}" / "ct.nrrd")
        cb.write_segmentation(labels, [cb.Segment(1, "spot", (1, 0, 0))], root / f"p{n}" / "labels.seg.nrrd")
    return root


@pytest.fixture
def cohort(library, folder, encoder):
    outcomes = library.add(folder, encoder)
    assert sum(each.state == "added" for each in outcomes) == COUNT, outcomes
    return library


def test_each_is_found_with_its_reason(cohort, folder, encoder):
    found = cohort.outliers(encoder.name, folder)
    by_scan = {}
    for each in found:
        by_scan.setdefault((each.path.split("/")[-2], each.segment), each)
        assert each.score >= 4 and each.reasons
    assert [each.score for each in found] == sorted((each.score for each in found), reverse=True)
    assert any("volume is 11" in reason and "about 2" in reason for reason in by_scan["p4", "spot"].reasons)
    assert any("mean is" in reason and "HU" in reason for reason in by_scan["p5", "spot"].reasons)
    assert any("HU (others" in reason for reason in by_scan["p5", ""].reasons)
    assert any("extent from head to feet is" in reason for reason in by_scan["p6", ""].reasons)
    ordinary = {name for name, segment in by_scan if segment == ""} - {"p5", "p6"}
    assert not ordinary & {"p0", "p1", "p2", "p3"}


def test_without_files_and_with_another_threshold(cohort, encoder, folder):
    tables = Tables(cohort.storage, encoder.name)
    found = find_outliers(tables, read_files=False)
    assert not any("HU" in reason for each in found for reason in each.reasons)
    assert find_outliers(tables, folder, least=1e6) == []
    # A scan that is gone is compared by what the library knows.
    (folder / "p6" / "ct.nrrd").unlink()
    assert any(each.path.endswith("p6/ct.nrrd") for each in find_outliers(tables))


@pytest.mark.parametrize("read_files", [True, False])
def test_each_scan_is_read_once(cohort, encoder, folder, monkeypatch, read_files):
    read = []
    monkeypatch.setattr(outliers, "read_volume", lambda path, *rest: read.append(str(path)) or cb.read_volume(path, *rest))
    (folder / "p6" / "labels.seg.nrrd").unlink()
    tables = Tables(cohort.storage, encoder.name)
    found = find_outliers(tables, folder, read_files=read_files)
    assert sorted(read) == [str(folder / f"p{n}" / "ct.nrrd") for n in range(COUNT - (not read_files))]
    assert ("p4", "spot") in {(each.path.split("/")[-2], each.segment) for each in found}
    # What is wrong with a labeled scan is told; one without labels is left to `library verify`.
    (folder / "p6" / "ct.nrrd").write_bytes(b"x")
    find_outliers(tables, folder, read_files=read_files)
    (folder / "p0" / "ct.nrrd").write_bytes(b"x")
    with pytest.raises(VolumeError):
        find_outliers(tables, folder, read_files=read_files)


def test_scans_under_another_name_are_recognized(cohort, folder, encoder, tmp_path):
    links = tmp_path / "links"
    links.symlink_to(folder)
    assert cohort.outliers(encoder.name, links) == cohort.outliers(encoder.name, folder)


def test_too_few_scans(filled, encoder):
    with pytest.raises(LibraryError, match="with this encoder: 3. Scans can be compared from 5 on") as caught:
        filled.outliers(encoder.name)
    assert caught.value.remedy is Remedy.ADD_SCANS


def test_the_command(cohort, encoder, folder, capsys):
    from CoralBayLib.cli import main

    arguments = ["library", "outliers", "--library", str(cohort.storage.root), "--labels", str(folder)]
    assert main([*arguments, "--json", "-k", "3"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert len(result["outliers"]) == 3 <= result["found"]
    assert main(arguments) == 0
    out = capsys.readouterr().out
    assert out.startswith("rank  deviation  scan, reasons\n")
    assert "spot" in out and "ml (others" in out
    other = folder.parent / "others"
    (other / "q").mkdir(parents=True)
    for name in ("ct.nrrd", "labels.seg.nrrd"):
        (other / "q" / name).write_bytes((folder / "p0" / name).read_bytes())
    assert main([*arguments[:-1], str(other)]) == 1
    assert "No labeled patient of others is in the library" in capsys.readouterr().err
