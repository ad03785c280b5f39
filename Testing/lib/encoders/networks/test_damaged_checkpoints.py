"""Checkpoints that cannot be run are refused in words, before a network is built."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from CoralBayLib.core.errors import WeightsError
from CoralBayLib.encoders import coralbay
from CoralBayLib.encoders.coralbay import CoralBayNetwork, network_from
from CoralBayLib.encoders.networks.checkpoints import read_checkpoint

pytestmark = pytest.mark.slow

KEY = "swinViT.patch_embed.proj.weight"


@pytest.fixture(scope="module")
def tensors():
    return {name: tensor.contiguous() for name, tensor in CoralBayNetwork(feature_size=12).state_dict().items()}


@pytest.mark.parametrize(
    "dtype",
    [torch.int8, torch.int64, torch.bool, torch.complex64, torch.float8_e4m3fn, torch.float8_e5m2],
    ids=lambda dtype: str(dtype).removeprefix("torch."),
)
def test_other_types_than_floating_point(dtype, tensors, tmp_path):
    save_file(tensors | {KEY: tensors[KEY].to(dtype)}, tmp_path / "weights")
    with pytest.raises(WeightsError, match=KEY):
        network_from(read_checkpoint(tmp_path / "weights"))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda tensor: torch.empty(tensor.shape, device="meta"), "without values"),
        (lambda tensor: tensor.to_sparse(), "sparse"),
        (lambda tensor: torch.quantize_per_tensor(tensor, 0.1, 0, torch.qint8), "quantized"),
        (lambda tensor: torch.zeros(1).expand(12 * 10**6, 1, 2, 2, 2), "larger than their data"),
    ],
    ids=["meta", "sparse", "quantized", "expanded"],
)
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning", "ignore::FutureWarning")
def test_tensors_that_are_no_arrays(make, message, tensors, tmp_path):
    torch.save(tensors | {KEY: make(tensors[KEY])}, tmp_path / "weights")
    with pytest.raises(WeightsError, match=message):
        network_from(read_checkpoint(tmp_path / "weights"))


@pytest.mark.parametrize("channels", [0, 24, 1200])
def test_a_network_of_another_size_is_not_built(channels, tensors, monkeypatch):
    built = []

    class Counting(CoralBayNetwork):
        def __init__(self, *args):
            super().__init__(*args)
            built.append(next(self.encoder10.parameters()).device.type)

    monkeypatch.setattr(coralbay, "CoralBayNetwork", Counting)
    with pytest.raises(WeightsError, match=r"another shape|Expected"):
        network_from(tensors | {KEY: torch.zeros(channels, 1, 2, 2, 2)})
    assert set(built) <= {"meta"}


def test_one_wrong_bit_in_a_file_of_torch_save(tmp_path):
    """torch.load does not compare the checksums of its parts."""
    path, values = tmp_path / "weights.pt", torch.arange(1000.0)
    torch.save({"a": values}, path)
    torch.testing.assert_close(read_checkpoint(path)["a"], values)
    data = bytearray(path.read_bytes())
    data[data.index(values[500:504].numpy().tobytes())] ^= 64
    path.write_bytes(data)
    assert torch.load(path, weights_only=True)["a"][500] != 500
    with pytest.raises(WeightsError, match=r"weights\.pt' is truncated or damaged .*data/0' is wrong"):
        read_checkpoint(path)


@pytest.mark.parametrize("legacy", [False, True])
def test_files_without_checksums_are_read(tmp_path, legacy):
    path, values = tmp_path / "weights.pt", torch.arange(10.0)
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({"a": values}, path, _use_new_zipfile_serialization=not legacy)
    finally:
        torch.serialization.set_crc32_options(True)
    torch.testing.assert_close(read_checkpoint(path)["a"], values)
