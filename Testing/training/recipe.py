"""What a training of CoralBay-mini follows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from CoralBayLib.encoders.base import Axes


@dataclass(frozen=True)
class Size:
    """A size of the two crops of a step.

    Attributes:
        share: of the steps.
        most: in voxels along R, A, S. Sides of 56 and its multiples leave Swin's 7-voxel windows full.
        whole: crops are as large as the larger body, if smaller than `most`, as they are when the network is used.
    """

    share: float
    most: Axes
    whole: bool = False


@dataclass(frozen=True)
class Recipe:
    """What a training follows.

    Attributes:
        steps: of the whole training, which the learning rate follows.
        seed: of all draws.
        init: a file of weights, or None for random ones.
        feature_size: of the network.
        sizes: of crops.
        fits: pairs of crops that the heads are fitted on before the first step, if there are weights to begin with.
        labels: names of structures whose labels are learned from.
        keep: a file of weights whose features the scans of the first group are to keep, or None.
    """

    steps: int
    seed: int = 0
    init: Path | None = None
    feature_size: int = 24
    sizes: tuple[Size, ...] = (
        Size(0.66, (56, 56, 56)),
        Size(0.26, (112, 84, 56)),
        Size(0.08, (128, 96, 96), whole=True),
    )
    fits: int = 24
    labels: tuple[str, ...] = ()
    keep: Path | None = None
