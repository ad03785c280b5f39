"""Checkpoints of the right and of the wrong kind."""

from __future__ import annotations

import logging
import zipfile

import pytest
import torch
from safetensors.torch import save_file

from CoralBayLib.core.errors import WeightsError
from CoralBayLib.encoders import load_encoder
from CoralBayLib.encoders.coralbay import CoralBayNetwork, network_from
from CoralBayLib.encoders.networks.checkpoints import read_checkpoint

pytestmark = pytest.mark.slow

pytest.importorskip("monai")


@pytest.fixture(scope="module")
def original():
    torch.manual_seed(0)
    return CoralBayNetwork(12).eval()


@pytest.fixture
def tensors(original):
    return {key: tensor.clone() for key, tensor in original.state_dict().items()}


@pytest.mark.parametrize("prefix", ["", "encoder.", "model.", "backbone.", "module.", "teacher.", "module.teacher.encoder."])
def test_every_prefix_loads(prefix, tensors):
    loaded = network_from({prefix + key: tensor for key, tensor in tensors.items()})
    assert loaded.feature_size == 12
    assert all(torch.equal(tensor, tensors[key]) for key, tensor in loaded.state_dict().items())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_loads_as_float32(dtype, tensors):
    halved = {key: t.to(dtype) if t.is_floating_point() else t for key, t in tensors.items()}
    assert {p.dtype for p in network_from(halved).parameters()} == {torch.float32}


def test_size_and_version_are_read_from_the_checkpoint():
    small = CoralBayNetwork(24, use_v2=False)
    loaded = network_from(small.state_dict())
    assert loaded.feature_size == 24
    assert not loaded.swinViT.use_v2


def test_load_encoder_reads_a_file_or_its_folder(tmp_path, tensors):
    file = tmp_path / "model.safetensors"
    save_file({"encoder." + key: tensor for key, tensor in tensors.items()}, file)
    by_file, by_folder = (
        load_encoder("coralbay", file, "cpu"),
        load_encoder("coralbay", tmp_path, "cpu", setting="whole"),
    )
    assert by_file.weights_sha256 == by_folder.weights_sha256
    assert len(by_file.weights_sha256) == 64
    assert str(tmp_path) not in by_file.weights_source
    assert by_folder.tiling.window is None


def test_missing_and_unexpected_keys_are_named(tensors):
    tensors["encoder2.layer.conv1.conv.wait"] = tensors.pop("encoder2.layer.conv1.conv.weight")
    with pytest.raises(WeightsError) as error:
        network_from({"encoder." + key: tensor for key, tensor in tensors.items()})
    assert "1 missing: encoder2.layer.conv1.conv.weight" in str(error.value)
    assert "1 unexpected: encoder2.layer.conv1.conv.wait" in str(error.value)


def test_an_unknown_key_inside_the_tree_is_an_error(tensors):
    tensors["adapter.weight"] = torch.zeros(3)
    with pytest.raises(WeightsError, match=r"1 unexpected: adapter\.weight"):
        network_from({"encoder." + key: tensor for key, tensor in tensors.items()})


def test_an_encoder_key_outside_the_prefix_is_an_error(tensors):
    stored = {"encoder." + key: tensor for key, tensor in tensors.items()}
    stored["swinViT.more.weight"] = torch.zeros(3)
    with pytest.raises(WeightsError, match=r"1 unexpected: swinViT\.more\.weight"):
        network_from(stored)


@pytest.mark.parametrize("prefix", ["", "model."])
def test_what_is_trained_beside_the_encoder_is_ignored_aloud(prefix, tensors, caplog):
    stored = {prefix + key: tensor for key, tensor in tensors.items()}
    beside = [prefix + "head.weight", prefix + "decoder5.conv.weight", "student.swinViT.patch_embed.proj.weight"]
    stored.update({key: torch.zeros(2) for key in beside})
    with caplog.at_level(logging.WARNING):
        network_from(stored)
    assert all(key in caplog.text for key in beside)


def test_two_encoders_in_one_file_are_refused(tensors):
    stored = {p + key: tensor for p in ("encoder.", "teacher.encoder.") for key, tensor in tensors.items()}
    with pytest.raises(WeightsError, match=r"got 2, under 'encoder\.', 'teacher\.encoder\.'"):
        network_from(stored)


def test_a_changed_shape_is_named(tensors):
    tensors["encoder3.layer.conv1.conv.weight"] = torch.zeros(24, 24, 1, 1, 1)
    with pytest.raises(WeightsError, match=r"encoder3\.layer\.conv1\.conv\.weight \(expected \(24, 24, 3, 3, 3\), got"):
        network_from(tensors)


@pytest.mark.parametrize("shape", [(13, 1, 2, 2, 2), (12, 3, 2, 2, 2), (12, 1, 4, 4, 4), (12, 8)])
def test_another_patch_embedding_is_refused(shape, tensors):
    tensors["swinViT.patch_embed.proj.weight"] = torch.zeros(shape)
    with pytest.raises(WeightsError, match="C a multiple of 12"):
        network_from(tensors)


def test_values_that_are_not_finite_are_refused(tensors):
    tensors["encoder2.layer.conv1.conv.weight"][0, 0, 0, 0, 0] = float("nan")
    with pytest.raises(WeightsError, match=r"1 not finite: encoder2\.layer\.conv1"):
        network_from(tensors)


def test_another_window_index_is_refused(tensors):
    key = "swinViT.layers1.0.blocks.0.attn.relative_position_index"
    tensors[key] = tensors[key].flip(0)
    with pytest.raises(WeightsError, match="not the architecture's constants"):
        network_from(tensors)


def test_a_foreign_network_is_told():
    with pytest.raises(WeightsError, match="belongs to another network"):
        network_from({"layer1.0.conv1.weight": torch.zeros(1)})


def test_a_truncated_file_is_told(tmp_path, tensors):
    file = tmp_path / "model.safetensors"
    save_file(tensors, file)
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(WeightsError, match="truncated or damaged"):
        load_encoder("coralbay", file, "cpu")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "empty, damaged"),
        (b"\x00" * 100, "empty, damaged"),
        (b"not weights at all, just words that go on for a while", "another format"),
        (b"PK and more words", "another format"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "Git LFS pointer"),
        (b"<!DOCTYPE html><html></html>", "web page"),
        (b"PK\x03\x04 and then nothing of a zip archive", "truncated or damaged"),
        (b"\x80\x02 and then nothing of a pickle", "damaged"),
        ((100).to_bytes(8, "little") + b'{"and then": "nothing"', "truncated or damaged"),
        ((10**9).to_bytes(8, "little") + b'{"a length": "of nonsense"', "another format"),
    ],
)
@pytest.mark.parametrize("name", ["model.safetensors", "weights.pth", "model.bin", "model"])
def test_other_files_are_told(content, says, name, tmp_path):
    file = tmp_path / name
    file.write_bytes(content)
    with pytest.raises(WeightsError, match=says):
        read_checkpoint(file)


def save_torch(tensors, file):
    torch.save(tensors, file)


def save_old_torch(tensors, file):
    torch.save(tensors, file, _use_new_zipfile_serialization=False)


@pytest.mark.parametrize("save", [save_file, save_torch, save_old_torch])
@pytest.mark.parametrize("name", ["model.safetensors", "model.bin", "99999.pth", "model.pt", "model"])
def test_the_format_is_told_by_the_content_and_not_by_the_name(save, name, tmp_path, tensors):
    save({"encoder." + key: tensor for key, tensor in tensors.items()}, tmp_path / name)
    loaded = load_encoder("coralbay", tmp_path / name, "cpu").network.state_dict()
    assert all(torch.equal(tensor, tensors[key]) for key, tensor in loaded.items())


@pytest.mark.parametrize("length", [0x0280, 0x0380, 0x0480, 0x4B50])
def test_a_header_whose_length_reads_like_the_start_of_a_pickle_is_a_header(length, tmp_path):
    file = tmp_path / "model.safetensors"
    save_file({"a": torch.ones(2)}, file)
    size = int.from_bytes(file.read_bytes()[:8], "little")
    padding = length - size - len('"__metadata__":{"a":""},')
    save_file({"a": torch.ones(2)}, file, metadata={"a": "x" * padding})
    assert int.from_bytes(file.read_bytes()[:8], "little") == length
    assert torch.equal(read_checkpoint(file)["a"], torch.ones(2))


def test_other_zip_archives_are_told(tmp_path):
    with zipfile.ZipFile(tmp_path / "weights.zip", "w") as archive:
        archive.writestr("coralbay/model.safetensors", b"some")
    with pytest.raises(WeightsError, match="zip archive of something else; if it is a bundle of weights, import it"):
        read_checkpoint(tmp_path / "weights.zip")
    with zipfile.ZipFile(tmp_path / "model.pt", "w") as archive:
        for part in ("data.pkl", "constants.pkl", "code/__torch__.py"):
            archive.writestr(f"model/{part}", b"")
    with pytest.raises(WeightsError, match="TorchScript program"):
        read_checkpoint(tmp_path / "model.pt")


def test_a_file_that_is_not_there_is_told(tmp_path):
    with pytest.raises(WeightsError, match="Check that the file is there"):
        read_checkpoint(tmp_path / "none.safetensors")
