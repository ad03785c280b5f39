"""What is measured of one encoder on a device."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

import CoralBayLib as cb
from CoralBayLib.encoders.base import Axes, Encoder
from CoralBayLib.features.identity import choose_levels
from CoralBayLib.features.preprocessing import padded_size, prepare
from CoralBayLib.imaging.grid import Volume

from .card import GB, dtype, peak_gb, reset_peak, seconds, wait


@dataclass(frozen=True)
class Pass:
    """Passes of a batch through an encoder.

    Attributes:
        volumes_a_second: of the batch's volumes.
        peak_gb: of the device's memory, weights included; None on a CPU.
    """

    volumes_a_second: float
    peak_gb: float | None


@dataclass(frozen=True)
class Work:
    """What one volume costs.

    Attributes:
        flops: floating-point operations of convolutions, matrix multiplications and attention, 2 for a multiply-add.
        bytes: read and written by all operations, as if none was kept in the device's caches.
    """

    flops: float
    bytes: float


@dataclass(frozen=True)
class Agreement:
    """Features of the device beside those of the CPU in single precision.

    Attributes:
        difference: largest absolute difference of a feature, by the standard deviation of its level.
        cosine: smallest cosine between the vectors of one place.
    """

    difference: float
    cosine: float


def names_of(encoder: Encoder) -> tuple[str, ...]:
    """The levels that are computed by default."""
    return tuple(spec.name for spec in choose_levels(encoder, None))


def window_size(encoder: Encoder, side: int) -> Axes:
    """A cube of this side, or the next larger size that the encoder takes or pads its input to."""
    if encoder.input.fit is not None:
        return encoder.input.fit
    side = max(side, int(getattr(encoder.network, "side", 0)))
    sizes = (max(-(-side // m) * m, least) for m, least in zip(encoder.input.multiple, encoder.input.minimum, strict=True))
    return tuple(sizes)  # type: ignore[return-value]


def whole_size(encoder: Encoder, volume: Volume) -> Axes:
    """The size of a scan at the encoder's spacing."""
    return padded_size(prepare(volume, encoder.input).image.grid, encoder.input, None)


def example(size: Axes, batch: int, device: torch.device) -> torch.Tensor:
    """(B, 1, R, A, S) of random numbers in [0, 1]."""
    return torch.rand(batch, 1, *size, generator=torch.Generator().manual_seed(0)).to(device)


def forward(encoder: Encoder, x: torch.Tensor, precision: str) -> list[torch.Tensor]:
    """All levels that are computed by default; half precision by autocast."""
    if precision == "single":
        return encoder.forward_features(x, names_of(encoder))
    with torch.autocast(x.device.type, dtype(precision, x.device)):
        return encoder.forward_features(x, names_of(encoder))


def passes(encoder: Encoder, size: Axes, batch: int, precision: str, device: torch.device, least: int = 3) -> Pass | None:
    """Speed and memory of a batch; None if it does not fit into the device's memory."""
    reset_peak(device)
    try:
        x = example(size, batch, device)
        taken = seconds(lambda: forward(encoder, x, precision), device, least)
    except torch.cuda.OutOfMemoryError:
        torch.cuda.empty_cache()
        return None
    return Pass(batch / taken, peak_gb(device))


class _Traffic(TorchDispatchMode):
    """Counts the bytes that operations read and write, each tensor once for every operation."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if not func.is_view:
            leaves = tree_leaves((args, kwargs, out))
            self.bytes += sum(each.numel() * each.element_size() for each in leaves if isinstance(each, torch.Tensor))
        return out


def work(encoder: Encoder, size: Axes, precision: str, device: torch.device) -> Work:
    """What one volume costs, counted during a pass."""
    x, traffic, counter = example(size, 1, device), _Traffic(), FlopCounterMode(display=False)
    with counter:
        forward(encoder, x, precision)
    with traffic:
        forward(encoder, x, precision)
    return Work(counter.get_total_flops(), traffic.bytes)


def agreements(encoder: Encoder, size: Axes, device: torch.device) -> dict[str, Agreement]:
    """Agreement of the device with the CPU, by precision, on one window."""
    cpu = torch.device("cpu")
    x = example(size, 1, cpu)
    encoder.to(cpu)
    reference = forward(encoder, x, "single")
    encoder.to(device)
    found = {}
    for precision in ("single", "half"):
        worst, cosine = 0.0, 1.0
        for ours, theirs in zip(forward(encoder, x.to(device), precision), reference, strict=True):
            ours = ours.float().cpu()
            worst = max(worst, float((ours - theirs).abs().max() / theirs.std().clamp_min(1e-12)))
            cosine = min(cosine, float(torch.nn.functional.cosine_similarity(ours, theirs, dim=1).min()))
        found[precision] = Agreement(worst, cosine)
    return found


def end_to_end(encoder: Encoder, volume: Volume, device: torch.device, runs: int) -> tuple[float, float]:
    """Median seconds to prepare a scan, and from a scan in memory to its features, whitening included.

    With several runs, a first one is not counted.
    """
    whole, preparing = [], []
    for _ in range(runs + (runs > 1)):
        begin = time.perf_counter()
        prepare(volume, encoder.input)
        preparing.append(time.perf_counter() - begin)
        begin = time.perf_counter()
        cb.embed(volume, encoder)
        wait(device)
        whole.append(time.perf_counter() - begin)
    return statistics.median(preparing[-runs:]), statistics.median(whole[-runs:])


def limit_memory(device: torch.device, gb: float) -> None:
    """Let this process take so much of the device's memory, as on a smaller card."""
    if device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, gb * GB / total), device)
