"""`coralbay similar`."""

from __future__ import annotations

import json

import numpy as np
import pytest

import CoralBayLib as cb
from CoralBayLib.fewshot.constraints.boxes import Box

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


def test_background_points_are_no_part_of_the_query(run, ct, pooling_by_name, tmp_path):
    def best(points):
        cb.Prompts(points, [1, *[0] * (len(points) - 1)]).save(tmp_path / "prompts.json")
        _status, out, _ = run("similar", ct, "--encoder", "pooling", "--prompts", tmp_path / "prompts.json", "-k", 1, "--json")
        return json.loads(out)["regions"]

    assert best([CENTRE, np.add(CENTRE, (-40, 10, 10)), np.add(CENTRE, (30, 0, 0))]) == best([CENTRE])


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        (cb.Prompts([CENTRE], [0]), "all points are background"),
        (cb.Prompts([CENTRE, CENTRE], [1, 2], {1: "liver", 2: "spleen"}), "liver, spleen"),
        (cb.Prompts([CENTRE], [1], boxes=(Box(CENTRE, np.eye(3), (20, 20, 20), 1),)), "--segment"),
    ],
)
def test_prompts_that_are_no_query_are_refused(run, ct, pooling_by_name, tmp_path, prompts, message):
    prompts.save(tmp_path / "prompts.json")
    status, _, error = run("similar", ct, "--encoder", "pooling", "--prompts", tmp_path / "prompts.json")
    assert status == 1
    assert message in error
