"""Log-odds become labels: threshold, prompted components and argmax."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from CoralBayLib.fewshot.labeling import predict_labels
from CoralBayLib.imaging.grid import Grid, Volume

ONE, TWO = np.array([[2.0, 0.0, 0.0]]), np.array([[18.0, 0.0, 0.0]])


def labels_of(odds, threshold=0.5, seeds=None):
    """The labels of a row of voxels 2 mm apart, as digits."""
    grid = Grid((1, 1, len(next(iter(odds.values())))), np.diag([2.0, 2.0, 2.0, 1.0]))
    logits = {n: torch.tensor(row, dtype=torch.float32).reshape(grid.shape) for n, row in odds.items()}
    body = Volume(np.ones(grid.shape, np.uint8), grid)
    names = {n: str(n) for n in odds}
    found = predict_labels(lambda n: logits[n].clone(), names, body, grid, threshold=threshold, seeds=seeds)
    return "".join(map(str, found.array.ravel()))


@pytest.mark.parametrize(
    ("threshold", "tenths", "seeds", "labels"),
    [
        (50, {1: "888000880000", 2: "000000000077"}, {1: ONE}, "111000000022"),
        (80, {1: "888000880000", 2: "000000000077"}, {1: ONE}, "111000000000"),
        # All components stay where no prompt lies in any.
        (50, {1: "888000880000", 2: "000000000077"}, {1: TWO}, "111000110022"),
        # A voxel that one structure loses goes to another that is there.
        (50, {1: "888000990000", 2: "000066666660"}, {1: ONE, 2: TWO}, "111022222220"),
        # A component that a more probable structure crosses is one component.
        (50, {1: "777777777700", 2: "000088000000"}, {1: ONE, 2: np.array([[8.0, 0.0, 0.0]])}, "111122111100"),
    ],
)
def test_components_without_a_prompt_are_dropped(threshold, tenths, seeds, labels):
    share = {n: (10 * np.array([int(d) for d in row]) + 0.1) / 101 for n, row in tenths.items()}
    odds = {n: np.log(p / (1 - p)) + 0.1 for n, p in share.items()}
    assert labels_of(odds, threshold / 100, seeds) == labels


def test_the_more_probable_structure_wins_where_both_are_nearly_certain():
    # 0.999 and 0.9999; 0.9999 and 0.999; both improbable.
    odds = {1: [7.0, 9.0, -3.0], 2: [9.0, 7.0, -4.0]}
    assert labels_of(odds) == "210"
    assert labels_of(odds, 0.02) == "211"
