"""The demo: few-shot segmentation and region search on a public chest CT, with a simulated annotator."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import psutil
import torch
from numpy.typing import NDArray

from CoralBayLib.core.devices import describe
from CoralBayLib.core.notice import NOTICE
from CoralBayLib.core.paths import atomic_write
from CoralBayLib.core.progress import Progress
from CoralBayLib.encoders.base import Encoder, is_distant
from CoralBayLib.features.embedding import embed
from CoralBayLib.features.pyramid import FeaturePyramid
from CoralBayLib.features.store import Store
from CoralBayLib.fewshot.prompts import Prompts
from CoralBayLib.fewshot.segmenter import Segmenter
from CoralBayLib.imaging.grid import Volume
from CoralBayLib.imaging.palette import label_color
from CoralBayLib.imaging.resampling import resample
from CoralBayLib.imaging.segmentation_io import Segment, write_segmentation
from CoralBayLib.imaging.volume_io import read_labelmap, read_volume
from CoralBayLib.similarity.search import Query, Region, find_regions, similarity_map

from .annotator import Annotator, dice
from .sample import Sample, fetch_sample

STRUCTURES = (
    "liver",
    "spleen",
    "kidney_left",
    "lung_lower_lobe_right",
    "aorta",
    "atrial_appendage_left",
    "vertebrae_T8",
    "esophagus",
)
"""Structures to segment: large and small, easy and hard. The reference labels no other part of an atrium."""

CHECKPOINTS = (0, 1, 2, 4, 8, 12)
"""Numbers of corrective clicks on each structure after which Dice is measured."""
SLICES = 3
"""Number of axial slices with strokes, for each structure."""
QUERY = "liver"
"""Structure to search for."""
TOP = 20
"""Number of regions to find."""


@dataclass
class Findings:
    """What the demo measured.

    Attributes:
        dice: by structure, Dice after each number of `CHECKPOINTS` clicks, on the source grid.
        regions: the top regions for the query, and the reference's structure at each.
        seconds: duration by step, in seconds.
    """

    dice: dict[str, list[float]] = field(default_factory=dict)
    regions: list[tuple[Region, str]] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)


class Output(Protocol):
    """Where the demo shows its progress and its results; the command line's console is one."""

    def result(self, text: str = "") -> None:
        """Print a line."""

    def bar(self, title: str) -> AbstractContextManager[Progress]:
        """Show a progress bar."""


class Demo:
    """Runs the demo and writes its results.

    Args:
        output: folder to write to.
        encoder: the encoder to use.
        console: shows the progress and the results.
        store: where the embedding is looked up and kept; None for nowhere.
        seed: of the simulated annotator.
    """

    def __init__(self, output: Path, encoder: Encoder, console: Output, store: Store | None, seed: int = 0) -> None:
        self.output = output
        self.encoder = encoder
        self.console = console
        self.store = store
        self.seed = seed
        self.tell = console.result
        self.findings = Findings()

    def run(self) -> dict[str, Any]:
        """Run all steps; return the report."""
        begin = time.perf_counter()
        self.output.mkdir(parents=True, exist_ok=True)
        self.tell(f"Encoder: {self.encoder.title} ({self.encoder.name}), weights: {self.encoder.weights_source}")
        self.tell(f"Device:  {self._device()}")
        with self.step("sample CT"):
            sample = fetch_sample()
            volume, reference = read_volume(sample.ct), read_labelmap(sample.labelmap)
        size, spacing = volume.grid.size, volume.grid.spacing_mm
        self.tell("Scan:    " + "x".join(map(str, size)) + " voxels of " + "x".join(f"{s:.2f}" for s in spacing) + " mm")
        with self.step("embedding"), self.console.bar("Embedding") as progress:
            pyramid = embed(volume, self.encoder, progress, store=self.store)
        labels = {name: label for label, name in sample.names.items()}
        with self.step("segmentation, strokes and 12 rounds of clicks"):
            result = self.segment(pyramid, reference, labels)
        with self.step("similar regions"):
            simmap, query = self.find_similar(pyramid, reference, labels, sample)
        with self.step("writing"):
            paths = self.write(volume, pyramid, reference, result, simmap, query, labels, sample)
        total = time.perf_counter() - begin
        self.findings.seconds["total"] = total
        self.tell()
        for name, seconds in self.findings.seconds.items():
            self.tell(f"  {seconds:7.1f} s  {name}")
        self.tell(f"  {_peak_memory_gb():7.1f} GB peak memory")
        self.tell()
        for path in paths:
            self.tell(f"Written: {path}")
        self.tell(f"Open {paths[1].name} with the CT in 3D Slicer: {sample.ct}")
        return {**self.summary(), "files": [str(path) for path in paths]}

    def _device(self) -> str:
        return self.encoder.weights_source if is_distant(self.encoder) else describe(self.encoder.device)

    def segment(self, pyramid: FeaturePyramid, reference: Volume, labels: dict[str, int]) -> Volume:
        """Segment from strokes, then from rounds of one corrective click on each structure; print Dice."""
        working = resample(reference, pyramid.grid, "nearest")
        numbers = {name: number for number, name in enumerate(STRUCTURES, 1)}
        names = {number: name for name, number in numbers.items()}
        truth = {number: reference.array == labels[name] for name, number in numbers.items()}
        clickers = {number: Annotator(working, labels[name], self.seed) for name, number in numbers.items()}
        prompts = replace(Prompts.none(), names=names)
        for name, number in numbers.items():
            points, inside = Annotator(reference, labels[name], self.seed).strokes(SLICES)
            true = self._true_labels(reference, points, labels, numbers)
            prompts += Prompts(points, np.where(inside, number, true), names)
        result = Volume(np.zeros(reference.array.shape, np.uint8), reference.grid)
        clicks: dict[int, list[float]] = {number: [] for number in names}
        with self.console.bar("Clicks") as progress:
            for click in range(CHECKPOINTS[-1] + 1):
                progress(click / (CHECKPOINTS[-1] + 1), f"Click {click} of {CHECKPOINTS[-1]}")
                segmenter = Segmenter(pyramid).fit(prompts)
                if click in CHECKPOINTS:
                    result = segmenter.labelmap(reference.grid)
                    for number in names:
                        clicks[number].append(dice(result.array == number, truth[number]))
                if click == CHECKPOINTS[-1]:
                    break
                predicted = segmenter.labelmap(pyramid.grid).array
                for number, clicker in clickers.items():
                    corrected = clicker.click(predicted == number)
                    if corrected is not None:
                        points, positive = corrected
                        true = self._true_labels(working, points, labels, numbers)
                        prompts += Prompts(points, np.full(len(points), number) if positive else true, names)
        self.tell()
        self.tell(f"Dice after strokes on {SLICES} slices, by number of corrective clicks on each structure:")
        self.tell(f"  {'structure':<24}" + "".join(f"{n:>7}" for n in CHECKPOINTS))
        for number, name in names.items():
            self.findings.dice[name] = clicks[number]
            self.tell(f"  {name:<24}" + "".join(f"{d:7.3f}" for d in clicks[number]))
        mean = np.mean(list(clicks.values()), axis=0)
        self.tell(f"  {'mean':<24}" + "".join(f"{d:7.3f}" for d in mean))
        return result

    def find_similar(
        self, pyramid: FeaturePyramid, reference: Volume, labels: dict[str, int], sample: Sample
    ) -> tuple[Volume, NDArray[np.float64]]:
        """Search for regions like a point in one structure; print how many of them lie in that structure."""
        query = Annotator(reference, labels[QUERY]).deepest()
        simmap = similarity_map(pyramid, Query.sphere(query, 6.0))
        regions = find_regions(simmap, TOP, 20.0)
        found = reference.nearest_values([region.ras for region in regions])
        self.findings.regions = [
            (region, sample.names.get(int(value), "none")) for region, value in zip(regions, found, strict=True)
        ]
        hits = sum(name == QUERY for _, name in self.findings.regions)
        self.tell()
        self.tell(f"Similar regions: with a query in the {QUERY}, {hits} of the top {len(regions)} regions lie in the {QUERY}")
        return simmap, query

    def write(
        self,
        volume: Volume,
        pyramid: FeaturePyramid,
        reference: Volume,
        result: Volume,
        simmap: Volume,
        query: NDArray[np.float64],
        labels: dict[str, int],
        sample: Sample,
    ) -> list[Path]:
        """Write the contact sheet, the segmentation and the report; return their paths."""
        from .contact_sheet import draw

        segments = [Segment(n, name, label_color(n)) for n, name in enumerate(STRUCTURES, 1)]
        truth = np.zeros(reference.array.shape, np.uint8)
        for segment in segments:
            truth[reference.array == labels[segment.name]] = segment.label
        sheet, masks, report = (self.output / n for n in ("contact_sheet.png", "segmentation.seg.nrrd", "report.json"))
        title = f"{self.encoder.title}, strokes on {SLICES} slices and {CHECKPOINTS[-1]} clicks. {NOTICE}"
        draw(sheet, volume, result, Volume(truth, reference.grid), simmap, query, segments, title)
        write_segmentation(result, segments, masks)
        with atomic_write(report) as temporary:
            temporary.write_text(json.dumps({**self.summary(), "citation": sample.citation}, indent=1), encoding="utf-8")
        return [sheet, masks, report]

    def summary(self) -> dict[str, Any]:
        """All measurements, with the encoder, machine and versions."""
        return {
            "notice": NOTICE,
            "encoder": {"name": self.encoder.name, "weights_sha256": self.encoder.weights_sha256},
            "machine": {"system": platform.platform(), "cores": os.cpu_count(), "device": self._device()},
            "versions": {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__},
            "seed": self.seed,
            "clicks": CHECKPOINTS,
            "dice": self.findings.dice,
            "query": QUERY,
            "regions": [{"ras": r.ras, "score": r.score, "structure": name} for r, name in self.findings.regions],
            "seconds": self.findings.seconds,
            "peak_memory_gb": _peak_memory_gb(),
        }

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time a step of the work."""
        start = time.perf_counter()
        yield
        self.findings.seconds[name] = time.perf_counter() - start

    @staticmethod
    def _true_labels(
        reference: Volume, points: NDArray[np.float64], labels: dict[str, int], numbers: dict[str, int]
    ) -> NDArray[np.int64]:
        """The label an annotator gives to each point: of one of the demo's structures, or 0 for background."""
        found = reference.nearest_values(points)
        true = np.zeros(len(points), dtype=np.int64)
        for name, number in numbers.items():
            true[found == labels[name]] = number
        return true


def _peak_memory_gb() -> float:
    try:
        import resource
    except ImportError:  # Windows
        return float(getattr(psutil.Process().memory_info(), "peak_wset", 0)) / 2**30
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**30 if platform.system() == "Darwin" else 2**20)
