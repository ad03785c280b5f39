"""The features that the encoders' benchmark compares with, and how it tells kinds of tissue apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import CoralBayLib as cb
from CoralBayLib.similarity.regions import in_basis_of
from Testing.benchmarks.baselines import hand_made, position_only
from Testing.benchmarks.encoders import kind
from Testing.benchmarks.tables.encoders import BONES, HEAD, ORGANS, Findings, compared, row
from Testing.lib.conftest import phantom, phantom_grid

pytest.importorskip("monai")


def test_position_runs_from_end_to_end_of_the_body():
    volume = phantom(phantom_grid("oblique"))
    pyramid = position_only(volume)
    inside = torch.from_numpy(pyramid.body.array) > 0
    values = pyramid.levels[0].features[:, inside].float()
    assert torch.allclose(values.amin(dim=1), torch.tensor(-1.0)) and torch.allclose(values.amax(dim=1), torch.tensor(1.0))
    near, far = pyramid.sample(pyramid.grid.to_ras([[3, 10, 12], [20, 10, 12]]))
    assert far[0] > near[0] and torch.allclose(far[1:], near[1:], atol=1e-3)


def test_a_probe_on_position_alone_does_not_see_the_image():
    volume = phantom(phantom_grid())
    other = phantom(phantom_grid(), blobs=[((12.0, -30.0, 45.0), 8.0, 900.0)])
    points = np.array([[12.0, -30.0, 45.0], [30.0, -30.0, 45.0], [0.0, -30.0, 45.0]])
    prompts = cb.Prompts(points, [1, 0, 0])
    first, second = position_only(volume), position_only(other)
    probe = cb.Probe().fit(first, prompts)
    assert probe.image_weights_.shape == (1, 0)
    assert torch.allclose(probe.predict(first), probe.predict(second), atol=1e-5)


def test_hand_made_filters_answer_a_query_in_another_scan():
    volume = phantom(phantom_grid())
    pyramid = hand_made(volume)
    assert torch.isfinite(pyramid.levels[0].features).all()
    query = cb.Query.sphere([12.0, -30.0, 45.0], 6.0)
    simmap = cb.similarity_map(in_basis_of(hand_made(volume), pyramid), query.vector(pyramid))
    assert np.linalg.norm(np.subtract(cb.find_regions(simmap, 1)[0].ras, [12.0, -30.0, 45.0])) < 40


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("kidney_left", "kidney"),
        ("lung_lower_lobe_right", "lung"),
        ("right lung", "lung"),
        ("vertebrae_T8", "vertebra"),
        ("thoracic vertebral column", "vertebra"),
        ("rib_left_7", "rib"),
        ("ribs", "rib"),
        ("heart_myocardium", "heart"),
        ("aorta", "aorta"),
        ("tribune", "tribune"),
        ("atrial_appendage_left", "atrial_appendage"),
    ],
)
def test_kinds_leave_out_side_and_number(name, expected):
    assert kind(name) == expected


def test_the_time_of_the_small_network_stands_beside_that_of_the_large_one():
    told = compared(4.0, {"whole": 64.0, "faithful": 160.0})
    assert "coralbay-mini: 4.0\n" in told
    assert "whole: 64.0, 16.0 times coralbay-mini's" in told and "faithful: 160.0, 40.0 times" in told
    assert "times" not in compared(None, {"whole": 64.0})


def test_a_row_tells_means_and_what_was_not_measured():
    found = Findings(
        dice={"1 slice": dict.fromkeys(ORGANS + BONES, 0.5), "3 slices": dict.fromkeys(ORGANS + BONES, 0.75)},
        within={"liver": 0.5, "colon": 1.0},
        other_side=["1", ">200"],
    )
    dice = "0.500 / 0.750"
    assert row("astra", found) == ["astra", dice, dice, "0.750", "no second scan given", "1 / >200", "-"]
    found.there, found.back = {"liver": 0.4}, {"liver": 0.6}
    assert row("astra", found)[4] == "0.400 / 0.600" and len(row("astra", found)) == len(HEAD)


def test_the_make_target_shows_it():
    makefile = (Path(__file__).parents[3] / "Makefile").read_text(encoding="utf-8")
    assert "-m Testing.benchmarks.encoders --timing" in makefile
