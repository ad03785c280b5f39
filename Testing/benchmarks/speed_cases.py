"""The cases that `speed` measures. Each runs in a process of its own, so that its peak memory can be told.

Usage: python -m Testing.benchmarks.speed_cases CASE [JSON]    prints one JSON object
"""

from __future__ import annotations

import json
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

import CoralBayLib as cb
from CoralBayLib.demo.annotator import Annotator, dice
from CoralBayLib.demo.sample import fetch_sample
from CoralBayLib.encoders.base import Encoder, Tiling
from CoralBayLib.encoders.coralbay import LEVEL_NAMES, CoralBayEncoder, CoralBayNetwork
from CoralBayLib.features.compression import pack, support_mask, unpack
from CoralBayLib.features.identity import choose_levels
from CoralBayLib.features.preprocessing import prepare
from CoralBayLib.features.pyramid import FeaturePyramid
from CoralBayLib.features.windows import run_windows
from CoralBayLib.fewshot.evidence import evidence_of
from CoralBayLib.imaging.grid import Grid, Volume
from CoralBayLib.imaging.resampling import resample

from .tables.sections import machine, others_ran

WINDOW = 96
FEW_SHOT = ("liver", "spleen", "kidney_left", "lung_lower_lobe_right", "aorta", "heart", "vertebrae_T8", "esophagus")
SEED = 0


class MonaiEncoder(CoralBayEncoder):
    """The same weights in MONAI's modules with its sliding windows, as eva runs them: 96^3, overlap 0.75."""

    def __init__(self, network: CoralBayNetwork) -> None:
        super().__init__(network, "0" * 64, "random")
        self.tiling = Tiling("monai-96-0.75", None)

    def forward_features(self, x: torch.Tensor, names: tuple[str, ...]) -> list[torch.Tensor]:
        """Computes every level with MONAI's modules; returns those that are asked for."""
        from monai.inferers import sliding_window_inference

        with torch.inference_mode():
            maps = sliding_window_inference(x, (WINDOW,) * 3, 1, lambda window: stock(self.network, window), overlap=0.75)
        return [maps[LEVEL_NAMES.index(name)] for name in names]


def stock(network: CoralBayNetwork, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """All six levels by MONAI's forward functions."""
    hidden = network.swinViT(x)
    return (
        network.encoder1(x),
        network.encoder2(hidden[0]),
        network.encoder3(hidden[1]),
        network.encoder4(hidden[2]),
        hidden[3],
        network.encoder10(hidden[4]),
    )


def network_48() -> CoralBayNetwork:
    """CoralBay-48 with random weights of a fixed seed."""
    torch.manual_seed(SEED)
    return CoralBayNetwork(48).eval()


def encoder_of(name: str) -> Encoder:
    """The encoder by its name in the tables."""
    if name == "monai":
        return MonaiEncoder(network_48())
    if name in ("coralbay-mini", "astra"):
        return cb.load_encoder(name, device="cpu")
    return CoralBayEncoder(network_48(), "0" * 64, "random", setting=name)


def clocks(action: Callable[[], object], repeats: int) -> dict:
    """Median seconds by the clock and of processor time; with several runs, after a first one that is not counted."""
    if repeats > 1:
        action()
    wall, cpu = [], []
    for _ in range(repeats):
        begin, begin_cpu = time.perf_counter(), time.process_time()
        action()
        wall.append(time.perf_counter() - begin)
        cpu.append(time.process_time() - begin_cpu)
    return {"seconds": statistics.median(wall), "cpu_seconds": statistics.median(cpu)}


def window(repeats: int = 3) -> dict:
    """One 96^3 window: MONAI's modules, ours, and ours without the stride-1 level, which nothing reads."""
    network = network_48()
    x = torch.rand(1, 1, WINDOW, WINDOW, WINDOW, generator=torch.Generator().manual_seed(SEED))
    with torch.inference_mode():
        reference = stock(network, x)
        ours = network.forward_features(x)
        difference = max(float((a - b).abs().max()) for a, b in zip(reference, ours, strict=True))
        return {
            "difference": difference,
            "MONAI, all six levels": clocks(lambda: stock(network, x), repeats),
            "ours, all six levels": clocks(lambda: network.forward_features(x), repeats),
            "ours, the five that are read": clocks(lambda: network.forward_features(x, LEVEL_NAMES[1:]), repeats),
        }


def sample() -> tuple[Volume, Volume, dict[str, int]]:
    """The sample CT, its reference and the labels by name."""
    fetched = fetch_sample()
    return cb.read_volume(fetched.ct), cb.read_labelmap(fetched.labelmap), {n: k for k, n in fetched.names.items()}


def whole_sample(encoder: str) -> dict:
    """Embedding of the sample CT, and Dice with its features after strokes on three slices."""
    volume, reference, labels = sample()
    made = encoder_of(encoder)
    pyramids: list[FeaturePyramid] = []
    taken = clocks(lambda: pyramids.append(cb.embed(volume, made)), 1)
    size = "x".join(map(str, pyramids[0].grid.size))
    return taken | {"size": size, "dice": few_shot(pyramids[0], reference, labels)}


def few_shot(pyramid: FeaturePyramid, reference: Volume, labels: dict[str, int]) -> float:
    """Mean Dice of `FEW_SHOT` on the working grid after strokes on three slices, mean of three seeds."""
    working = resample(reference, pyramid.grid, "nearest")
    scores = []
    for seed in range(3):
        prompts = strokes(reference, labels, seed)
        result = cb.Segmenter(pyramid).fit(prompts).labelmap(pyramid.grid)
        scores += [dice(result.array == n, working.array == labels[name]) for n, name in enumerate(FEW_SHOT, 1)]
    return float(np.mean(scores))


def strokes(reference: Volume, labels: dict[str, int], seed: int) -> cb.Prompts:
    """Strokes in and around each structure on three slices; a stroke around one may lie in another."""
    prompts = cb.Prompts(np.empty((0, 3)), [])
    for number, name in enumerate(FEW_SHOT, 1):
        points, inside = Annotator(reference, labels[name], seed).strokes(3)
        found, told = reference.nearest_values(points), np.zeros(len(points), np.int64)
        for other, one in enumerate(FEW_SHOT, 1):
            told[found == labels[one]] = other
        prompts += cb.Prompts(points, np.where(inside, number, told))
    return prompts


def tissue(shape: tuple[int, int, int], spacing_mm: float | tuple[float, float, float]) -> Volume:
    """Noise in the range of soft tissue that fills a (K, J, I) box, without air that could be skipped."""
    random = np.random.default_rng(SEED)
    array = np.empty(shape, np.int16)
    for piece in array:
        piece[...] = random.integers(-20, 90, piece.shape, dtype=np.int16)
    return Volume(array, Grid(shape, np.diag([*np.broadcast_to(spacing_mm, 3), 1.0])))


def growth(encoder: str, side: int, spacing_mm: float) -> dict:
    """Embedding a cube of tissue."""
    volume, made = tissue((side,) * 3, spacing_mm), encoder_of(encoder)
    return clocks(lambda: cb.embed(volume, made), 1) | {"side": side}


def long_scan(encoder: str) -> dict:
    """A scan of 512 x 512 x 800 voxels of 0.8 x 0.8 x 1 mm: an ellipse of tissue in air, as long as a person's trunk and
    thighs; embedded, one structure segmented and applied on the scan's own grid."""
    volume = tissue((800, 512, 512), (0.8, 0.8, 1.0))
    j, i = (np.arange(512) - 255.5)[:, None] / 150, (np.arange(512) - 255.5) / 220
    volume.array[:, i**2 + j**2 > 1] = -1000
    pyramids: list[FeaturePyramid] = []
    made = encoder_of(encoder)
    taken = clocks(lambda: pyramids.append(cb.embed(volume, made)), 1)
    centre = volume.grid.center_ras
    prompts = cb.Prompts([centre, centre + [100.0, 0, 0]], [1, 0])
    cb.segment(volume, pyramids[0], prompts)
    return taken


def store(encoder: str) -> dict:
    """A pyramid on disk: size, reopening, and what rounding does to the few-shot result."""
    volume, reference, labels = sample()
    made = encoder_of(encoder)
    full = cb.embed(volume, made)
    rounded = replace(
        full,
        levels=tuple(
            replace(level, features=unpack(pack(level.features, support_mask(full.body, level.grid)), level.grid.shape))
            for level in full.levels
        ),
        stored_basis=full.basis,
        stored_similarity_basis=full.for_similarity.basis,
    )
    with tempfile.TemporaryDirectory() as folder:
        kept = cb.Store(folder)
        writing = clocks(lambda: kept.put(full), 3)
        reading = clocks(lambda: kept.get(full.key), 5)
        size = kept.nbytes()
    return {
        "raw_mb": volume.array.size * 2 / 1e6,
        "half_mb": full.nbytes() / 1e6,
        "stored_mb": size / 1e6,
        "writing": writing,
        "reading": reading,
        "dice_single": few_shot(in_single_precision(full, volume, made), reference, labels),
        "dice_half": few_shot(full, reference, labels),
        "dice_stored": few_shot(rounded, reference, labels),
    }


def in_single_precision(pyramid: FeaturePyramid, volume: Volume, encoder: Encoder) -> FeaturePyramid:
    """The same with the network's features in single precision; a pyramid in memory has half precision."""
    maps, _ = run_windows(prepare(volume, encoder.input), encoder, choose_levels(encoder, None))
    levels = []
    for level, found in zip(pyramid.levels, maps, strict=True):
        k, j, i = level.grid.shape
        levels.append(replace(level, features=found.permute(0, 3, 2, 1)[:, :k, :j, :i].contiguous()))
    return replace(pyramid, levels=tuple(levels), stored_basis=None, stored_similarity_basis=None)


def interaction_growth(points: int, structures: int) -> dict:
    """Fitting with so many points a structure, and all structures' probabilities, with CoralBay-mini's features."""
    volume, reference, labels = sample()
    pyramid = cb.embed(volume, encoder_of("coralbay-mini"))
    random = np.random.default_rng(SEED)
    prompts = cb.Prompts(np.empty((0, 3)), [])
    counts = np.bincount(reference.array.ravel())
    for number, label in enumerate(np.argsort(counts[1:])[::-1][:structures] + 1, 1):
        kji = np.argwhere(reference.array == label)
        chosen = kji[random.choice(len(kji), points, replace=len(kji) < points)]
        prompts += cb.Prompts(reference.grid.to_ras(chosen[:, ::-1]), np.full(points, number))
    kji = np.argwhere(reference.array == 0)
    chosen = kji[random.choice(len(kji), points * structures)]
    prompts += cb.Prompts(reference.grid.to_ras(chosen[:, ::-1]), np.zeros(len(chosen), np.int64))
    _ = evidence_of(pyramid).voxel_features
    fitted = cb.Probe().fit(pyramid, prompts)
    return {
        "fit": clocks(lambda: cb.Probe().fit(pyramid, prompts), 5),
        "draw": clocks(lambda: fitted.predict(pyramid), 5),
    }


CASES = {
    "window": window,
    "whole_sample": whole_sample,
    "growth": growth,
    "long_scan": long_scan,
    "store": store,
    "interaction_growth": interaction_growth,
}


def main() -> None:
    """Run one case."""
    options = json.loads(sys.argv[2]) if len(sys.argv) > 2 else {}
    result = CASES[sys.argv[1]](**options)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    threads = torch.get_num_threads()
    print(json.dumps(result | {"peak_gb": peak, "machine": machine(threads), "others_ran": others_ran(threads)}))


if __name__ == "__main__":
    main()
