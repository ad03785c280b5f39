"""Checkpoints in the form that CT-FM, VoxelFM and FM-CT are published in, and files that are not."""

from __future__ import annotations

import json
import os

import make_transformer_fixtures as fixture
import pytest
import torch
from safetensors.torch import save_file

from CoralBayLib.core.errors import WeightsError
from CoralBayLib.encoders import load_encoder
from CoralBayLib.encoders.ct_fm import CTFMNetwork
from CoralBayLib.encoders.fm_ct import FMCTNetwork
from CoralBayLib.encoders.networks.checkpoints import read_checkpoint
from CoralBayLib.encoders.voxelfm import VoxelFMNetwork

pytestmark = pytest.mark.slow

pytest.importorskip("monai")

PICKLED = ["voxelfm", "fm-ct"]
FAMILIES = ["ct-fm", *PICKLED]


class Payload:
    """What an attacker would put into a pickle: calls a function when it is opened."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


def write(family, tensors, path, more=None):
    """Write tensors as the family publishes them; `more` is put beside them, where that can be."""
    if family == "ct-fm":
        save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, path)
    elif family == "voxelfm":
        head = {"dino_head.mlp.0.weight": torch.zeros(2, 2)}
        torch.save({"teacher": {f"backbone.{key}": tensor for key, tensor in tensors.items()} | head | (more or {})}, path)
    else:
        torch.save({f"module.backbone.{key}": tensor for key, tensor in tensors.items()} | (more or {}), path)
    return path


@pytest.fixture(params=FAMILIES)
def family(request):
    return request.param


@pytest.fixture
def tensors(family, make_network):
    return {key: tensor.clone() for key, tensor in make_network(family).state_dict().items()}


@pytest.fixture
def path(family, tmp_path):
    return tmp_path / {"ct-fm": "model.safetensors", "voxelfm": "99999.pth", "fm-ct": "model_weights.pth"}[family]


def test_the_published_form_loads(family, tensors, path, make_encoder, monkeypatch):
    side = {"ct-fm": 48, "voxelfm": 42, "fm-ct": 96}[family]
    x = torch.rand(1, 1, side, side, side, generator=torch.Generator().manual_seed(0))
    write(family, tensors, path)
    expected = make_encoder(family)
    names = (expected.levels[-1].name,)
    for given, env in ((path, None), (path.parent, None), (None, path)):
        if env is not None:
            monkeypatch.setenv({"ct-fm": "CTFM", "voxelfm": "VOXELFM", "fm-ct": "FMCT"}[family] + "_WEIGHTS", str(env))
        encoder = load_encoder(family, given, "cpu")
        assert len(encoder.weights_sha256) == 64
        assert str(path.parent) not in encoder.weights_source
    (made,), (wanted,) = encoder.forward_features(x, names), expected.forward_features(x, names)
    assert float((made - wanted).abs().max()) < 1e-4
    assert not any(parameter.requires_grad for parameter in encoder.network.parameters())


def test_full_size_has_the_published_keys_and_shapes():
    """The listing was made from the authors' classes; see `make_transformer_fixtures`."""
    published = json.loads(fixture.FULL_SIZE.read_text(encoding="utf-8"))
    with torch.device("meta"):
        ours = {"ct-fm": CTFMNetwork(), "voxelfm": VoxelFMNetwork(), "fm-ct": FMCTNetwork()}
    for family, network in ours.items():
        assert fixture.listing(network) == published[family]
    counts = {family: sum(p.numel() for p in network.parameters()) for family, network in ours.items()}
    assert counts == {"ct-fm": 77_760_992, "voxelfm": 110_029_536, "fm-ct": 89_404_416}


def renamed(family, tensors):
    key = {"ct-fm": "layers.1.blocks.0.conv1.weight"}.get(family, "blocks.1.attn.proj.weight")
    tensors[key + "s"] = tensors.pop(key)
    return key


def test_a_renamed_key_is_named(family, tensors, path):
    key = renamed(family, tensors)
    with pytest.raises(WeightsError) as error:
        load_encoder(family, write(family, tensors, path), "cpu")
    assert f"1 missing: {key}" in str(error.value)
    assert f"1 unexpected: {key}s" in str(error.value)


def test_a_changed_shape_is_named(family, tensors, path):
    key = {"ct-fm": "layers.2.downsample.weight"}.get(family, "blocks.0.norm1.weight" if family == "voxelfm" else "norm.bias")
    tensors[key] = torch.zeros(5)
    with pytest.raises(WeightsError, match=rf"1 of another shape: {key} \(expected .*, got \(5,\)\)"):
        load_encoder(family, write(family, tensors, path), "cpu")


def test_a_truncated_file_is_told(family, tensors, path):
    write(family, tensors, path)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(WeightsError, match="truncated or damaged"):
        load_encoder(family, path, "cpu")


def test_a_pickle_payload_is_refused_and_never_run(family, tensors, path, tmp_path):
    mark = tmp_path / "the payload ran"
    if family == "ct-fm":
        torch.save({**tensors, "payload": Payload(mark)}, path)
    else:
        write(family, tensors, path, {"payload": Payload(mark)})
    with pytest.raises(WeightsError, match=r"is refused: it holds more than tensors \((posix|nt|os)\.mkdir\)"):
        load_encoder(family, path, "cpu")
    assert not mark.exists()


def test_the_old_format_of_torch_is_read_and_refused_alike(tmp_path):
    for content, name in (({"a": torch.ones(2)}, "good"), ({"a": Payload(tmp_path / "ran")}, "bad")):
        torch.save(content, tmp_path / name, _use_new_zipfile_serialization=False)
    assert torch.equal(read_checkpoint(tmp_path / "good")["a"], torch.ones(2))
    with pytest.raises(WeightsError, match="is refused"):
        read_checkpoint(tmp_path / "bad")
    assert not (tmp_path / "ran").exists()


def test_a_safetensors_file_named_as_the_published_one_loads(family, tensors, path):
    prefix = {"ct-fm": "", "voxelfm": "teacher.backbone.", "fm-ct": "module."}[family]
    save_file({prefix + key: tensor.contiguous() for key, tensor in tensors.items()}, path)
    loaded = load_encoder(family, path, "cpu").network
    if family != "ct-fm":  # whose norms are folded
        assert all(torch.equal(tensor, tensors[key]) for key, tensor in loaded.state_dict().items())


def test_a_checkpoint_without_the_teacher_is_told(tmp_path, make_network):
    state = make_network("voxelfm").state_dict()
    torch.save({"student": state, "iteration": 7}, tmp_path / "a.pth")
    with pytest.raises(WeightsError, match="under 'teacher', got iteration, student"):
        load_encoder("voxelfm", tmp_path / "a.pth", "cpu")
    torch.save({"teacher": {**state, "epoch": 3}}, tmp_path / "a.pth")
    with pytest.raises(WeightsError, match="nothing else under 'teacher'"):
        load_encoder("voxelfm", tmp_path / "a.pth", "cpu")


@pytest.mark.parametrize("other", FAMILIES)
def test_another_familys_checkpoint_is_refused(other, family, tensors, path, make_network):
    tensors = {"something.else": torch.zeros(3)} if other == family else make_network(other).state_dict()
    with pytest.raises(WeightsError, match="belongs to another network"):
        load_encoder(family, write(family, tensors, path), "cpu")


@pytest.mark.parametrize(("family", "key"), [("voxelfm", "patch_embed.proj"), ("fm-ct", "patch_embedding.patch_embeddings")])
def test_another_patch_size_is_refused(family, key, tensors, path):
    tensors[f"{key}.weight"] = torch.zeros(len(tensors[f"{key}.bias"]), 1, 16, 16, 16)
    with pytest.raises(WeightsError, match="not a checkpoint of"):
        load_encoder(family, write(family, tensors, path), "cpu")


def test_biases_of_queries_and_keys_are_kept_where_a_checkpoint_has_them(tmp_path):
    """The example of the authors drops them in silence, which would be another network."""
    with_bias = FMCTNetwork(192, 2, 3, 256, bias=True)
    torch.nn.init.normal_(with_bias.blocks[1].attn["qkv"].bias)
    encoder = load_encoder("fm-ct", write("fm-ct", with_bias.state_dict(), tmp_path / "a.pth"), "cpu")
    assert torch.equal(encoder.network.blocks[1].attn["qkv"].bias, with_bias.blocks[1].attn["qkv"].bias)


@pytest.mark.parametrize(
    ("family", "says"), [("voxelfm", "huggingface.co/rmaguado/VoxelFM"), ("fm-ct", "DataSharing@nyulangone")]
)
def test_weights_that_are_not_downloaded_are_asked_for(family, says, tmp_path, monkeypatch):
    monkeypatch.delenv(f"{family.replace('-', '').upper()}_WEIGHTS", raising=False)
    with pytest.raises(WeightsError, match=says):
        load_encoder(family, device="cpu", consent=lambda request: pytest.fail("asked"))
    with pytest.raises(WeightsError, match=r"the folder holds no \w+\.pth"):
        load_encoder(family, tmp_path, "cpu")
