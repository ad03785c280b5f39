"""Geodesic distances from prompts and the log-odds they give."""

from __future__ import annotations

import numpy as np
import pytest

import CoralBayLib as cb
from CoralBayLib.fewshot.evidence.geodesic import GeodesicEvidence
from CoralBayLib.imaging.grid import Grid, Volume


def scan(shape=(12, 14, 40), spacing=2.0):
    """Soft tissue with a bony wall across I at 20."""
    matrix = np.diag([spacing, spacing, spacing, 1.0])
    matrix[:3, 3] = (-30, 10, 50)
    grid = Grid(shape, matrix)
    hu = np.full(shape, 40, np.int16)
    hu[:, :, 20] = 800
    return Volume(hu, grid), Volume(np.ones(shape, np.uint8), grid)


def leaning(image, body, points_ijk, own, anywhere=False):
    """The log-odds on the image's grid."""
    import torch

    out = torch.zeros(image.grid.shape)
    GeodesicEvidence(image, body).log_odds(image.grid.to_ras(points_ijk), np.array(own), anywhere).add_to(out)
    return out.numpy()


def test_log_odds_favor_the_nearest_prompt():
    image, body = scan()
    odds = leaning(image, body, [[4, 6, 6], [16, 6, 6]], [True, False])
    assert (odds[6, 6, :9] > 0).all()
    assert (odds[6, 6, 12:19] < 0).all()


def test_an_edge_between_tissues_increases_the_distance():
    """A point that is nearer to the other prompt in mm, but on the same side of the wall as its own."""
    image, body = scan()
    odds = leaning(image, body, [[8, 6, 6], [22, 6, 6]], [True, False])
    assert odds[6, 6, 18] > 0 > odds[6, 6, 21]


def test_no_path_leaves_the_body():
    image, body = scan()
    body.array[:, :, 12:14] = 0
    odds = leaning(image, body, [[4, 6, 6]], [True])
    assert odds[6, 6, 8] > 0 > odds[6, 6, 16]


def test_unbounded_log_odds_are_zero_far_from_all_prompts():
    image, body = scan((12, 14, 200))
    image.array[:, :, 20:] = np.arange(180) % 2 * 200
    near, anywhere = (leaning(image, body, [[4, 6, 6]], [True], a)[6, 6, -1] for a in (False, True))
    assert near < -1
    assert anywhere == pytest.approx(0, abs=1e-4)


def test_planar_prompts_move_the_background_away():
    """Strokes on one slice, compared with strokes on two slices 12 mm apart, which show the depth."""
    image, body = scan((40, 40, 40))
    image.array[:] = np.arange(40)[:, None, None] % 2 * 40
    flat = [[i, j, 20] for i in range(8, 32) for j in range(8, 32, 4)]
    deep = [[i, j, k] for i, j, _ in flat for k in (14, 20)]
    far, near = (leaning(image, body, points, [True] * len(points))[20:, 20, 20] for points in (flat, deep))
    assert (far[2:6] > near[2:6] + 0.5).all()


def test_only_strokes_across_walls_are_fragmented():
    image, body = scan((8, 8, 240))
    image.array[:] = 40
    prompts = image.grid.to_ras([[i, 4, 4] for i in range(4, 240, 16)])
    own = np.ones(len(prompts), bool)
    assert not GeodesicEvidence(image, body).is_fragmented(prompts, own)
    for first in range(9, 240, 16):
        image.array[:, :, first : first + 6] = 800
    assert GeodesicEvidence(image, body).is_fragmented(prompts, own)
    assert not GeodesicEvidence(image, body).is_fragmented(prompts[:9], own[:9])


def test_a_probe_of_another_scan_uses_appearance_alone(make_grid, make_phantom, pooling):
    grid = make_grid()
    pyramid = cb.embed(make_phantom(grid, [(grid.center_ras, 7.0, 300.0)]), pooling())
    other = cb.embed(make_phantom(grid, [(grid.center_ras, 7.0, 300.0)], seed=5), pooling())
    probe = cb.Probe().fit(pyramid, cb.Prompts([grid.center_ras], [1]))
    assert (probe.logits(other) == probe.appearance_logits(other)).all()
    assert (probe.logits(pyramid) - probe.appearance_logits(pyramid)).abs().max() > 1


@pytest.mark.parametrize("spacing", [2.0, 0.7])
def test_positive_log_odds_are_not_continued_outside_the_box(monkeypatch, spacing):
    """A long structure that turns: its straight continuation outside the surroundings does not become part of it."""
    monkeypatch.setattr("CoralBayLib.fewshot.evidence.geodesic._REACH_MM", 8.0)
    monkeypatch.setattr("CoralBayLib.fewshot.evidence.geodesic._MAX_VOXELS", 20_000)
    image, body = scan((40, 40, 60), spacing)
    image.array[:] = 40
    odds = leaning(image, body, [[6, 20, 20], [8, 20, 20]], [True, True])
    reach = 8 + int(np.ceil(8.0 / spacing))
    assert odds[20, 20, reach - 1] > 0
    assert odds[20, 20, reach + 2 :].max() <= 0
