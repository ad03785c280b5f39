"""What version 0.1.0 wrote, copied to where it may be changed, and what it then said of it."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import CoralBayLib as cb

from .results import DATA, Arrays, ct, under


@pytest.fixture(scope="package")
def texts() -> dict[str, Any]:
    """Expected words and numbers."""
    return json.loads((DATA / "expected.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="package")
def arrays() -> Arrays:
    """Expected arrays."""
    with np.load(DATA / "expected.npz") as file:
        return dict(file)


@pytest.fixture(scope="package")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the old files: some readers touch what they read."""
    folder = tmp_path_factory.mktemp("old") / "data"
    shutil.copytree(DATA, folder)
    packed = folder / "mini_probe.safetensors.gz"
    packed.with_suffix("").write_bytes(gzip.decompress(packed.read_bytes()))
    return folder


@pytest.fixture(scope="package")
def own(old: Path) -> Iterator[Any]:
    """The encoder of the user's own file."""
    [name] = cb.load_encoder_file(old / "own_encoder.py")
    yield cb.load_encoder(name, device="cpu")
    cb.unload_encoder_file(old / "own_encoder.py")


@pytest.fixture(scope="package")
def mini() -> Any:
    """The encoder that comes with CoralBay."""
    return cb.load_encoder("coralbay-mini", device="cpu")


@pytest.fixture(scope="package")
def small(mini: Any, tmp_path_factory: pytest.TempPathFactory) -> cb.FeaturePyramid:
    """Features of the smallest phantom by the mini, computed by today's code and rounded as a store does."""
    return cb.embed(ct("small"), mini, store=cb.Store(tmp_path_factory.mktemp("store")))


@pytest.fixture(scope="package")
def stored(old: Path, texts: dict[str, Any]) -> cb.FeaturePyramid:
    """The features of the phantom a in the old store."""
    pyramid = cb.Store(old / "store").get(texts["store"]["key"])
    assert pyramid is not None
    return pyramid


@pytest.fixture(scope="package")
def pyramids(own: Any) -> dict[str, cb.FeaturePyramid]:
    """Features of the other phantoms, computed by today's code."""
    return {name: cb.embed(ct(name), own) for name in ("b", "c")}


@pytest.fixture
def same(arrays: Arrays) -> Callable[..., None]:
    """Compares arrays with what they were: whole numbers exactly, others as far as BLAS libraries agree."""

    def compare(title: str, found: Arrays, exact: bool = False) -> None:
        expected = dict(under(arrays, title))
        assert set(found) <= set(expected)
        for name, values in found.items():
            _compare(f"{title}/{name}", values, expected[name], exact)

    return compare


def _compare(name: str, found: NDArray, expected: NDArray, exact: bool) -> None:
    assert found.shape == expected.shape, name
    assert found.dtype == expected.dtype, name
    if exact or found.dtype.kind in "iub":
        np.testing.assert_array_equal(found, expected, err_msg=name)
    else:
        tolerance = 1e-4 * float(np.abs(expected).max())
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=tolerance, err_msg=name)
