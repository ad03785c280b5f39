"""Display of a preview in the slice views: a map of one structure, and all structures in the label layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from CoralBaySlicerCore.scene import overlays as overlay
from CoralBaySlicerCore.scene.maps import kept
from CoralBaySlicerCore.scene.overlays import Overlays
from CoralBaySlicerCore.scene.structures import Structure

if TYPE_CHECKING:
    import slicer

    from CoralBayLib.fewshot.preview import Preview

_MIN_UNCERTAINTY = 5
"""Uncertainty, percent, below which it is not shown."""


@dataclass(frozen=True)
class DisplayOptions:
    """Display options of the preview.

    Attributes:
        kind: of the map: "probability", "uncertainty" or "off".
        threshold: percent below which the probability is not shown.
        opacity: of the map and of filled structures, from 0 to 1.
        show_all: whether all structures are shown in the label layer.
        outlines: whether they are drawn as outlines rather than filled.
        connected: whether only those components of a structure are kept that contain a prompt.
    """

    kind: str
    threshold: float
    opacity: float
    show_all: bool = True
    outlines: bool = True
    connected: bool = True


def keep(
    preview: Preview, volume: slicer.vtkMRMLScalarVolumeNode, structures: list[Structure], label: int, kind: str
) -> slicer.vtkMRMLScalarVolumeNode:
    """Add a volume node with a map of a preview; arguments are those of `show` and its options."""
    geometry = preview.grid.ijk_to_ras
    if kind == overlay.UNCERTAINTY:
        return kept.keep(kind, preview.uncertainty, geometry, volume)
    label = label if label in preview.percent else min(preview.percent)
    name, color = next(((each.name, each.color) for each in structures if each.label == label), (str(label), None))
    return kept.keep(overlay.PROBABILITY, preview.percent[label], geometry, volume, name, color)


def show(
    overlays: Overlays,
    preview: Preview | None,
    volume: slicer.vtkMRMLScalarVolumeNode | None,
    structures: list[Structure],
    label: int,
    options: DisplayOptions,
) -> None:
    """Draw a preview in the slice views, or restore the views when there is none.

    Only the owner of the views may do so: see `Overlays.request`.

    Args:
        overlays: the module's.
        preview: of the volume.
        volume: the scan.
        structures: of the preview, for their names and colors.
        label: the structure whose probability is shown.
        options: the user's display options.
    """
    if preview is None or volume is None:
        overlays.hide()
        return
    geometry = preview.grid.ijk_to_ras
    colors = {each.label: (each.name, each.color) for each in structures if each.label}
    if options.show_all:
        overlays.structures.update(preview.labels, geometry, volume, colors)
        # Outlines do not cover the scan, so they are opaque.
        overlays.structures.show(1.0 if options.outlines else options.opacity, options.outlines)
    else:
        overlays.structures.hide()
    if options.kind == overlay.UNCERTAINTY:
        overlays.update(options.kind, preview.uncertainty, geometry, volume)
        overlays.set_threshold(options.kind, _MIN_UNCERTAINTY)
        overlays.show_map(options.kind, options.opacity)
    elif options.kind == overlay.PROBABILITY:
        label = label if label in preview.percent else min(preview.percent)
        overlays.update(options.kind, preview.percent[label], geometry, volume)
        if label in colors:
            overlays.set_color(options.kind, colors[label][1])
        overlays.set_threshold(options.kind, options.threshold)
        overlays.show_map(options.kind, options.opacity)
    else:
        overlays.hide_map()
