"""`coralbay encoders`."""

from __future__ import annotations

import json


def test_encoders_lists_both(run):
    status, out, _ = run("encoders")
    assert status == 0
    assert "coralbay" in out
    assert "astra" in out
    assert "MIT" in out


def test_encoders_prints_a_whole_card_in_words_and_as_json(run):
    status, out, _ = run("encoders", "astra")
    assert status == 0
    for part in ("1.5 x 1.5 x 3 mm", "HU [-1000, 1000]", "117.4 M", "weights MIT", "please cite"):
        assert part in out
    status, out, _ = run("encoders", "astra", "--json")
    assert json.loads(out)["input"]["spacing_mm"] == [1.5, 1.5, 3.0]
    status, out, _ = run("encoders", "--json")
    assert {"coralbay", "astra"} <= {card["name"] for card in json.loads(out)["encoders"]}


def test_a_card_with_little_on_it_can_be_shown(run, pooling_by_name):
    status, out, _ = run("encoders", "pooling")
    assert status == 0
    assert "Pooling (pooling)" in out
