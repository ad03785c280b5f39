"""Files that CoralBay wrote and something damaged: read right, or refused in words, and never anything else."""

from __future__ import annotations

import json
import os
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import CoralBayLib as cb
from CoralBayLib.core.errors import CoralBayError
from CoralBayLib.encoders.coralbay import CoralBayNetwork, network_from
from CoralBayLib.encoders.networks.checkpoints import read_checkpoint
from CoralBayLib.encoders.weights_bundle import import_bundle
from CoralBayLib.features import shared_basis
from CoralBayLib.library.basis import LibraryBasis
from CoralBayLib.scan_probes import ScanProbe
from CoralBayLib.scan_probes.table import Labels
from CoralBayLib.similarity.feature_maps import FeatureProjection, color_basis, color_map
from Testing.lib.conftest import PoolingEncoder, phantom, phantom_grid

from .mutations import mutations

COUNT = int(os.environ.get("CORALBAY_FUZZ", "30"))
"""Mutations of each kind of file; a third of checkpoints, which are read slowly."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the files lie."""
    return tmp_path_factory.mktemp("fuzz")


@pytest.fixture(scope="module")
def pyramid(folder: Path) -> cb.FeaturePyramid:
    """Features of a phantom, as the store gives them."""
    volume = phantom(phantom_grid("axial"), [([12, -30, 45], 8.0, 500.0)])
    return cb.embed(volume, PoolingEncoder((4, 8)), store=cb.Store(folder / "store"))


def store_entry(folder: Path, pyramid: cb.FeaturePyramid) -> tuple[Path, Callable[[], Any]]:
    """An entry of the store; a damaged one is dropped."""
    store = cb.Store(folder / "store")
    store.put(pyramid)

    def use() -> Any:
        found = store.get(pyramid.key)
        return None if found is None else (found.basis.projection.sum().item(), found.levels[0].grid.ijk_to_ras.tolist())

    return store.entries()[0].path, use


def probe(folder: Path, pyramid: cb.FeaturePyramid) -> tuple[Path, Callable[[], Any]]:
    """A few-shot probe."""
    path, center = folder / "probe", pyramid.grid.center_ras
    prompts = cb.Prompts(np.array([center, center + [0, 0, 30]]), [1, 0], {1: "ball"})
    cb.Probe().fit(pyramid, prompts).save(path)

    def use() -> Any:
        probe = cb.Probe.load(path)
        assert probe.memory is None or probe.memory.positions.shape[1] == 3
        return probe.logits(pyramid).isfinite().all().item(), probe.weights_.sum().item()

    return path, use


def scan_probe(folder: Path, pyramid: cb.FeaturePyramid) -> tuple[Path, Callable[[], Any]]:
    """A probe on whole scans."""
    path, vectors = folder / "scan", np.random.default_rng(0).normal(size=(12, 8))
    ScanProbe().fit(vectors, Labels.of("classification", list("abc") * 4, range(12))).save(path)
    return path, lambda: ScanProbe.load(path).predict(vectors).tolist()


def projection(folder: Path, pyramid: cb.FeaturePyramid) -> tuple[Path, Callable[[], Any]]:
    """Colors of features."""
    path = folder / "colors"
    color_basis(pyramid).save(path)
    return path, lambda: color_map(pyramid, FeatureProjection.load(path)).sum()


def common_basis(folder: Path, pyramid: cb.FeaturePyramid) -> tuple[Path, Callable[[], Any]]:
    """A basis that scans share."""
    path, basis = folder / "shared", pyramid.basis
    shared_basis.write_basis(path, shared_basis.SharedBasis(basis.projection, basis.offset), pyramid.signature, ["a"])

    def use() -> Any:
        shared_basis._read.cache_clear()
        found = shared_basis._read(path, pyramid.signature)
        return None if found is None else found.projection.sum().item()

    return path, use


def library_basis(folder: Path, pyramid: cb.FeaturePyramid) -> tuple[Path, Callable[[], Any]]:
    """The basis of a library."""
    path, basis, levels = folder / "library", pyramid.basis, tuple(level.name for level in pyramid.levels)
    whole = LibraryBasis(basis.projection, basis.offset, pyramid.identity, pyramid.signature, levels, 3)
    path.write_bytes(whole.to_bytes())

    def use() -> Any:
        found = LibraryBasis.from_bytes(path.read_bytes())
        return found.projection.sum().item(), found.signature, found.levels

    return path, use


def checkpoint(folder: Path, pyramid: cb.FeaturePyramid) -> tuple[Path, Callable[[], Any]]:
    """Weights; files of others have no checksum, so a changed number cannot be noticed."""
    path = folder / "weights"
    network = CoralBayNetwork(feature_size=12)
    tensors = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    save_file(tensors, path, metadata={"format": json.dumps({"a": 1})})
    return path, lambda: network_from(read_checkpoint(path)).feature_size


def pickled(folder: Path, pyramid: cb.FeaturePyramid) -> tuple[Path, Callable[[], Any]]:
    """Tensors of torch.save."""
    path = folder / "pickled"
    torch.save({"a": torch.ones(3, 4), "b": torch.arange(3)}, path)
    return path, lambda: sorted(read_checkpoint(path))


def bundle(folder: Path, pyramid: cb.FeaturePyramid) -> tuple[Path, Callable[[], Any]]:
    """A bundle of no weights."""
    path = folder / "bundle.zip"
    manifest = {"format": "coralbay-weights", "version": 1, "weights": []}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("coralbay-weights.json", json.dumps(manifest, indent=9))
    return path, lambda: import_bundle(path)


WITH_CHECKSUM = [store_entry, probe, scan_probe, projection, common_basis, library_basis]


@pytest.mark.parametrize("kind", [*WITH_CHECKSUM, checkpoint, pickled, bundle], ids=lambda kind: kind.__name__)
def test_damage_is_refused_in_words(kind: Callable, folder: Path, pyramid: cb.FeaturePyramid) -> None:
    path, use = kind(folder, pyramid)
    whole, expected = path.read_bytes(), use()
    for name, damaged in mutations(whole, COUNT // 3 if kind is checkpoint else COUNT, seed=len(kind.__name__)):
        path.write_bytes(damaged)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                found = use()
            except CoralBayError:
                continue
            except Exception as error:
                raise AssertionError(f"{name}: {type(error).__name__}: {error}") from error
        if kind in WITH_CHECKSUM and "edited" not in name:
            assert found in (expected, None), name
    path.write_bytes(whole)
    assert use() == expected
