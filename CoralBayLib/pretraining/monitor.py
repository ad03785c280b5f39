"""Warns early when the training collapses: when the teacher says the same of every crop.

Measures: the entropy of the teacher's output (DINO, arXiv 2104.14294, section 5.3: collapse makes it 0 or the largest), the
spread of the vectors before the prototypes (SimSiam, arXiv 2011.10566, section 4.1: 0 when all are equal), and how many
prototypes are in use.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

WINDOW = 256
"""Outputs of the teacher over which spread and use are computed."""

LEAST_OUTPUTS = 16
"""With fewer outputs nothing is said."""

PATIENCE = 20
"""Steps for which a measure must be bad before it is told."""

LEAST_SPREAD = 0.02
MOST_ENTROPY = 0.995
LEAST_USED = 1.5


@dataclass(frozen=True)
class Health:
    """How far the teacher is from collapse.

    Attributes:
        entropy: mean entropy of its outputs, as a part of the largest; 1 when all prototypes are equally likely.
        spread: standard deviation of its unit vectors; 1 when they are everywhere on the sphere, 0 when all are equal.
        used: number of prototypes in use, the exponential of the entropy of the mean output.
    """

    entropy: float
    spread: float
    used: float


class CollapseMonitor:
    """Collects the outputs of the teacher.

    Args:
        quiet_steps: steps at the beginning in which nothing is said, because an untrained network has little spread.
    """

    def __init__(self, quiet_steps: int = 0) -> None:
        self._quiet_steps = quiet_steps
        self._vectors = torch.empty(0)
        self._outputs = torch.empty(0)
        self._bad_steps: dict[str, int] = {}

    def add(self, step: int, vectors: torch.Tensor, outputs: torch.Tensor) -> tuple[Health, str]:
        """Take the outputs of one step.

        Args:
            step: from 0.
            vectors: (N, bottleneck) unit vectors.
            outputs: (N, prototypes) probabilities.

        Returns:
            The state, and a warning for the user; "" when there is none, or when it was given before.
        """
        vectors, outputs = vectors.float().cpu(), outputs.float().cpu()
        self._vectors = torch.cat([self._vectors.view(-1, vectors.shape[1]), vectors])[-WINDOW:]
        self._outputs = torch.cat([self._outputs.view(-1, outputs.shape[1]), outputs])[-WINDOW:]
        health = Health(
            entropy=float(_entropy(outputs).mean()) / math.log(outputs.shape[1]),
            spread=float(self._vectors.std(dim=0, correction=0).mean()) * math.sqrt(vectors.shape[1]),
            used=float(_entropy(self._outputs.mean(dim=0)).exp()),
        )
        return health, self._warning(step, health)

    def state(self) -> dict[str, torch.Tensor | dict[str, int]]:
        """What must be kept to go on as without an interruption."""
        return {"vectors": self._vectors, "outputs": self._outputs, "bad_steps": dict(self._bad_steps)}

    def restore(self, state: dict) -> None:
        """Take back what `state` returned."""
        self._vectors, self._outputs = state["vectors"], state["outputs"]
        self._bad_steps = dict(state["bad_steps"])

    def _warning(self, step: int, health: Health) -> str:
        if step < self._quiet_steps or len(self._vectors) < LEAST_OUTPUTS:
            return ""
        problems = {
            "spread": (health.spread < LEAST_SPREAD, f"all crops get nearly the same vector (spread {health.spread:.4f})"),
            "entropy": (
                health.entropy > MOST_ENTROPY,
                f"all prototypes are equally likely ({health.entropy:.3f})",
            ),
            "used": (health.used < LEAST_USED, f"all crops get the same prototype ({health.used:.2f} in use)"),
        }
        found = []
        for name, (bad, words) in problems.items():
            self._bad_steps[name] = self._bad_steps.get(name, 0) + 1 if bad else 0
            if self._bad_steps[name] == PATIENCE:
                found.append(words)
        if not found:
            return ""
        return (
            f"The training may be collapsing at step {step + 1}: {'; '.join(found)}. If the curves do not recover, begin again "
            "with a slower teacher (momentum nearer to 1), a lower learning rate, a larger batch, or more scans."
        )


def _entropy(probabilities: torch.Tensor) -> torch.Tensor:
    return -torch.xlogy(probabilities, probabilities).sum(dim=-1)
