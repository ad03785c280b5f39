"""Made the files in `data` (all but the scene, see `make_scene.py`) with the code of CoralBay 0.1.0; kept for the record.

Later versions must read what that version wrote, so the files are never made again: what a later version would write is
another thing. The imports are those of 0.1.0 and need not work any more. It was run as

    python -m Testing.compat.make /archive/ct

with the folder that the library then tells as the place of its scans, and which is not there for those who test.
"""

from __future__ import annotations

import gzip
import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from CoralBayLib.embedding import store_key
from CoralBayLib.inside import cluster_basis, colour_basis
from CoralBayLib.scans import Labels, ScanProbe
from CoralBayLib.segmentation_io import Segment, default_color

import CoralBayLib as cb

from . import results
from .results import BRIGHT, CENTRE, DATA, NAMES

VERSION = "0.1.0"


def make_ct(
    bright: Sequence[float], seed: int, tissue: float = 30.0, radius_mm: float = 22.0, step_mm: float = 3.0
) -> cb.Volume:
    """A ball of tissue on an oblique grid, with a bright and a dark spot."""
    angle, shape = np.deg2rad(12), (16, 24, 24) if step_mm < 5 else (8, 10, 10)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    matrix = np.eye(4)
    matrix[:3, :3] = turn @ np.diag([-step_mm, -step_mm, step_mm + 1])
    matrix[:3, 3] = CENTRE - matrix[:3, :3] @ ((np.array(shape[::-1]) - 1) / 2)
    grid = cb.Grid(shape, matrix)
    k, j, i = np.indices(shape)
    ras = grid.to_ras(np.stack([i, j, k], -1).reshape(-1, 3))
    hu = np.where(np.linalg.norm(ras - CENTRE, axis=1) < radius_mm, tissue, -1000.0)
    for sign, height in ((1, 400.0), (-1, -300.0)):
        away = np.linalg.norm(ras - CENTRE - sign * np.array(bright), axis=1)
        hu += height * np.exp(-0.5 * (away / 5.0) ** 2)
    hu += np.random.default_rng(seed).normal(0, 3.0, len(hu))
    return cb.Volume(np.round(hu).astype(np.int16).reshape(shape), grid)


def make_prompts(bright: Sequence[float], far_mm: float) -> cb.Prompts:
    """A few clicks on both spots and on what is neither."""
    spot, other = CENTRE + bright, CENTRE - bright
    steps = np.array([[0, 0, 0], [2.0, 0, 0], [0, -2.0, 2.0]])
    background = CENTRE + far_mm * np.array([[0, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0.2, 0.9], [0.3, 0, -0.9]])
    labels = [1] * 3 + [3] * 3 + [0] * 5
    return cb.Prompts(np.concatenate([spot + steps, other + steps, background]), labels, NAMES)


def make_probe(name: str, encoder: Any, scan: str, store: cb.Store, texts: dict[str, Any], arrays: results.Arrays) -> None:
    """A few-shot probe, and what it says of its own scan and of the phantom b."""
    volume, prompts = results.ct(scan), make_prompts(BRIGHT[scan], 7.0 if scan == "small" else 15.0)
    prompts.save(DATA / f"{name}_prompts.json")
    pyramid = cb.embed(volume, encoder, store=store)
    path = DATA / f"{name}.safetensors"
    cb.Probe(C=0.02, weak_negatives=500, max_per_label=400).fit(pyramid, prompts).save(path)
    probe = cb.Probe.load(path)
    here = cb.segment(volume, pyramid, prompts, probe=probe)
    there = cb.segment(results.ct("b"), cb.embed(results.ct("b"), encoder), results.no_prompts(), probe=probe)
    found = results.of_probe(probe, pyramid) | {f"memory.{n}": v for n, v in results.of_memory(probe).items()}
    found |= {"here": here.array, "there": there.array}
    arrays |= {f"{name}/{each}": values for each, values in found.items()}
    texts[name] = results.about_probe(probe) | {"key": store_key(volume, encoder)}
    if scan == "a":
        segments = [Segment(label, NAMES[label], default_color(n)) for n, label in enumerate(probe.labels_)]
        cb.write_segmentation(here, segments, DATA / "segmentation.seg.nrrd")
        texts["segments"] = [asdict(segment) for segment in segments]


def make_scan_probes(encoder: Any, pyramid: cb.FeaturePyramid, texts: dict[str, Any], arrays: results.Arrays) -> None:
    """A probe of each task on twelve scans of six patients."""
    tissue = np.array([20.0 + 5 * n for n in range(12)])
    scans = [make_ct((11.0, float(n % 3), 0.0), 100 + n, hu) for n, hu in enumerate(tissue)]
    vectors = np.stack([cb.embed(scan, encoder).scan_embedding.numpy() for scan in scans])
    arrays["scan_probe/vectors"] = vectors
    patients = [f"p{n // 2}" for n in range(12)]
    known = {
        "classify": (Labels.of("classify", np.where(tissue > 45, "dense", "thin"), patients), "density"),
        "regress": (Labels.of("regress", tissue, patients), "tissue HU"),
        "survive": (Labels.of("survive", np.arange(12) % 4 != 0, patients, 100 - tissue + np.arange(12) % 3), "death"),
    }
    pooled = tuple((spec.name, spec.channels) for spec in encoder.levels if spec.pooled)
    for task, (labels, target) in known.items():
        path = DATA / f"scan_probe_{task}.safetensors"
        ScanProbe(0.1).fit(vectors, labels).save(path, pyramid.signature, pooled, target)
        probe = ScanProbe.load(path)
        found = results.of_scan_probe(probe, vectors, pyramid)
        arrays |= {f"scan_probe_{task}/{name}": values for name, values in found.items()}
        texts[f"scan_probe_{task}"] = results.about_scan_probe(probe)


def make_library(encoder: Any, archive: Path, query: cb.FeaturePyramid, texts: dict[str, Any]) -> None:
    """A library of the three phantoms."""
    shutil.copytree(DATA / "ct", archive, dirs_exist_ok=True)
    library = cb.Library(DATA / "library")
    outcomes = library.add([archive / f"{name}.nrrd" for name in "abc"], encoder)
    assert [outcome.state for outcome in outcomes] == ["added"] * 3
    # Only afterwards, for then the files are gone, as they will be for those who test.
    shutil.rmtree(archive)
    texts["library"] = results.of_library(library, query)
    (DATA / "library" / ".lock").unlink(missing_ok=True)


def main(archive: Path) -> None:
    """Make all."""
    assert cb.__version__ == VERSION
    (DATA / "ct").mkdir(exist_ok=True)
    for seed, name in enumerate("abc"):
        cb.write_volume(make_ct(BRIGHT[name], seed), DATA / "ct" / f"{name}.nrrd")
    cb.write_volume(make_ct(BRIGHT["small"], 3, 30.0, 18.0, 5.0), DATA / "ct" / "small.nrrd")
    names = cb.load_encoder_file(DATA / "own_encoder.py")
    encoder = cb.load_encoder(names[0], device="cpu")
    store = cb.Store(DATA / "store")
    texts: dict[str, Any] = {"version": VERSION, "encoder": {"names": names, "weights": encoder.weights_sha256}}
    arrays: results.Arrays = {}
    make_probe("probe", encoder, "a", store, texts, arrays)
    mini = cb.load_encoder("coralbay-mini", device="cpu")
    # Its features are the size of all the rest together, and are not kept.
    with tempfile.TemporaryDirectory() as folder:
        make_probe("mini_probe", mini, "small", cb.Store(folder), texts, arrays)
    path = DATA / "mini_probe.safetensors"
    path.with_suffix(".safetensors.gz").write_bytes(gzip.compress(path.read_bytes(), mtime=0))
    path.unlink()
    [entry] = store.entries()
    pyramid = store.get(entry.key)
    assert pyramid is not None
    texts["store"] = {"key": entry.key, "identity": pyramid.identity, "signature": pyramid.signature}
    pyramids = [pyramid, *(cb.embed(results.ct(name), encoder) for name in ("b", "c"))]
    colours, clusters = colour_basis(pyramid), cluster_basis(pyramid, 5)
    colours.save(DATA / "colours.safetensors")
    clusters.save(DATA / "clusters.safetensors")
    made = {
        "store": results.of_pyramid(pyramid),
        "look": results.of_look(colours, clusters, pyramid),
        "features": results.of_features(pyramids[2]),
    }
    arrays |= {f"{title}/{name}": values for title, found in made.items() for name, values in found.items()}
    make_scan_probes(encoder, pyramid, texts, arrays)
    make_library(encoder, archive, pyramids[2], texts)
    np.savez_compressed(DATA / "expected.npz", **arrays)
    (DATA / "expected.json").write_text(json.dumps(texts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
