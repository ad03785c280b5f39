"""Answers to clicks: on a phantom, with the shipped networks."""

from __future__ import annotations

from copy import copy

import numpy as np
import pytest
import torch

import CoralBayLib as cb
from CoralBayLib.core.errors import PromptError
from CoralBayLib.core.progress import Cancelled, CancelToken
from CoralBayLib.fewshot.clicks import inputs, level_sets
from CoralBayLib.fewshot.clicks.answers import ClickAnswer, ClickAnswers, ClickedStructures, clicked_structures
from CoralBayLib.fewshot.clicks.choice import Candidate, best_of
from CoralBayLib.fewshot.clicks.networks import packaged_networks
from CoralBayLib.fewshot.clicks.session import Locks
from CoralBayLib.fewshot.constraints.boxes import Box
from CoralBayLib.imaging.grid import Volume
from Testing.lib.conftest import PoolingEncoder, phantom, phantom_grid

KINDS = ["axial", "flipped", "permuted", "anisotropic", "oblique", "sheared"]


def scan_of(kind):
    grid = phantom_grid(kind, extent_mm=90.0, spacing=1.4)
    one, two = grid.center_ras - [16, 0, 0], grid.center_ras + [16, 0, 0]
    volume = phantom(grid, [(one, 6.0, 300.0), (two, 5.0, 300.0)])
    return volume, cb.embed(volume, PoolingEncoder(strides=(2, 4))), one, two


@pytest.fixture(scope="module")
def scan():
    return scan_of("axial")


def ball_voxels(grid, center, radius_mm):
    k, j, i = np.indices(grid.shape)
    away = np.linalg.norm(grid.to_ras(np.stack([i, j, k], -1).reshape(-1, 3)) - center, axis=1)
    return (away <= radius_mm).reshape(grid.shape)


@pytest.mark.parametrize("kind", KINDS)
def test_the_first_click_finds_a_bright_blob_on_every_kind_of_grid(kind):
    volume, pyramid, one, two = scan_of(kind)
    segmenter = cb.Segmenter(pyramid).fit(cb.Prompts([one], [1]))
    labelmap = segmenter.labelmap(volume.grid)
    found = labelmap.array == 1
    # The phantom's borders are blurred: the blob ends somewhere between these radii.
    assert found[ball_voxels(volume.grid, one, 5.0)].mean() > 0.95
    assert not found[~ball_voxels(volume.grid, one, 20.0)].any()
    assert not labelmap.nearest_values([two])[0]
    assert np.array_equal(segmenter.preview().labels, segmenter.labelmap(pyramid.grid).array)


def test_the_shipped_networks_belong_to_the_inputs():
    networks = packaged_networks()
    assert networks.voxels.n_inputs == len(inputs.NAMES)
    assert {network.n_inputs for network in networks.regions} == {len(level_sets.NAMES)}
    layers = [layer for network in (networks.voxels, *networks.regions) for layer in network.layers]
    assert sum(part.numel() for layer in layers for part in layer) < 10_000


def test_every_click_gets_its_side(scan):
    volume, pyramid, one, two = scan
    points = np.array([one, one + [0, 0, 7], one + [0, 12, 0], two, one + [0, -6, 0], one + [7, 0, 0]])
    labels = [1, 1, 0, 1, 1, 0]
    preview = cb.Segmenter(pyramid).fit(cb.Prompts(points, labels)).preview()
    assert (preview.labelmap.nearest_values(points) == labels).all()


def test_a_click_that_agrees_with_the_answer_changes_nothing(scan):
    _volume, pyramid, one, two = scan
    first = cb.Segmenter(pyramid).fit(cb.Prompts([one], [1])).preview()
    again = cb.Segmenter(pyramid).fit(cb.Prompts([one, two, one + [2, 0, 0]], [1, 0, 1])).preview()
    assert np.array_equal(first.labels, again.labels)
    assert first.dice_estimate == again.dice_estimate


def test_answers_do_not_depend_on_what_was_asked_before(scan):
    _volume, pyramid, one, two = scan
    points, labels = np.array([one, two, one + [0, 8, 0], two + [0, 9, 0]]), [1, 1, 0, 0]
    prompts = cb.Prompts(points, labels)
    steps = ClickAnswers(pyramid)
    for n in range(1, 5):
        in_steps = steps.answer(pyramid, cb.Prompts(points[:n], labels[:n]), 1)
    at_once = ClickAnswers(pyramid).answer(pyramid, prompts, 1)
    assert np.array_equal(in_steps.log_odds.numpy(), at_once.log_odds.numpy()) and in_steps.dice == at_once.dice
    # And after a click is taken back.
    before = ClickAnswers(pyramid).answer(pyramid, cb.Prompts(points[:2], labels[:2]), 1)
    undone = steps.answer(pyramid, cb.Prompts(points[:2], labels[:2]), 1)
    assert np.array_equal(before.log_odds.numpy(), undone.log_odds.numpy())


def test_nested_answers_to_a_first_click(scan):
    volume, pyramid, one, _two = scan
    prompts = cb.Prompts([one], [1])
    part, structure, group = (
        np.count_nonzero(cb.Segmenter(pyramid).fit(prompts, extents={1: n}).preview().labels) for n in (-1, 0, 1)
    )
    assert 0 < part <= structure <= group and part < group
    segmenter = cb.Segmenter(pyramid).fit(prompts)
    assert segmenter.is_fitted_on(prompts) and not segmenter.is_fitted_on(prompts, extents={1: 1})
    with pytest.raises(PromptError):
        segmenter.fit(cb.Prompts([one + 1000], [1]), extents={1: 1})
    # A fit that fails leaves everything as it was.
    assert segmenter.is_fitted_on(prompts) and not segmenter.is_fitted_on(prompts, extents={1: 1})


def test_clicks_near_each_other_stay_clicks(scan):
    _volume, pyramid, one, two = scan
    near = one + np.arange(4)[:, None] * [2.0, 0, 0]
    clicked = np.concatenate([near[:2], [two], near[2:], [one + [0, 14, 0], one - [0, 14, 0]]])
    assert clicked_structures(cb.Prompts(clicked, [1, 1, 0, 1, 1, 1, 1]), pyramid) == [1]
    # The last errors of a large structure are near each other.
    far = one + np.array([[14, 0, 0], [0, 14, 0], [0, -14, 0], [0, 0, 14]])
    assert clicked_structures(cb.Prompts(np.concatenate([far, near, near[:1]]), [1] * 9), pyramid) == [1]
    # Short strokes on two slices, with background around each.
    short = np.concatenate([near[:3], [two, two], near[:3] + [0, 0, 14]])
    assert clicked_structures(cb.Prompts(short, [1, 1, 1, 0, 0, 1, 1, 1]), pyramid) == []


def test_strokes_across_a_thin_structure_are_strokes_and_stay_so(scan):
    _volume, pyramid, one, two = scan
    line = one + np.arange(5)[:, None] * [2.0, 0, 0]
    # On each of two slices a stroke of which one voxel lies apart, as in a rib, and background around it.
    thin = np.concatenate([line, [one + [0, 14, 0], two, two], line + [0, 0, 14], line[:4] + [0, 0, 28]])
    labels = [1] * 6 + [0, 0] + [1] * 9
    assert clicked_structures(cb.Prompts(thin, labels), pyramid) == []
    clicks = two + np.array([[0, 14, 0], [0, -14, 0], [0, 0, 14], [0, 0, -14]])
    corrected = np.concatenate([thin, [two], clicks])
    assert clicked_structures(cb.Prompts(corrected, [*labels, 0, 1, 1, 1, 1]), pyramid) == []
    # The same points in the order of clicks.
    assert clicked_structures(cb.Prompts(np.concatenate([clicks, line[:2]]), [1] * 6), pyramid) == [1]


def test_an_answer_may_always_be_changed_around_the_click_alone(scan):
    """Also where the coarser voxels on which regions are chosen agree with the click already."""
    _volume, pyramid, one, _two = scan
    answers = ClickAnswers(pyramid)
    session = answers._begun(pyramid, None, 0, Locks(), None)
    session.add(one, True)
    assert "addition" in copy(session).propose(one, True)
    assert "removal" in copy(session).propose(one + [0, 9, 0], False)


def test_a_removal_leaves_a_thin_structure_alone_away_from_the_click(scan):
    """Every voxel of it lies at the border of the coarser region on which removals are described."""
    _volume, pyramid, _one, _two = scan
    session = ClickAnswers(pyramid)._begun(pyramid, None, 0, Locks(), None)
    session.region = inputs.Region(np.zeros(3, int), np.array([40, 40, 40]), np.array([2, 2, 2]))
    full = session.region.full()
    session._mask = np.zeros(pyramid.grid.shape, bool)
    session._mask[10:12, 20, 4:36] = True
    kept = session._mask[session.region.slices].copy()
    kept[..., :9] = False
    # The log-odds of voxels are low along the whole structure, as after many clicks against it.
    fine = np.full(full.shape, -5, np.float32)
    out = session._sharpened(kept, fine, full, "removal", np.float32(0))
    before = session._mask[full.slices]
    assert np.array_equal(out[..., 19:], before[..., 19:])
    assert before[..., :17].any() and not out[..., :17].any()


def test_a_stuck_answer_changes_its_size_unless_that_costs_too_much():
    small, cheap, dear = (
        Candidate("removal", n, score, ml, score) for n, (score, ml) in enumerate([(0.7, 9), (0.6, 5), (0.4, 5)])
    )
    against = [True, *[False] * 5]
    assert best_of([small, cheap, dear], against[:4], 0.7, 10) is small
    assert best_of([small, cheap, dear], against, 0.7, 10) is cheap
    assert best_of([small, dear], against, 0.7, 10) is small


def test_strokes_are_not_clicks(scan):
    _volume, pyramid, one, two = scan
    stroke = one + np.arange(6)[:, None] * [2.0, 0, 0]
    prompts = cb.Prompts(np.concatenate([stroke, [two]]), [1] * 6 + [2])
    assert clicked_structures(prompts, pyramid) == [2]
    assert ClickedStructures(pyramid, prompts, apart=[2]).labels == frozenset()
    fitted = cb.Probe().fit(pyramid, prompts)
    strokes_only = cb.Segmenter(pyramid).fit(cb.Prompts(stroke, [1] * 6))
    alone = cb.Probe().fit(pyramid, cb.Prompts(stroke, [1] * 6))
    assert fitted.labels_ == [1, 2]
    assert np.array_equal(
        strokes_only.labelmap(pyramid.grid).array,
        alone.predict_labels(pyramid, prompts=cb.Prompts(stroke, [1] * 6)).array,
    )


def test_locked_voxels_stay_free_of_clicks(scan):
    volume, pyramid, one, _two = scan
    locked = Volume(ball_voxels(volume.grid, one + [8, 0, 0], 6.0).astype(np.uint8), volume.grid)
    labelmap = cb.Segmenter(pyramid).fit(cb.Prompts([one - [3, 0, 0]], [1]), locked=locked).labelmap(volume.grid)
    assert labelmap.array.any() and not labelmap.array[locked.array > 0].any()


def test_cancel_between_clicks(scan):
    _volume, pyramid, one, two = scan
    cancel = CancelToken()
    cancel.cancel()
    with pytest.raises(Cancelled):
        ClickAnswers(pyramid).answer(pyramid, cb.Prompts([one, two], [1, 0]), 1, cancel=cancel)


def test_distances_and_intensities_of_a_click(scan):
    _volume, pyramid, one, _two = scan
    clicks = inputs.ClickScan(pyramid)
    kji = np.round(pyramid.grid.to_ijk([one])).astype(int)[:, ::-1]
    region = inputs.Region.around(pyramid.grid, kji[0], kji[0], 20.0)
    mm = inputs.distance_mm(region, pyramid.grid, kji)
    corner = pyramid.grid.to_ras(region.low[::-1][None])[0]
    assert mm[0, 0, 0] == pytest.approx(np.linalg.norm(corner - pyramid.grid.to_ras(kji[:, ::-1])[0]), abs=1e-3)
    assert mm[tuple(kji[0] - region.low)] == 0
    many = np.repeat(kji, 40, axis=0)
    assert np.allclose(inputs.distance_mm(region, pyramid.grid, many), mm, atol=1e-3)
    assert clicks.intensity(region).shape == region.shape


@pytest.mark.parametrize("boxed", [True, False])
def test_pieces_without_a_click_stay_where_a_box_came_first(scan, monkeypatch, boxed):
    """A click may lie in a small piece beside the main one, which the box found."""
    volume, pyramid, one, two = scan
    both = ball_voxels(pyramid.grid, one, 6.0) | ball_voxels(pyramid.grid, two, 5.0)
    answer = ClickAnswer(torch.from_numpy(np.where(both, 3, -3).astype(np.float32)), 0.9)
    monkeypatch.setattr(ClickAnswers, "answer", lambda *_args, **_options: answer)
    pieces = answer.points_ras(pyramid.grid)
    assert len(pieces) == 2 and np.linalg.norm(pieces - one, axis=1).min() <= 6
    box = Box((one + two) / 2, np.eye(3), np.abs(two - one) + 20, 1)
    prompts = cb.Prompts([two], [1], boxes=[box] if boxed else ())
    labels = cb.Segmenter(pyramid).fit(prompts).labelmap(pyramid.grid)
    at = labels.nearest_values(np.stack([one, two])).tolist()
    assert at == ([1, 1] if boxed else [0, 1])
