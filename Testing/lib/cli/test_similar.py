"""`coralbay similar`."""

from __future__ import annotations

import json

import numpy as np

import CoralBayLib as cb

from .conftest import CENTRE


def test_similar_ranks_the_place_itself_first(run, ct, pooling_by_name, tmp_path):
    point = "--point=" + ",".join(map(str, CENTRE))
    simmap = tmp_path / "map.nrrd"
    status, out, _ = run("similar", ct, "--encoder", "pooling", point, "-k", 3, "--map", simmap, "--json")
    regions = json.loads(out)["regions"]
    assert status == 0
    assert np.linalg.norm(np.subtract(regions[0]["ras"], CENTRE)) < 8
    assert [region["rank"] for region in regions] == list(range(1, len(regions) + 1))
    written = cb.resample(cb.read_volume(simmap), cb.read_volume(ct).grid)
    assert written.nearest_values([CENTRE])[0] > 0.8
