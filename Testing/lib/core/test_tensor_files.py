"""Small results come back as they were written, and nothing else is taken for them."""

from __future__ import annotations

import resource
import signal
import sys

import pytest
import torch
from safetensors.torch import save

from CoralBayLib.core import schemas
from CoralBayLib.core.errors import ProbeError, StoreError
from CoralBayLib.core.tensor_files import decode_tensors, encode_tensors, read_tensors, write_tensors


def test_what_was_written_is_read_and_may_be_written_over(tmp_path):
    path = tmp_path / "probe.safetensors"
    turned = torch.arange(6.0).reshape(2, 3).T
    write_tensors(path, "probe", {"names": {"1": "Leber"}}, {"weights": turned})
    header, tensors = read_tensors(path, "probe")
    write_tensors(path, "probe", {}, {"weights": torch.zeros(1)})
    assert header == {"names": {"1": "Leber"}}
    assert torch.equal(tensors["weights"], turned)


def test_another_kind_of_file_is_refused(tmp_path):
    path = tmp_path / "basis.safetensors"
    write_tensors(path, "basis", {}, {"weights": torch.zeros(1)})
    with pytest.raises(ProbeError, match="basis.safetensors is not of the kind 'probe'"):
        read_tensors(path, "probe")


@pytest.mark.skipif(sys.platform == "win32", reason="permissions are other things there")
def test_others_may_read_it_where_the_user_lets_them(tmp_path):
    (tmp_path / "plain").write_bytes(b"")
    write_tensors(tmp_path / "probe.safetensors", "probe", {}, {"weights": torch.zeros(1)})
    assert (tmp_path / "probe.safetensors").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.skipif(sys.platform == "win32", reason="a limit on file size stands in for a full disk")
def test_a_full_disk_leaves_what_was_there(tmp_path):
    path = tmp_path / "probe.safetensors"
    write_tensors(path, "probe", {}, {"weights": torch.ones(1)})
    old_limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    old_handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 12, old_limit[1]))
        with pytest.raises(StoreError, match="Nothing was changed"):
            write_tensors(path, "probe", {}, {"weights": torch.zeros(1 << 12)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old_limit)
        signal.signal(signal.SIGXFSZ, old_handler)
    assert read_tensors(path, "probe")[1]["weights"] == 1
    assert list(tmp_path.iterdir()) == [path]


def test_the_content_of_a_file_can_be_encoded_and_decoded_in_memory(tmp_path):
    header, tensors = {"scans": 3, "name": "ä"}, {"weights": torch.arange(6.0).reshape(2, 3), "bias": torch.zeros(0)}
    data = encode_tensors("basis", header, tensors)
    write_tensors(tmp_path / "basis", "basis", header, tensors)
    assert (tmp_path / "basis").read_bytes() == data
    for read, found in (decode_tensors(data, "basis"), read_tensors(tmp_path / "basis", "basis")):
        assert read == header
        assert all(torch.equal(found[name], tensors[name]) for name in tensors)


@pytest.mark.parametrize("damaged", [b"", b"nonsense", b"\xff" * 64, encode_tensors("basis", {}, {"a": torch.ones(9)})[:-8]])
def test_damaged_content_is_refused(damaged):
    with pytest.raises(ProbeError, match="not of the kind 'basis', or are damaged"):
        decode_tensors(damaged, "basis")


def test_a_changed_number_or_header_is_noticed_and_a_file_without_checksum_is_read(tmp_path):
    path = tmp_path / "basis"
    write_tensors(path, "basis", {"scans": 3}, {"weights": torch.ones(64)})
    data = path.read_bytes()
    path.write_bytes(data[:-100] + bytes([data[-100] ^ 1]) + data[-99:])
    with pytest.raises(ProbeError, match="its checksum is wrong"):
        read_tensors(path, "basis")
    path.write_bytes(data.replace(b'\\"scans\\": 3', b'\\"scans\\": 4'))
    with pytest.raises(ProbeError, match="its checksum is wrong"):
        read_tensors(path, "basis")
    old = save({"weights": torch.ones(64)}, metadata={"coralbay.basis": '{"scans": 3}'})
    path.write_bytes(old)
    assert read_tensors(path, "basis")[0] == decode_tensors(old, "basis")[0] == {"scans": 3}


@pytest.mark.parametrize(
    ("header", "tensors", "message"),
    [
        ({}, {}, "lacks 'signature'"),
        ({"signature": 3}, {}, "'signature' is damaged"),
        ({"signature": "a"}, {"weights": torch.ones(2, 3)}, "lacks bias"),
        ({"signature": "a"}, {"weights": torch.ones(2, 3), "bias": torch.ones(3)}, "does not fit"),
        ({"signature": "a"}, {"weights": torch.ones(2, 3), "bias": torch.ones(2).double()}, "bias is of type float64"),
        ({"signature": "a"}, {"weights": torch.full((2, 3), torch.nan), "bias": torch.ones(2)}, "not finite"),
        ({"signature": "a"}, {"weights": torch.ones(6), "bias": torch.ones(2)}, "weights has 1 axes"),
        ({"signature": "a"}, {"weights": torch.ones(99, 3), "bias": torch.ones(99)}, "99 rows, expected 1 to 64"),
        ({"signature": "a"}, {"weights": torch.ones(2, 3), "bias": torch.ones(2), "x": torch.ones(1)}, "unknown tensor"),
    ],
)
def test_what_does_not_fit_the_schema_is_refused(header, tensors, message, tmp_path):
    write_tensors(tmp_path / "basis", "basis", header, tensors)
    with pytest.raises(ProbeError, match=message):
        read_tensors(tmp_path / "basis", "basis", schemas.PROJECTION)
