"""Training examples by number: the same number gives the same crops, in any process and in any order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from CoralBayLib.pretraining.settings import Settings

from .augment import change
from .crops import CropSizes, draw_grids, sample
from .scans import load_prepared

_ORDER, _CROPS = 1, 2
"""Different streams of random numbers of one seed."""


class ViewDataset:
    """The views of the n-th example, as what torch calls a dataset.

    Every scan is used once before any is used again, in a random order.

    Args:
        folder: of the prepared scans.
        keys: of the scans.
        settings: of the training.
    """

    def __init__(self, folder: Path, keys: Sequence[str], settings: Settings) -> None:
        self._folder, self._keys, self._settings = folder, tuple(keys), settings
        self._sizes = CropSizes(settings.spacing_mm, settings.global_size, settings.local_size, settings.local_crops)

    def __len__(self) -> int:
        return self._settings.steps * self._settings.batch

    def __getitem__(self, n: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Global views (2, 1, R, A, S) and local views (L, 1, r, a, s), in [0, 1]."""
        scan = load_prepared(self._folder, self._keys[self._scan(n)])
        random = np.random.default_rng([self._settings.seed, _CROPS, n])
        views = [_tensor(change(sample(scan, grid), random)) for grid in draw_grids(scan, self._sizes, random)]
        return torch.stack(views[:2]), torch.stack(views[2:])

    def _scan(self, n: int) -> int:
        turn, place = divmod(n, len(self._keys))
        return int(np.random.default_rng([self._settings.seed, _ORDER, turn]).permutation(len(self._keys))[place])


def _tensor(values: np.ndarray) -> torch.Tensor:
    """[k, j, i] to (1, R, A, S)."""
    return torch.from_numpy(np.ascontiguousarray(values.transpose(2, 1, 0)))[None]


class Batches:
    """The numbers of the examples of each step, for one of several devices.

    Args:
        settings: of the training.
        start: the first step.
        device: number of this device.
        devices: how many there are; they share each batch.
    """

    def __init__(self, settings: Settings, start: int = 0, device: int = 0, devices: int = 1) -> None:
        self._settings, self._start, self._device, self._devices = settings, start, device, devices

    def __len__(self) -> int:
        return self._settings.steps - self._start

    def __iter__(self) -> Iterator[list[int]]:
        share = self._settings.batch // self._devices
        for step in range(self._start, self._settings.steps):
            first = step * self._settings.batch + self._device * share
            yield list(range(first, first + share))
