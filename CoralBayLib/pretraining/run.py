"""From scans to weights: prepares the scans, begins or continues a training, and writes what it gives."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from CoralBayLib.core.errors import Cancelled, Remedy, TrainingError
from CoralBayLib.core.formatting import format_duration
from CoralBayLib.core.outputs import require_writable
from CoralBayLib.core.progress import Progress, report, seconds_left, subprogress
from CoralBayLib.core.requirements import PRETRAINING
from CoralBayLib.encoders.weights import Consent
from CoralBayLib.imaging.discovery import find_scans

from .loop import Running, Training
from .settings import Settings
from .state import Plan, StateFolder
from .views.scans import Preparation, prepare_all

if TYPE_CHECKING:
    import torch
    from lightning.fabric import Fabric

_PREPARING = 0.1
"""Part of the progress that preparing the scans is shown as."""


@dataclass(frozen=True)
class Devices:
    """Where to train.

    Attributes:
        device: "auto", "cpu" or "cuda".
        count: number of GPUs, or of processes on a CPU.
        precision: "auto" (bfloat16 where a GPU computes with it, otherwise 32 bits), "32" or "bf16".
        checkpointing: save memory by computing intermediate results twice.
    """

    device: str = "auto"
    count: int = 1
    precision: str = "auto"
    checkpointing: bool = False


@dataclass(frozen=True)
class Outcome:
    """What a training gave.

    Attributes:
        output: the weights file.
        state: folder with the state and the curves.
        done: number of steps done.
        steps: number of steps in all.
        scans: number of scans it was trained on.
    """

    output: Path
    state: Path
    done: int
    steps: int
    scans: int


def pretrain(
    scans: Sequence[str | os.PathLike],
    output: str | os.PathLike,
    settings: Settings,
    devices: Devices | None = None,
    running: Running | None = None,
    *,
    weights: str | Path | None = None,
    consent: Consent = None,
    assume_hu: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Outcome:
    """Train, or go on with the training whose state lies beside `output`.

    Args:
        scans: files, and folders to search; not looked at when a training goes on.
        output: the weights file to write, `.safetensors`. Its name without the suffix becomes the encoder's name; beside it
            are written two cards and a file that registers it, and the folder with the state.
        settings: what determines the result; the same as before when a training goes on.
        devices: where to train.
        running: how to train.
        weights: local file of the initial weights; not needed when a training goes on, but it must not be another one.
        consent: whether the initial weights may be downloaded.
        assume_hu: skip the check that the values of scans look like HU.
        overwrite: start again, and replace existing files.
        progress: called with the fraction done and a message that has the time left.
        say: takes notes for the user.

    Raises:
        TrainingError: Lightning is not installed, there is no usable scan, or the settings do not fit.
        Cancelled: it was asked to stop while it prepared scans.
        WeightsError: the initial weights were not found.
        EncoderError: the device cannot be used.
    """
    from .export import require_name
    from .network import initial_backbone

    devices, running = devices or Devices(), running or Running()
    path = require_writable(output, suffixes=(".safetensors",))
    require_lightning()
    if settings.batch % devices.count:
        raise TrainingError(f"A batch of {settings.batch} scans cannot be shared equally by {devices.count} devices.")
    device = _device(devices)
    folder, is_first = StateFolder(path), os.environ.get("LOCAL_RANK", "0") == "0"
    # Further processes are started by the first one, when it is ready.
    with folder.locked() if is_first else nullcontext():
        if is_first and (overwrite or not folder.has_plan):
            if not overwrite:
                folder.require_fresh()
            require_name(path, overwrite)
            # Preparing may take hours: what can be refused is refused before it.
            initial_backbone(settings, weights, consent)
            plan = _new_plan(scans, folder, settings, assume_hu, running, subprogress(progress, 0, _PREPARING), say)
            folder.clear()
            folder.write_plan(plan)
        elif is_first:
            plan = folder.plan_to_continue(settings)
            say(f"Going on with the {len(plan.scans)} scans in {folder.scans}. Other scans are not looked for.")
        plan = folder.plan_to_continue(settings)
        folder.require_scans(plan.scans)
        fabric = _launched(devices, device)
        done = _train(fabric, path, plan, folder, devices, running, weights, consent, progress)
    return Outcome(path, folder.path, done, settings.steps, len(plan.scans))


def require_lightning() -> None:
    """Refuse to train without Lightning.

    Raises:
        TrainingError: it is not installed.
    """
    try:
        import lightning.fabric  # noqa: F401
    except ImportError as error:
        raise TrainingError(
            "Training needs the package lightning.", remedy=Remedy.INSTALL_PACKAGE, package=PRETRAINING
        ) from error


def _new_plan(
    paths: Sequence[str | os.PathLike],
    folder: StateFolder,
    settings: Settings,
    assume_hu: bool,
    running: Running,
    progress: Progress | None,
    say: Callable[[str], None],
) -> Plan:
    """Prepare the scans.

    Raises:
        TrainingError: none can be used, or they cannot be written.
        Cancelled: it was asked to stop.
    """
    sources, skipped = find_scans(paths)
    left_out = [(each.path, each.reason) for each in skipped if each.is_fault]
    if not sources:
        _tell(left_out, say)
        raise TrainingError(
            f"There is no CT in {', '.join(map(str, paths))}. Choose a folder with NRRD, NIfTI, MHA or DICOM files."
        )
    least_mm = settings.local_size * settings.spacing_mm
    preparation = Preparation(folder.scans, settings.spacing_mm, least_mm, assume_hu)
    keys: list[str] = []
    for n, made in enumerate(prepare_all(sources, preparation, running.workers), start=1):
        if made.key and made.key not in keys:
            keys.append(made.key)
        elif made.failure:
            _tell(left_out, say)
            raise TrainingError(f"{made.failure} Scans that are prepared already are kept for the next time.")
        elif not made.key:
            left_out.append((made.path, made.reason))
        report(progress, n / len(sources), f"Preparing scans: {n} of {len(sources)}")
        if running.stop_requested():
            raise Cancelled("Stopped while preparing scans. Those that are prepared are kept for the next time.")
    _tell(left_out, say)
    if not keys:
        raise TrainingError(f"None of the {len(sources)} scans can be used. The reasons are listed above.")
    say(f"Prepared scans: {len(keys)}, in {folder.scans}.")
    return Plan(settings, tuple(keys), len(left_out))


def _tell(left_out: Sequence[tuple[str, str]], say: Callable[[str], None]) -> None:
    for path, reason in left_out:
        say(f"Left out: {path}: {reason}")


def _device(devices: Devices) -> torch.device:
    """The kind of device to train on.

    Raises:
        TrainingError: there are fewer GPUs than that.
        EncoderError: the device cannot be used.
    """
    import torch

    from CoralBayLib.core.devices import pick_device

    device = pick_device(devices.device)
    if device.type == "cuda" and devices.count > torch.cuda.device_count():
        raise TrainingError(f"This computer has {torch.cuda.device_count()} GPUs, not {devices.count}.")
    return device


def _launched(devices: Devices, device: torch.device) -> Fabric:
    """Lightning Fabric, with a process for each device."""
    import torch
    from lightning.fabric import Fabric

    is_bf16 = devices.precision == "bf16" or (
        devices.precision == "auto" and device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    )
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
    fabric = Fabric(
        accelerator=device.type,
        devices=devices.count if device.index is None else [device.index],
        strategy="ddp" if devices.count > 1 else "auto",
        precision="bf16-mixed" if is_bf16 else "32-true",
    )
    fabric.launch()
    return fabric


def _train(
    fabric: Fabric,
    path: Path,
    plan: Plan,
    folder: StateFolder,
    devices: Devices,
    running: Running,
    weights: str | Path | None,
    consent: Consent,
    progress: Progress | None,
) -> int:
    """Train; returns the number of steps done."""
    from .export import export
    from .network import Student, backbone_to_train

    backbone, origin = backbone_to_train(folder, plan.settings, weights, consent)
    backbone.checkpointing = devices.checkpointing
    shown = _Shown(plan.settings.steps, running, subprogress(progress, _PREPARING, 1))

    def save(teacher: Any, done: int) -> None:
        export(path, teacher, done, plan, training.origin)
        running.on_save(teacher, done)

    student = Student(backbone, plan.settings)
    training = Training(fabric, student, plan, folder, replace(running, on_step=shown, on_save=save), origin)
    training.run()
    return training.done


class _Shown:
    """Shows the progress with the time left."""

    def __init__(self, steps: int, running: Running, progress: Progress | None) -> None:
        self._steps, self._running, self._progress = steps, running, progress
        self._began: tuple[float, int] | None = None

    def __call__(self, done: int, loss: float) -> None:
        now = time.monotonic()
        if self._began is None:  # the first step includes starting up
            self._began = now, done
        left = seconds_left(now - self._began[0], done - self._began[1], self._steps - self._began[1])
        time_left = f", {format_duration(left)} left" if left else ""
        report(self._progress, done / self._steps, f"Step {done} of {self._steps}, loss {loss:.3f}{time_left}")
        self._running.on_step(done, loss)
