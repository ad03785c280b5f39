"""Fitting, errors and files of the probe."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import CoralBayLib as cb
from CoralBayLib.core.errors import ProbeError, PromptError
from CoralBayLib.fewshot.evidence import evidence_of
from CoralBayLib.imaging.grid import Volume

BALL = np.array([24.0, -30.0, 45.0])
OTHER = np.array([-8.0, -30.0, 45.0])


@pytest.fixture
def scan(make_grid, make_phantom, pooling):
    """A ball of tissue with a bright and a dark blob, embedded."""
    volume = make_phantom(make_grid("oblique"), [(BALL, 7.0, 300.0), (OTHER, 7.0, -200.0)])
    return volume, cb.embed(volume, pooling())


def cross(centre, reach=4.0):
    offsets = np.concatenate([np.eye(3), -np.eye(3), np.zeros((1, 3))]) * reach
    return np.asarray(centre) + offsets


def three_labels():
    background = np.array([[12, -30, 70], [12, -55, 45], [12, -5, 45], [12, -30, 20.0], [12, -30, 45]])
    points = np.concatenate([cross(BALL), cross(OTHER), background])
    return cb.Prompts(points, [1] * 7 + [2] * 7 + [0] * 5, {1: "bright", 2: "dark"})


def test_prompts_get_their_own_label(scan):
    _, pyramid = scan
    prompts = three_labels()
    probe = cb.Probe().fit(pyramid, prompts)
    probability = probe.predict(pyramid)
    assert probability.shape == (2, *pyramid.grid.shape)
    assert probability.min() >= 0 and probability.max() <= 1
    kji = np.round(pyramid.grid.to_ijk(prompts.points_ras)).astype(int)[:, ::-1]
    at = probability[:, kji[:, 0], kji[:, 1], kji[:, 2]].numpy()
    assert (at[0, :7] > 0.5).all()
    assert (at[1, 7:14] > 0.5).all()
    assert (at[:, 14:] < 0.5).all()


def test_factored_logits_equal_the_dense_ones(scan):
    """The probe's folded weights equal whitening, concatenation and multiplication at every voxel."""
    _, pyramid = scan
    probe = cb.Probe().fit(pyramid, three_labels())
    k, j, i = np.indices(pyramid.grid.shape)
    points = pyramid.grid.to_ras(np.stack([i, j, k], -1).reshape(-1, 3))
    deep = pyramid.sample(points) @ probe.weights_.T + probe.intercept_
    image = evidence_of(pyramid).voxel_features.sample(points) @ probe.image_weights_.T
    expected = (deep + image).T.reshape(2, *pyramid.grid.shape)
    assert (probe.appearance_logits(pyramid) - expected).abs().max() < 1e-4


def test_voxel_features_map_equals_samples(scan):
    _, pyramid = scan
    features = evidence_of(pyramid).voxel_features
    weights = torch.randn(3, features.channels, generator=torch.Generator().manual_seed(0))
    k, j, i = np.indices(pyramid.grid.shape)
    points = pyramid.grid.to_ras(np.stack([i, j, k], -1).reshape(-1, 3))
    expected = (features.sample(points) @ weights.T).T.reshape(3, *pyramid.grid.shape)
    start = torch.ones_like(expected)
    assert (features.add_linear_map(weights, start) - 1 - expected).abs().max() < 1e-3


def test_a_subset_of_structures(scan):
    _, pyramid = scan
    probe = cb.Probe().fit(pyramid, three_labels())
    torch.testing.assert_close(probe.logits(pyramid, [2])[0], probe.logits(pyramid)[1])
    with pytest.raises(ProbeError, match="has no structure"):
        probe.logits(pyramid, [7])


def test_round_trip_through_a_file(scan, tmp_path):
    _, pyramid = scan
    probe = cb.Probe(C=0.02).fit(pyramid, three_labels())
    probe.fragmented_ = frozenset({2})
    path = tmp_path / "probe.safetensors"
    probe.save(path)
    again = cb.Probe.load(path)
    assert again.fragmented_ == {2}
    assert again.names_ == {1: "bright", 2: "dark"}
    assert again.C == 0.02
    assert torch.equal(again.logits(pyramid), probe.logits(pyramid))
    assert b"pickle" not in path.read_bytes()


def test_a_probe_works_on_another_scan(scan, make_grid, make_phantom, pooling):
    _, pyramid = scan
    probe = cb.Probe().fit(pyramid, three_labels())
    moved = BALL + [-6.0, 4.0, 8.0]
    other = cb.embed(make_phantom(make_grid("flipped"), [(moved, 7.0, 300.0)], seed=3), pooling())
    probability = probe.predict(other, [1])[0].numpy()
    peak = np.unravel_index(probability.argmax(), probability.shape)
    assert np.linalg.norm(other.grid.to_ras(peak[::-1])[0] - moved) < 8


def test_features_of_another_encoder_are_refused(scan, pooling):
    volume, pyramid = scan
    probe = cb.Probe().fit(pyramid, three_labels())
    with pytest.raises(ProbeError, match="another encoder"):
        probe.logits(cb.embed(volume, pooling(strides=(2, 4))))


def test_an_unfitted_probe_raises(scan, tmp_path):
    _, pyramid = scan
    with pytest.raises(ProbeError, match="not fitted"):
        cb.Probe().predict(pyramid)
    with pytest.raises(ProbeError, match="not fitted"):
        cb.Probe().save(tmp_path / "probe.safetensors")
    assert not list(tmp_path.glob("*.safetensors"))


@pytest.mark.parametrize(
    ("points", "labels", "words"),
    [
        ([], [], "no prompts"),
        ([BALL, OTHER], [0, 0], "on the structure"),
        ([BALL, [500, 0, 0]], [1, 0], "outside the volume"),
    ],
)
def test_useless_prompts_are_refused(scan, points, labels, words):
    _, pyramid = scan
    with pytest.raises(PromptError, match=words):
        cb.Probe().fit(pyramid, cb.Prompts(points, labels))


def test_one_structure_alone_is_separated_from_the_body(scan):
    _, pyramid = scan
    probability = cb.Probe().fit(pyramid, cb.Prompts(cross(BALL), [1] * 7)).predict(pyramid)
    at = [Volume(probability[0].numpy(), pyramid.grid).nearest_values(np.array([place]))[0] for place in (BALL, OTHER)]
    assert at[0] > 0.5 > at[1]


def test_one_structure_alone_needs_weak_negatives(scan):
    _, pyramid = scan
    with pytest.raises(PromptError, match="on the background"):
        cb.Probe(weak_negatives=0).fit(pyramid, cb.Prompts([BALL], [1]))


@pytest.mark.parametrize("damage", ["missing", "foreign", "truncated", "other safetensors"])
def test_damaged_probe_files_are_refused(damage, scan, tmp_path):
    _, pyramid = scan
    path = tmp_path / "probe.safetensors"
    if damage == "foreign":
        path.write_bytes(b"\x80\x04not a probe")
    elif damage == "truncated":
        cb.Probe().fit(pyramid, three_labels()).save(path)
        path.write_bytes(path.read_bytes()[:-100])
    elif damage == "other safetensors":
        from safetensors.torch import save_file

        save_file({"weights": torch.ones(2)}, path)
    with pytest.raises(ProbeError):
        cb.Probe.load(path)


def test_structures_suffice_without_weak_negatives(scan):
    _, pyramid = scan
    probability = cb.Probe(weak_negatives=0).fit(pyramid, three_labels()).predict(pyramid)
    assert torch.isfinite(probability).all()
    assert probability[0].max() > 0.5


def test_the_temperature_does_not_move_borders(monkeypatch, make_grid, make_phantom, pooling):
    grid = make_grid()
    pyramid = cb.embed(make_phantom(grid, [(grid.center_ras, 9.0, 300.0)]), pooling())
    prompts = cb.Prompts(grid.center_ras + np.array([[0, 0, 0], [16.0, 0, 0]]), [1, 0])
    probe = cb.Probe().fit(pyramid, prompts)
    honest, labels = probe.logits(pyramid), cb.segment(make_phantom(grid, [(grid.center_ras, 9.0, 300.0)]), pyramid, prompts)
    monkeypatch.setattr("CoralBayLib.fewshot.probe.TEMPERATURE", 1.0)
    assert (probe.logits(pyramid).abs() >= honest.abs()).all()
    again = cb.segment(make_phantom(grid, [(grid.center_ras, 9.0, 300.0)]), pyramid, prompts)
    assert (labels.array > 0).any()
    assert (labels.array == again.array).all()
