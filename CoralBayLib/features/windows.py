"""Runs an encoder over a scan in windows that fit into memory."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from CoralBayLib.core.devices import available_bytes
from CoralBayLib.core.errors import MemoryLimitError, Remedy
from CoralBayLib.core.progress import CancelToken, Progress, raise_if_cancelled, report
from CoralBayLib.encoders.base import Axes, Encoder, LevelSpec

from .preprocessing import Prepared, padded_size, to_tensor

_MEMORY_SHARE = 0.8
"""Fraction of the free memory that may be used."""
_AIR = 0.05
"""Windows without a voxel above this scaled intensity (-900 HU for a range of -1000 to 1000 HU) hold only air."""


@dataclass(frozen=True)
class WindowPlan:
    """Division of a tensor into windows.

    Attributes:
        size: size of the padded tensor along R, A, S, in voxels.
        window: size of a window along R, A, S.
        starts: first voxel (R, A, S) of each window.
        batch: number of windows in one forward pass.
    """

    size: Axes
    window: Axes
    starts: tuple[Axes, ...]
    batch: int


def make_plan(prepared: Prepared, encoder: Encoder, names: tuple[str, ...]) -> WindowPlan:
    """Divide the padded tensor into windows that fit into memory.

    An encoder is moved to the CPU if one window does not fit into the memory of its GPU.

    Raises:
        MemoryLimitError: one window, or the results of all, do not fit into the memory of the CPU.
    """
    size = padded_size(prepared.image.grid, encoder.input, encoder.tiling.window)
    window = encoder.tiling.window or size
    axes = [_starts(n, w, s) for n, w, s in zip(size, window, encoder.tiling.step, strict=True)]
    starts = tuple((r, a, s) for r in axes[0] for a in axes[1] for s in axes[2])
    voxels = float(np.prod(size))
    # In the memory of the CPU, whatever the device: sums in single precision, and the result in half precision.
    result_bytes = sum(
        6 * spec.channels * voxels / float(np.prod(spec.stride)) for spec in encoder.levels if spec.name in names
    )
    need = encoder.memory_bytes(window, names)
    if encoder.device.type != "cpu" and need > available_bytes(encoder.device) * _MEMORY_SHARE:
        _move_to_cpu(encoder)
    free = available_bytes(encoder.device) * _MEMORY_SHARE
    on_cpu = encoder.device.type == "cpu"
    if result_bytes + (need if on_cpu else 0) > available_bytes(torch.device("cpu")) * _MEMORY_SHARE:
        raise MemoryLimitError(
            f"Embedding {size[0]}x{size[1]}x{size[2]} voxels needs about {(need + result_bytes) / 2**30:.1f} GB of memory, "
            f"{available_bytes(torch.device('cpu')) / 2**30:.1f} GB are free.",
            remedy=Remedy.FREE_MEMORY,
        )
    batch = 1 if on_cpu else max(1, min(8, int(free // max(need, 1)), len(starts)))
    return WindowPlan(size, window, starts, batch)


def run_windows(
    prepared: Prepared,
    encoder: Encoder,
    specs: Sequence[LevelSpec],
    progress: Progress | None = None,
    cancel: CancelToken | None = None,
) -> tuple[list[torch.Tensor], torch.Tensor | None]:
    """Run the encoder over all windows.

    Overlapping windows are averaged with weights that fall towards their edges, where the receptive field is cut off.

    Args:
        prepared: image and body mask on the encoder's grid.
        encoder: the network.
        specs: levels to compute.
        progress: called with the fraction done and a message.
        cancel: checked at every layer of the network.

    Returns:
        maps: (C, r, a, s) float32 of each level over the whole tensor.
        token: the scan token, or None if the encoder has none.

    Raises:
        MemoryLimitError: the computation does not fit into memory.
        Cancelled: `cancel` was called.
    """
    names = tuple(spec.name for spec in specs)
    plan = make_plan(prepared, encoder, names)
    tensor = to_tensor(prepared.image, encoder.input, plan.size)
    full = [tuple(n // s for n, s in zip(plan.size, spec.stride, strict=True)) for spec in specs]
    queue = [s for s in plan.starts if float(_cut(tensor, s, plan.window).max()) > _AIR]
    if encoder.scan_token is not None or (len(queue) == 1 and plan.window == plan.size):
        outputs = names if encoder.scan_token is None else (*names, encoder.scan_token)
        watch = _watch(encoder, cancel, progress, 0, 1, 1)
        with torch.inference_mode(), watch:
            maps = [m[0].float().cpu() for m in _forward(encoder, tensor, outputs, cancel)]
        return maps[: len(names)], maps[-1] if encoder.scan_token is not None else None
    sums = [torch.zeros(spec.channels, *shape) for spec, shape in zip(specs, full, strict=True)]
    weights = [torch.zeros(shape) for shape in full]
    done, batch = 0, plan.batch
    with torch.inference_mode():
        while done < len(queue):
            raise_if_cancelled(cancel)
            group = queue[done : done + batch]
            x = torch.cat([_cut(tensor, s, plan.window) for s in group])
            try:
                with _watch(encoder, cancel, progress, done, len(group), len(queue)):
                    maps = encoder.forward_features(x.to(encoder.device), names)
                    maps = [m.float().cpu() for m in maps]
            except torch.cuda.OutOfMemoryError:
                torch.cuda.empty_cache()
                if batch > 1:
                    batch //= 2
                else:
                    _move_to_cpu(encoder)
                continue
            for spec, total, weight, m in zip(specs, sums, weights, maps, strict=True):
                blend = _blend(m.shape[2:])
                for start, one in zip(group, m, strict=True):
                    at = tuple(slice(p // s, p // s + n) for p, s, n in zip(start, spec.stride, one.shape[1:], strict=True))
                    total[:, at[0], at[1], at[2]] += one * blend
                    weight[at] += blend
            done += len(group)
    return [total.div_(weight.clamp_min(1e-6)) for total, weight in zip(sums, weights, strict=True)], None


def _forward(encoder: Encoder, tensor: torch.Tensor, names: tuple[str, ...], cancel: CancelToken | None) -> list[torch.Tensor]:
    raise_if_cancelled(cancel)
    try:
        return encoder.forward_features(tensor.to(encoder.device), names)
    except torch.cuda.OutOfMemoryError:
        torch.cuda.empty_cache()
        _move_to_cpu(encoder)
        return encoder.forward_features(tensor, names)


def _move_to_cpu(encoder: Encoder) -> None:
    warnings.warn("The graphics card has too little free memory. The CPU is used instead, which is slower.", stacklevel=5)
    encoder.to(torch.device("cpu"))


@contextlib.contextmanager
def _watch(
    encoder: Encoder, cancel: CancelToken | None, progress: Progress | None, done: int, group: int, count: int
) -> Iterator[None]:
    """Check for cancellation and report progress at every layer, because one forward pass can take a minute."""
    leaves = [m for m in encoder.network.modules() if not list(m.children())]
    seen: set[torch.nn.Module] = set()  # a layer that runs several times counts once

    def before(module: torch.nn.Module, inputs: object) -> None:
        raise_if_cancelled(cancel)
        seen.add(module)
        message = f"Embedding, window {done + 1} of {count}" if count > 1 else "Embedding"
        report(progress, (done + group * len(seen) / len(leaves)) / count, message)

    hooks = [leaf.register_forward_pre_hook(before) for leaf in leaves]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _starts(size: int, window: int, step: int) -> list[int]:
    last = size - window
    return sorted({*range(0, last, step or window), last}) if last > 0 else [0]


def _cut(tensor: torch.Tensor, start: Axes, window: Axes) -> torch.Tensor:
    at = tuple(slice(p, p + n) for p, n in zip(start, window, strict=True))
    return tensor[:, :, at[0], at[1], at[2]]


def _blend(shape: Sequence[int]) -> torch.Tensor:
    weight = torch.ones(())
    for n in shape:
        ramp = torch.minimum(torch.arange(n) + 0.5, n - torch.arange(n) - 0.5)
        weight = weight[..., None] * ramp
    return weight
