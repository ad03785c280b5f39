"""`coralbay segment`."""

from __future__ import annotations

import json

import pytest

import CoralBayLib as cb

from .conftest import CENTRE


def test_segment_writes_a_segmentation_and_a_probe(run, ct, prompts, pooling_by_name, tmp_path):
    output, probe = tmp_path / "out.seg.nrrd", tmp_path / "probe.safetensors"
    status, out, _ = run(
        "segment", ct, "--encoder", "pooling", "--prompts", prompts, "-o", output, "--save-probe", probe, "--json"
    )
    assert status == 0
    labelmap, segments = cb.read_segmentation(output)
    assert [segment.name for segment in segments] == ["bright spot"]
    assert labelmap.grid.same_as(cb.read_volume(ct).grid)
    assert labelmap.values_at([CENTRE])[0] == segments[0].label
    millilitres = json.loads(out)["volume_ml"]["bright spot"]
    assert millilitres == pytest.approx((labelmap.array > 0).sum() * labelmap.grid.voxel_volume_mm3 / 1000)
    again = tmp_path / "again.seg.nrrd"
    status, _, _ = run("segment", ct, "--encoder", "pooling", "--probe", probe, "-o", again, "--keep-all-components")
    assert status == 0
    assert cb.read_segmentation(again)[0].values_at([CENTRE])[0] == 1
