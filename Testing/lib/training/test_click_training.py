"""The training of the click networks: what it samples, and a small one from start to end."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage

from CoralBayLib.core import schemas
from CoralBayLib.core.tensor_files import read_tensors
from CoralBayLib.demo.annotator import dice
from CoralBayLib.fewshot.clicks import inputs, level_sets
from CoralBayLib.fewshot.clicks.inputs import Region
from CoralBayLib.fewshot.clicks.networks import KIND, ClickNetworks, Perceptron
from CoralBayLib.imaging.grid import Volume
from Testing.benchmarks.encoders import Labelled
from Testing.lib.conftest import PoolingEncoder, phantom, phantom_grid
from Testing.training.clicks.fitting import VOXELS, fit
from Testing.training.clicks.samples import SAMPLED, dice_of_levels, sample_voxels
from Testing.training.clicks.sessions import starting_network
from Testing.training.clicks.train import Settings, Training

pytestmark = pytest.mark.slow

SETTINGS = Settings("pooling", clicks=3, structures=2, seed=0)


def labelled(name: str, offset: float) -> Labelled:
    """A phantom with two structures that are bright blobs."""
    grid = phantom_grid(extent_mm=80.0, spacing=2.0)
    centers = [grid.center_ras + [side * 16, offset, 0] for side in (-1, 1)]
    volume = phantom(grid, [(center, 6.0, 300.0) for center in centers])
    k, j, i = np.indices(grid.shape)
    ras = grid.to_ras(np.stack([i, j, k], -1).reshape(-1, 3))
    labels = np.zeros(len(ras), np.uint8)
    for label, center in enumerate(centers, 1):
        labels[np.linalg.norm(ras - center, axis=1) < 7] = label
    return Labelled(name, volume, Volume(labels.reshape(grid.shape), grid), {1: "left", 2: "right"})


def training(state, settings=SETTINGS, names=("one", "two")):
    scans = {name: lambda name=name, n=n: labelled(name, 6.0 * n) for n, name in enumerate(names)}
    return Training(scans, PoolingEncoder(strides=(2, 4)), settings, state)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    state = tmp_path_factory.mktemp("state")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CORALBAY_CACHE", str(state / "cache"))
        return training(state).run(2)


def test_a_small_training_writes_networks_that_can_be_read(trained):
    header, tensors = read_tensors(trained, KIND, schemas.CLICK_NETWORKS)
    networks = ClickNetworks.from_tensors(tensors)
    assert header == {"scans": ["one", "two"]}
    assert networks.voxels.n_inputs == len(inputs.NAMES)
    assert [each.n_inputs for each in networks.regions] == [len(level_sets.NAMES)] * 4
    assert 5_000 < sum(tensor.numel() for tensor in tensors.values()) <= 10_000


def test_losses_fall(trained):
    lines = (trained.parent / "log.txt").read_text(encoding="utf-8")
    pairs = [(float(first), float(last)) for first, last in re.findall(r"(\d\.\d+) to (\d\.\d+)", lines)]
    assert len(pairs) == 2 + 4
    assert all(last < first for first, last in pairs)


def test_samples_hold_both_sides_and_the_true_dice(trained):
    samples = training(trained.parent).samples(1)
    assert 0.1 < samples.inside.mean() < 0.9 and (samples.weights > 0).all()
    assert samples.dice.min() >= 0 and 0.5 < samples.dice.max() <= 1
    assert set(samples.scores[:, 0]) <= {1, 2, 3} and np.count_nonzero(samples.scores[:, 0] == 1) == 4
    # Every click has regions of all levels.
    assert len(samples.dice) % len(level_sets.LEVELS) == 0


def test_a_stopped_training_goes_on_with_the_same_result(trained):
    state = trained.parent
    before = trained.read_bytes()
    kept = {path: path.stat().st_mtime_ns for path in state.glob("round-0*")}
    for path in (trained, state / "round-1.safetensors", state / "round-1-two.npz"):
        path.unlink()
    assert training(state).run(2).read_bytes() == before
    assert {path: path.stat().st_mtime_ns for path in state.glob("round-0*")} == kept


def test_another_training_needs_another_folder(trained):
    with pytest.raises(SystemExit, match="--state"):
        training(trained.parent, names=("one",))
    with pytest.raises(SystemExit, match="--state"):
        training(trained.parent, Settings("pooling", clicks=3, structures=2, seed=1))


def test_round_0_weighs_appearance_and_paths():
    rows = torch.from_numpy(np.random.default_rng(0).normal(1, 2, (len(inputs.NAMES), 500)).astype(np.float32))
    by = dict(zip(inputs.NAMES, rows, strict=True))
    wanted = by["appearance"] + 8 * (by["log_geodesic_other"].clamp(max=np.log(8.5)) - by["log_geodesic_own"])
    assert torch.allclose(starting_network()(rows), wanted, atol=1e-4)


def test_scaling_is_part_of_the_first_layer():
    """A function of inputs that are far from zero and of unlike spread is learned, for inputs as they are."""
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(6000, 3, generator=generator) * torch.tensor([100.0, 1.0, 0.01]) + torch.tensor([500.0, -3.0, 0.2])
    wanted = (values[:, 0] - 500) / 100 + (values[:, 2] - 0.2) / 0.01
    recipe = replace(VOXELS, batch=512)
    tensors, losses = fit(values, lambda outputs, rows: (outputs - wanted[rows]).square().mean(), recipe, seed=0)
    network = Perceptron.from_tensors({f"voxels.{name}": tensor for name, tensor in tensors.items()}, "voxels")
    assert losses[-1] < 0.1 * losses[0]
    assert (network(values.T.contiguous()) - wanted).square().mean() < 0.1 < wanted.var()


def test_dice_of_levels_is_that_of_their_masks():
    truth = ndimage.zoom(np.random.default_rng(0).normal(size=(3, 3, 3)), 4, order=1) > 0.3
    field = np.random.default_rng(1).normal(0, 3, truth.shape).astype(np.float32) + 3 * truth
    whole = Region(np.zeros(3, int), np.array(truth.shape), np.ones(3, int))
    found = dice_of_levels(field, whole, (truth, int(truth.sum())))
    assert np.allclose(found, [dice(field >= level, truth) for level in level_sets.LEVELS], atol=1e-6)


def test_weights_add_up_to_the_voxels_of_each_group():
    shape = (16, 20, 24)
    truth, before, body = (np.zeros(shape, bool) for _ in range(3))
    truth[4:10, 4:10, 4:10] = True
    before[4:10, 4:10, 8:14] = True
    body[1:] = True
    region = Region(np.zeros(3, int), np.array(shape), np.array([1, 1, 2]))
    kept = region.slices
    values = np.arange(truth[kept].size, dtype=np.float32)[None]
    structure = truth, int(truth.sum())
    chosen, inside, weights = sample_voxels(
        region, values, structure, before, body, np.array([3.0, 3.0, 6.0]), np.random.default_rng(0)
    )
    at = chosen[:, 0].astype(int)
    assert np.array_equal(inside, truth[kept].ravel()[at]) and body[kept].ravel()[at].all()
    assert len(at) == len(set(at)) <= sum(SAMPLED)
    assert weights[inside > 0].sum() == pytest.approx(1)
    assert weights.sum() == pytest.approx(np.count_nonzero(body[kept]) * 2 / structure[1])
