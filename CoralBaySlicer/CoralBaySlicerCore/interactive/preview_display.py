"""How a preview looks in the views: a map of one structure, and all structures in the label layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from CoralBaySlicerCore.scene import overlays as overlay
from CoralBaySlicerCore.scene.overlays import Overlays
from CoralBaySlicerCore.scene.structures import Structure
from CoralBaySlicerCore.work.compute import Preview

_LEAST_DOUBT = 5
"""Percent of uncertainty from which it is shown."""


@dataclass(frozen=True)
class Look:
    """What the user wants to see.

    Attributes:
        kind: of the map: "probability", "uncertainty" or "off".
        threshold: percent below which the probability is not shown.
        opacity: of what covers the scan, from 0 to 1.
        together: whether all structures are shown.
        outlines: as outlines rather than filled.
        connected: only the pieces of a structure that a prompt touches.
    """

    kind: str
    threshold: float
    opacity: float
    together: bool = True
    outlines: bool = True
    connected: bool = True


def show(overlays: Overlays, preview: Preview | None, volume: Any, structures: list[Structure], label: int, look: Look) -> None:
    """Show a preview in the slice views, or nothing when there is none.

    Args:
        overlays: the module's.
        preview: of the volume.
        volume: the scan.
        structures: the preview's, for their names and colors.
        label: the structure whose probability is shown.
        look: what the user wants to see.
    """
    if preview is None or volume is None:
        if overlays.shown in (*overlay.OF_PREVIEW, None):
            overlays.hide()
        return
    colors = {each.label: (each.name, each.color) for each in structures if each.label}
    if look.together:
        overlays.structures.update(preview.labels, preview.geometry, volume, colors)
        # A line hides nothing, so it may be seen in full.
        overlays.structures.show(1.0 if look.outlines else look.opacity, look.outlines)
    else:
        overlays.structures.hide()
    if look.kind == overlay.UNCERTAINTY:
        overlays.update(look.kind, preview.doubt, preview.geometry, volume)
        overlays.set_threshold(look.kind, _LEAST_DOUBT)
        overlays.show(look.kind, look.opacity)
    elif look.kind == overlay.PROBABILITY:
        label = label if label in preview.percents else min(preview.percents)
        overlays.update(look.kind, preview.percents[label], preview.geometry, volume)
        if label in colors:
            overlays.set_color(look.kind, colors[label][1])
        overlays.set_threshold(look.kind, look.threshold)
        overlays.show(look.kind, look.opacity)
    elif overlays.shown in overlay.OF_PREVIEW:
        overlays.hide_map()
