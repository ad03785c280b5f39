"""Values that change during training. Imports no torch.

Formulas: Caron et al., DINO (arXiv 2104.14294) and its code (`utils.cosine_scheduler`, `DINOLoss.teacher_temp_schedule`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from .settings import Settings


@dataclass(frozen=True)
class Scheduled:
    """The values at one step.

    Attributes:
        lr: learning rate.
        weight_decay: weight decay.
        momentum: of the teacher.
        temperature: of the teacher.
        prototypes_fixed: whether the prototypes stay as they are.
    """

    lr: float
    weight_decay: float
    momentum: float
    temperature: float
    prototypes_fixed: bool


def scheduled(settings: Settings, step: int) -> Scheduled:
    """The values at a step, from 0 to `settings.steps` - 1."""
    steps = settings.steps
    return Scheduled(
        lr=cosine(settings.peak_lr, settings.min_lr, steps, step, warmup=round(settings.lr_warmup * steps)),
        weight_decay=cosine(*settings.weight_decay, steps, step),
        momentum=cosine(settings.teacher_momentum, 1.0, steps, step),
        temperature=ramp(*settings.teacher_temperature, round(settings.temperature_warmup * steps), step),
        prototypes_fixed=step < round(settings.freeze_prototypes * steps),
    )


def cosine(first: float, last: float, steps: int, step: int, warmup: int = 0) -> float:
    """Half a cosine from `first` at the end of the warm-up towards `last` at `steps`; a line from 0 during the warm-up.

    Args:
        first: value after the warm-up.
        last: value that is approached.
        steps: number of steps.
        step: from 0.
        warmup: number of steps of the warm-up; it ends with `first`.
    """
    if step < warmup:
        return first * step / max(1, warmup - 1) if warmup > 1 else first
    return last + 0.5 * (first - last) * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def ramp(first: float, last: float, length: int, step: int) -> float:
    """A line from `first` at step 0 to `last` at step `length` - 1, then `last`."""
    if step >= length - 1:
        return last
    return first + (last - first) * step / (length - 1)
