"""The shared basis is used for the features it was fitted on only."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import CoralBayLib as cb
from CoralBayLib.core.errors import ProbeError
from CoralBayLib.core.tensor_files import read_tensors
from CoralBayLib.encoders.coralbay_mini import WEIGHTS, CoralBayMiniEncoder
from CoralBayLib.encoders.weights import sha256_of
from CoralBayLib.features import shared_basis as module
from CoralBayLib.features.shared_basis import SharedBasis, shared_basis, shared_basis_path, write_basis
from Testing.training.shared_basis import basis_of, drawn


@pytest.fixture
def pyramid(make_grid, make_phantom, pooling):
    return cb.embed(make_phantom(make_grid(), [((10.0, -30.0, 45.0), 8.0, 400.0)]), pooling())


@pytest.fixture
def path(tmp_path, monkeypatch):
    """Where the basis of any encoder is looked for."""
    monkeypatch.setattr(module, "shared_basis_path", lambda encoder: tmp_path / "basis.safetensors")
    yield tmp_path / "basis.safetensors"
    module._read.cache_clear()


def test_a_basis_round_trips_through_a_file(pyramid, path):
    assert shared_basis(pyramid) is None
    made = basis_of([drawn(pyramid, 500)])
    write_basis(path, made, pyramid.signature, ["phantom"])
    found = shared_basis(pyramid)
    assert found is not None
    torch.testing.assert_close(found.projection, made.projection, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(found.offset, made.offset, rtol=1e-3, atol=1e-3)
    assert found.projection.dtype == torch.float32


def test_a_basis_is_refused_for_other_features(pyramid, path):
    write_basis(path, basis_of([drawn(pyramid, 500)]), pyramid.signature, ["phantom"])
    assert shared_basis(replace(pyramid, identity=pyramid.identity | {"weights": "others"})) is None
    assert shared_basis(pyramid.select_levels([pyramid.levels[0].name])) is None


def test_a_basis_whitens_the_features_it_was_fitted_on(pyramid):
    features = drawn(pyramid, 2000)
    basis = basis_of([features[:1000], features[1000:]])
    white = features @ basis.projection.T + basis.offset
    assert white.mean(dim=0).abs().max() < 1e-2
    torch.testing.assert_close(torch.cov(white.T), torch.eye(white.shape[1]), rtol=0, atol=0.05)


def test_a_damaged_basis_is_refused(pyramid, path):
    path.write_bytes(b"nothing")
    with pytest.raises(ProbeError, match="basis"):
        shared_basis(pyramid)


def test_the_basis_of_coralbay_mini_fits_its_features():
    header, tensors = read_tensors(shared_basis_path("coralbay-mini"), module.KIND)
    levels = ["enc1:24", "enc2:48", "enc3:96", "hidden3:192", "dec4:384"]
    assert header["signature"].endswith(f"{sha256_of(WEIGHTS.path)}|{','.join(levels)}")
    assert tensors["projection"].shape == (192, 744)
    assert list(CoralBayMiniEncoder.level_names) == [level.split(":")[0] for level in levels]
    assert isinstance(SharedBasis(**tensors), SharedBasis)
    assert not {"slicerio_ctchest4", "lung4d_113", "sample", "totalseg_example"} & set(header["scans"])
