"""The inputs of the commands that are killed: phantoms, prompts, probes and a bundle of weights, made once."""

from __future__ import annotations

import os
import random
from pathlib import Path

import numpy as np

import CoralBayLib as cb
from CoralBayLib.encoders.management.bundle import export_bundle
from CoralBayLib.encoders.management.manager import weights_of
from CoralBayLib.encoders.weights.cache import Record
from Testing.lib.conftest import PoolingEncoder, phantom, phantom_grid

CENTER = np.array([12.0, -30.0, 45.0])
BUNDLED = "coralbay"
"""The encoder whose weights are imported."""
INSTALLED = "voxelfm"
"""An encoder whose weights were installed before."""


def make_inputs(folder: Path, scans: int, bundle_bytes: int) -> None:
    """Write all inputs into a new folder.

    Args:
        folder: where.
        scans: number of phantoms, two of which are in folders of their own: "first" is processed before any kill.
        bundle_bytes: size of the weights in the bundle.
    """
    for name in ("first", "scans"):
        (folder / name).mkdir(parents=True)
    rng = np.random.default_rng(0)
    paths = [folder / "first" / "first.nrrd", *(folder / "scans" / f"{number:02}.nrrd" for number in range(scans - 1))]
    for number, path in enumerate(paths):
        spots = [(CENTER + rng.uniform(-16, 16, 3), 7.0, 400.0 * (-1) ** number)]
        cb.write_volume(phantom(phantom_grid("axial"), spots, 40.0 - number % 4, number), path)
    points = np.concatenate([CENTER + 3 * np.eye(3), CENTER - 25 * np.eye(3)])
    prompts = cb.Prompts(points, [1] * 3 + [0] * 3, {1: "spot"})
    prompts.save(folder / "prompts.json")
    probe = cb.Probe().fit(cb.embed(cb.read_volume(paths[0]), PoolingEncoder((4, 8), (2.5, 2.5, 2.5))), prompts)
    probe.save(folder / "probe.safetensors")
    rows = [f"{path},{number},{'ab'[number % 2]}" for number, path in enumerate(paths)]
    (folder / "table.csv").write_text("\n".join(["scan,patient,finding", *rows]) + "\n", encoding="utf-8")
    for encoder, size in ((BUNDLED, bundle_bytes), (INSTALLED, 1 << 16)):
        _make_bundle(folder / f"{encoder}.zip", encoder, size)


def _make_bundle(path: Path, encoder: str, size: int) -> None:
    """A bundle of random bytes, which no import can tell from weights."""
    own = path.parent / "cache"
    before = os.environ.get("CORALBAY_CACHE")
    os.environ["CORALBAY_CACHE"] = str(own)
    try:
        from CoralBayLib.encoders.weights import cache

        staged = cache.make_folder(encoder) / "staged"
        staged.write_bytes(random.Random(size).randbytes(size))
        cache.install(Record.of(weights_of(encoder), staged), staged)
        export_bundle(path, [encoder])
    finally:
        os.environ.pop("CORALBAY_CACHE")
        if before is not None:
            os.environ["CORALBAY_CACHE"] = before
