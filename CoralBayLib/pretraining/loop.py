"""The training itself, on one or several devices, by Lightning Fabric.

Everything that the next step depends on is in the check-point, and the crops of a step depend on its number only. So a
training that was ended at any moment and continued has the same result as one without an interruption.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from CoralBayLib.core.errors import TrainingError
from CoralBayLib.core.paths import atomic_write

from .curves import Curves
from .loss import DinoLoss
from .monitor import CollapseMonitor
from .network import Student, follow, make_teacher, parameter_groups
from .schedules import Scheduled, scheduled
from .signals import leave_signals_to_parent
from .state import Plan, StateFolder, damaged_state
from .views.dataset import Batches, ViewDataset

if TYPE_CHECKING:
    from lightning.fabric import Fabric


_EXAMPLES = 16
"""Examples by which embeddings are standardized."""


@dataclass(frozen=True)
class Running:
    """How a training is run; none of it changes the result.

    Attributes:
        workers: processes that make crops, for each device.
        save_every_s: time between check-points, in seconds.
        stop_after_s: stop after this time, in seconds; None for never.
        stop_requested: asked after every step.
        on_step: called with the number of steps done, and the loss.
        on_warning: called with a warning about the training.
        on_save: called with the teacher and the number of steps done, on one device, when a check-point was written.
    """

    workers: int = 0
    save_every_s: float = 600.0
    stop_after_s: float | None = None
    stop_requested: Callable[[], bool] = lambda: False
    on_step: Callable[[int, float], None] = lambda done, loss: None
    on_warning: Callable[[str], None] = lambda text: None
    on_save: Callable[[Student, int], None] = lambda teacher, done: None


class Training:
    """Student, teacher, loss and optimizer.

    Args:
        fabric: of Lightning, launched.
        student: not trained yet; moved to the device.
        plan: what to do.
        folder: where the state is.
        running: how to do it.
        origin: where the initial weights come from; when a training goes on, that of its beginning replaces it.

    Attributes:
        teacher: the network whose weights are the result.
        done: number of steps done.
        origin: where the initial weights come from.
    """

    def __init__(
        self, fabric: Fabric, student: Student, plan: Plan, folder: StateFolder, running: Running, origin: str = ""
    ) -> None:
        self._fabric, self._plan, self._folder, self._running = fabric, plan, folder, running
        self.origin = origin
        settings = plan.settings
        self.teacher: Student = make_teacher(student).to(fabric.device)
        # Its groups are changed here: those of Fabric's wrapper are others after a check-point was loaded.
        self._inner = torch.optim.AdamW(parameter_groups(student), lr=settings.peak_lr)
        self._wrapped, self._optimizer = fabric.setup(student, self._inner)
        self._student = student
        self._loss = DinoLoss(settings.prototypes, settings.student_temperature, settings.centering).to(fabric.device)
        self._monitor = CollapseMonitor(quiet_steps=round(settings.lr_warmup * settings.steps))
        self.done = 0

    def run(self) -> bool:
        """Train until the last step, or until asked to stop; tells whether the last step is done.

        Raises:
            TrainingError: the check-point is damaged, or the loss or its gradient is not finite.
        """
        if self._folder.checkpoint.is_file():
            self._load()
        else:
            self._standardize()
        settings = self._plan.settings
        first = self._fabric.is_global_zero
        if self.done >= settings.steps:
            if first:  # it may have been ended between writing the state and the weights
                self._running.on_save(self.teacher, self.done)
            return True
        curves = Curves(self._folder.curves, self.done, self._folder.tensorboard) if first else None
        began = saved = time.monotonic()
        try:
            for batch in self._batches():
                values, warning = self._step(batch, scheduled(settings, self.done))
                self.done += 1
                if curves is not None:
                    curves.add(values)
                if first:
                    self._running.on_step(self.done, values["loss"])
                    if warning:
                        self._running.on_warning(warning)
                now, limit = time.monotonic(), self._running.stop_after_s
                stop = self._running.stop_requested() or (limit is not None and now - began >= limit)
                stop, save = self._agreed(stop, now - saved >= self._running.save_every_s)
                if save or stop or self.done == settings.steps:
                    self._save()
                    saved = time.monotonic()
                if stop:
                    break
        finally:
            if curves is not None:
                curves.close()
        return self.done >= settings.steps

    @torch.no_grad()
    def _standardize(self) -> None:
        """Standardize the embeddings by the global crops of the first examples, the same ones on every device."""
        dataset = ViewDataset(self._folder.scans, self._plan.scans, self._plan.settings)
        with self._fabric.autocast():
            found = [self.teacher.embed(dataset[n][0].to(self._fabric.device)) for n in range(min(_EXAMPLES, len(dataset)))]
        for network in (self.teacher, self._student):
            network.head.standardize(torch.cat(found))

    def _batches(self) -> Iterator[list[torch.Tensor]]:
        from torch.utils.data import DataLoader

        fabric, workers = self._fabric, self._running.workers
        dataset: Any = ViewDataset(self._folder.scans, self._plan.scans, self._plan.settings)
        loader: Any = DataLoader(
            dataset,
            batch_sampler=Batches(self._plan.settings, self.done, fabric.global_rank, fabric.world_size),
            num_workers=workers,
            pin_memory=fabric.device.type == "cuda",
            worker_init_fn=leave_signals_to_parent,
        )
        for batch in loader:
            yield [views.to(fabric.device, non_blocking=True) for views in batch]

    def _step(self, views: list[torch.Tensor], now: Scheduled) -> tuple[dict[str, float], str]:
        """One update of student and teacher; returns the values of the curves, and a warning or ""."""
        for group in self._inner.param_groups:
            group["lr"] = now.lr
            if group["decayed"]:
                group["weight_decay"] = now.weight_decay
        with torch.no_grad(), self._fabric.autocast():
            vectors = self.teacher.project(views[:1])
        logits = self.teacher.head.classify(vectors.float())
        targets = self._loss.targets(logits, now.temperature)
        loss = self._loss(self._wrapped(views), targets)
        self._fabric.backward(loss)
        if now.prototypes_fixed:
            self._student.head.prototypes.grad = None
        norm = self._fabric.clip_gradients(
            self._wrapped, self._optimizer, max_norm=self._plan.settings.clip, error_if_nonfinite=False
        )
        mean: Any = self._fabric.all_reduce(loss.detach().clone(), reduce_op="mean")
        shown, length = float(mean), float(norm) if norm is not None else 0.0
        # Before the weights change, so that no check-point holds what is not a number.
        if not (math.isfinite(shown) and math.isfinite(length)):
            raise TrainingError(
                f"The loss of step {self.done + 1}, or its gradient, is not a finite number. Weights and state that were "
                "written before are kept. Begin again with a lower learning rate, or with 32 bits instead of mixed precision."
            )
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self._loss.update_center(logits)
        follow(self.teacher, self._student, now.momentum)
        health, warning = self._monitor.add(self.done, self._gathered(vectors), self._gathered(targets))
        values = {"step": self.done + 1, "loss": shown, "gradient": length}
        values |= {"entropy": health.entropy, "spread": health.spread, "used": health.used, "lr": now.lr}
        values |= {"weight_decay": now.weight_decay, "momentum": now.momentum, "temperature": now.temperature}
        return values, warning

    def _gathered(self, values: torch.Tensor) -> torch.Tensor:
        """(views, B, n) of each device to (all, n)."""
        if self._fabric.world_size == 1:
            return values.flatten(0, 1)
        parts = [torch.empty_like(values) for _ in range(self._fabric.world_size)]
        torch.distributed.all_gather(parts, values.contiguous())
        return torch.cat(parts).flatten(0, 1)

    def _agreed(self, stop: bool, save: bool) -> tuple[bool, bool]:
        """Whether any device was asked to stop, and whether the first one wants to save, so that all do the same."""
        if self._fabric.world_size == 1:
            return stop, save
        wishes = torch.tensor([float(stop), float(save and self._fabric.is_global_zero)], device=self._fabric.device)
        agreed: Any = self._fabric.all_reduce(wishes, reduce_op="sum")
        return bool(agreed[0] > 0), bool(agreed[1] > 0)

    def _state(self) -> dict[str, Any]:
        return {
            "student": self._wrapped,
            "teacher": self.teacher,
            "optimizer": self._optimizer,
            "loss": self._loss,
            "monitor": self._monitor.state(),
            "done": self.done,
            "origin": self.origin,
        }

    def _save(self) -> None:
        path, is_first = self._folder.checkpoint, self._fabric.is_global_zero
        with atomic_write(path) if is_first else nullcontext(path) as temporary:
            self._fabric.save(temporary, self._state())
        if is_first:
            self._running.on_save(self.teacher, self.done)

    def _load(self) -> None:
        state = self._state()
        try:
            self._fabric.load(self._folder.checkpoint, state, weights_only=True)
        except Exception as error:  # torch documents no error types, and damaged files raise many
            raise damaged_state(self._folder.checkpoint) from error
        self._monitor.restore(state["monitor"])
        self.done, self.origin = int(state["done"]), str(state["origin"])
        self.teacher.backbone.clear_cache()
