"""One picture of the demo's result: CT, segmentation, reference and similarity map in three planes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from CoralBayLib.core.paths import atomic_write
from CoralBayLib.imaging.grid import Volume
from CoralBayLib.imaging.resampling import resample
from CoralBayLib.imaging.segmentation_io import Segment

_WINDOW_HU = (-160.0, 240.0)
_VIEWS = {"Axial": 2, "Coronal": 1, "Sagittal": 0}


def draw(
    path: Path,
    volume: Volume,
    labelmap: Volume,
    reference: Volume,
    simmap: Volume,
    query_ras: NDArray[np.float64],
    segments: Sequence[Segment],
    title: str,
) -> None:
    """Write a PNG with a row for each of three planes and the columns CT, segmentation, reference, similarity.

    Pictures follow the radiological convention: the patient's right is on the left.

    Args:
        path: the PNG.
        volume: the CT in HU.
        labelmap: the segmentation.
        reference: the labelmap to compare with, on the same grid.
        simmap: similarity in [-1, 1], on any grid.
        query_ras: (3,) RAS mm, marked with a cross.
        segments: labels with names and colors.
        title: a line above the pictures.

    Raises:
        StoreError: the file could not be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    ct = volume.canonical()
    found, expected = labelmap.canonical(), reference.canonical()
    similarity = resample(simmap, ct.grid.with_spacing(3.0))
    figure = Figure(figsize=(15, 10.5), facecolor="black", layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(3, 4)
    heat = None
    for row, (view, axis) in enumerate(_VIEWS.items()):
        index = _busiest(expected.array, axis)
        centre = ct.grid.to_ras(_on_axis(ct, axis, index))[0]
        at_query = round(ct.grid.to_ijk(query_ras)[0][axis])
        for column, (name, mask) in enumerate((("CT", None), ("segmentation", found), ("reference", expected))):
            panel = axes[row][column]
            _show(panel, ct, axis, index, cmap="gray", vmin=_WINDOW_HU[0], vmax=_WINDOW_HU[1])
            if mask is not None:
                _show(panel, Volume(mask.array, ct.grid), axis, index, colors=segments)
            _caption(panel, f"{view}, {name}" if name != "CT" else f"{view} {'RAS'[axis]} = {centre[axis]:.0f} mm")
        panel = axes[row][3]
        _show(panel, ct, axis, at_query, cmap="gray", vmin=_WINDOW_HU[0], vmax=_WINDOW_HU[1])
        cut = int(np.clip(round(similarity.grid.to_ijk(query_ras)[0][axis]), 0, similarity.grid.size[axis] - 1))
        heat = _show(panel, similarity, axis, cut, cmap="inferno", vmin=0.0, vmax=1.0, alpha=0.6)
        across, up = (a for a in range(3) if a != axis)
        panel.plot(*_in_plane(ct, query_ras, across, up), "+", color="cyan", markersize=14, markeredgewidth=2)
        _caption(panel, f"{view}, similarity to +")
    handles = [Patch(color=segment.color_rgb, label=segment.name.replace("_", " ")) for segment in segments]
    figure.legend(handles=handles, loc="outside lower center", ncols=8, frameon=False, labelcolor="white", fontsize=9)
    if heat is not None:
        colors = figure.colorbar(heat, ax=axes[:, 3], shrink=0.5)
        colors.ax.tick_params(colors="white")
    figure.suptitle(title, color="white", fontsize=12)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format="png", dpi=100, facecolor="black")


def _busiest(labels: NDArray, axis: int) -> int:
    """The slice with the most structures; among equals the one with the most labeled voxels."""
    slices = np.moveaxis(labels, 2 - axis, 0)
    scores = [len(np.unique(plane)) * slices[0].size + np.count_nonzero(plane) for plane in slices]
    return int(np.argmax(scores))


def _on_axis(volume: Volume, axis: int, index: int) -> NDArray[np.float64]:
    ijk = (np.array(volume.grid.size) - 1) / 2
    ijk[axis] = index
    return ijk


def _show(panel: Any, volume: Volume, axis: int, index: int, colors: Sequence[Segment] = (), **how: Any) -> Any:
    """Draw a slice of a canonical volume in mm, so that grids of different spacing overlay correctly."""
    plane = np.take(volume.array, index, axis=2 - axis)
    across, up = (a for a in range(3) if a != axis)
    picture: NDArray = plane
    if colors:
        picture = np.zeros((*plane.shape, 4))
        for segment in colors:
            picture[plane == segment.label] = (*segment.color_rgb, 0.55)
    spacing, size = volume.grid.spacing_mm, volume.grid.size
    origin = volume.grid.ijk_to_ras[:3, 3]
    unit = volume.grid.ijk_to_ras[:3, :3] / spacing
    start = origin @ unit
    extent = (
        start[across] - spacing[across] / 2,
        start[across] + spacing[across] * (size[across] - 0.5),
        start[up] - spacing[up] / 2,
        start[up] + spacing[up] * (size[up] - 0.5),
    )
    image = panel.imshow(picture, origin="lower", extent=extent, interpolation="nearest", **how)
    low, high = sorted(extent[:2])
    # The patient's right is on the left; in sagittal pictures the face looks to the left.
    panel.set_xlim(high, low)
    panel.set_ylim(extent[2], extent[3])
    return image


def _in_plane(volume: Volume, ras: NDArray[np.float64], across: int, up: int) -> tuple[float, float]:
    unit = volume.grid.ijk_to_ras[:3, :3] / volume.grid.spacing_mm
    along = ras @ unit
    return float(along[across]), float(along[up])


def _caption(panel: Any, text: str) -> None:
    panel.set_title(text, color="white", fontsize=10)
    panel.set_axis_off()
