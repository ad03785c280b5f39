"""How long a person waits, on the sample chest CT with its features ready.

Three sets of features: CoralBay-mini's and Astra's, computed from the CT; and noise of the shape that CoralBay's features
of the same scan have (48 channels, 1.5 mm), since how long a matrix product takes does not depend on what is in it.

Usage: python Testing/benchmarks/interaction.py [--repeats 9]
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch

import CoralBayLib as cb
from CoralBayLib.encoders.base import LevelSpec
from CoralBayLib.encoders.swin import CoralBayEncoder, CoralBayNetwork
from CoralBayLib.geometry import Grid, Volume, interpolate
from CoralBayLib.preprocessing import prepare
from CoralBayLib.pyramid import FeaturePyramid, Level
from CoralBayLib.sample import fetch_sample
from CoralBayLib.segmentation import labelmap_on
from CoralBayLib.simulate import Annotator

EIGHT = ("liver", "spleen", "kidney_left", "lung_lower_lobe_right", "aorta", "heart", "vertebrae_T8", "esophagus")


def timed(action: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Median and worst of some runs in seconds, after one that is not counted."""
    action()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        action()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds), max(seconds)


def coralbay_shaped(volume: Volume) -> FeaturePyramid:
    """Noise in the shape of CoralBay's features of a volume."""
    encoder = CoralBayEncoder(CoralBayNetwork(feature_size=48), "0" * 64, "noise")
    prepared = prepare(volume, encoder.input)
    generator = torch.Generator().manual_seed(0)
    grid = prepared.image.grid

    def level(spec: LevelSpec) -> Level:
        size = tuple(-(-n // s) for n, s in zip(grid.shape, reversed(spec.stride), strict=True))
        noise = torch.randn(spec.channels, *size, generator=generator).half()
        return Level(spec.name, grid.sub(spec.offset, spec.stride, size), noise)

    levels = tuple(level(spec) for spec in encoder.levels if not spec.optional)
    image = Volume(np.clip(np.round(prepared.image.array), -1024, 3071).astype(np.int16), grid)
    return FeaturePyramid(levels, image, prepared.body, {"encoder": "noise"}, volume.grid, key="noise")


def strokes(reference: Volume, names: dict[int, str], structures: tuple[str, ...]) -> cb.Prompts:
    """Strokes on three slices of each structure and around it."""
    labels = {name: label for label, name in names.items()}
    prompts = cb.Prompts(np.empty((0, 3)), [])
    for number, structure in enumerate(structures, 1):
        points, inside = Annotator(reference, labels[structure]).strokes(3)
        prompts += cb.Prompts(points, np.where(inside, number, 0))
    return prompts


def dense_peer(pyramid: FeaturePyramid, repeats: int) -> tuple[tuple[float, float], tuple[float, float], float]:
    """One linear map on a 48^3 box, ours and by interpolating and concatenating every channel first; their difference."""
    start = (np.array(pyramid.grid.size) - 48) // 2
    box: Grid = pyramid.grid.sub(start, 1, (48, 48, 48))
    weights = torch.randn(1, pyramid.channels, generator=torch.Generator().manual_seed(1)) / pyramid.channels**0.5

    def dense() -> torch.Tensor:
        channels = torch.cat([interpolate(level.features.float(), level.grid, box) for level in pyramid.levels])
        return torch.einsum("mc,ckji->mkji", weights, channels)

    difference = (dense() - pyramid.linear_map(weights, on=box)).abs().max().item()
    return timed(lambda: pyramid.linear_map(weights, on=box), repeats), timed(dense, max(1, repeats // 3)), difference


def measure(title: str, pyramid: FeaturePyramid, volume: Volume, reference: Volume, names: dict, repeats: int) -> None:
    """Print the rows of one set of features."""
    one, eight = strokes(reference, names, ("liver",)), strokes(reference, names, EIGHT)
    _ = pyramid.basis, pyramid.image_features, pyramid.for_similarity.whitened_norm
    fitted = cb.Probe().fit(pyramid, eight)
    query = cb.Query.sphere(Annotator(reference, 5).deepest(), 6.0)
    simmap = cb.similarity_map(pyramid, query)
    stroke = one.points_ras[:1] + [[0.0, 0, 0]]

    def update() -> None:
        more = one + cb.Prompts(stroke, [0])
        cb.Probe().fit(pyramid, more).predict(pyramid)

    print(f"\n{title}: working grid {'x'.join(map(str, pyramid.grid.size))}, {pyramid.nbytes() / 2**20:.0f} MB\n")
    print("| step | median s | worst s |")
    print("|---|---|---|")
    rows = {
        "fit one structure after a stroke": lambda: cb.Probe().fit(pyramid, one),
        "its probability over the whole volume": lambda: fitted.predict(pyramid, [1]),
        "both: whole-volume update after a stroke": update,
        "fit eight structures": lambda: cb.Probe().fit(pyramid, eight),
        "labels of eight structures on the source grid": lambda: labelmap_on(volume.grid, pyramid, fitted, eight),
        "similarity map for a query": lambda: cb.similarity_map(pyramid, query),
        "its ten best regions": lambda: cb.find_regions(simmap, 10),
    }
    for name, action in rows.items():
        median, worst = timed(action, repeats)
        print(f"| {name} | {median:.3f} | {worst:.3f} |", flush=True)
    ours, dense, difference = dense_peer(pyramid, repeats)
    print(f"| one linear map on a 48^3 box, at native stride | {ours[0]:.3f} | {ours[1]:.3f} |")
    print(f"| the same on concatenated channels (difference {difference:.1e}) | {dense[0]:.3f} | {dense[1]:.3f} |", flush=True)


def main() -> None:
    """Run and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=9)
    args = parser.parse_args()
    sample = fetch_sample()
    volume, reference = cb.read_volume(sample.ct), cb.read_labelmap(sample.labelmap)
    print(f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}, numpy {np.__version__}")
    print("Sample chest CT, " + "x".join(map(str, volume.grid.size)) + f" voxels; median and worst of {args.repeats} runs")
    store = cb.Store()
    for name in ("coralbay-mini", "astra"):
        encoder = cb.load_encoder(name, device="cpu")
        begin = time.perf_counter()
        cb.embed(volume, encoder, store=store)
        print(f"\n{name}: features ready after {time.perf_counter() - begin:.1f} s (computed, or found in the store)")
        begin = time.perf_counter()
        pyramid = cb.embed(volume, encoder, store=store)
        print(f"Reopened from the store in {time.perf_counter() - begin:.2f} s")
        measure(name, pyramid, volume, reference, sample.names, args.repeats)
    measure("CoralBay's shape", coralbay_shaped(volume), volume, reference, sample.names, args.repeats)


if __name__ == "__main__":
    main()
