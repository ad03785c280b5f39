"""What a probe is fitted on: the user's prompts, and the points that boxes, a start and locked voxels stand for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from CoralBayLib.features.pyramid import FeaturePyramid
from CoralBayLib.fewshot.constraints.masks import Constraints
from CoralBayLib.fewshot.prompts import Prompts


@dataclass(frozen=True, eq=False)
class TrainingPoints:
    """The points of a fit. Each part is None where there is nothing to say.

    Attributes:
        own: the user's prompts, with points in place of boxes.
        implied: prompts around boxes, in the start and around it.
        locked_ras: (N, 3) RAS mm in locked voxels, which show what the structures do not look like.
    """

    own: Prompts | None
    implied: Prompts | None = None
    locked_ras: NDArray[np.float64] | None = None

    @property
    def prompts(self) -> Prompts | None:
        """All that count as prompts."""
        return self.own if self.own is None or self.implied is None else self.own + self.implied

    @classmethod
    def of(cls, prompts: Prompts | None, constraints: Constraints, pyramid: FeaturePyramid) -> TrainingPoints:
        """The points of a fit on a scan.

        Args:
            prompts: of the user.
            constraints: of the scan.
            pyramid: its features.

        Raises:
            PromptError: a prompt is outside the scan, or contradicts the constraints.
            VolumeError: a mask has no voxel in the scan.
        """
        if not constraints:
            return cls(prompts)
        given, grid, body = Prompts.none() if prompts is None else prompts, pyramid.source_grid, pyramid.body
        given.require_inside(grid)
        constraints.require_consistent(given.points_ras, given.labels, given.name, grid)
        own = given.with_points_of_boxes(body, shell=False)
        points, labels = constraints.implied(own.points_ras, own.labels, body)
        implied = Prompts(points, labels, own.names).inside(grid)
        return cls(own, implied if len(implied) else None, constraints.locked_points(own.points_ras, body.grid))
