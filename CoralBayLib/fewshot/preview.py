"""Maps of a segmentation for display, before it is applied."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from CoralBayLib.core.progress import CancelToken, raise_if_cancelled
from CoralBayLib.imaging.grid import Grid, Volume

from .uncertainty import dice_from_probabilities, uncertainty_map


@dataclass(frozen=True, eq=False)
class Preview:
    """Labels, probabilities and uncertainty on the working grid.

    Attributes:
        grid: of all maps.
        labels: [k, j, i] the structure of each voxel; 0 is background.
        percent: probability of each structure by label, [k, j, i] uint8, rounded down.
        uncertainty: [k, j, i] uint8 percent; 100 where a structure's probability is one half.
        dice_estimate: by label, the expected Dice and its standard deviation; empty for a probe of another scan, whose
            probabilities are not calibrated.
        extents: by label of the structures that are answered click by click, which answer to the first click was given: 0
            for the most probable region, -1 for a part of it, 1 for a larger region; see `Segmenter.fit`.
    """

    grid: Grid
    labels: NDArray[np.unsignedinteger]
    percent: dict[int, NDArray[np.uint8]]
    uncertainty: NDArray[np.uint8]
    dice_estimate: dict[int, tuple[float, float]]
    extents: dict[int, int] = field(default_factory=dict)

    @property
    def labelmap(self) -> Volume:
        """The labels with their grid."""
        return Volume(self.labels, self.grid)


@dataclass(frozen=True, eq=False)
class ProbabilityMaps:
    """The part of a preview that does not depend on the threshold.

    Attributes:
        percent, uncertainty: as in `Preview`.
        totals: sum of each structure's probability over all voxels, by label.
    """

    percent: dict[int, NDArray[np.uint8]]
    uncertainty: NDArray[np.uint8]
    totals: dict[int, float]

    @classmethod
    def of(cls, logits: Mapping[int, torch.Tensor], body: Volume, cancel: CancelToken | None = None) -> ProbabilityMaps:
        """Make the maps.

        Args:
            logits: (K, J, I) float32 on the working grid, by label; unchanged.
            body: mask of the patient on the same grid.
            cancel: checked between structures.
        """
        outside = torch.from_numpy(body.array == 0)
        probability, percent, totals = [], {}, {}
        for label, one in logits.items():
            raise_if_cancelled(cancel)
            probability.append(torch.where(outside, 0.0, one.sigmoid()))
            # Rounded down, so that the map reaches as far as the labels do.
            percent[label] = (100 * probability[-1].numpy()).astype(np.uint8)
            totals[label] = float(probability[-1].sum())
        return cls(percent, to_percent(uncertainty_map(probability, body).array), totals)


def preview_of(maps: ProbabilityMaps, logits: Mapping[int, torch.Tensor], labels: Volume, calibrated: bool) -> Preview:
    """Make a preview.

    Args:
        maps: of the log-odds.
        logits: (K, J, I) float32 on the working grid, by label; unchanged.
        labels: the labelmap that was made from them, on the same grid.
        calibrated: whether the probabilities are those of the scan that the probe was fitted on.
    """
    estimate = {}
    if calibrated:
        log_odds = np.zeros(labels.array.shape, np.float32)
        for label, one in logits.items():
            np.copyto(log_odds, one.numpy(), where=labels.array == label)
        estimate = dice_from_probabilities(labels.array, log_odds, maps.totals)
    return Preview(labels.grid, labels.array, maps.percent, maps.uncertainty, estimate)


def to_percent(values: NDArray) -> NDArray[np.uint8]:
    """Values in [0, 1] as whole percents, one byte each; values beyond are clipped."""
    return np.rint(np.clip(values, 0, 1) * 100).astype(np.uint8)
