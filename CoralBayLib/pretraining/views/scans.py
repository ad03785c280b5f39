"""The scans of a training, prepared once: at the encoder's spacing, cropped to the patient, as files that are mapped.

Each has a key, from its files and the spacing. In the folder it is `KEY.json` (grid), `KEY.points.npy` (voxels of the
patient) and `KEY.npy` (int16 HU), which is written last. They hold voxels of the scans, but no names and no headers.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from CoralBayLib.core.errors import CoralBayError, StoreError, TrainingError
from CoralBayLib.core.paths import atomic_write, error_message
from CoralBayLib.encoders.base import InputSpec
from CoralBayLib.features.preprocessing import prepare
from CoralBayLib.imaging.discovery import ScanSource
from CoralBayLib.imaging.grid import Grid
from CoralBayLib.imaging.hounsfield import check_ct
from CoralBayLib.imaging.volume_io import read_volume
from CoralBayLib.pretraining.signals import leave_signals_to_parent

from .crops import PreparedScan

_POINTS = 4096
_LOWEST_HU, _HIGHEST_HU = -1024, 4095


@dataclass(frozen=True)
class Prepared:
    """What became of one scan.

    Attributes:
        path: of the scan.
        key: in the folder of prepared scans; "" when it cannot be used.
        reason: why it cannot be used.
        failure: why it could not be written, as when the disk is full. Other scans have the same fate, and this one may be
            good.
    """

    path: str
    key: str = ""
    reason: str = ""
    failure: str = ""


@dataclass(frozen=True)
class Preparation:
    """Prepares scans; can be sent to another process.

    Args:
        folder: of the prepared scans.
        spacing_mm: of the encoder.
        least_mm: a patient that is smaller along an axis cannot be used, mm.
        assume_hu: skip the check that the values look like HU.
    """

    folder: Path
    spacing_mm: float
    least_mm: float
    assume_hu: bool = False

    def __call__(self, source: ScanSource) -> Prepared:
        """Prepare one scan, unless that was done before."""
        name = f"{source.path}\0{source.fingerprint}\0{self.spacing_mm}"
        key = hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:24]
        try:
            if not (self.folder / f"{key}.npy").is_file():
                self._write(source, key)
            return Prepared(source.path, key)
        except StoreError as error:
            return Prepared(source.path, failure=str(error))
        except CoralBayError as error:
            return Prepared(source.path, reason=str(error))
        except MemoryError:
            return Prepared(source.path, reason="There is too little memory to read it.")
        except OSError as error:
            return Prepared(source.path, reason=f"It could not be read: {error_message(error)}.")

    def _write(self, source: ScanSource, key: str) -> None:
        volume = read_volume(source.path)
        check_ct(volume, self.assume_hu)
        prepared = prepare(volume, InputSpec((self.spacing_mm,) * 3, (-1000.0, 1000.0), (1, 1, 1)))
        extent = np.array(prepared.image.grid.size) * prepared.image.grid.spacing_mm
        if extent.min() < self.least_mm:
            size = " x ".join(f"{side:.0f}" for side in extent)
            raise TrainingError(f"It is too small: {size} mm around the patient, but crops have {self.least_mm:.0f} mm.")
        hu = np.clip(np.round(prepared.image.array), _LOWEST_HU, _HIGHEST_HU).astype(np.int16)
        inside = np.flatnonzero(prepared.body.array)
        chosen = np.random.default_rng(int(key[:8], 16)).choice(inside, min(_POINTS, len(inside)), replace=False)
        points = np.stack(np.unravel_index(np.sort(chosen), hu.shape)[::-1], axis=1).astype(np.int16)
        with atomic_write(self.folder / f"{key}.json") as temporary:
            temporary.write_text(json.dumps({"ijk_to_ras": prepared.image.grid.ijk_to_ras.tolist()}), encoding="utf-8")
        for suffix, array in ((".points.npy", points), (".npy", hu)):
            with atomic_write(self.folder / f"{key}{suffix}") as temporary, temporary.open("wb") as file:
                np.save(file, array, allow_pickle=False)


def prepare_all(sources: Sequence[ScanSource], preparation: Preparation, workers: int = 0) -> Iterator[Prepared]:
    """Prepare scans, several at a time with `workers` processes; the results have the order of the scans."""
    from torch.utils.data import DataLoader

    workers = min(workers, len(sources))
    dataset: Any = _Each(sources, preparation)
    yield from DataLoader(dataset, batch_size=None, num_workers=workers, worker_init_fn=leave_signals_to_parent)


class _Each:
    """The prepared scans as what torch calls a dataset."""

    def __init__(self, sources: Sequence[ScanSource], preparation: Preparation) -> None:
        self._sources, self._preparation = sources, preparation

    def __len__(self) -> int:
        return len(self._sources)

    def __getitem__(self, n: int) -> Prepared:
        return self._preparation(self._sources[n])


def load_prepared(folder: Path, key: str) -> PreparedScan:
    """A prepared scan; its voxels are read when they are used.

    Raises:
        TrainingError: its files are missing or damaged.
    """
    try:
        content = json.loads((folder / f"{key}.json").read_text(encoding="utf-8"))
        hu = np.load(folder / f"{key}.npy", mmap_mode="r", allow_pickle=False)
        points = np.load(folder / f"{key}.points.npy", allow_pickle=False)
        return PreparedScan(hu, Grid(hu.shape, np.array(content["ijk_to_ras"])), points)
    except (OSError, ValueError, EOFError, LookupError, TypeError) as error:
        raise TrainingError(
            f"The prepared scan {key} in {folder} is missing or damaged ({error_message(error)}). Begin the training again."
        ) from error
