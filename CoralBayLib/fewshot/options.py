"""Options of segmentation. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

from CoralBayLib.core.errors import VolumeError


def require_threshold(threshold: float) -> None:
    """Check a probability from which a voxel belongs to a structure.

    Raises:
        VolumeError: it is not between 0 and 1.
    """
    if not 0 < threshold < 1:
        raise VolumeError(f"The threshold must lie between 0 and 1, got {threshold}.")


@dataclass(frozen=True)
class Options:
    """Options by which log-odds are converted to labels.

    Attributes:
        threshold: probability from which a voxel belongs to a structure, between 0 and 1; where several structures exceed
            it, the one of the largest probability gets the voxel.
        connected: keep only the connected components of a structure that hold one of its prompts (all of them if none
            does, and of structures whose prompts are fragmented, as with ribs: `Probe.fragmented_`). Otherwise all
            components are kept, at any distance from the prompts.

    Raises:
        VolumeError: the threshold is not between 0 and 1.
    """

    threshold: float = 0.5
    connected: bool = True

    def __post_init__(self) -> None:
        require_threshold(self.threshold)

    @property
    def unbounded(self) -> bool | None:
        """The argument of `Probe.logits` of that name."""
        return None if self.connected else True
