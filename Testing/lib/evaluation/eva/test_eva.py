"""What eva is given: configurations, backbone and bridge. docs/eva.md tells how eva itself was tried."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
import yaml

import CoralBayLib as cb
from CoralBayLib.core.errors import EncoderError
from CoralBayLib.encoders import EncoderCard, registry
from CoralBayLib.encoders.coralbay import CoralBayEncoder, CoralBayNetwork
from CoralBayLib.encoders.networks.orientation import from_spl, to_spl
from CoralBayLib.evaluation.eva.backbone import Backbone
from CoralBayLib.evaluation.eva.configuration import configuration
from CoralBayLib.evaluation.eva.decoder import STRIDES, Bridge
from CoralBayLib.evaluation.eva.tasks import TASKS
from Testing.lib.conftest import PoolingEncoder

from . import made_set


@pytest.fixture
def pooling(monkeypatch):
    """The test encoder under the name 'pooling'."""

    def load(weights=None, device="cpu", consent=None, *, setting=None):
        return PoolingEncoder(strides=(2, 4, 8))

    monkeypatch.setitem(
        registry._registry, "pooling", registry.EncoderEntry(EncoderCard("pooling", "Pooling", "for tests"), load)
    )
    return load()


def settings(text):
    """The parts of a configuration that differ between encoders."""
    read = yaml.safe_load(re.sub(r"\$\{oc\.env:\w+, ([^}]*)\}", r"\1", text))
    return read, read["model"]["init_args"]


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_a_configuration_follows_the_protocol(task, pooling):
    read, model = settings(configuration(task, pooling))
    assert model["inferer"]["init_args"] == {"roi_size": [96, 96, 96], "sw_batch_size": 8, "overlap": 0.75}
    assert model["lr_multiplier_encoder"] == 0 and model["spatial_dims"] == 3
    assert model["decoder"]["init_args"]["out_channels"] == len(task.labels)
    metric = model["metrics"]["evaluation"][1]["init_args"]["labels"]
    assert metric[0] == "0_background" and len(metric) == len(task.labels)
    for split in ("train", "val"):
        data = read["data"]["init_args"]["datasets"][split]
        assert data["class_path"] == f"eva.vision.datasets.{task.data_class}" and data["init_args"]["split"] == split
        listed = data["init_args"]["transforms"]["init_args"]["transforms"]
        steps = {each["class_path"].split(".")[-1]: each.get("init_args") for each in listed}
        assert steps["Spacing"] == {"pixdim": [1.5, 1.5, 1.5]}
        assert steps["ScaleIntensityRange"]["input_range"] == [-175, 250]
        assert ("RandFlip" in steps) == (split == "train")
        assert ("download" in data["init_args"]) == task.downloads
    assert read["trainer"]["init_args"]["n_runs"] == 5


def test_coralbay_gets_the_decoder_of_the_board_and_others_a_bridge(pooling):
    network = CoralBayNetwork(12)
    coralbay = CoralBayEncoder(network, "0" * 64, "made")
    _, model = settings(configuration(TASKS["btcv"], coralbay, "/w.safetensors"))
    assert model["decoder"]["class_path"].startswith("eva.") and model["decoder"]["init_args"]["feature_size"] == 12
    assert model["encoder"]["init_args"] == {
        "encoder": "coralbay",
        "weights": "/w.safetensors",
        "own_range": False,
        "as_decoder_takes": True,
    }
    _, model = settings(configuration(TASKS["btcv"], pooling))
    assert model["decoder"]["class_path"].endswith("BridgedDecoder") and model["encoder"]["init_args"]["own_range"]
    levels = model["decoder"]["init_args"]["levels"]
    assert [level[1] for level in levels] == [[2] * 3, [4] * 3, [8] * 3]
    assert [each.shape[1] for each in Backbone("pooling")(torch.zeros(1, 1, 32, 32, 32))] == [level[0] for level in levels]


def test_the_bridge_puts_features_where_they_belong():
    # A ramp along each axis, as an encoder with other strides and offsets sees it.
    levels = [(3, (2, 2, 2), (0.5, 0.5, 0.5)), (3, (6, 3, 12), (2.5, 1.0, 5.5))]
    axes = [[np.arange(-(-64 // s)) * s + o for s, o in zip(stride, offset, strict=True)] for _, stride, offset in levels]
    maps = [torch.tensor(np.stack(np.meshgrid(*each, indexing="ij")), dtype=torch.float32)[None] for each in axes]
    bridge = Bridge(levels, feature_size=3, window=64)
    assert bridge.sources == [0, 0, 1, 1, 1, 1]
    for projection, width in zip(bridge.projections, (1, 1, 2, 4, 8, 16), strict=True):
        torch.nn.init.zeros_(projection.bias)
        projection.weight.data.copy_(torch.eye(3).repeat(width, 1)[..., None, None, None])
    for stride, made in zip(STRIDES, bridge(maps), strict=True):
        made = from_spl(made)[0, :3]
        center = (torch.arange(64 // stride) + 0.5) * stride - 0.5
        expected = torch.stack(torch.meshgrid(center, center, center, indexing="ij"))
        inside = (expected > 6).all(0) & (expected < 56).all(0)
        assert made.shape[1:] == (64 // stride,) * 3
        assert not inside.any() or (made - expected).abs()[:, inside].max() < 1e-4
    with pytest.raises(EncoderError, match="multiple of 32"):
        Bridge(levels, window=90)


def test_the_backbone_sees_the_patient_upright_in_its_own_range(pooling):
    crop = torch.rand(2, 1, 32, 32, 32)
    spec = pooling.input
    low, high = spec.window_hu
    hu = from_spl(crop) * 425 - 175
    expected = pooling.forward_features(((hu - low) / (high - low)).clamp(0, 1), tuple(level.name for level in pooling.levels))
    made = Backbone("pooling")(crop)
    assert all(torch.equal(a, b) for a, b in zip(made, expected, strict=True))
    plain = Backbone("pooling", own_range=False, as_decoder_takes=True)(crop)
    assert torch.equal(plain[0], to_spl(pooling.forward_features(from_spl(crop), (pooling.levels[0].name,))[0]))
    # A decoder is trained on the maps.
    layer = torch.nn.Conv3d(made[0].shape[1], 1, 1)
    layer(made[0]).sum().backward()
    assert layer.weight.grad is not None


def test_a_crop_whose_side_the_encoder_does_not_take_is_padded(pooling, monkeypatch):
    from dataclasses import replace

    backbone = Backbone("pooling")
    monkeypatch.setattr(backbone._encoder, "input", replace(pooling.input, multiple=(10, 10, 10)))
    monkeypatch.setattr(backbone._encoder, "forward_features", lambda x, _names: [x])
    (made,) = backbone(torch.ones(1, 1, 32, 32, 32))
    assert made.shape == (1, 1, 40, 40, 40) and made[..., 32:].abs().max() == 0 and made[0, 0, 0, 0, 0] > 0


def test_the_made_set_has_the_form_of_btcv(tmp_path):
    made_set.write(tmp_path, scans=2)
    for number in (1, 2):
        image = cb.read_volume(tmp_path / "imagesTr" / f"img{number:04d}.nii.gz")
        labels = cb.read_volume(tmp_path / "labelsTr" / f"label{number:04d}.nii.gz")
        assert image.grid.same_as(labels.grid) and np.allclose(image.grid.spacing_mm, 1.5)
        assert np.unique(labels.array).tolist() == list(range(len(TASKS["btcv"].labels)))
        assert [round(image.array[labels.array == n].mean() / 25) for n in (1, 13)] == [-3, 9]
