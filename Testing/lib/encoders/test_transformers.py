"""The transformers of VoxelFM and FM-CT against frozen outputs of their authors' code."""

from __future__ import annotations

import filling
import make_transformer_fixtures as fixture
import numpy as np
import pytest
import torch

from CoralBayLib.core.errors import EncoderError
from CoralBayLib.encoders.networks import attention
from CoralBayLib.encoders.networks.orientation import to_spl

STORED = {"voxelfm": (fixture.VOXELFM, fixture.VOXELFM_SIZE), "fm-ct": (fixture.FMCT, fixture.FMCT_SIZE)}


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-6), (torch.float32, 1e-4)])
@pytest.mark.parametrize("family", STORED)
def test_equals_the_frozen_output_of_its_authors(family, dtype, tolerance, make_network):
    path, size = STORED[family]
    stored = np.load(path, allow_pickle=False)
    network = make_network(family).to(dtype)
    assert sorted(network.state_dict()) == list(stored["keys"])
    with torch.inference_mode():
        patches, token = network.forward_features(filling.image(2, size).to(dtype))
    axes = to_spl(patches) if family == "voxelfm" else patches
    tokens = axes.flatten(2).transpose(1, 2)
    assert tokens.shape == tuple(stored["shape"])
    values = tokens.numpy().ravel()[filling.positions(tokens.numel(), 0)]
    assert np.abs(values - stored["patches"]).max() < tolerance
    assert np.abs(token.numpy() - stored["token"]).max() < tolerance
    assert np.abs(stored["patches"]).max() > 1


@pytest.mark.parametrize("family", STORED)
def test_small_chunks_change_nothing(family, make_encoder, monkeypatch):
    encoder, x = make_encoder(family), filling.image(3, STORED[family][1])
    before = encoder.forward_features(x, ("patches", "cls"))
    monkeypatch.setattr(attention, "CHUNK_BYTES", 2**14)
    for a, b in zip(before, encoder.forward_features(x, ("patches", "cls")), strict=True):
        assert float((a - b).abs().max()) < 1e-5


@pytest.mark.parametrize("family", STORED)
def test_encoder_describes_its_map_and_token(family, make_encoder):
    encoder, size = make_encoder(family), STORED[family][1]
    (level,) = encoder.levels
    token, patches = encoder.forward_features(torch.rand(2, 1, *size), (encoder.scan_token, level.name))
    assert patches.shape == (2, level.channels, *(n // s for n, s in zip(size, level.stride, strict=True)))
    assert token.shape == (2, level.channels)
    assert encoder.tiling.window is None
    assert encoder.forward_features(torch.rand(1, 1, *size), ()) == []


def test_settings_of_voxelfm_are_spacings(make_encoder):
    names = make_encoder("voxelfm").settings
    assert make_encoder("voxelfm").setting == "1mm"
    encoders = [make_encoder("voxelfm", setting=name) for name in names]
    assert [e.input.spacing_mm for e in encoders] == [(1.0,) * 3, (0.75,) * 3, (1.5,) * 3]
    assert len({e.tiling.name for e in encoders}) == len(names), "settings would share a cache key"
    assert encoders[0].memory_bytes((140, 140, 140), ()) < encoders[0].memory_bytes((280, 140, 140), ())


def test_wrong_use_is_told(make_encoder):
    with pytest.raises(EncoderError, match="multiples of 14"):
        make_encoder("voxelfm").forward_features(torch.zeros(1, 1, 28, 28, 30), ("patches",))
    with pytest.raises(EncoderError, match="96 voxels on each side"):
        make_encoder("fm-ct").forward_features(torch.zeros(1, 1, 96, 96, 84), ("patches",))
    with pytest.raises(EncoderError, match="levels patches, cls; asked for layer1"):
        make_encoder("voxelfm").forward_features(torch.zeros(1, 1, 28, 28, 28), ("layer1",))
    with pytest.raises(EncoderError, match="setting fit-96 only; asked for 'whole'"):
        make_encoder("fm-ct", setting="whole")


@pytest.mark.parametrize("family", STORED)
def test_axes_are_not_interchangeable(family, make_encoder):
    """A scan turned about its axes gives other features: positions and patches know their axes."""
    encoder, x = make_encoder(family), filling.image(4, (84, 84, 84) if family == "voxelfm" else (96, 96, 96))
    (straight,) = encoder.forward_features(x, ("patches",))
    (turned,) = encoder.forward_features(x.permute(0, 1, 3, 4, 2).contiguous(), ("patches",))
    assert float((straight - turned.permute(0, 1, 4, 2, 3)).abs().max()) > 0.1
