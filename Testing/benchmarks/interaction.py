"""Interaction times on the sample chest CT, whose features are ready.

Three sets of features are used: those of CoralBay-mini and Astra, computed from the CT, and noise in the shape of CoralBay's
features of the same scan (48 channels, 1.5 mm), since the time of a matrix product does not depend on its values.

Usage: python -m Testing.benchmarks.interaction [--repeats 9] [--tables [FOLDER]]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch

import CoralBayLib as cb
from CoralBayLib.demo.annotator import Annotator
from CoralBayLib.demo.sample import fetch_sample
from CoralBayLib.encoders.base import Encoder, LevelSpec
from CoralBayLib.encoders.coralbay import CoralBayEncoder, CoralBayNetwork
from CoralBayLib.features.preprocessing import on_working_grid, prepare
from CoralBayLib.features.pyramid import FeaturePyramid, Level
from CoralBayLib.fewshot.evidence import evidence_of
from CoralBayLib.imaging.grid import Grid, Volume
from CoralBayLib.imaging.resampling import interpolate

from .tables import summary
from .tables.sections import add_tables_option, machine, others_ran, put_section, table

FILE = "interaction.md"
EIGHT = ("liver", "spleen", "kidney_left", "lung_lower_lobe_right", "aorta", "heart", "vertebrae_T8", "esophagus")


def timed(action: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Median and longest of some runs in seconds, after a first run that is not counted."""
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
        return Level(spec.name, grid.subgrid(spec.offset, spec.stride, size), noise)

    levels = tuple(level(spec) for spec in encoder.levels if not spec.optional)
    working = on_working_grid(volume, prepared)
    image = Volume(np.clip(np.round(working.image.array), -1024, 3071).astype(np.int16), working.image.grid)
    return FeaturePyramid(levels, image, working.body, {"encoder": "noise"}, volume.grid, key="noise")


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
    box: Grid = pyramid.grid.subgrid(start, 1, (48, 48, 48))
    weights = torch.randn(1, pyramid.channels, generator=torch.Generator().manual_seed(1)) / pyramid.channels**0.5

    def dense() -> torch.Tensor:
        channels = torch.cat([interpolate(level.features.float(), level.grid, box) for level in pyramid.levels])
        return torch.einsum("mc,ckji->mkji", weights, channels)

    difference = (dense() - pyramid.linear_map(weights, on=box)).abs().max().item()
    return timed(lambda: pyramid.linear_map(weights, on=box), repeats), timed(dense, max(1, repeats // 3)), difference


def measure(
    title: str,
    pyramid: FeaturePyramid,
    volume: Volume,
    reference: Volume,
    names: dict,
    repeats: int,
    reopen: Callable[[], object] | None = None,
) -> str:
    """The table of one set of features."""
    one, eight = strokes(reference, names, ("liver",)), strokes(reference, names, EIGHT)
    _ = pyramid.basis, evidence_of(pyramid).voxel_features, pyramid.for_similarity.whitened_norm
    fitted = cb.Probe().fit(pyramid, eight)
    query = cb.Query.sphere(Annotator(reference, 5).deepest(), 6.0)
    simmap = cb.similarity_map(pyramid, query)
    body = np.argwhere(pyramid.body.array > 0)
    random = np.random.default_rng(0)

    def update() -> None:
        # A new place each time, so that no cached result is used.
        place = pyramid.grid.to_ras(body[random.choice(len(body), 1)][:, ::-1])
        cb.Probe().fit(pyramid, one + cb.Prompts(place, [0])).predict(pyramid)

    actions: dict[str, Callable[[], object]] = {} if reopen is None else {"reopening the scan's features": reopen}
    actions |= {
        "fit one structure after a stroke": lambda: cb.Probe().fit(pyramid, one),
        "its probability over the whole volume": lambda: fitted.predict(pyramid, [1]),
        "both: whole-volume update after a stroke": update,
        "the same for eight structures (the clicked one is computed first)": lambda: (
            cb.Probe().fit(pyramid, eight).predict(pyramid)
        ),
        "fit eight structures": lambda: cb.Probe().fit(pyramid, eight),
        "labels of eight structures on the source grid": lambda: cb.Segmenter(pyramid, fitted).fit(eight).labelmap(volume.grid),
        "similarity map for a query": lambda: cb.similarity_map(pyramid, query),
        "its ten best regions": lambda: cb.find_regions(simmap, 10),
    }
    taken = {name: timed(action, repeats) for name, action in actions.items()}
    ours, dense, difference = dense_peer(pyramid, repeats)
    taken["one linear map on a 48^3 box, at native stride"] = ours
    taken[f"the same on concatenated channels (difference {difference:.1e})"] = dense
    grid = "x".join(map(str, pyramid.grid.size))
    rows = [[name, f"{median:.3f}", f"{worst:.3f}"] for name, (median, worst) in taken.items()]
    return table([f"{title}: working grid {grid}, {pyramid.nbytes() / 2**20:.0f} MB", "median s", "worst s"], rows)


def main() -> None:
    """Measure, print, and write the section."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=9)
    add_tables_option(parser)
    args = parser.parse_args()
    sample = fetch_sample()
    volume, reference = cb.read_volume(sample.ct), cb.read_labelmap(sample.labelmap)
    threads, store, parts = torch.get_num_threads(), cb.Store(), []
    for name in ("coralbay-mini", "astra"):
        encoder = cb.load_encoder(name, device="cpu")
        pyramid = cb.embed(volume, encoder, store=store)

        def reopen(encoder: Encoder = encoder) -> FeaturePyramid:
            return cb.embed(volume, encoder, store=store)

        parts.append(measure(name, pyramid, volume, reference, sample.names, args.repeats, reopen))
        print(parts[-1], flush=True)
    noise = coralbay_shaped(volume)
    parts.append(measure("noise in CoralBay's shape", noise, volume, reference, sample.names, args.repeats))
    print(parts[-1])
    size = "x".join(map(str, volume.grid.size))
    words = f"Sample chest CT, {size} voxels, its features ready; median and worst of {args.repeats} runs."
    if others_ran(threads):
        words += " Other programs ran at the same time, so these are upper bounds."
    print(f"{machine(threads)} {words}")
    if args.tables:
        put_section(args.tables / FILE, "Interaction", "\n\n".join([f"{machine(threads)} {words}", *parts]))
        summary.renew(args.tables)


if __name__ == "__main__":
    main()
