"""Probe files whose parts do not fit are refused, with or without a checksum."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import CoralBayLib as cb
from CoralBayLib.core.errors import ProbeError
from CoralBayLib.core.tensor_files import read_tensors, write_tensors


@pytest.mark.parametrize(
    ("header", "tensors"),
    [
        (lambda h: {"names": 5}, lambda t: {}),
        (lambda h: {"labels": [300]}, lambda t: {}),
        (lambda h: {"labels": [2**40]}, lambda t: {}),
        (lambda h: {"labels": [1, 2]}, lambda t: {}),
        (lambda h: {"parameters": {}}, lambda t: {}),
        (lambda h: {}, lambda t: {"weights": t["weights"].reshape(-1)}),
        (lambda h: {}, lambda t: {"weights": t["weights"] * torch.nan}),
        (lambda h: {}, lambda t: {"intercept": torch.zeros(())}),
        (lambda h: {}, lambda t: {"image_weights": t["image_weights"][:, :-1]}),
        (lambda h: {}, lambda t: {"told": torch.full_like(t["told"], 2**40)}),
        (lambda h: {}, lambda t: {"memory.labels": torch.full_like(t["memory.labels"], 2**40)}),
    ],
)
def test_parts_that_do_not_fit(header, tensors, make_grid, make_phantom, pooling, tmp_path):
    path = tmp_path / "probe"
    pyramid = cb.embed(make_phantom(make_grid()), pooling())
    center = pyramid.grid.center_ras
    cb.Probe().fit(pyramid, cb.Prompts(np.array([center, center + [0, 0, 20]]), [1, 0])).save(path)
    saved, parts = read_tensors(path, "probe")
    write_tensors(path, "probe", saved | header(saved), parts | tensors(parts))
    with pytest.raises(ProbeError, match="probe"):
        cb.Probe.load(path)
