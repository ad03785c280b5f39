"""Masks of segments on the grid of a scan, on the worker: plain data in, plain data out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from CoralBayLib.imaging.grid import Grid, Volume
from CoralBaySlicerCore.scene.masks import Masks, Piece


def masks_on(masks: Masks | None, grid: Grid) -> tuple[Volume | None, Volume | None]:
    """What is locked and what structures start from, on the grid of a scan; computed once.

    Args:
        masks: or None.
        grid: of the scan.

    Returns:
        A mask that is 1 where locked, and a labelmap; each is None if there is none.
    """
    if masks is None:
        return None, None
    if not masks.results or not masks.results[0][0].same_as(grid):
        masks.results[:] = [(grid, _union(masks.locked, grid), _union(masks.start, grid))]
    _, locked, start = masks.results[0]
    return locked, start


def _union(pieces: Sequence[Piece], grid: Grid) -> Volume | None:
    """The labels of all pieces; where several overlap, the first one's."""
    from CoralBayLib.fewshot.constraints.sampling import labels_on

    if not pieces:
        return None
    largest = max(label for piece in pieces for label in piece.labels.values())
    out = np.zeros(grid.shape, np.uint8 if largest < 256 else np.uint16)
    for piece in pieces:
        table = np.zeros(int(max(piece.image.array.max(), *piece.labels)) + 1, out.dtype)
        table[list(piece.labels)] = list(piece.labels.values())
        labels = labels_on(Volume(table[piece.image.array], piece.image.grid), grid)
        np.copyto(out, labels, where=out == 0)
    return Volume(out, grid)
