"""`coralbay embed` and the cache it fills."""

from __future__ import annotations

import json

import CoralBayLib as cb


def test_embed_reports_json_and_keeps_the_features(run, ct, pooling_by_name):
    status, out, _ = run("embed", ct, "--encoder", "pooling", "--json")
    result = json.loads(out)
    assert status == 0
    assert result["levels"]["pool2"][0] == 5
    assert result["key"] in cb.Store()
    status, out, _ = run("cache", "list", "--json")
    assert [entry["key"] for entry in json.loads(out)["entries"]] == [result["key"]]
    status, out, _ = run("cache", "remove", result["key"][:10], "--json")
    assert json.loads(out)["removed"] == 1
    assert result["key"] not in cb.Store()


def test_embed_reads_the_cache_unless_told_not_to(run, ct, pooling_by_name):
    assert "computed in" in run("embed", ct, "--encoder", "pooling")[1]
    assert "read from the cache" in run("embed", ct, "--encoder", "pooling")[1]
    assert "computed in" in run("embed", ct, "--encoder", "pooling", "--no-cache")[1]


def test_the_cache_can_be_listed_and_cleared(run, ct, pooling_by_name):
    run("embed", ct, "--encoder", "pooling")
    status, out, _ = run("cache")
    assert status == 0
    assert "last used" in out
    assert "1 embeddings, " in out
    assert run("cache", "clear")[1] == "Removed 1 embeddings.\n"
    assert cb.Store().entries() == []
