"""What a device can do at most, measured on it: matrix multiplication and copying; and clocks and memory of a device."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

GB = 2**30


@dataclass(frozen=True)
class Peak:
    """What a device reaches.

    Attributes:
        flops: floating-point operations a second of a matrix multiplication, by precision.
        bytes_a_second: read and written by a copy within the device.
    """

    flops: dict[str, float]
    bytes_a_second: float


PRECISIONS = {"half": torch.float16, "single": torch.float32}
"""The type of numbers by its name in the tables. On a CPU, half is bfloat16."""


def dtype(precision: str, device: torch.device) -> torch.dtype:
    """The type of numbers of a precision on a device."""
    return torch.bfloat16 if precision == "half" and device.type == "cpu" else PRECISIONS[precision]


def wait(device: torch.device) -> None:
    """Wait until the device has done what it was asked."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds(action: Callable[[], object], device: torch.device, least: int = 3) -> float:
    """Median seconds of an action, after one that is not counted: `least` times; more than once, up to ten within a second."""
    action()
    wait(device)
    taken: list[float] = []
    while len(taken) < least or (least > 1 and len(taken) < 10 and sum(taken) < 1.0):
        begin = time.perf_counter()
        action()
        wait(device)
        taken.append(time.perf_counter() - begin)
    return statistics.median(taken)


def measured_peak(device: torch.device, side: int, megabytes: int, least: int = 3) -> Peak:
    """Measure what the device reaches.

    Args:
        device: to measure.
        side: of the square matrices.
        megabytes: size of the tensor that is copied.
        least: number of runs, see `seconds`.
    """
    flops = {}
    for precision in PRECISIONS:
        a, b = (torch.randn(side, side, device=device, dtype=dtype(precision, device)) for _ in range(2))
        flops[precision] = 2 * side**3 / seconds(lambda a=a, b=b: a @ b, device, least)
    source = torch.zeros(megabytes * 2**20, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return Peak(flops, 2 * len(source) / seconds(lambda: target.copy_(source), device, least))


def reset_peak(device: torch.device) -> None:
    """Forget the peak of the memory in use."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def peak_gb(device: torch.device) -> float | None:
    """Peak of the memory that tensors took on the device since `reset_peak`; None on a CPU."""
    return torch.cuda.max_memory_allocated(device) / GB if device.type == "cuda" else None


def described(device: torch.device) -> str:
    """The device and its memory."""
    if device.type != "cuda":
        return f"CPU, {torch.get_num_threads()} threads"
    card = torch.cuda.get_device_properties(device)
    return f"{card.name}, {card.total_memory / GB:.0f} GB, CUDA {torch.version.cuda}"
