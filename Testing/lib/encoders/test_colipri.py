"""COLIPRI's networks against frozen outputs of its authors' code, and checkpoints in the published form."""

from __future__ import annotations

import json

import filling
import make_colipri_fixture as fixture
import numpy as np
import pytest
import small_colipri
import torch
from safetensors.torch import load_file, save_file

from CoralBayLib.core.errors import EncoderError, WeightsError
from CoralBayLib.encoders import colipri, load_encoder
from CoralBayLib.encoders.colipri import ColipriEncoder, ColipriNetwork
from CoralBayLib.encoders.language.tower import TextTower
from CoralBayLib.encoders.networks.bert import Bert

TOLERANCES = [(torch.float64, 1e-6), (torch.float32, 1e-4)]


@pytest.fixture(scope="module")
def stored():
    return dict(np.load(fixture.COLIPRI, allow_pickle=False))


@pytest.fixture(autouse=True)
def small_windows(monkeypatch):
    monkeypatch.setattr(colipri, "SIDE", fixture.SIDE)
    monkeypatch.delenv("COLIPRI_WEIGHTS", raising=False)
    monkeypatch.delenv("COLIPRI_VOCABULARY", raising=False)


@pytest.fixture
def checkpoint(tmp_path):
    return small_colipri.write_checkpoint(tmp_path)


def projected(encoder, patches):
    """Dense vectors (B, D, r, a, s) of unit length."""
    weights, bias = encoder.text_projection()
    vectors = torch.einsum("dc,bcras->bdras", weights.to(patches), patches) + bias.to(patches).reshape(-1, 1, 1, 1)
    return torch.nn.functional.normalize(vectors, dim=1)


@pytest.mark.parametrize(("dtype", "tolerance"), TOLERANCES)
@pytest.mark.parametrize("setting", ["ras", "sar"])
def test_image_network_equals_the_frozen_output_of_its_authors(setting, dtype, tolerance, stored):
    model = small_colipri.small_model().to(dtype)
    assert sorted(model.state_dict()) == list(stored["keys"])
    encoder = ColipriEncoder(model.image_encoder, "0" * 64, "test", setting)
    patches, pooled = encoder.forward_features(fixture.scan().to(dtype), ("patches", "pooled"))
    assert patches.shape == (1, 144, 4, 6, 2)
    assert np.abs(pooled.numpy() - stored[f"{setting.upper()}_pooled"]).max() < tolerance
    # The authors' map covers the padded window, in the order of the network's axes.
    for name, ours in (("patches", patches), ("projected", projected(encoder, patches))):
        shape = tuple(stored[f"{setting.upper()}_{name}_shape"])
        at = np.array(np.unravel_index(filling.positions(int(np.prod(shape)), 0), shape))
        ras = at[[0, 1, *colipri.SETTINGS[setting]]] - np.array([0, 0, 1, 0, 2])[:, None]
        inside = np.all((ras >= 0) & (ras < np.array(ours.shape)[:, None]), axis=0)
        assert inside.sum() > 300
        values = ours.numpy()[tuple(ras[:, inside])]
        assert np.abs(values - stored[f"{setting.upper()}_{name}"][inside]).max() < tolerance


@pytest.mark.parametrize(("dtype", "tolerance"), TOLERANCES)
def test_text_network_equals_the_frozen_output_of_its_authors(dtype, tolerance, stored):
    tower = small_colipri.small_model().to(dtype).text_encoder
    with torch.inference_mode():
        made = tower(torch.tensor([fixture.IDS]))
    assert np.abs(made.numpy() - stored["text"]).max() < tolerance
    assert float(made.norm()) == pytest.approx(1)


def test_larger_scans_are_divided_as_the_authors_do(stored):
    network = small_colipri.small_model().double().image_encoder
    side, x = fixture.SIDE, filling.image(3, fixture.LARGE).double()
    with torch.inference_mode():
        patches, pooled = network.forward_features(x)
        halves = [network.backbone(x[:, :, :, start : start + side] * 2 - 1) for start in (0, side)]
        # The second window overlaps the first by half.
        overlapping = network.forward_features(x[:, :, :, :72], ("patches",))[0]
        second = network.backbone(x[:, :, :, 24:72] * 2 - 1)
    assert torch.allclose(patches, torch.cat(halves, dim=3), atol=1e-12)
    assert np.abs(pooled.numpy() - stored["large_pooled"]).max() < 1e-6
    assert torch.allclose(overlapping[:, :, :, 3:6], (halves[0][:, :, :, 3:] + second[:, :, :, :3]) / 2, atol=1e-12)


def test_full_size_has_the_published_keys_and_shapes(monkeypatch):
    """The listing was made from the authors' classes; see `make_colipri_fixture`."""
    published = json.loads(fixture.FULL_SIZE.read_text(encoding="utf-8"))
    with torch.device("meta"):
        image, text = ColipriNetwork(), TextTower(Bert(), 768)
    ours = {f"image_encoder.{key}": value for key, value in fixture.listing(image).items()}
    ours |= {f"text_encoder.{key}": value for key, value in fixture.listing(text).items()}
    assert ours | {"softmax_temperature": ""} == published


def test_the_published_form_loads(checkpoint, monkeypatch):
    x = fixture.scan()
    expected = small_colipri.small_model().image_encoder.forward_features(x)
    for given, env in ((checkpoint, None), (checkpoint.parent, None), (None, checkpoint)):
        if env is not None:
            monkeypatch.setenv("COLIPRI_WEIGHTS", str(env))
        encoder = load_encoder("colipri", given, "cpu")
        made = encoder.forward_features(x, ("patches", "pooled"))
        assert all(float((a - b).abs().max()) < 1e-5 for a, b in zip(made, expected, strict=True))
        assert not any(parameter.requires_grad for parameter in encoder.network.parameters())
        assert str(checkpoint.parent) not in encoder.weights_source
    assert load_encoder("colipri", checkpoint, "cpu", setting="sar").tiling != encoder.tiling


def test_keys_of_old_releases_of_transformers_are_left_out(checkpoint):
    tensors = load_file(checkpoint)
    save_file(tensors | {"text_encoder.backbone.embeddings.position_ids": torch.arange(24)[None]}, checkpoint)
    assert load_encoder("colipri", checkpoint, "cpu").embed_text("lung nodules").shape == (128,)


@pytest.mark.parametrize(
    "part", ["image_encoder.backbone.eva.blocks.1.attn.proj.weight", "image_encoder.pooler.attn.in_proj_bias"]
)
def test_a_renamed_key_is_named(part, checkpoint):
    tensors = load_file(checkpoint)
    tensors[part + "s"] = tensors.pop(part)
    save_file(tensors, checkpoint)
    with pytest.raises(WeightsError, match=rf"1 missing: {part.removeprefix('image_encoder.')}\b.*1 unexpected"):
        load_encoder("colipri", checkpoint, "cpu")


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("image_encoder.backbone.down_projection.proj.weight", torch.zeros(144, 1, 4, 4, 4)),
        ("image_encoder.backbone.down_projection.proj.weight", torch.zeros(100, 1, 8, 8, 8)),
        ("image_encoder.projector.weight", torch.zeros(100, 144, 1, 1, 1)),
        ("image_encoder.projector.weight", torch.tensor(1.0)),
    ],
)
def test_another_network_is_refused(part, value, checkpoint):
    save_file(load_file(checkpoint) | {part: value}, checkpoint)
    with pytest.raises(WeightsError, match="not a checkpoint of COLIPRI"):
        load_encoder("colipri", checkpoint, "cpu")


def test_weights_are_asked_for(tmp_path):
    with pytest.raises(WeightsError, match=r"huggingface\.co/microsoft/colipri"):
        load_encoder("colipri", device="cpu", consent=lambda request: pytest.fail("asked"))
    with pytest.raises(EncoderError, match="multiples of 8"):
        small_colipri.small_model().image_encoder.forward_features(torch.zeros(1, 1, 16, 16, 12))
