"""The training of CoralBay-mini: its material, pairs of crops, and a stopped training that continues."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from scipy import ndimage

import CoralBayLib as cb
from CoralBayLib.features.alignment import AxisAlignment
from CoralBayLib.fewshot.patients.registration import Deformation
from CoralBayLib.imaging.grid import Grid, Volume
from Testing.lib.conftest import PoolingEncoder, phantom_grid
from Testing.training import material as making
from Testing.training.correspondence import Body, Correspondence, consistent, corresponding
from Testing.training.crops import draw, size_for
from Testing.training.material import Material, Source
from Testing.training.recipe import Recipe, Size
from Testing.training.structures import LabeledPoints
from Testing.training.student import LEVELS
from Testing.training.teacher import COMPONENTS, TeacherPass, zoom_of
from Testing.training.train_mini import Training
from Testing.training.views import draw_pair

pytestmark = pytest.mark.slow

pytest.importorskip("monai")


def textured(grid: Grid, seed: int = 0) -> Volume:
    """A body of blobs in air."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=grid.shape), 3)
    k, j, i = np.indices(grid.shape)
    ras = grid.to_ras(np.stack([i, j, k], -1).reshape(-1, 3)) - grid.center_ras
    inside = (np.linalg.norm(ras / [1.0, 0.8, 1.1], axis=1) < 60).reshape(grid.shape)
    return Volume(np.where(inside, 40 + 100 * noise / noise.std(), -1000).astype(np.int16), grid)


def made_pass(seed: int, zoom: float = 1.0) -> TeacherPass:
    """Of a textured body, with random targets."""
    random = np.random.default_rng(seed)
    box = phantom_grid(extent_mm=120.0 * zoom, spacing=3.0 * zoom)
    image = textured(box, seed)
    targets = []
    for width, stride in zip(COMPONENTS, (2, 4, 8, 16), strict=True):
        grid = box.subgrid((0, 0, 0), stride, tuple(n // stride + 2 for n in box.shape))
        targets.append((torch.from_numpy(random.normal(size=(width, *grid.shape))).half(), grid))
    return TeacherPass(image, Volume((image.array > -500).astype(np.uint8), box), tuple(targets))


@pytest.fixture
def folders(tmp_path):
    """Two groups of two scans, of which only the names are needed: all passes and pairs are there."""
    groups = [[tmp_path / group / f"{group}{n}" for n in range(2)] for group in ("a", "b")]
    state = tmp_path / "made"
    state.mkdir()
    save_file({"projection0": torch.zeros(1)}, state / "reductions.safetensors")
    scans = [folder for group in groups for folder in group]
    for scan, folder in enumerate(scans):
        for number in range(2):
            made_pass(scan, zoom_of(scan, number, 0)).save(state / f"pass-{folder.name}-{number}.safetensors")
    points = phantom_grid().center_ras + np.random.default_rng(0).uniform(-30, 30, (300, 3))
    for one, other, shift in (("a0", "a1", 5.0), ("a1", "a0", -5.0)):
        Correspondence(points, points + shift).save(state / f"pair-{one}-{other}.safetensors")
    for one, other in (("b0", "b1"), ("b1", "b0")):
        Correspondence(points[:0], points[:0]).save(state / f"pair-{one}-{other}.safetensors")
    return groups, state


@pytest.fixture
def material(folders, monkeypatch):
    monkeypatch.setattr(making, "_EVERY", 1)
    groups, state = folders
    return lambda: Material(groups, state, seed=0, rounds=2, pairs=5)


def test_material_grows_with_the_steps(material):
    made = material()
    made.until(0)
    assert set(made.sources) == {(scan, 0) for scan in range(4)} and not made.pairs
    made.until(1)
    made.until(2)
    # The other pair has nothing in common.
    assert set(made.pairs) == {(0, 1), (1, 0)}
    made.until(100)
    assert set(made.sources) == {(scan, number) for scan in range(4) for number in range(2)}
    late = material()
    late.until(100)
    assert set(late.sources) == set(made.sources) and set(late.pairs) == set(made.pairs)


def test_other_material_needs_another_folder(folders):
    groups, state = folders
    Material(groups, state, seed=0, rounds=2, pairs=5)
    Material(groups, state, seed=0, rounds=3, pairs=5)
    with pytest.raises(SystemExit, match="--state"):
        Material(groups[:1], state, seed=0, rounds=2, pairs=5)
    with pytest.raises(SystemExit, match="--state"):
        Material(groups, state, seed=1, rounds=2, pairs=5)


def test_pairs_wait_for_the_passes_of_both_scans(material):
    made = material()
    made.until(2)
    assert (0, 1) in made.pairs
    del made.sources[1, 0]
    assert all(made.drawn(np.random.default_rng(seed), 1.0)[2] is None for seed in range(20))


def test_crops_of_a_pair_show_the_same_places(material):
    """Of one patient and of two: the places of both crops are the same, or as far apart as the pair says."""
    made = material()
    made.until(100)
    specs = [spec for spec in Training(Recipe(1, feature_size=12), made, made.state).specs if spec.name in LEVELS[:4]]
    drawn = []

    def crops(sources, around):
        drawn.extend(sources)
        return [draw(s.made, specs, 3.0, (56, 56, 56), random, at) for s, at in zip(sources, around, strict=True)]

    seen = set()
    for seed in range(12):
        drawn.clear()
        random = np.random.default_rng(seed)
        pair = draw_pair(made, crops, random)
        assert len(pair.ijk[0]) == len(pair.ijk[1]) > 20
        ras = [e.grid.to_ras(ijk) / s.zoom for e, ijk, s in zip(pair.examples, pair.ijk, drawn, strict=True)]
        apart = np.abs(ras[1] - ras[0])
        across = drawn[0] is not drawn[1]
        assert np.allclose(apart, 5.0 if across else 0.0, atol=1e-6)
        assert pair.sigma_mm == (12.0 if across else 6.0)
        seen.add(across)
    assert seen == {True, False}


def recipe(steps):
    return Recipe(steps, seed=3, feature_size=12, sizes=(Size(1.0, (64, 32, 32)),), fits=1)


def test_crops_of_whole_bodies_have_one_size(material):
    """Sides are what the larger body needs, in steps of 32 voxels, and at most what is allowed."""
    made = material()
    made.until(100)
    small, large = made_pass(0), made_pass(1, zoom=2.2)
    assert size_for([small], 3.0, (128, 128, 128)) == (64, 64, 64)
    assert size_for([small, large], 3.0, (128, 128, 80)) == (96, 96, 80)
    for key in ((0, 0), (0, 1)):
        made.sources[key] = Source.of(large, 1.0)
    training = Training(Recipe(1, feature_size=12, sizes=(Size(1.0, (128, 128, 80), whole=True),)), made, made.state)
    shapes = set()
    for seed in range(8):
        first, second = training.pair(np.random.default_rng(seed)).examples
        assert first.image.shape == second.image.shape
        shapes.add(tuple(first.image.shape[1:]))
    assert shapes == {(64, 64, 64), (96, 96, 80)}


def test_a_killed_training_continues_with_the_same_result(material, tmp_path):
    """One that loses its last step and starts anew gives the weights of one that was never ended."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for state in (whole, killed):
        state.mkdir()
    Training(recipe(2), material(), whole).run()
    training = Training(recipe(2), material(), killed)
    step = training.one_step

    def ended():
        losses = step()
        if training.step == 2:
            raise KeyboardInterrupt
        training.save()
        return losses

    training.one_step = ended
    with pytest.raises(KeyboardInterrupt):
        training.run()
    Training(recipe(2), material(), killed).run()
    assert "resumed at step 1" in (killed / "log.txt").read_text()
    wanted, found = (load_file(state / "coralbay-mini.safetensors") for state in (whole, killed))
    assert wanted.keys() == found.keys() and all(torch.equal(wanted[key], found[key]) for key in wanted)


def labeled(folder, seed):
    """Labels of two spheres in a scan's folder; returns their centers, RAS mm."""
    grid = phantom_grid(extent_mm=120.0, spacing=2.5)
    k, j, i = np.indices(grid.shape)
    ras = grid.to_ras(np.stack([i, j, k], -1).reshape(-1, 3))
    centers = grid.center_ras + np.array([[-25.0, 0, 0], [25.0, 10, 5]])
    array = np.zeros(grid.shape, np.uint8)
    for label, center in zip((3, 7), centers, strict=True):
        array[(np.linalg.norm(ras - center, axis=1) < 12).reshape(grid.shape)] = label
    folder.mkdir(parents=True)
    cb.write_volume(Volume(array, grid), folder / "labels.nii.gz")
    (folder / "labels.json").write_text('{"3": "Ball", "7": "Other"}')
    return centers


def test_points_lie_in_their_structures(tmp_path):
    centers = labeled(tmp_path / "a", 0)
    body = np.vstack([centers, centers + [0, 30, 0], centers + 1e4])
    points = LabeledPoints.read(tmp_path / "a", body, ("Other", "Missing", "Ball"))
    for number, center in ((1, centers[1]), (3, centers[0])):
        own = points.points_ras[points.classes == number]
        assert len(own) == 400 and np.linalg.norm(own - center, axis=1).max() < 12 + 2.5 * 3**0.5 / 2
        assert np.linalg.norm(own.mean(axis=0) - center) < 1.5
    assert np.allclose(points.points_ras[points.classes == 0], centers + [0, 30, 0])
    held = np.linalg.norm(points.points_ras - centers[0], axis=1) < 35
    rows = points.drawn(held, np.random.default_rng(0))
    assert held[rows].all() and np.bincount(points.classes[rows]).tolist() == [1, 0, 0, 40]
    assert LabeledPoints.read(tmp_path / "a", body, ("Missing",)) is None
    assert LabeledPoints.read(tmp_path / "b", body, ("Ball",)) is None


def test_labels_and_features_to_keep_are_learned_from(material, folders, tmp_path):
    """Both take part in a step, also after a kill, and features that did not change cost nothing."""
    for seed, folder in enumerate(folders[0][0]):
        labeled(folder, seed)
    first = tmp_path / "first"
    first.mkdir()
    Training(recipe(1), material(), first).run()
    weights = first / "coralbay-mini.safetensors"
    wanted = replace(recipe(4), init=weights, labels=("Ball", "Other"), keep=weights)
    states = [tmp_path / name for name in ("whole", "killed")]
    for state in states:
        state.mkdir()
    training = Training(wanted, material(), states[0])
    training.material.until(0)
    training.begin()
    training.save()
    parts = np.array([training.one_step() for _ in range(4)])
    assert (parts[:, -2] > 0).any(), "some crops hold labeled structures"
    moved = parts[parts[:, -1] > 0, -1]
    assert len(moved) and moved[0] < 1e-3 < moved[-1]
    assert {0, 1} <= set(training.labeled) and training.labeled[3] is None
    killed = Training(wanted, material(), states[1])
    killed.material.until(0)
    killed.begin()
    for _ in range(2):
        killed.one_step()
    killed.save()
    again = Training(wanted, material(), states[1])
    assert again.resume() and int(again.structures.added) == int(killed.structures.added) > 0
    again.material.until(0)
    for _ in range(2):
        again.one_step()
    assert all(torch.equal(a, b) for a, b in zip(again.student.parameters(), training.student.parameters(), strict=True))


def test_training_begins_with_given_weights(material, tmp_path):
    """The network begins as the file says."""
    first, second = tmp_path / "first", tmp_path / "second"
    for state in (first, second):
        state.mkdir()
    Training(recipe(1), material(), first).run()
    begun = Training(Recipe(1, seed=3, init=first / "coralbay-mini.safetensors", feature_size=12, fits=0), material(), second)
    wanted = load_file(first / "coralbay-mini.safetensors")
    assert all(torch.equal(value.half(), wanted[key]) for key, value in begun.student.network.named_parameters())


def test_corresponding_places_of_a_moved_body():
    grid = phantom_grid(extent_mm=150.0, spacing=2.5)
    volume = textured(grid)
    matrix = grid.ijk_to_ras.copy()
    matrix[:3, 3] += [30, -20, 50]
    encoder = PoolingEncoder(strides=(2, 4, 8))
    bodies = [Body.of(cb.embed(each, encoder)) for each in (volume, Volume(volume.array, Grid(grid.shape, matrix)))]
    there, back = corresponding(*bodies)
    assert len(there.here) > 500
    assert np.median(np.linalg.norm(there.there - there.here - [30, -20, 50], axis=1)) < 3
    assert np.median(np.linalg.norm(back.there - back.here + [30, -20, 50], axis=1)) < 3


def shifted(mm: float) -> Deformation:
    """One that moves all points along R."""
    return replace(Deformation.none(), alignment=AxisAlignment(np.ones(3), np.array([-mm, 0.0, 0.0])))


@pytest.mark.parametrize(("there", "back", "kept"), [(8.0, -5.0, True), (8.0, 5.0, False), (200.0, -200.0, False)])
def test_only_points_that_come_back_count(there, back, kept):
    """Within 10 mm, and from the body of the other scan."""
    body = Body.of(cb.embed(textured(phantom_grid(extent_mm=130.0, spacing=4.0)), PoolingEncoder(strides=(2, 4, 8))))
    found = consistent(body, body, shifted(there), shifted(back))
    assert (len(found.here) > 1000) == kept and len(found.here) == len(found.there)
    assert np.allclose(found.there - found.here, [there, 0, 0], atol=1e-3)
