"""What determines the result of a training. Imports no torch."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Any

from CoralBayLib.core.errors import TrainingError

INITS = ("coralbay-mini", "coralbay", "random")
FORMS = ("coralbay-mini", "coralbay")
CENTERINGS = ("mean", "sinkhorn")

_WIDTHS = {"coralbay-mini": 24, "coralbay": 48}
_STEP = 8
"""Sides of crops are multiples of this. Sides of 40, 56, 96 and 112 fit the windows of attention with little padding."""
_LEAST_SIDE = 40
"""Crops of 32 voxels have one voxel at the deepest level, which instance normalization cannot use."""


@dataclass(frozen=True)
class Settings:
    """What determines the result of a training, together with the scans and the initial weights.

    Attributes:
        init: weights to begin with, one of `INITS`.
        form: the encoder whose form the result has, one of `FORMS`: its voxel spacing and its levels.
        feature_size: channels of the network's first level, for random initial weights; a multiple of 12.
        steps: number of updates of the weights.
        batch: crops of how many scans a step takes, on all devices together.
        global_size: side of the two large crops, in voxels.
        local_size: side of the small crops, in voxels.
        local_crops: number of small crops.
        prototypes: outputs of the projection head.
        hidden: width of the projection head.
        bottleneck: length of the vector before the prototypes.
        lr: highest learning rate; None for 0.004 * sqrt(batch / 1024), as DINOv2 (arXiv 2304.07193).
        lr_warmup: part of the steps in which the learning rate rises.
        min_lr: learning rate of the last step.
        weight_decay: weight decay of the first and the last step.
        clip: largest norm of the gradient.
        teacher_momentum: momentum of the teacher at the first step; it rises to 1.
        teacher_temperature: at the first step, and after the warm-up.
        temperature_warmup: part of the steps in which the teacher's temperature rises.
        student_temperature: of the student.
        centering: "mean" (DINO) or "sinkhorn" (DINOv2).
        freeze_prototypes: part of the steps, at the beginning, in which the prototypes do not change.
        seed: of the initial weights and of the crops.

    Raises:
        TrainingError: a value cannot be used.
    """

    init: str = "coralbay-mini"
    form: str = "coralbay-mini"
    feature_size: int = 24
    steps: int = 10_000
    batch: int = 8
    global_size: int = 96
    local_size: int = 40
    local_crops: int = 6
    prototypes: int = 8192
    hidden: int = 2048
    bottleneck: int = 256
    lr: float | None = None
    lr_warmup: float = 0.1
    min_lr: float = 1e-6
    weight_decay: tuple[float, float] = (0.04, 0.4)
    clip: float = 3.0
    teacher_momentum: float = 0.996
    teacher_temperature: tuple[float, float] = (0.04, 0.04)
    temperature_warmup: float = 0.3
    student_temperature: float = 0.1
    centering: str = "mean"
    freeze_prototypes: float = 0.01
    seed: int = 0

    def __post_init__(self) -> None:
        for name, allowed in (("init", INITS), ("form", FORMS), ("centering", CENTERINGS)):
            if getattr(self, name) not in allowed:
                raise TrainingError(f"Expected {name} to be one of {', '.join(allowed)}, got '{getattr(self, name)}'.")
        for name in ("steps", "batch", "local_crops", "prototypes", "hidden", "bottleneck"):
            if getattr(self, name) < 1:
                raise TrainingError(f"Expected {name} to be 1 or more, got {getattr(self, name)}.")
        for name in ("global_size", "local_size"):
            side = getattr(self, name)
            if side % _STEP or side < _LEAST_SIDE:
                raise TrainingError(f"Expected {name} to be a multiple of {_STEP} and {_LEAST_SIDE} or more, got {side}.")
        if self.local_size > self.global_size:
            raise TrainingError("Expected local crops that are not larger than the global ones.")
        if self.feature_size < 12 or self.feature_size % 12:
            raise TrainingError(f"Expected a feature size that is a multiple of 12, got {self.feature_size}.")
        if self.init != "random" and self.form != self.init:
            raise TrainingError(f"Weights of {self.init} can only be trained in the form of {self.init}.")
        if self.seed < 0:
            raise TrainingError(f"Expected a seed of 0 or more, got {self.seed}.")
        if not 0 < self.teacher_momentum <= 1:
            raise TrainingError(f"Expected a teacher momentum between 0 and 1, got {self.teacher_momentum}.")
        if not 0 < self.teacher_temperature[0] <= self.teacher_temperature[1] < self.student_temperature:
            raise TrainingError(
                f"Expected a teacher temperature above 0 and below that of the student, {self.student_temperature}, "
                f"got {self.teacher_temperature[1]}."
            )
        if self.lr is not None and not 0 < self.lr < math.inf:
            raise TrainingError(f"Expected a learning rate above 0, got {self.lr}.")

    @property
    def spacing_mm(self) -> float:
        """Voxel spacing of the form, mm."""
        return 1.5 if self.form == "coralbay" else 3.0

    @property
    def peak_lr(self) -> float:
        """The highest learning rate."""
        return self.lr if self.lr is not None else 0.004 * math.sqrt(self.batch / 1024)

    def as_dict(self) -> dict[str, Any]:
        """All fields, ready for JSON."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Settings:
        """The settings that `as_dict` returned.

        Raises:
            TrainingError: fields are missing, unknown, or cannot be used.
        """
        names = {field.name for field in fields(cls)}
        if set(content) != names:
            raise TrainingError("The settings of the training were written by another version of CoralBay.")
        values: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in content.items()}
        return cls(**values)


def default_feature_size(form: str) -> int:
    """Channels of the first level in the published weights of a form."""
    return _WIDTHS[form]
