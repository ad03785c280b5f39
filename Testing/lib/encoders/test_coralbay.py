"""The CoralBay network against kaiko-eva's (live and frozen) and against MONAI's own forward."""

from __future__ import annotations

import filling
import make_swin_fixture as fixture
import numpy as np
import pytest
import torch

from CoralBayLib.core.errors import EncoderError
from CoralBayLib.encoders.coralbay import LEVEL_NAMES, SETTINGS, CoralBayEncoder, CoralBayNetwork
from CoralBayLib.encoders.networks import swin_attention

pytestmark = pytest.mark.slow

pytest.importorskip("monai")


def network(use_v2: bool = True, feature_size: int = 12) -> CoralBayNetwork:
    made = CoralBayNetwork(feature_size, use_v2=use_v2).eval()
    filling.fill(made, seed=1)
    return made


def largest_difference(a: torch.Tensor, b: torch.Tensor) -> float:
    assert a.shape == b.shape
    return float((a - b).abs().max())


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-4)])
@pytest.mark.parametrize("use_v2", [True, False])
def test_equals_the_frozen_output_of_eva(use_v2, dtype, tolerance):
    """In double precision to the last digits; in single precision processors add up in orders of their own, which the
    norms amplify: to 3e-5 on the ones seen."""
    stored = np.load(fixture.FIXTURE, allow_pickle=False)
    tag = "v2" if use_v2 else "v1"
    net = network(use_v2).to(dtype)
    assert sorted(net.state_dict()) == list(stored[f"{tag}_keys"])
    with torch.inference_mode():
        maps = net.forward_features(filling.image(2, fixture.SIZE).to(dtype))
    for seed, (name, level) in enumerate(zip(LEVEL_NAMES, maps, strict=True)):
        values = level.numpy().ravel()
        assert level.shape == tuple(stored[f"{tag}_{name}_shape"])
        difference = np.abs(values[filling.positions(values.size, seed)] - stored[f"{tag}_{name}"]).max()
        assert difference < tolerance, name
        np.testing.assert_allclose(
            [values.mean(dtype=np.float64), values.std(dtype=np.float64)], stored[f"{tag}_{name}_mean_std"], atol=1e-5
        )
    pooled = torch.cat([m.mean(dim=(2, 3, 4)) for n, m in zip(LEVEL_NAMES, maps, strict=True) if n != "hidden3"], dim=1)
    assert np.abs(pooled.numpy() - stored[f"{tag}_embedding"]).max() < min(tolerance, 1e-5)
    assert pooled.shape == (1, 24 * 12)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 3e-5), (torch.float64, 1e-10)])
def test_equals_eva_itself(dtype, tolerance):
    eva = pytest.importorskip("eva.vision.models.networks.backbones.radiology.swin_unetr", reason="kaiko-eva is not installed")
    theirs = eva.SwinUNETREncoder(feature_size=12).to(dtype).eval()
    ours = network().to(dtype)
    theirs.load_state_dict(ours.state_dict(), strict=True)
    x = filling.image(3, (64, 64, 96)).to(dtype)
    with torch.inference_mode():
        embedding, maps = theirs.forward_intermediates(x)
        for name, a, b in zip(LEVEL_NAMES, ours.forward_features(x), maps, strict=True):
            assert largest_difference(a, b) < tolerance, name
        pooled = [a for name, a in zip(LEVEL_NAMES, ours.forward_features(x), strict=True) if name != "hidden3"]
        assert largest_difference(torch.cat([a.mean(dim=(2, 3, 4)) for a in pooled], dim=1), embedding) < tolerance


@pytest.mark.parametrize(("size", "use_v2"), [((64, 64, 128), True), ((128, 64, 64), False)])
def test_trunk_equals_monai(size, use_v2, monkeypatch):
    """Sizes whose stages pad, shift along some axes only, or fit one window. Small chunks, so that there are many."""
    pytest.importorskip("einops", reason="MONAI's own forward needs einops")
    monkeypatch.setattr(swin_attention, "CHUNK_BYTES", 2**22)
    net = network(use_v2)
    x = filling.image(4, size)
    with torch.inference_mode():
        theirs = net.swinViT(x)
        names = LEVEL_NAMES[1:]
        for name, hidden, ours in zip(names, theirs, net.forward_features(x, names), strict=True):
            block = {"enc1": net.encoder2, "enc2": net.encoder3, "enc3": net.encoder4, "dec4": net.encoder10}.get(name)
            expected = hidden if block is None else block(hidden)
            assert largest_difference(ours, expected) < 3e-5, name


@pytest.mark.parametrize("size", [(5, 9, 15), (8, 8, 8), (7, 14, 6), (3, 3, 3)])
@pytest.mark.parametrize("batch", [1, 2])
def test_block_equals_monai(size, batch):
    """Every mixture of axes below, at and above the window, shifted, with padding, in a batch."""
    from monai.networks.nets.swin_unetr import SwinTransformerBlock, compute_mask, get_window_size

    block = SwinTransformerBlock(12, 3, (7, 7, 7), (3, 3, 3)).eval()
    filling.fill(block, seed=5)
    block.double()
    x = torch.randn(batch, *size, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    window, shift = get_window_size(size, (7, 7, 7), (3, 3, 3))
    assert swin_attention.effective_window(size, (7, 7, 7), (3, 3, 3)) == (window, shift)
    padded = [-(-s // w) * w for s, w in zip(size, window, strict=True)]
    with torch.inference_mode():
        expected = block(x, compute_mask(padded, window, shift, "cpu"))
        assert largest_difference(swin_attention.run_block(block, x, swin_attention.PositionBias()), expected) < 1e-10


def test_position_bias_follows_its_table():
    from monai.networks.nets.swin_unetr import WindowAttention

    attention = WindowAttention(12, 3, (7, 7, 7))
    bias = swin_attention.PositionBias()
    with torch.no_grad():
        before = bias(attention, 27)
        assert bias(attention, 27) is before
        attention.relative_position_bias_table.add_(1)
        torch.testing.assert_close(bias(attention, 27), before + 1)
    assert bias(attention, 27).requires_grad


def test_gradients_flow():
    from monai.networks.nets.swin_unetr import SwinTransformerBlock

    block = SwinTransformerBlock(12, 3, (7, 7, 7), (3, 3, 3))
    swin_attention.run_block(block, torch.randn(1, 8, 8, 8, 12), swin_attention.PositionBias()).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in block.parameters())


def test_trunk_stops_at_the_deepest_level_asked_for(monkeypatch):
    net, run = network(), []
    monkeypatch.setattr(CoralBayNetwork, "_stage", lambda self, depth, x: run.append(depth) or x)
    net.forward_features(torch.zeros(1, 1, 64, 64, 64), ("enc0",))
    net.forward_features(torch.zeros(1, 1, 64, 64, 64), ("enc1",))
    assert run == []


def test_encoder_describes_its_maps():
    encoder = CoralBayEncoder(network(), "sha", "test", "whole")
    with torch.inference_mode():
        maps = encoder.forward_features(torch.rand(2, 1, 64, 64, 64), LEVEL_NAMES)
    for level, made in zip(encoder.levels, maps, strict=True):
        assert made.shape == (2, level.channels, *(64 // s for s in level.stride))
        assert level.offset == tuple((s - 1) / 2 for s in level.stride)
    assert [level.name for level in encoder.levels if level.optional] == ["enc0"]
    assert [level.name for level in encoder.levels if not level.pooled] == ["hidden3"]
    reordered = encoder.forward_features(torch.rand(1, 1, 64, 64, 64), ("enc2", "enc1"))
    assert [m.shape[1] for m in reordered] == [24, 12]


@pytest.mark.parametrize("setting", [*SETTINGS, None])
def test_settings_choose_the_tiling(setting):
    encoder = CoralBayEncoder(network(), "sha", "test", setting)
    assert encoder.tiling == SETTINGS[setting or "faithful"][0]
    if encoder.tiling.window is not None:
        assert all(s % level.stride[0] == 0 for s in encoder.tiling.step for level in encoder.levels)
    assert encoder.memory_bytes((96, 96, 96), ("enc0",)) > encoder.memory_bytes((96, 96, 96), ("dec4",))


def test_wrong_use_is_told():
    encoder = CoralBayEncoder(network(), "sha", "test")
    with pytest.raises(EncoderError, match="multiples of 32"):
        encoder.forward_features(torch.zeros(1, 1, 64, 64, 70), ("enc1",))
    with pytest.raises(EncoderError, match="at least 64"):
        encoder.forward_features(torch.zeros(1, 1, 64, 64, 32), ("enc1",))
    with pytest.raises(EncoderError, match="asked for enc9"):
        encoder.forward_features(torch.zeros(1, 1, 64, 64, 64), ("enc9",))
    with pytest.raises(EncoderError, match="faithful, whole"):
        CoralBayEncoder(network(), "sha", "test", "fast")
