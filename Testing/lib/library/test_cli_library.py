"""`coralbay library`: statuses, words and JSON."""

from __future__ import annotations

import json

import numpy as np
import pytest

import CoralBayLib as cb
from CoralBayLib.cli import main
from CoralBayLib.encoders import EncoderCard, registry
from Testing.lib.conftest import PoolingEncoder

from .conftest import make_scan, spot

pytest.importorskip("lancedb", reason="a library of scans needs LanceDB")


@pytest.fixture(autouse=True)
def _pooling_by_name(monkeypatch):
    def load(weights=None, device="cpu", consent=None, *, setting=None):
        return PoolingEncoder(strides=(4, 8), spacing_mm=(2.5, 2.5, 2.5))

    monkeypatch.setitem(
        registry._registry, "pooling", registry.EncoderEntry(EncoderCard("pooling", "Pooling", "for tests"), load)
    )


@pytest.fixture
def run(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("CORALBAY_LIBRARY", str(tmp_path / "library"))

    def run(*arguments):
        status = main(["library", *map(str, arguments)])
        out, err = capsys.readouterr()
        return status, out, err

    return run


def test_add_search_and_remove(run, scans):
    (scans / "broken.nrrd").write_text("nonsense")
    status, out, err = run("add", scans, "--encoder", "pooling")
    assert status == 0
    assert out.startswith("3 added")
    assert "1 left out" in out
    assert "broken.nrrd" in err
    point = "--point=" + ",".join(map(str, spot("a")))
    # The library has one encoder, which therefore need not be named.
    status, out, _ = run("search", "--ct", scans / "a.nrrd", point, "-k", 2, "--exclude-query-scan", "--json")
    found = json.loads(out)
    assert status == 0
    assert {hit["path"] for hit in found["regions"]} == {str(scans / "b.nrrd"), str(scans / "c.nrrd")}
    assert found["encoder"] == "pooling"
    assert [set(hit) for hit in found["regions"]] == [{"rank", "score", "ras", "scan", "path", "there", "own"}] * 2
    status, out, _ = run("search", "--ct", scans / "a.nrrd", "--scan")
    assert status == 0
    assert "the query's own scan" in out
    (scans / "b.nrrd").unlink()
    assert "file not found" in run("search", "--ct", scans / "a.nrrd", "--scan", "--exclude", scans / "c.nrrd")[1]
    assert run("remove", scans / "b.nrrd")[1].startswith("Removed")
    status, out, _ = run("stats", "--json")
    assert json.loads(out)["encoders"][0]["scans"] == 2


def test_search_by_a_segment(run, scans, tmp_path):
    run("add", scans, "--encoder", "pooling", "--quiet")
    volume = make_scan("a")
    labels = (volume.array > 200).astype("uint8") * 4
    cb.write_volume(cb.Volume(labels, volume.grid), tmp_path / "spots.nrrd")
    arguments = ("search", "--ct", scans / "a.nrrd", "--include", scans / "a.nrrd", "-k", 1, "--json")
    status, out, _ = run(*arguments, "--segment", f"{tmp_path / 'spots.nrrd'}:4")
    hit = json.loads(out)["regions"][0]
    assert status == 0
    assert sum((a - b) ** 2 for a, b in zip(hit["ras"], spot("a"), strict=True)) < 12**2
    both = json.loads(run(*arguments, "--include", scans / "b.nrrd", "-k", 9, "--segment", f"{tmp_path / 'spots.nrrd'}:4")[1])
    assert {hit["path"] for hit in both["regions"]} == {str(scans / "a.nrrd"), str(scans / "b.nrrd")}
    status, _, err = run(*arguments, "--segment", tmp_path / "spots.nrrd")
    assert status == 1
    assert "value 1" in err


def test_add_again_says_that_all_is_there(run, scans):
    run("add", scans, "--encoder", "pooling")
    status, out, _ = run("add", scans, "--json")
    assert status == 0
    result = json.loads(out)
    assert (result["added"], result["known"], result["left_out"]) == (0, 3, 0)


def test_nothing_that_could_be_added(run, tmp_path):
    status, out, err = run("add", tmp_path / "no-such", "--encoder", "pooling")
    assert status == 1
    assert "no such file" in err


def test_verify_tells_by_its_status(run, scans, tmp_path):
    run("add", scans, "--encoder", "pooling")
    assert run("verify")[:2] == (0, "No damage found.\n")
    (tmp_path / "library" / "pooling.basis.safetensors").unlink()
    status, out, _ = run("verify")
    assert status == 1
    assert "basis" in out
    assert "`coralbay library verify --repair`" in out
    status, out, _ = run("verify", "--repair", "--json")
    assert status == 0
    assert {f["path"] for f in json.loads(out)["findings"]} >= {str(path) for path in scans.iterdir()}


def test_cluster(run, scans, tmp_path):
    run("add", scans, "--encoder", "pooling")
    drawn = ("--ct", scans / "a.nrrd", "--map", tmp_path / "map.nrrd")
    status, out, _ = run("cluster", "--count", 4, "--output", tmp_path / "x.csv", *drawn)
    assert status == 0
    written = [f"Written: {tmp_path / name}" for name in ("x.csv", "map.nrrd")]
    assert len(out.splitlines()) == 7 and out.splitlines()[-2:] == written
    assert (tmp_path / "x.csv").read_text(encoding="utf-8").startswith("scan,R,A,S,cluster\n")
    assert set(np.unique(cb.read_labelmap(tmp_path / "map.nrrd").array)) <= set(range(5))
    assert run("cluster", "--count", 4, "--map", tmp_path / "map.nrrd")[0] == 1


def test_export(run, scans, tmp_path):
    run("add", scans, "--encoder", "pooling")
    status, out, _ = run("export", tmp_path / "list.json")
    assert status == 0
    assert "paths" in out
    assert len(json.loads((tmp_path / "list.json").read_text(encoding="utf-8"))["scans"]) == 3


@pytest.mark.parametrize("action", [["stats"], ["verify"], ["export", "x.csv"], ["cluster"], ["remove", "abcdef"]])
def test_without_a_library(run, action):
    status, out, err = run(*action)
    assert status == 1
    assert "coralbay library add" in err
    assert not out


@pytest.mark.parametrize("action", [[], ["add"], ["search", "--ct", "x"], ["search", "--point", "1,2,3"]])
def test_wrong_usage(run, action):
    with pytest.raises(SystemExit) as stop:
        run(*action)
    assert stop.value.code == 2
