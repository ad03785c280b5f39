"""The loss of DINO: the student's view of a place predicts the teacher's output for another view.

Formulas: Caron et al., DINO (arXiv 2104.14294), section 3.1 and `DINOLoss` of its code; Sinkhorn-Knopp normalization as in
SwAV (arXiv 2006.09882) and DINOv2 (arXiv 2304.07193), `sinkhorn_knopp_teacher` of its code.
"""

from __future__ import annotations

import torch
from torch import distributed, nn
from torch.nn import functional

_SINKHORN_ROUNDS = 3


class DinoLoss(nn.Module):
    """Cross-entropy between the sharpened, centered output of the teacher and the output of the student.

    Args:
        prototypes: K, length of the outputs.
        student_temperature: divides the student's logits.
        centering: "mean" subtracts a running mean of the teacher's logits; "sinkhorn" makes the prototypes equally
            frequent in a batch.
        center_momentum: of the running mean.

    Attributes:
        center: (1, K) running mean of the teacher's logits.
    """

    center: torch.Tensor

    def __init__(
        self, prototypes: int, student_temperature: float = 0.1, centering: str = "mean", center_momentum: float = 0.9
    ) -> None:
        super().__init__()
        self.student_temperature = student_temperature
        self.centering = centering
        self.center_momentum = center_momentum
        self.register_buffer("center", torch.zeros(1, prototypes))

    @torch.no_grad()
    def targets(self, teacher: torch.Tensor, temperature: float) -> torch.Tensor:
        """Probabilities from the teacher's logits, each (views, B, K) float32; the center is not changed."""
        if self.centering == "sinkhorn":
            return sinkhorn(teacher.flatten(0, 1), temperature).view_as(teacher)
        return functional.softmax((teacher - self.center) / temperature, dim=-1)

    def forward(self, student: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """The loss, averaged over scans and pairs of different views.

        Args:
            student: (V, B, K) logits of all views; the first are those of `targets`, in the same order.
            targets: (G, B, K) probabilities of the global views.
        """
        logs = functional.log_softmax(student.float() / self.student_temperature, dim=-1)
        views, global_views = len(student), len(targets)
        # Entry (g, v): cross-entropy of the teacher's view g and the student's view v, averaged over scans.
        pairs = -torch.einsum("gbk,vbk->gv", targets, logs) / student.shape[1]
        other = ~torch.eye(global_views, views, dtype=torch.bool, device=pairs.device)
        return pairs[other].mean()

    @torch.no_grad()
    def update_center(self, teacher: torch.Tensor) -> None:
        """Move the center towards the mean of the teacher's logits (views, B, K), over all devices."""
        if self.centering != "mean":
            return
        mean = teacher.flatten(0, 1).mean(dim=0, keepdim=True)
        self.center.mul_(self.center_momentum).add_(_mean_over_devices(mean), alpha=1 - self.center_momentum)


def sinkhorn(logits: torch.Tensor, temperature: float) -> torch.Tensor:
    """Probabilities (N, K) whose sums over all samples are equal for all prototypes, by Sinkhorn-Knopp iterations.

    Args:
        logits: (N, K) of this device; the sums are over all devices.
        temperature: divides the logits.
    """
    devices = distributed.get_world_size() if _several_devices() else 1
    scaled = logits.float() / temperature
    # A common factor of all entries has no effect, and without it the exponential may overflow.
    scores = torch.exp(scaled - _max_over_devices(scaled.max())).T
    samples, prototypes = scores.shape[1] * devices, scores.shape[0]
    scores = scores / _sum_over_devices(scores.sum())
    for _ in range(_SINKHORN_ROUNDS):
        scores = scores / _sum_over_devices(scores.sum(dim=1, keepdim=True)) / prototypes
        scores = scores / scores.sum(dim=0, keepdim=True) / samples
    return (scores * samples).T


def _several_devices() -> bool:
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1


def _sum_over_devices(value: torch.Tensor) -> torch.Tensor:
    if _several_devices():
        distributed.all_reduce(value)
    return value


def _max_over_devices(value: torch.Tensor) -> torch.Tensor:
    if _several_devices():
        distributed.all_reduce(value, op=distributed.ReduceOp.MAX)
    return value


def _mean_over_devices(value: torch.Tensor) -> torch.Tensor:
    return _sum_over_devices(value) / distributed.get_world_size() if _several_devices() else value
