"""`coralbay eva`."""

from __future__ import annotations

import json
import shlex


def test_eva_writes_a_configuration(run, pooling_by_name, tmp_path):
    path = tmp_path / "b.yaml"
    status, out, _ = run("eva", "btcv", "--encoder", "pooling", "-o", path, "--json")
    assert status == 0 and json.loads(out)["task"] == "btcv"
    text = path.read_text()
    assert "kaiko-eva[vision]==0.4.5" in text and '"pooling"' in text and "own_range: true" in text
    status, _, _ = run("eva", "btcv", "--encoder", "pooling", "-o", path, "--range", "board")
    assert status == 0 and "own_range: false" in path.read_text()
    status, _, err = run("eva", "btcv", "--encoder", "pooling", "-o", tmp_path / "b.txt")
    assert status == 1 and ".yaml" in err


def test_the_command_can_be_pasted(run, pooling_by_name, tmp_path):
    path = tmp_path / "my scans.yaml"
    status, out, _ = run("eva", "btcv", "--encoder", "pooling", "-o", path, "--json")
    assert status == 0 and shlex.split(json.loads(out)["command"])[-2:] == ["--config", str(path)]
