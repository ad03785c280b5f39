"""`coralbay demo` on a phantom in place of the sample CT."""

from __future__ import annotations

import json

import numpy as np
import pytest

import CoralBayLib as cb
from CoralBayLib.demo import run as demo_run
from CoralBayLib.demo.sample import Sample

pytest.importorskip("matplotlib", reason="the demo draws with matplotlib")


@pytest.fixture
def sample(tmp_path, make_grid, make_phantom, monkeypatch):
    """Two bright balls, and a labelmap of them."""
    grid = make_grid()
    centers = [np.array([24.0, -30.0, 45.0]), np.array([0.0, -30.0, 45.0])]
    volume = make_phantom(grid, [(center, 8.0, 300.0 + 400 * n) for n, center in enumerate(centers)])
    kji = np.moveaxis(np.indices(grid.shape), 0, -1).reshape(-1, 3)
    ras = grid.to_ras(kji[:, ::-1])
    labels = np.zeros(len(ras), np.uint8)
    for label, center in enumerate(centers, 1):
        labels[np.linalg.norm(ras - center, axis=1) < 8] = label
    cb.write_volume(volume, tmp_path / "ct.nrrd")
    cb.write_volume(cb.Volume(labels.reshape(grid.shape), grid), tmp_path / "labels.nrrd")
    found = Sample(tmp_path / "ct.nrrd", tmp_path / "labels.nrrd", {1: "first", 2: "second"})
    monkeypatch.setattr(demo_run, "fetch_sample", lambda: found)
    monkeypatch.setattr(demo_run, "STRUCTURES", ("first", "second"))
    monkeypatch.setattr(demo_run, "CHECKPOINTS", (0, 1))
    monkeypatch.setattr(demo_run, "QUERY", "first")
    return found


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_demo_measures_and_writes_its_results(run, sample, pooling_by_name, tmp_path, options):
    status, out, err = run("demo", "--encoder", "pooling", "-o", tmp_path / "out", "--seed", 3, *options)
    assert status == 0, err
    report = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    assert report["seed"] == 3
    assert set(report["dice"]) == {"first", "second"}
    assert all(0 <= value <= 1 for values in report["dice"].values() for value in values)
    assert report["regions"][0]["score"] > 0.9
    assert {region["structure"] for region in report["regions"]} <= {"first", "second", "none"}
    labelmap, segments = cb.read_segmentation(tmp_path / "out" / "segmentation.seg.nrrd")
    assert [segment.name for segment in segments] == ["first", "second"]
    assert labelmap.array.any()
    assert (tmp_path / "out" / "contact_sheet.png").stat().st_size > 5000
    if options:
        assert json.loads(out)["dice"] == report["dice"]
    else:
        assert "For research use only" in out
        assert "Similar regions" in out
