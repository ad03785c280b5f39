"""Computes the feature pyramid of a CT: plans windows and memory, and runs the encoder over the windows."""

from __future__ import annotations

import contextlib
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from CoralBayLib.core.devices import available_bytes
from CoralBayLib.core.errors import MemoryLimitError, Remedy, ServerError, StoreError
from CoralBayLib.core.progress import CancelToken, Progress, raise_if_cancelled, report, subprogress
from CoralBayLib.encoders.base import Axes, DistantEncoder, Encoder, LevelSpec, is_distant
from CoralBayLib.imaging.grid import Volume
from CoralBayLib.imaging.hounsfield import check_ct

from .identity import choose_levels, identity, store_key
from .preprocessing import Prepared, on_working_grid, padded_size, prepare, to_level, to_tensor
from .pyramid import FeaturePyramid, Level
from .store import Store

FOUND_IN_STORE = "Found in the store"
"""Progress message when nothing had to be computed."""
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


def embed(
    volume: Volume,
    encoder: Encoder,
    progress: Progress | None = None,
    cancel: CancelToken | None = None,
    *,
    store: Store | None = None,
    levels: Sequence[str] | None = None,
    assume_hu: bool = False,
) -> FeaturePyramid:
    """Compute the features of a CT, or read them from the store.

    Args:
        volume: a CT in HU on any grid.
        encoder: from `load_encoder`, or one on a server from `RemoteEmbedder.encoder`.
        progress: called with the fraction done and a message.
        cancel: checked between the network's layers.
        store: where pyramids are read and written; None for neither.
        levels: names of the encoder's levels to compute; by default all except the optional ones.
        assume_hu: skip the check that the values are HU.

    Returns:
        The pyramid, with its whitening bases fitted.

    Raises:
        VolumeError: the volume is not a CT in HU.
        EncoderError: the encoder has no such level.
        MemoryLimitError: the computation does not fit into memory.
        ServerError: the encoder is on a server, which could not be reached or did not do the work.
        Cancelled: `cancel` was called; nothing is stored.
    """
    check_ct(volume, assume_hu=assume_hu)
    specs = choose_levels(encoder, levels)
    key = store_key(volume, encoder, levels)
    if store is not None:
        stored = store.get(key)
        if stored is not None:
            report(progress, 1.0, FOUND_IN_STORE)
            return stored
    raise_if_cancelled(cancel)
    if is_distant(encoder):
        return _fetch(volume, encoder, key, [spec.name for spec in specs], store, progress, cancel, assume_hu)
    pyramid = compute_pyramid(volume, encoder, specs, key, subprogress(progress, 0.0, 0.97), cancel)
    if store is not None:
        report(progress, 0.97, "Storing the features")
        try:
            store.put(pyramid)
            # The rounded features, so that this session has the same results as later ones.
            pyramid = store.get(key) or pyramid
        except StoreError as error:
            _warn_not_stored(error)
    report(progress, 1.0, "Embedded")
    return pyramid


def compute_pyramid(
    volume: Volume,
    encoder: Encoder,
    specs: Sequence[LevelSpec],
    key: str,
    progress: Progress | None = None,
    cancel: CancelToken | None = None,
) -> FeaturePyramid:
    """Compute the features of a CT on this computer; neither the CT is checked nor is the store used.

    Args:
        volume: a CT in HU on any grid.
        encoder: from `load_encoder`.
        specs: levels to compute, see `choose_levels`.
        key: of the pyramid, see `store_key`.
        progress: called with the fraction done and a message.
        cancel: checked between the network's layers.

    Returns:
        The pyramid, with its whitening bases fitted. Its features are not rounded as those in the store are.

    Raises:
        MemoryLimitError: the computation does not fit into memory.
        Cancelled: `cancel` was called.
    """
    report(progress, 0.0, "Preparing the CT")
    prepared = prepare(volume, encoder.input)
    maps, token = run_windows(prepared, encoder, specs, subprogress(progress, 0.05, 0.95), cancel)
    computed = tuple(to_level(m, spec, prepared.image.grid) for m, spec in zip(maps, specs, strict=True))
    working = on_working_grid(volume, prepared)
    pyramid = FeaturePyramid(
        levels=computed,
        image=Volume(np.clip(np.round(working.image.array), -1024, 3071).astype(np.int16), working.image.grid),
        body=working.body,
        identity=identity(encoder),
        source_grid=volume.grid,
        key=key,
        scan_embedding=token if token is not None else _pooled(computed, encoder),
    )
    raise_if_cancelled(cancel)
    report(progress, 0.96, "Whitening the features")
    # Fitted here, so that the first stroke and the first query do not wait for it.
    _ = pyramid.basis, pyramid.for_similarity.basis
    raise_if_cancelled(cancel)
    return pyramid


def _fetch(
    volume: Volume,
    encoder: DistantEncoder,
    key: str,
    levels: Sequence[str],
    store: Store | None,
    progress: Progress | None,
    cancel: CancelToken | None,
    assume_hu: bool,
) -> FeaturePyramid:
    """Have the pyramid computed elsewhere; it is read from the store, or from a temporary one if that cannot be written."""

    def received(target: Store) -> FeaturePyramid | None:
        with target.receive(key) as path:
            encoder.fetch(volume, key, levels, path, progress, cancel, assume_hu=assume_hu)
        return target.get(key)

    pyramid, is_stored = None, False
    if store is not None:
        try:
            pyramid, is_stored = received(store), True
        except StoreError as error:
            if "server" in error.details:  # the disk there, not this one
                raise
            _warn_not_stored(error)
    if not is_stored:
        with tempfile.TemporaryDirectory(prefix="coralbay-") as folder:
            pyramid = received(Store(folder))
    if pyramid is None or pyramid.identity != identity(encoder):
        raise ServerError("The features that the server sent are damaged, or are those of another encoder.")
    report(progress, 1.0, "Embedded")
    return pyramid


def _warn_not_stored(error: StoreError) -> None:
    warnings.warn(f"The features could not be stored for later sessions. {error}", stacklevel=3)


def _pooled(levels: Sequence[Level], encoder: Encoder) -> torch.Tensor | None:
    """(D,) concatenated averages of the pooled levels; None if one of them was not computed."""
    names = {spec.name for spec in encoder.levels if spec.pooled}
    pooled = [level.features.float().mean(dim=(1, 2, 3)) for level in levels if level.name in names]
    return torch.cat(pooled) if len(pooled) == len(names) else None


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
