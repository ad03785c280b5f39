"""`coralbay encoders`."""

from __future__ import annotations

import json

import numpy as np

import CoralBayLib as cb
from CoralBayLib.imaging.grid import Grid


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


def test_lists_mark_what_is_not_free_for_every_use_and_say_how_to_get_it(run):
    for command in (["encoders"], ["weights", "list"]):
        status, out, _ = run(*command)
        assert status == 0
        assert out.lower().count("restricted:") == 1
        assert "non-commercial use only, weights on request" in out and "not given out" in out
    assert "Download model.safetensors from https://huggingface.co/microsoft/colipri." in out


def test_weights_that_are_obtained_by_hand_are_no_download(run, tmp_path, monkeypatch):
    for name in ("CORALBAY_CACHE", "HF_HOME", "HF_HUB_CACHE"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.delenv("FMCT_WEIGHTS", raising=False)
    scan = tmp_path / "ct.nii.gz"
    cb.write_volume(cb.Volume(np.full((8, 8, 8), -1000, np.float32), Grid((8, 8, 8), np.diag([20.0, 20.0, 20.0, 1.0]))), scan)
    status, _, err = run("embed", scan, "--encoder", "fm-ct", "--assume-hu")
    assert status == 1
    assert "The weights are not given out" in err and "--weights FILE" in err and "--download" not in err
