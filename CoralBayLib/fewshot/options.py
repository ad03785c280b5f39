"""Options of segmentation. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Options:
    """Options by which log-odds are converted to labels.

    Attributes:
        threshold: probability from which a voxel belongs to a structure, between 0 and 1; where several structures exceed
            it, the one of the largest probability gets the voxel.
        connected: keep only the connected components of a structure that hold one of its prompts (all of them if none
            does, and of structures whose prompts are fragmented, as with ribs: `Probe.fragmented_`). Otherwise all
            components are kept, at any distance from the prompts.
    """

    threshold: float = 0.5
    connected: bool = True

    @property
    def unbounded(self) -> bool | None:
        """The argument of `Probe.logits` of that name."""
        return None if self.connected else True
