"""A probe in another patient finds structures that moved or changed in brightness, and no absent structures."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import CoralBayLib as cb
from CoralBayLib.core.errors import ProbeError
from CoralBayLib.core.tensor_files import read_tensors, write_tensors
from CoralBayLib.demo.annotator import dice
from CoralBayLib.features import shared_basis
from CoralBayLib.features.alignment import align
from CoralBayLib.features.shared_basis import write_basis
from CoralBayLib.fewshot import memory
from CoralBayLib.fewshot.localization import localize
from CoralBayLib.fewshot.transfer import adapt
from CoralBayLib.imaging.grid import Volume
from Testing.training.shared_basis import basis_of, drawn

pytestmark = pytest.mark.slow

BRIGHT = np.array([26.0, -30.0, 45.0])
DARK = np.array([-6.0, -30.0, 45.0])
MOVED = np.array([-5.0, 4.0, 7.0])
SIGMA = 8.0
NAMES = {1: "bright", 2: "dark"}


def reach(pyramid, centre):
    """The voxels of a blob, by distance."""
    k, j, i = np.indices(pyramid.grid.shape)
    ras = pyramid.grid.to_ras(np.stack([i, j, k], -1).reshape(-1, 3))
    return (np.linalg.norm(ras - centre, axis=1) < SIGMA).reshape(pyramid.grid.shape)


def at(array, grid, ras):
    return Volume(np.ascontiguousarray(array), grid).nearest_values(np.reshape(ras, (-1, 3)))


@pytest.fixture
def make(make_grid, make_phantom, pooling):
    """An embedded ball of tissue with a bright and a dark blob."""

    def made(bright=BRIGHT, dark=DARK, brighter=0, kind="axial", seed=0):
        blobs = [(centre, SIGMA, height) for centre, height in ((bright, 400.0), (dark, -300.0)) if centre is not None]
        volume = make_phantom(make_grid(kind), blobs, seed=seed)
        body = volume.array > -500
        return cb.embed(Volume(np.where(body, volume.array + brighter, volume.array).astype(np.int16), volume.grid), pooling())

    return made


@pytest.fixture
def probe(make):
    """Fitted on both blobs."""
    around = np.array([[x, y, z] for x in (-1, 0, 1) for y in (-1, 0, 1) for z in (-1, 0, 1)], float)
    background = np.array([10.0, -30.0, 45.0]) + 24.0 * around[np.abs(around[:, 0]) < 0.5]
    points = np.concatenate([BRIGHT + 4 * around, DARK + 4 * around, background])
    labels = np.repeat([1, 2, 0], [len(around), len(around), len(background)])
    return cb.Probe().fit(make(), cb.Prompts(points, labels, NAMES))


def found(probe, pyramid, told=None):
    adapted = adapt(probe, pyramid, told)
    return adapted, adapted.predict_labels(pyramid, prompts=adapted.prompts_).array


@pytest.mark.parametrize("brighter", [0, 60])
def test_moved_and_brighter_structures_are_found(probe, make, brighter):
    other = make(BRIGHT + MOVED, DARK + MOVED, brighter, kind="flipped", seed=4)
    _, labels = found(probe, other)
    for label, centre in ((1, BRIGHT + MOVED), (2, DARK + MOVED)):
        assert at(labels, other.grid, centre).tolist() == [label]
        assert dice(labels == label, reach(other, centre)) > 0.4
    assert probe.scan_key_ != other.key


@pytest.fixture
def sharing(make, tmp_path, monkeypatch):
    """All scans share a basis, made from two others."""
    monkeypatch.setattr(shared_basis, "shared_basis_path", lambda encoder: tmp_path / "basis.safetensors")
    others = [make(BRIGHT + [0, 8, 0], seed=1), make(None, DARK - [0, 8, 0], seed=2)]
    basis = basis_of([drawn(other, 2000) for other in others])
    write_basis(tmp_path / "basis.safetensors", basis, others[0].signature, ["one", "two"])
    yield basis
    shared_basis._read.cache_clear()


@pytest.mark.parametrize("brighter", [0, 60])
def test_moved_structures_are_found_in_a_shared_basis(sharing, probe, make, tmp_path, brighter):
    other = make(BRIGHT + MOVED, DARK + MOVED, brighter, kind="flipped", seed=4)
    assert probe.memory.shared
    torch.testing.assert_close(probe.memory.projection, sharing.projection, rtol=1e-3, atol=1e-4)
    _, labels = found(probe, other)
    for label, centre in ((1, BRIGHT + MOVED), (2, DARK + MOVED)):
        assert at(labels, other.grid, centre).tolist() == [label]
        assert dice(labels == label, reach(other, centre)) > 0.4
    probe.save(tmp_path / "probe.safetensors")
    again = cb.Probe.load(tmp_path / "probe.safetensors")
    assert again.memory.shared and (found(again, other)[1] == labels).all()


def test_a_large_scan_keeps_its_own_basis(sharing, probe, monkeypatch):
    monkeypatch.setattr(memory, "_SMALL_SCAN_MM", 10.0)
    assert not probe.memory.shared
    assert torch.equal(probe.memory.projection, probe.fitted_pyramid_.basis.projection)


def test_features_in_a_shared_basis_are_compared_unchanged(sharing, probe, make):
    """There a shift of all features has an effect; in a scan's own basis it is removed."""
    shared, other = probe.memory, make(BRIGHT + MOVED, DARK + MOVED, seed=4)
    own = replace(shared, shared=torch.tensor(False))
    for kept, same in ((shared, False), (own, True)):
        made, moved = localize(kept, other), localize(replace(kept, offset=kept.offset + 1), other)
        assert made.structures == [1, 2]
        assert np.array_equal(made.points_ras, moved.points_ras) is same


def test_an_absent_structure_is_not_found(probe, make):
    other = make(dark=None, seed=4)
    adapted, labels = found(probe, other)
    assert (labels == 1).any()
    assert not (labels == 2).any()
    assert adapted.labels_ == [1, 2] and adapted.names_ == NAMES
    assert adapted.predict(other, [2]).max() < 1e-6


def test_finding_no_structure_is_no_error(probe, make):
    other = make(None, None, seed=4)
    adapted, labels = found(probe, other)
    assert not labels.any()
    assert adapted.labels_ == [1, 2]


def test_corrections_are_matched_by_name(probe, make):
    """The user's structures have other labels, and one has a new name."""
    other = make(BRIGHT + MOVED, None, seed=4)
    spot = np.array([10.0, -45.0, 30.0])
    told = cb.Prompts([BRIGHT + MOVED, spot], [0, 7], {3: "Dark", 5: "bright", 7: "new"})
    adapted, labels = found(probe, other, told)
    assert adapted.names_ == {3: "Dark", 5: "bright", 7: "new"}
    assert at(labels, other.grid, told.points_ras).tolist() == [0, 7]
    assert len(adapted.prompts_) >= 2
    _, uncorrected = found(probe, other)
    assert at(uncorrected, other.grid, told.points_ras).tolist() == [1, 0]


def test_automatic_prompts_near_contrary_corrections_are_dropped(probe, make):
    other = make(seed=4)
    adapted = adapt(probe, other, cb.Prompts([BRIGHT], [0]))
    near = np.linalg.norm(adapted.prompts_.points_ras - BRIGHT, axis=1) < 20
    assert not (adapted.prompts_.labels[near] == 1).any()


def test_a_probe_is_unchanged_on_its_own_scan(probe, make):
    assert adapt(probe, make(), cb.Prompts([BRIGHT], [0])) is probe


def test_another_encoder_is_refused(probe, make_grid, make_phantom, pooling):
    with pytest.raises(ProbeError, match="another encoder"):
        adapt(probe, cb.embed(make_phantom(make_grid()), pooling(strides=(2, 4))))


def test_a_saved_probe_adapts_as_before(probe, make, tmp_path):
    probe.save(tmp_path / "probe.safetensors")
    again, other = cb.Probe.load(tmp_path / "probe.safetensors"), make(BRIGHT + MOVED, seed=4)
    assert again.fitted_pyramid_ is None
    assert (found(again, other)[1] == found(probe, other)[1]).all()
    adapted = adapt(again, other)
    adapted.save(tmp_path / "adapted.safetensors")
    assert cb.Probe.load(tmp_path / "adapted.safetensors").adapts_to(make())
    assert (tmp_path / "probe.safetensors").stat().st_size < 4e6


def test_a_file_without_memory_uses_its_weights(probe, make, tmp_path):
    path = tmp_path / "probe.safetensors"
    probe.save(path)
    header, tensors = read_tensors(path, "probe")
    write_tensors(path, "probe", header, {n: part for n, part in tensors.items() if not n.startswith("memory.")})
    old, other = cb.Probe.load(path), make(seed=4)
    assert adapt(old, other) is old
    assert torch.equal(old.logits(other), probe.appearance_logits(other))


def test_a_file_without_a_shared_flag_uses_its_own_basis(sharing, probe, make, tmp_path):
    path, other = tmp_path / "probe.safetensors", make(BRIGHT + MOVED, seed=4)
    shared_basis._read.cache_clear()
    (tmp_path / "basis.safetensors").rename(tmp_path / "away")
    before = found(probe, other)[1]
    probe.save(path)
    header, tensors = read_tensors(path, "probe")
    assert not tensors.pop("memory.shared")
    write_tensors(path, "probe", header, tensors)
    (tmp_path / "away").rename(tmp_path / "basis.safetensors")
    old = cb.Probe.load(path)
    assert not old.memory.shared and (found(old, other)[1] == before).all()


def test_an_incomplete_memory_is_refused(probe, tmp_path):
    path = tmp_path / "probe.safetensors"
    probe.save(path)
    header, tensors = read_tensors(path, "probe")
    del tensors["memory.vectors"]
    write_tensors(path, "probe", header, tensors)
    with pytest.raises(ProbeError, match="incomplete"):
        cb.Probe.load(path)


def test_segment_adapts_a_probe_of_another_scan(probe, make_grid, make_phantom, pooling):
    volume = make_phantom(make_grid(), [(BRIGHT + MOVED, SIGMA, 400.0)], seed=4)
    pyramid = cb.embed(volume, pooling())
    labels = cb.segment(volume, pyramid, cb.Prompts(np.empty((0, 3)), []), probe=probe)
    assert at(labels.array, volume.grid, BRIGHT + MOVED).tolist() == [1]


def test_automatic_prompts_lie_in_their_structures(probe, make):
    other = make(BRIGHT + MOVED, DARK + MOVED, seed=4)
    made = localize(probe.memory, other)
    for label, centre in ((1, BRIGHT + MOVED), (2, DARK + MOVED)):
        own = made.points_ras[made.labels == label]
        assert len(own) and (np.linalg.norm(own - centre, axis=1) < 2 * SIGMA).all()


def test_a_part_of_a_body_is_aligned():
    """Features that encode the position, in a body and in the middle part of another body that is larger and shifted."""
    random = np.random.default_rng(0)
    scale, shift = np.array([1.1, 0.95, 0.9]), np.array([20.0, -35.0, 400.0])
    mixing = random.normal(size=(24, 3)) / 60
    phase = random.uniform(0, 6, 24)

    def features(ras):
        return torch.from_numpy(np.sin(ras @ mixing.T + phase)).float()

    here = random.uniform([-150, -100, -300], [150, 100, 300], (3000, 3))
    there = random.uniform([-150, -100, -60], [150, 100, 60], (3000, 3))
    found = align(here, features(here), there * scale + shift, features(there))
    corners = np.array([[x, y, z] for x in (-100, 100) for y in (-80, 80) for z in (-50, 50)], float)
    assert np.linalg.norm(found.to(corners) - (corners * scale + shift), axis=1).max() < 15
    np.testing.assert_allclose(found.back(found.to(corners)), corners)
