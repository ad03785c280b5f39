"""CoralBay-mini's encoder entry, on weights made here."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from CoralBayLib.core.errors import EncoderError, WeightsError
from CoralBayLib.encoders import load_encoder
from CoralBayLib.encoders.coralbay import CoralBayNetwork
from CoralBayLib.features.embedding import embed
from Testing.lib.conftest import phantom, phantom_grid

pytest.importorskip("monai")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Half precision and short indices, as the training writes them."""
    torch.manual_seed(0)
    state = CoralBayNetwork(feature_size=12).state_dict()
    path = tmp_path_factory.mktemp("weights") / "coralbay-mini.safetensors"
    save_file({k: t.half() if t.is_floating_point() else t.to(torch.int16) for k, t in state.items()}, path)
    return path


@pytest.mark.parametrize(
    "metadata", [{"model": "coralbay-mini"}, {"coralbay.pretrain": '{"settings": {"form": "coralbay-mini"}}'}]
)
def test_weights_that_name_their_encoder_are_refused_by_another(metadata, weights, tmp_path):
    """The networks are alike, and the voxels are not: features would be wrong without a word."""
    path = tmp_path / "mine.safetensors"
    save_file(load_file(weights), path, metadata=metadata)
    assert load_encoder("coralbay-mini", weights=path, device="cpu").name == "coralbay-mini"
    for other in ("coralbay", "voco"):
        with pytest.raises(WeightsError, match=r"holds weights of coralbay-mini.* Use the encoder coralbay-mini"):
            load_encoder(other, weights=path, device="cpu")


@pytest.mark.parametrize("metadata", [None, {"model": "another"}, {"coralbay.pretrain": "[1"}])
def test_weights_that_name_no_encoder_are_read(metadata, weights, tmp_path):
    save_file(load_file(weights), tmp_path / "mine.safetensors", metadata=metadata)
    assert load_encoder("coralbay", weights=tmp_path / "mine.safetensors", device="cpu").name == "coralbay"


def test_embeds_a_phantom_at_the_strides_of_3_mm(weights):
    encoder = load_encoder("coralbay-mini", weights=weights.parent, device="cpu")
    volume = phantom(phantom_grid("oblique"))
    pyramid = embed(volume, encoder)
    # Decided on a finer grid than embedded, over the same field.
    assert np.allclose(pyramid.grid.spacing_mm, np.maximum(2.0, volume.grid.spacing_mm))
    assert [level.name for level in pyramid.levels] == ["enc1", "enc2", "enc3", "hidden3", "dec4"]
    corner = pyramid.levels[0].grid.to_ras([-0.5, -0.5, -0.5])
    assert np.abs(pyramid.grid.to_ras([-0.5, -0.5, -0.5]) - corner).max() < 3.0
    for level, stride in zip(pyramid.levels, (2, 4, 8, 16, 32), strict=True):
        assert np.allclose(level.grid.spacing_mm, 3.0 * stride)
        # Blocks tile the volume from its first corner.
        assert np.allclose(level.grid.to_ras([-0.5, -0.5, -0.5]), corner)
        assert torch.isfinite(level.features).all() and level.features.float().std() > 0
    assert [level.name for level in pyramid.for_similarity.levels] == ["enc2", "enc3"]
    assert pyramid.scan_embedding is not None and len(pyramid.scan_embedding) == 12 * (1 + 2 + 4 + 16)


def test_features_follow_the_image(weights):
    """A block that lights up changes the fine features around its own place the most."""
    encoder = load_encoder("coralbay-mini", weights=weights, device="cpu")
    torch.manual_seed(1)
    x = torch.rand(1, 1, 64, 64, 96) * 0.1 + 0.4
    brighter = x.clone()
    brighter[..., 20:24, 40:44, 60:64] += 0.5
    (before,), (after,) = (encoder.forward_features(image, ("enc1",)) for image in (x, brighter))
    change = (after - before)[0].norm(dim=0)
    assert np.abs(np.array(np.unravel_index(int(change.argmax()), change.shape)) - [10.5, 20.5, 30.5]).max() <= 1.5


def test_says_what_is_wrong(weights, tmp_path):
    with pytest.raises(WeightsError, match="no weights file"):
        load_encoder("coralbay-mini", weights=tmp_path / "none.safetensors", device="cpu")
    with pytest.raises(EncoderError, match="CoralBay-mini has the setting whole only"):
        load_encoder("coralbay-mini", weights=weights, device="cpu", setting="faithful")
