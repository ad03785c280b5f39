"""Inference modes with a window of HU, for CoralBay and for VoCo, which has the same network."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from CoralBayLib.core.errors import EncoderError, WeightsError
from CoralBayLib.encoders import load_encoder
from CoralBayLib.encoders.coralbay import CoralBayNetwork
from CoralBayLib.features.identity import identity

pytest.importorskip("monai")


@pytest.fixture(scope="module")
def tensors():
    torch.manual_seed(0)
    return CoralBayNetwork(feature_size=12).state_dict()


@pytest.fixture
def weights(tensors, tmp_path, monkeypatch):
    monkeypatch.delenv("VOCO_WEIGHTS", raising=False)
    save_file(tensors, tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


def test_a_window_may_follow_the_mode_and_is_part_of_the_features(weights):
    plain = load_encoder("coralbay", weights, "cpu")
    narrow = load_encoder("coralbay", weights, "cpu", setting="faithful@-175:250")
    assert plain.input.window_hu == (-1000, 1000) and narrow.input.window_hu == (-175, 250)
    assert narrow.tiling.window == plain.tiling.window == (96, 96, 96)
    assert identity(plain) != identity(narrow)
    assert load_encoder("coralbay", weights, "cpu", setting="whole@-0100:0300").setting == "whole@-100:300"
    same = load_encoder("coralbay", weights, "cpu", setting="faithful@-1000:1000")
    assert same.setting == "faithful" and identity(same) == identity(plain)


@pytest.mark.parametrize("window", ["", "5", "250:-175", "10:10", "a:b", "-175:250:300", "-9999:0", "0:99999", "0.5:3"])
def test_what_is_no_window_is_refused(window, weights):
    with pytest.raises(EncoderError, match="is not a window of HU"):
        load_encoder("coralbay", weights, "cpu", setting=f"faithful@{window}")


def test_the_mode_before_a_window_must_be_known(weights):
    with pytest.raises(EncoderError, match="faithful, whole"):
        load_encoder("coralbay", weights, "cpu", setting="fast@0:100")
    with pytest.raises(EncoderError, match="setting whole only"):
        load_encoder("coralbay-mini", weights, "cpu", setting="whole@0:100")


def test_voco_is_the_same_network_with_other_windows(tensors, weights, tmp_path):
    path = tmp_path / "VoCo_B_SSL_head.pt"
    torch.save(tensors, path)
    voco, coralbay = load_encoder("voco", tmp_path, "cpu"), load_encoder("coralbay", weights, "cpu")
    x = torch.rand(1, 1, 64, 64, 64, generator=torch.Generator().manual_seed(0))
    for ours, theirs in zip(*(each.forward_features(x, ("enc2", "dec4")) for each in (voco, coralbay)), strict=True):
        assert torch.equal(ours, theirs)
    assert voco.input.window_hu == (-175, 250) and voco.input.spacing_mm == (1.5, 1.5, 1.5)
    assert load_encoder("voco", path, "cpu", setting="faithful@-1000:500").input.window_hu == (-1000, 500)
    assert identity(voco) != identity(load_encoder("voco", path, "cpu", setting="faithful@-1000:1000"))


def test_weights_of_voco_are_asked_for(monkeypatch):
    monkeypatch.delenv("VOCO_WEIGHTS", raising=False)
    with pytest.raises(WeightsError, match=r"huggingface\.co/Luffy503/VoCo"):
        load_encoder("voco", device="cpu", consent=lambda request: pytest.fail("asked"))
