"""The CT-FM network against lighter-zoo's class and MONAI's, and what its checkpoints are."""

from __future__ import annotations

import filling
import pytest
import torch

from CoralBayLib.core.errors import EncoderError, WeightsError
from CoralBayLib.encoders.ct_fm import LEVEL_NAMES, SETTINGS, network_from
from CoralBayLib.encoders.networks.orientation import from_spl, to_spl

pytest.importorskip("monai")

SIZE = (64, 32, 48)


def compare(theirs, make_network):
    """Outputs of the class as published, on S, P, L, and of ours on R, A, S."""
    theirs.load_state_dict(make_network("ct-fm").state_dict(), strict=True)
    x = filling.image(2, SIZE)
    with torch.inference_mode():
        ours = network_from(theirs.state_dict()).forward_features(x)
        for name, a, b in zip(LEVEL_NAMES, ours, theirs.eval()(to_spl(x)), strict=True):
            assert a.shape == from_spl(b).shape
            assert float((a - from_spl(b)).abs().max()) < 1e-4 * max(1.0, float(b.abs().max())), name


def test_equals_the_published_class(make_network):
    zoo = pytest.importorskip("lighter_zoo", reason="lighter-zoo is not installed")
    compare(zoo.SegResEncoder(3, init_filters=4, in_channels=1, blocks_down=(1, 1, 1, 1, 1)), make_network)


def test_equals_monai(make_network):
    from monai.networks.nets.segresnet_ds import SegResEncoder

    compare(SegResEncoder(3, init_filters=4, in_channels=1, blocks_down=(1, 1, 1, 1, 1)), make_network)


def test_folding_changes_nothing(make_network):
    network, x = make_network("ct-fm"), filling.image(3, SIZE)
    with torch.inference_mode():
        before, after = network.forward_features(x), network.fold().forward_features(x)
    for a, b in zip(before, after, strict=True):
        assert float((a - b).abs().max()) < 1e-4 * float(a.abs().max())


def test_the_network_stops_at_the_deepest_level_asked_for(make_encoder, monkeypatch):
    encoder = make_encoder("ct-fm")
    beyond = [module for level in encoder.network.layers[2:] for module in level["blocks"].modules()]
    for module in beyond:
        monkeypatch.setattr(module, "forward", lambda *_: pytest.fail("ran beyond the level asked for"))
    (made,) = encoder.forward_features(filling.image(2, SIZE), ("stage2",))
    assert made.shape == (1, 8, 32, 16, 24)


@pytest.mark.parametrize("setting", [*SETTINGS, None])
def test_settings_choose_spacing_and_windows(setting, make_encoder):
    encoder = make_encoder("ct-fm", setting=setting)
    tiling, spacing = SETTINGS[setting or "1mm"]
    assert (encoder.tiling, encoder.input.spacing_mm) == (tiling, spacing)
    assert encoder.input.window_hu == (-1024, 2048)
    for level in encoder.levels:
        assert all(n % s == 0 for n, s in zip(tiling.window + tiling.step, level.stride * 2, strict=True))
    assert [level.name for level in encoder.levels if level.optional] == ["stage1"]
    assert [level.name for level in encoder.levels if level.pooled] == ["stage5"]
    assert SETTINGS["1mm"][0].name != SETTINGS["pretraining"][0].name, "they would share a cache key"


def test_wrong_use_is_told(make_encoder):
    encoder = make_encoder("ct-fm")
    with pytest.raises(EncoderError, match="multiples of 16"):
        encoder.forward_features(torch.zeros(1, 1, 32, 32, 40), ("stage1",))
    with pytest.raises(EncoderError, match="asked for stage6"):
        encoder.forward_features(torch.zeros(1, 1, 32, 32, 32), ("stage6",))
    with pytest.raises(EncoderError, match="settings 1mm, pretraining; asked for 'whole'"):
        make_encoder("ct-fm", setting="whole")


@pytest.mark.parametrize("shape", [(4, 3, 3, 3, 3), (4, 1, 7, 7, 7), (4, 1)])
def test_another_stem_is_refused(shape, make_network):
    with pytest.raises(WeightsError, match="not a CT-FM checkpoint"):
        network_from(dict(make_network("ct-fm").state_dict()) | {"conv_init.weight": torch.zeros(shape)})
