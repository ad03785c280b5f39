"""Phantoms and a small encoder whose features are known by construction."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from CoralBayLib.encoders.base import InputSpec, LevelSpec, Tiling
from CoralBayLib.imaging.grid import Grid, Volume


class PoolingNetwork(nn.Module):
    """Averages of simple functions of the intensity over blocks: the centre of each feature is known exactly."""

    def __init__(self, strides: tuple[int, ...]) -> None:
        super().__init__()
        self.pools = nn.ModuleList([nn.AvgPool3d(s) for s in strides])


class PoolingEncoder:
    """An encoder for tests: level `pool<s>` holds averages over s^3 voxels of five functions of the intensity."""

    name = "pooling"
    title = "Pooling"
    weights_source = "none"
    weights_sha256 = "0" * 64
    scan_token = None

    def __init__(self, strides=(2, 4, 8), spacing_mm=(2.0, 2.0, 2.0), window=None, step=(0, 0, 0), device="cpu") -> None:
        self.input = InputSpec(spacing_mm, (-1000.0, 1000.0), (max(strides),) * 3)
        self.levels = tuple(LevelSpec(f"pool{s}", 5, (s, s, s), ((s - 1) / 2,) * 3, optional=s == 1) for s in strides)
        self.tiling = Tiling("whole" if window is None else f"windows-{window[0]}", window, step)
        self.device = torch.device(device)
        self.network = PoolingNetwork(strides)
        self.calls = 0

    def forward_features(self, x, names):
        self.calls += 1
        functions = torch.cat([x, x**2, (x - 0.5).abs(), torch.sin(9 * x), torch.cos(7 * x)], dim=1)
        return [pool(functions) for spec, pool in zip(self.levels, self.network.pools, strict=True) if spec.name in names]

    def memory_bytes(self, window, names):
        return 100 * int(np.prod(window))

    def to(self, device):
        self.device = device


GEOMETRIES = {
    "axial": ((1, 1, 1), np.eye(3)),
    "flipped": ((1, 1, 1), np.diag([-1.0, 1.0, -1.0])),
    "permuted": ((1, 1, 1), np.array([[0, 0, 1.0], [1, 0, 0], [0, -1, 0]])),
    "anisotropic": ((1.3, 0.8, 2.6), np.eye(3)),
    "oblique": ((1, 1, 1.5), None),
    "sheared": ((1, 1, 2), np.array([[1, 0, 0.25], [0, 1, -0.15], [0, 0, 1.0]])),
}


def rotation(x: float, y: float, z: float) -> np.ndarray:
    """Rotation matrix from three angles in degrees."""
    from scipy.spatial.transform import Rotation

    return Rotation.from_euler("xyz", [x, y, z], degrees=True).as_matrix()


def phantom_grid(kind: str = "axial", extent_mm: float = 90.0, centre=(12.0, -30.0, 45.0), spacing: float = 2.0) -> Grid:
    """A grid of about `extent_mm` around a centre, of one of `GEOMETRIES`."""
    factors, axes = GEOMETRIES[kind]
    axes = rotation(12, -8, 20) if axes is None else axes
    step = np.array(factors) * spacing
    size = np.round(extent_mm / step).astype(int)
    matrix = np.eye(4)
    matrix[:3, :3] = axes * step
    matrix[:3, 3] = np.array(centre) - matrix[:3, :3] @ ((size - 1) / 2)
    return Grid(tuple(size[::-1]), matrix)


def phantom(grid: Grid, blobs=(), radius_mm: float = 40.0, seed: int = 0) -> Volume:
    """A ball of soft tissue in air, with Gaussian blobs.

    Args:
        grid: where.
        blobs: (ras, sigma_mm, hu) each; hu is added at the centre.
        radius_mm: of the ball around the grid's centre.
    """
    k, j, i = np.indices(grid.shape)
    ras = grid.to_ras(np.stack([i, j, k], -1).reshape(-1, 3))
    inside = np.linalg.norm(ras - grid.center_ras, axis=1) < radius_mm
    hu = np.where(inside, 30.0, -1000.0)
    for centre, sigma, height in blobs:
        hu += height * np.exp(-0.5 * (np.linalg.norm(ras - np.asarray(centre), axis=1) / sigma) ** 2)
    hu += np.random.default_rng(seed).normal(0, 2.0, len(hu))
    return Volume(np.round(hu).astype(np.int16).reshape(grid.shape), grid)


@pytest.fixture
def pooling():
    """The class, to be made with the strides a test needs."""
    return PoolingEncoder


@pytest.fixture
def make_grid():
    return phantom_grid


@pytest.fixture
def make_phantom():
    return phantom


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    """No test reads or writes the user's cache."""
    monkeypatch.setenv("CORALBAY_CACHE", str(tmp_path / "cache"))
