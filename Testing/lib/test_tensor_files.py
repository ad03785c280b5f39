"""Small results come back as they were written, and nothing else is taken for them."""

from __future__ import annotations

import pytest
import torch

from CoralBayLib.errors import ProbeError
from CoralBayLib.tensor_files import read_tensors, write_tensors


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
    with pytest.raises(ProbeError, match="basis.safetensors is no probe"):
        read_tensors(path, "probe")
